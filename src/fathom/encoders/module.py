"""``module:`` — any `torch.nn.Module` as an encoder, its layers read by forward hooks in one pass.

The factory returns a module, or ``(module, preprocess)`` where `preprocess` maps RGB in [0, 1] to the module's input. The
module may say more by attributes: ``preprocess`` (as above) and ``probe_layers`` (names of the layers to read). Without a
preprocessing of its own it gets ImageNet's mean and standard deviation, unless ``mean=`` and ``std=`` say otherwise.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.spec import Spec
from fathom.errors import DataError, FathomError, UsageError, nearest
from fathom.sample import Grid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

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


class ModuleEncoder:
    """A frozen module, read at named layers.

    Args:
        name: the SPEC.
        module: the network; it is put into evaluation mode and frozen.
        layers: names in `named`; by default those that `default_layers` finds.
        preprocess: from RGB in [0, 1] to the module's input.
        size: the input size the layers are looked for at.
        named: what can be read, by name; by default every submodule. These modules run in a forward pass, though they
            need not belong to `module`.
        run: the forward pass, where it is not a call of `module`.
        fresh: seed to the same architecture with the weights of its own initialisation, for `random:`.
    """

    baseline = False

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
    ) -> None:
        self.name = name
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

    def to(self, device: torch.device | str) -> Self:
        """Move the module and its preprocessing."""
        self.module.to(device)
        if isinstance(self.preprocess, nn.Module):
            self.preprocess.to(device)
        return self

    @torch.inference_mode()
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Every layer's map from one forward pass."""
        outputs: dict[str, Any] = {}
        prepared = self.preprocess(images)
        with _recording({layer: self._named[layer] for layer in self.layers}, outputs):
            self._run(prepared.contiguous(memory_format=torch.channels_last))
        missing = [layer for layer in self.layers if layer not in outputs]
        if missing:
            raise FathomError(f"Encoder {self.name} does not run its layer '{missing[0]}' in a forward pass.")
        size = (int(prepared.shape[-2]), int(prepared.shape[-1]))
        return {layer: as_map(self.name, layer, outputs[layer], size) for layer in self.layers}


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


def build(spec: Spec, seed: int) -> tuple[nn.Module, Preprocess | None]:
    """Call the factory that ``module:package.module:factory`` or ``module:file.py:factory`` names."""
    where, _, name = spec.body.rpartition(":")
    if not where or not name:
        raise UsageError(f"Encoder '{spec.text}' is not module:package.module:factory or module:file.py:factory.")
    factory = getattr(_import(where), name, None)
    if not callable(factory):
        raise UsageError(f"Encoder '{spec.text}': {where} has no factory '{name}'.")
    options = {key: value for key, value in spec.options.items() if key not in ("mean", "std", "seed")}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            made = factory(**_typed(factory, options))
        except FathomError:
            raise
        except (TypeError, ValueError, RuntimeError, OSError, KeyError) as error:
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
    return module, preprocess


def _import(where: str) -> Any:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ImportError as error:
            raise UsageError(f"Module '{where}' cannot be imported ({error}); is it installed?") from error
    path = Path(where).expanduser()
    if not path.is_file():
        raise DataError(path, "does not exist", "name the Python file that holds the factory")
    unit = importlib.util.spec_from_file_location(f"fathom_user_{path.stem}", path)
    if unit is None or unit.loader is None:
        raise DataError(path, "is no Python file")
    module = importlib.util.module_from_spec(unit)
    sys.modules[unit.name] = module
    try:
        unit.loader.exec_module(module)
    except (ImportError, SyntaxError, NameError, AttributeError, TypeError, ValueError) as error:
        raise DataError(path, f"cannot be imported ({type(error).__name__}: {error})") from error
    return module


def _typed(factory: Callable[..., Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Option text to int or float where it reads as one; unknown names are refused."""
    parameters = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    typed: dict[str, Any] = {}
    for key, value in options.items():
        if key not in parameters and not open_ended:
            raise UsageError(f"The factory has no option '{key}'{nearest(key, parameters)}.")
        typed[key] = value
        for number in (int, float):
            try:
                typed[key] = number(value)
                break
            except ValueError:
                continue
    return typed
