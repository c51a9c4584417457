"""``hf:`` — any vision backbone of transformers, from a local folder or the Hugging Face hub.

Its layers are the hidden states that the model itself reports (`fathom.encoders.states`), read in one forward pass. Token
models give the grid of their patches; class and register tokens are dropped.

An input that the coarsest stride does not divide is resized to the nearest multiple, so that each grid covers the whole
image (`fathom.encoders.whole_cells`); position embeddings are interpolated by the model itself.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.module import as_map
from fathom.encoders.processor import normalisation
from fathom.encoders.repository import CONFIG, check_weights, find_folder, load_failure, read_object
from fathom.encoders.spec import Spec
from fathom.encoders.states import Maps, StateEncoder
from fathom.errors import CheckpointError, DataError, FathomError, UsageError, nearest
from fathom.sample import Grid

OPTIONS = ("mean", "std", "revision", "seed")

_POOLER = re.compile(r"(^|\.)(pooler|head)\.")
_HALVING = re.compile(r"^(encoder\.)?(layers|stages|levels)\.\d+\.downsample$")


class HiddenStates:
    """One forward pass of a transformers model: prepared images to its hidden states as maps ``(B, C, h, w)``.

    The maps are empty for a model that reports none.
    """

    def __init__(self, name: str, network: nn.Module) -> None:
        self.name, self.network = name, network
        self.config: Any = getattr(network, "config")  # noqa: B009 (typed as a tensor or a module)
        self.options: dict[str, Any] = {"output_hidden_states": True, "return_dict": True}
        if "interpolate_pos_encoding" in inspect.signature(network.forward).parameters:
            self.options["interpolate_pos_encoding"] = True
        # A masked autoencoder hides most patches and shuffles the rest, unless it is told not to and in which order.
        self.masks = self.config.model_type == "vit_mae"
        if self.masks:
            self.config.mask_ratio = 0.0
        # Swin and its kin report a stage after it was halved; what enters the halving is the stage's own output.
        self.halvings = [module for path, module in network.named_modules() if _HALVING.match(path)]
        # Its blocks shrink their window for good when they see a small image: they are set back before each pass.
        self.windows = [
            (module, {key: getattr(module, key) for key in ("window_size", "shift_size")})
            for module in network.modules()
            if hasattr(module, "set_shift_and_window_size")
        ]

    @property
    def least(self) -> int:
        """The side of an image whose coarsest grid holds a whole window: position biases are of whole windows."""
        if not self.windows:
            return 1
        return int(self.config.window_size * self.config.patch_size * 2 ** (len(self.config.depths) - 1))

    def __call__(self, images: Float[Tensor, "B 3 H W"]) -> Maps:
        for module, own in self.windows:
            for key, value in own.items():
                setattr(module, key, value)
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


def load_network(folder: Path, kind: Any, options: Mapping[str, Any], unused: re.Pattern[str] = _POOLER) -> nn.Module:
    """The model of `folder` with all of its weights but `unused` ones; what is missing would be random, and is refused."""
    from safetensors import SafetensorError

    check_weights(folder)
    try:
        with silent():
            network, report = kind.from_pretrained(
                folder, use_safetensors=True, local_files_only=True, output_loading_info=True, **options
            )
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise load_failure(folder, error) from error
    missing = sorted(name for name in report["missing_keys"] if not unused.search(name))
    wrong = sorted(str(item[0] if isinstance(item, tuple) else item) for item in report["mismatched_keys"])
    for names, what in ((missing, "lacks"), (wrong, "has another shape of")):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(
                folder, f"holds the weights of another model than its {CONFIG} says: it {what} '{names[0]}'{more}"
            )
    loaded: nn.Module = network.float()
    return loaded


def open_hub(spec: Spec, size: Grid, seed: int) -> StateEncoder:
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

    network = load_network(folder, kind, options)
    states = HiddenStates(spec.text, network)
    return StateEncoder(
        spec.text,
        network,
        states,
        spec.layers,
        normalisation(spec, folder),
        patch=_one_side(config, "patch_size"),
        made_for=_one_side(config, "image_size"),
        least=states.least,
        fresh=fresh,
    )


def _one_side(config: Any, key: str) -> int | None:
    """A side given as a number or as two equal ones."""
    given = getattr(config, key, None)
    sides = list(given) if isinstance(given, Sequence) else [given]
    return sides[0] if len(set(sides)) == 1 and isinstance(sides[0], int) else None
