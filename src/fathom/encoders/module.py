"""``module:`` — any `torch.nn.Module` as an encoder, its layers read by forward hooks in one pass.

The factory returns a module, or ``(module, preprocess)`` where `preprocess` maps RGB in [0, 1] to the module's input. The
module may say more by attributes: ``preprocess`` (as above) and ``probe_layers`` (names of the layers to read). Without a
preprocessing of its own it gets ImageNet's mean and standard deviation, unless ``mean=`` and ``std=`` say otherwise.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.base import Control, Encoder, Provenance, Training, digest_of
from fathom.encoders.spec import Spec
from fathom.encoders.weights import permute_weights, reinitialise
from fathom.errors import FathomError, UsageError, nearest
from fathom.progress import note
from fathom.sample import Grid
from fathom.user_code import code_digest, find_function, typed_options

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

NO_NORMALISATION = "says nothing of its normalisation; ImageNet's mean and standard deviation are used"

Preprocess = Callable[[Float[Tensor, "B 3 H W"]], Tensor]


class Normalise(nn.Module):
    """(x − mean) / std, channel by channel."""

    def __init__(self, mean: Sequence[float] = IMAGENET_MEAN, std: Sequence[float] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (images - mean) / std


Own = TypeVar("Own", bound="ModuleEncoder")


class ModuleEncoder(Encoder):
    """A frozen module, read at named layers. `copy.deepcopy` gives an independent one.

    Args:
        name: the SPEC.
        module: the network; it is put into evaluation mode and frozen.
        layers: names in `named`; by default those that `default_layers` finds.
        preprocess: from RGB in [0, 1] to the module's input.
        size: the input size the layers are looked for at.
        named: what can be read, by name; by default every submodule. These modules run in a forward pass, though they
            need not belong to `module`.
        run: the forward pass, where it is not a call of `module`.
        fresh: seed to the same architecture with the weights of its own initialisation; by default every submodule is
            initialised as `fathom.encoders.weights.reinitialise` says.
        trained: what it was trained on, as far as it is known.
        origin: what is known of its provenance; the digest of its weights is added when asked for.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        layers: Sequence[str] = (),
        preprocess: Preprocess | None = None,
        size: Grid = (64, 64),
        *,
        named: Mapping[str, nn.Module] | None = None,
        run: Callable[[Tensor], Any] | None = None,
        fresh: Callable[[int], nn.Module] | None = None,
        trained: Training | None = None,
        origin: Provenance | None = None,
    ) -> None:
        self.name = name
        self._trained, self._origin = trained or Training(), origin or Provenance()
        self.module = module.eval().requires_grad_(False)
        self.preprocess: Preprocess = preprocess or Normalise()
        self.fresh = fresh
        self._run = run or module
        self._named = dict(module.named_modules()) if named is None else dict(named)
        for layer in layers:
            if layer not in self._named:
                known = [known for known in self._named if known]
                raise UsageError(f"Encoder {name} has no layer '{layer}'{nearest(layer, known)}.")
        self.layers = tuple(layers) or default_layers(name, module, self.preprocess, size)
        self.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def to(self: Own, device: torch.device | str) -> Own:
        """Move the module and its preprocessing."""
        self.module.to(device)
        if isinstance(self.preprocess, nn.Module):
            self.preprocess.to(device)
        return self

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Every layer's map from one forward pass."""
        return self.maps(images)

    def maps(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """The maps of `encode`, with gradients where parameters ask for them (`fathom.encoders.backbone`)."""
        outputs: dict[str, Any] = {}
        prepared = self.preprocess(images)
        with _recording({layer: self._named[layer] for layer in self.layers}, outputs):
            self._forward(prepared.contiguous(memory_format=torch.channels_last))
        missing = [layer for layer in self.layers if layer not in outputs]
        if missing:
            raise FathomError(f"Encoder {self.name} does not run its layer '{missing[0]}' in a forward pass.")
        size = (int(prepared.shape[-2]), int(prepared.shape[-1]))
        return {layer: as_map(self.name, layer, outputs[layer], size) for layer in self.layers}

    def _forward(self, prepared: Tensor) -> None:
        try:
            self._run(prepared)
        except FathomError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
            size = "x".join(str(side) for side in prepared.shape[-2:])
            raise FathomError(f"Encoder {self.name} fails on images of {size} ({line}).") from error

    def random_copy(self, seed: int) -> Encoder | str:
        """The same architecture with fresh weights, or the reason why there is none."""

        def renew(module: nn.Module) -> None:
            if self.fresh is not None:
                module.load_state_dict(self.fresh(seed).state_dict())
            else:
                reinitialise(module, seed)

        return self._changed(Control("random", self.name, seed), renew)

    def permuted_copy(self, seed: int) -> Encoder | str:
        """The same architecture with its own weights shuffled, or the reason why there is none."""
        return self._changed(Control("permuted", self.name, seed), lambda module: permute_weights(module, seed))

    def _changed(self, control: Control, change: Callable[[nn.Module], object]) -> Encoder | str:
        if not any(parameter.numel() > 1 for parameter in self.module.parameters()):
            return f"{self.name} has no weights to make random"
        try:
            made = copy.deepcopy(self)
        except (RuntimeError, TypeError, AttributeError, NotImplementedError, ValueError) as error:
            return f"{self.name} has a network that cannot be copied ({type(error).__name__}: {error})".rstrip(".")
        change(made.module)
        made.name, made.control = f"{control.kind}:{self.name}", control
        return made

    def training(self) -> Training:
        """What it was trained on, as far as it is known; a control was trained on nothing."""
        return Training() if self.control is not None else self._trained

    def provenance(self) -> Provenance:
        """What identifies its weights and its code."""
        return replace(self._origin, weights=digest_of(self.module, self.preprocess))


@contextmanager
def _recording(modules: Mapping[str, nn.Module], outputs: dict[str, Any]) -> Iterator[None]:
    """Hooks that note the output of each module, removed at the end whatever happens."""
    hooks = []
    try:
        for layer, module in modules.items():

            def note(_: nn.Module, __: Any, output: Any, layer: str = layer) -> None:
                outputs[layer] = output

            hooks.append(module.register_forward_hook(note))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def as_map(name: str, layer: str, output: Any, size: Grid) -> Float[Tensor, "B C h w"]:
    """A layer's output as a feature map: ``(B, C, h, w)`` as it is, tokens ``(B, N, C)`` laid out on their grid.

    Tokens beyond the grid (class and register tokens) are taken to stand first, as in every ViT of the field.
    """
    while isinstance(output, tuple | list | Mapping) and len(output):
        output = next(iter(output.values())) if isinstance(output, Mapping) else output[0]
    if not isinstance(output, Tensor):
        raise FathomError(f"Layer '{layer}' of encoder {name} gives {type(output).__name__}, no feature map.")
    if output.ndim == 4:
        return output.float()
    if output.ndim == 3:
        grid = token_grid(output.shape[1], size)
        if grid is not None:
            tokens = output[:, output.shape[1] - grid[0] * grid[1] :]
            return tokens.transpose(1, 2).reshape(len(tokens), -1, *grid).float()
    raise FathomError(
        f"Layer '{layer}' of encoder {name} gives shape {tuple(output.shape)}, neither a map (B, C, h, w) nor tokens of a grid."
    )


def token_grid(tokens: int, size: Grid, extra: int = 8) -> Grid | None:
    """The grid of an input of `size` whose cells, with up to `extra` further tokens, number `tokens`."""
    for spare in range(extra + 1):
        cells = tokens - spare
        if cells < 1:
            return None
        for stride in range(1, max(size) + 1):
            if size[0] % stride == 0 and size[1] % stride == 0 and (size[0] // stride) * (size[1] // stride) == cells:
                return size[0] // stride, size[1] // stride
    side = math.isqrt(tokens)
    return (side, side) if side * side == tokens else None


def default_layers(name: str, module: nn.Module, preprocess: Preprocess, size: Grid) -> tuple[str, ...]:
    """The last submodule of each spatial size, shallow to deep, found by one dry forward pass."""
    declared = getattr(module, "probe_layers", None)
    if declared:
        return tuple(declared)
    shapes: dict[Grid, str] = {}
    order: list[str] = []

    def watch(layer: str) -> Callable[[nn.Module, Any, Any], None]:
        def note(_: nn.Module, __: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] > 1 and output.shape[-2] > 1:
                shapes[(int(output.shape[-2]), int(output.shape[-1]))] = layer
                order.append(layer)

        return note

    hooks = [child.register_forward_hook(watch(layer)) for layer, child in module.named_modules() if layer]
    try:
        with torch.inference_mode():
            module(preprocess(torch.zeros(1, 3, *size)))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise FathomError(f"Encoder {name} does not take an image of {size[0]}x{size[1]} ({error}).") from error
    finally:
        for hook in hooks:
            hook.remove()
    if not shapes:
        raise FathomError(f"Encoder {name} has no layer that gives a feature map (B, C, h, w); name layers with '@'.")
    return tuple(sorted(shapes.values(), key=order.index))


def encoder_of(
    net: nn.Module, layers: tuple[str, ...] = (), preprocess: Preprocess | None = None, name: str | None = None
) -> ModuleEncoder:
    """See `Encoder.from_module`."""
    if not isinstance(net, nn.Module):
        raise UsageError(f"An encoder is made of a torch.nn.Module, not of {type(net).__name__}.")
    called = name or type(net).__name__
    if preprocess is None and getattr(net, "preprocess", None) is None:
        note(f"{called} {NO_NORMALISATION} (else give preprocess=).")
    try:
        frozen, preprocess = copy.deepcopy((net, preprocess or getattr(net, "preprocess", None)))
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, ValueError) as error:
        raise FathomError(
            f"{called} cannot be copied ({type(error).__name__}: {error}); give it as module:file.py:factory."
        ) from error
    return ModuleEncoder(called, frozen, layers, preprocess, origin=Provenance(code=_class_digest(net)))


def _class_digest(net: nn.Module) -> str | None:
    """Digest of the file that defines the class of `net`; None for a class of PyTorch, of a notebook or of a prompt."""
    try:
        file = inspect.getsourcefile(type(net))
    except TypeError:
        return None
    outside = file is not None and Path(file).is_file() and "site-packages" not in Path(file).parts
    return code_digest(Path(file)) if outside and file is not None else None


def open_module(spec: Spec, size: Grid, seed: int) -> ModuleEncoder:
    """``module:package.module:factory`` or ``module:file.py:factory``."""
    module, preprocess, code = build(spec, int(spec.options.get("seed", seed)))
    if preprocess is None:
        note(f"{spec.text} {NO_NORMALISATION} (else give ?mean=r,g,b&std=r,g,b, or a preprocess).")
    origin = Provenance(spec=spec.text, code=code)
    return ModuleEncoder(spec.text, module, spec.layers, preprocess, size, origin=origin)


def build(spec: Spec, seed: int) -> tuple[nn.Module, Preprocess | None, str | None]:
    """The module that the factory gives, its preprocessing, and the digest of its code."""
    factory = find_function(f"Encoder '{spec.text}'", spec.body)
    options = {key: value for key, value in spec.options.items() if key not in ("mean", "std", "seed")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = factory(**typed_options(factory.function, options))
        except FathomError:
            raise
        except (TypeError, ValueError, RuntimeError, OSError, KeyError, ImportError) as error:
            raise FathomError(
                f"Encoder '{spec.text}': its factory failed ({type(error).__name__}: {error})."
            ) from error
    module, preprocess = made if isinstance(made, tuple) else (made, getattr(made, "preprocess", None))
    if not isinstance(module, nn.Module):
        raise UsageError(f"Encoder '{spec.text}': its factory gave {type(module).__name__}, no torch.nn.Module.")
    if "mean" in spec.options or "std" in spec.options:
        mean, std = (
            tuple(float(v) for v in spec.options.get(key, default).split(","))
            for key, default in (("mean", "0,0,0"), ("std", "1,1,1"))
        )
        preprocess = Normalise(mean, std)
    return module, preprocess, factory.digest()
