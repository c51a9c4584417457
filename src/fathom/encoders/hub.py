"""``hf:`` — any vision backbone of transformers, from a local folder or the Hugging Face hub.

Layers are the model's own hidden states: ``stem`` (what enters the first stage or block), ``stage1``, ``stage2`` ... (the
output of each stage of a pyramid, of each block of a ViT), and ``last`` (the model's final output, after the last
normalisation where it has one). Any submodule can be read too, as ``network.<its name>``. All are read in one forward
pass. Token models give the grid of their patches; class and register tokens are dropped.

An input that the coarsest stride does not divide is resized to the nearest multiple, so that each grid covers the whole
image (`fathom.encoders.whole_cells`); position embeddings are interpolated by the model itself.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.module import IMAGENET_MEAN, IMAGENET_STD, ModuleEncoder, Normalise, as_map
from fathom.encoders.repository import CONFIG, PROCESSORS, check_weights, find_folder, load_failure, read_object
from fathom.encoders.spec import Spec
from fathom.encoders.whole_cells import WholeCells
from fathom.errors import CheckpointError, DataError, FathomError, UsageError, nearest
from fathom.sample import Grid

OPTIONS = ("mean", "std", "revision", "seed")
ISOTROPIC_LAYERS = 4
"""Layers read by default of a model whose blocks all have one grid: at each quarter of its depth."""

_POOLER = re.compile(r"(^|\.)(pooler|head)\.")
_DOWNSAMPLE = re.compile(r"^(encoder\.)?(layers|stages|levels)\.\d+\.downsample$")


class States:
    """The hidden states of a transformers model, brought to maps ``(B, C, h, w)`` and shown to the hooks of `taps`.

    Attributes:
        taps: modules that do nothing; the one of a name is called with the map of that layer.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name, self.network = name, network
        self.options: dict[str, Any] = {"output_hidden_states": True, "return_dict": True}
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            self.options["interpolate_pos_encoding"] = True
        # A masked autoencoder hides most patches and shuffles the rest, unless it is told not to and in which order.
        self.config: Any = network.config
        self.masks = self.config.model_type == "vit_mae"
        if self.masks:
            self.config.mask_ratio = 0.0
        # Swin and its kin report a stage after it was halved; what enters the halving is the stage's own output.
        self.halvings = [m for n, m in network.named_modules() if _DOWNSAMPLE.match(n)]
        self.taps: dict[str, nn.Module] = {}

    def maps(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Every hidden state by name, from one forward pass; empty for a model that reports none."""
        before: list[Any] = []
        hooks = [m.register_forward_pre_hook(lambda _, args: before.append(args[0])) for m in self.halvings]
        try:
            output = self.network(pixel_values=images, **self.options, **self._order(images))
        finally:
            for hook in hooks:
                hook.remove()
        states = getattr(output, "reshaped_hidden_states", None) or getattr(output, "hidden_states", None) or ()
        named = dict(zip(state_names(self.config, len(states)), states, strict=True))
        for stage, state in enumerate(before, start=1):
            if f"stage{stage}" in named:
                named[f"stage{stage}"] = state
        last = getattr(output, "last_hidden_state", None)
        if isinstance(last, Tensor) and last.ndim > 2:
            named["last"] = last
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return {layer: as_map(self.name, layer, channels_first(state, size), size) for layer, state in named.items()}

    def _order(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Tensor]:
        if not self.masks:
            return {}
        cells = math.prod(side // self.config.patch_size for side in images.shape[-2:])
        return {"noise": torch.arange(cells, dtype=torch.float32, device=images.device).expand(len(images), -1)}

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> None:
        for layer, state in self.maps(images).items():
            self.taps[layer](state)


def state_names(config: Any, states: int) -> list[str]:
    """Names of `states` hidden states: ``stem`` first where there is one more of them than stages."""
    depths = getattr(config, "depths", None)
    stages = len(depths) if isinstance(depths, Sequence) else getattr(config, "num_hidden_layers", states - 1)
    if states == stages:
        return [f"stage{i + 1}" for i in range(states)]
    return ["stem", *(f"stage{i}" for i in range(1, states))] if states else []


def channels_first(state: Tensor, size: Grid) -> Tensor:
    """A map ``(B, h, w, C)`` turned to ``(B, C, h, w)``, told by the shape of the image; anything else as it is."""
    if not isinstance(state, Tensor) or state.ndim != 4:
        return state
    height, width = size
    _, a, b, c = state.shape
    if b * width != c * height and a * width == b * height:
        return state.permute(0, 3, 1, 2)
    return state


class HubEncoder(ModuleEncoder):
    """A transformers backbone, read at its hidden states."""

    def __init__(
        self,
        name: str,
        network: nn.Module,
        layers: tuple[str, ...],
        normalise: nn.Module,
        fresh: Callable[[int], nn.Module] | None = None,
    ) -> None:
        network.eval()
        states = States(name, network)
        dry = dry_run(states)
        shapes = dry.shapes
        states.taps = {layer: nn.Identity() for layer in shapes}
        inner = {f"network.{n}": m for n, m in network.named_modules() if n}
        for layer in layers:
            if layer not in states.taps and layer not in inner:
                short = ", ".join(states.taps) if len(states.taps) < 8 else f"stem, stage1 ... {list(states.taps)[-1]}"
                close = nearest(layer, [*states.taps, *inner]) if "." in layer else f" (it has {short})"
                raise UsageError(f"Encoder {name} has no layer '{layer}'{close}.")
        super().__init__(
            name,
            network,
            layers or chosen_layers(name, shapes),
            WholeCells(dry.stride, normalise, only=(dry.side, dry.side) if dry.fixed else None),
            named={**inner, **states.taps},
            run=states,
            fresh=fresh,
        )


@dataclass(frozen=True)
class Dry:
    """What one forward pass of a square image showed.

    Attributes:
        side: of the image.
        shapes: the grid of every hidden state.
        stride: input pixels to a cell of the coarsest of them.
        fixed: whether the model takes images of this size alone.
    """

    side: int
    shapes: Mapping[str, Grid]
    stride: int
    fixed: bool


def dry_run(states: States) -> Dry:
    """Learn the grids of a model's hidden states.

    The side of the image is a multiple of the patch of a ViT, and of any power of two that a pyramid of stages comes to;
    for a model that does not take it, the size that it was made for.
    """
    patch = getattr(states.config, "patch_size", None)
    sides = [16 * patch if isinstance(patch, int) and 256 % patch else 256]
    made_for = getattr(states.config, "image_size", None)
    made_for = made_for[0] if isinstance(made_for, Sequence) and len(set(made_for)) == 1 else made_for
    if isinstance(made_for, int) and made_for not in sides:
        sides.append(made_for)
    for side in sides:
        try:
            with torch.inference_mode():
                maps = states.maps(torch.zeros(1, 3, side, side))
            break
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            if side == sides[-1]:
                line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
                raise FathomError(f"Encoder {states.name} does not run on an image alone ({line}).") from error
    shapes = {layer: (int(z.shape[-2]), int(z.shape[-1])) for layer, z in maps.items()}
    stride = max((round(side / grid[0]) for grid in shapes.values()), default=1)
    if isinstance(patch, int) and len(set(shapes.values())) == 1 and stride != patch:
        raise FathomError(
            f"Encoder {states.name} gives {next(iter(shapes.values()))} tokens of patches of {patch} for {side}x{side} "
            "pixels: it leaves some out, and where the others lie is not known."
        )
    return Dry(side, shapes, stride, fixed=side != sides[0])


def chosen_layers(name: str, shapes: Mapping[str, Grid]) -> tuple[str, ...]:
    """The layers read by default: the last stage of each grid; of a model on one grid, the ends of its four quarters."""
    stages = [layer for layer in shapes if layer.startswith("stage")]
    if not stages:
        raise FathomError(f"Encoder {name} reports no hidden states; name submodules to read, as @network.layer.")
    last = {shapes[layer]: layer for layer in stages}
    if len(last) > 1:
        return tuple(layer for layer in stages if layer in last.values())
    quarters = min(ISOTROPIC_LAYERS, len(stages))
    return tuple(stages[len(stages) * (i + 1) // quarters - 1] for i in range(quarters))


class Processor(nn.Module):
    """The normalisation of a model's own image processor, for RGB in [0, 1]."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], swap: bool = False) -> None:
        super().__init__()
        self.normalise, self.swap = Normalise(mean, std), swap

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """From ``preprocessor_config.json`` or ``processor_config.json``; None where the folder has neither."""
        found = next((folder / name for name in PROCESSORS if (folder / name).is_file()), None)
        if found is None:
            return None
        values = read_object(found)
        values = values.get("image_processor", values)
        count = 255 * float(values.get("rescale_factor", 1 / 255)) if values.get("do_rescale", True) else 255.0
        mean, std = [0.0] * 3, [1.0] * 3
        if values.get("do_normalize", "image_mean" in values):
            mean, std = (
                _triple(values, "image_mean", IMAGENET_MEAN, found),
                _triple(values, "image_std", IMAGENET_STD, found),
            )
        return cls([m / count for m in mean], [s / count for s in std], bool(values.get("do_flip_channel_order")))

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        normal: Tensor = self.normalise(images)
        return normal.flip(1) if self.swap else normal


def _triple(values: Mapping[str, Any], key: str, default: Sequence[float], path: Path) -> list[float]:
    given = values.get(key) or default
    numbers = [given] * 3 if isinstance(given, int | float) else list(given)
    if len(numbers) != 3 or not all(isinstance(n, int | float) for n in numbers):
        raise DataError(path, f"has {key} {given!r}, not three numbers", "give mean= and std= in the encoder's name")
    return [float(n) for n in numbers]


def normalisation(spec: Spec, folder: Path) -> nn.Module:
    """What the SPEC says, else the model's own, else ImageNet's, with a note."""
    from fathom.progress import note

    if "mean" in spec.options or "std" in spec.options:
        return Normalise(*(_numbers(spec, key, default) for key, default in (("mean", "0,0,0"), ("std", "1,1,1"))))
    own = Processor.read(folder)
    if own is None:
        note(f"{spec.text} says nothing of its normalisation; ImageNet's is used (else give ?mean=r,g,b&std=r,g,b).")
    return own or Normalise()


def _numbers(spec: Spec, key: str, default: str) -> list[float]:
    try:
        numbers = [float(part) for part in spec.options.get(key, default).split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or (key == "std" and not all(numbers)):
        raise UsageError(f"Encoder '{spec.text}': {key} is three numbers such as 0.5,0.5,0.5.")
    return numbers


@contextmanager
def silent() -> Iterator[None]:
    """Within it transformers neither warns nor draws bars: what matters of its loading report is checked here."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def read_config(folder: Path) -> Any:
    """The configuration of a model folder, of its vision tower where it has several."""
    from transformers import AutoConfig

    path = folder / CONFIG
    if not path.is_file():
        raise DataError(folder, f"holds no {CONFIG}, so it is no model of transformers", "name another folder")
    values = read_object(path)
    if "model_type" not in values:
        ours = "it was trained by Fathom: write checkpoint:PATH" if "recipe" in values else "name another folder"
        raise DataError(path, "names no model_type, so this is no model of transformers", ours)
    try:
        with silent():
            config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem = f"is of model_type {values['model_type']!r}, which this transformers cannot build from it"
        raise DataError(path, problem, "upgrade transformers, or name another model") from error
    return getattr(config, "vision_config", None) or config


def model_class(name: str, config: Any) -> Any:
    """The class of the bare model of a configuration."""
    from transformers import MODEL_MAPPING

    try:
        found = MODEL_MAPPING[type(config)]
    except KeyError as error:
        raise FathomError(f"Encoder {name} ({config.model_type}) is no backbone of transformers.") from error
    first = found[0] if isinstance(found, tuple | list) else found
    if getattr(first, "main_input_name", "pixel_values") != "pixel_values":
        raise FathomError(f"Encoder {name} ({config.model_type}) takes {first.main_input_name}, no images.")
    return first


def load(folder: Path, kind: Any, options: Mapping[str, Any]) -> nn.Module:
    """The model of `folder` with all of its weights; what is missing would be random, and is refused."""
    from safetensors import SafetensorError

    check_weights(folder)
    try:
        with silent():
            network, report = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise load_failure(folder, error) from error
    missing = sorted(name for name in report["missing_keys"] if not _POOLER.search(name))
    wrong = sorted(str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"])
    for names, what in ((missing, "lacks"), (wrong, "has another shape of")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                folder, f"holds the weights of another model than its {CONFIG} says: it {what} '{names[0]}'{more}"
            )
    loaded: nn.Module = network.float()
    return loaded


def open_hub(spec: Spec, size: Grid, seed: int) -> HubEncoder:
    """``hf:FOLDER`` or ``hf:org/name``, with ``?mean=&std=`` (normalisation) and ``?revision=``."""
    for key in spec.options:
        if key not in OPTIONS:
            raise UsageError(f"Encoder '{spec.text}' has no option '{key}'{nearest(key, OPTIONS)}.")
    folder = find_folder("hf", spec.body, spec.options.get("revision"))
    config = read_config(folder)
    kind = model_class(spec.text, config)
    # A pooling head is no part of a feature map, and most files of weights do not hold one.
    poolless = "add_pooling_layer" in inspect.signature(kind.__init__).parameters
    options = {"add_pooling_layer": False} if poolless else {}

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), silent():
            torch.manual_seed(seed)
            network: nn.Module = kind(config, **options)
            return network

    normalise = normalisation(spec, folder)
    return HubEncoder(spec.text, load(folder, kind, options), spec.layers, normalise, fresh)
