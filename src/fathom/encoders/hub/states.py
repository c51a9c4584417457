"""Encoders read at the states that a backbone reports of itself, whichever library it comes from.

Layers are ``stem`` (what enters the first stage), ``stage1``, ``stage2`` ... (the output of each stage of a pyramid, of
each block of a ViT) and ``last`` (the final output, after the last normalisation where there is one); any submodule can
be read too, as ``network.<its name>``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders.base import Provenance, Training
from fathom.encoders.module import ModuleEncoder
from fathom.encoders.whole_cells import WholeCells
from fathom.errors import FathomError, UsageError, nearest
from fathom.sample import Grid

ISOTROPIC_LAYERS = 4
"""Layers read by default of a model whose blocks all have one grid: at each quarter of its depth."""

Maps = dict[str, Float[Tensor, "B _ _ _"]]


class StateEncoder(ModuleEncoder):
    """A backbone read at its states.

    Args:
        name: the SPEC.
        network: the backbone.
        states: one forward pass, prepared images to the map of each state; a copy of it is independent.
        layers: to read; by default those of `chosen_layers`.
        normalise: from RGB in [0, 1] to the backbone's input.
        patch: side of the patches of a token model, in pixels.
        made_for: the input side the backbone was made for.
        least: the shorter side that the backbone needs at least.
        fresh: seed to the same architecture with fresh weights.
        trained: what it was trained on, as far as it is known.
        origin: what is known of its provenance.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        states: Callable[[Tensor], Maps],
        layers: tuple[str, ...],
        normalise: nn.Module,
        *,
        patch: int | None = None,
        made_for: int | None = None,
        least: int = 1,
        fresh: Callable[[int], nn.Module] | None = None,
        trained: Training | None = None,
        origin: Provenance | None = None,
    ) -> None:
        network.eval()
        dry = dry_run(name, states, patch, made_for, least)
        taps = {layer: nn.Identity() for layer in dry.shapes}
        inner = {f"network.{n}": m for n, m in network.named_modules() if n}
        for layer in layers:
            if layer not in taps and layer not in inner:
                listed = list(taps) if len(taps) < 8 else [*list(taps)[:3], "...", *list(taps)[-2:]]
                known = nearest(layer, inner) if layer.startswith("network.") else f" (it has {', '.join(listed)})"
                raise UsageError(f"Encoder {name} has no layer '{layer}'{known}.")

        super().__init__(
            name,
            network,
            layers or chosen_layers(name, dry.shapes),
            WholeCells(dry.stride, normalise, least, only=(dry.side, dry.side) if dry.fixed else None),
            named={**inner, **taps},
            run=_Taps(states, taps),
            fresh=fresh,
            trained=trained,
            origin=origin,
        )


@dataclass(frozen=True)
class _Taps:
    """A forward pass that shows each state to a module of its own, where hooks can read it."""

    states: Callable[[Tensor], Maps]
    taps: Mapping[str, nn.Module]

    def __call__(self, images: Tensor) -> None:
        for layer, z in self.states(images).items():
            self.taps[layer](z)


@dataclass(frozen=True)
class Dry:
    """What one forward pass of a square image showed.

    Attributes:
        side: of the image.
        shapes: the grid of every state.
        stride: input pixels to a cell of the coarsest of them.
        fixed: whether the model takes images of this size alone.
    """

    side: int
    shapes: Mapping[str, Grid]
    stride: int
    fixed: bool


def dry_run(
    name: str, states: Callable[[Tensor], Maps], patch: int | None, made_for: int | None, least: int = 1
) -> Dry:
    """Learn the grids of a model's states.

    The side of the image is a multiple of the patch of a ViT, and of any power of two that a pyramid of stages comes to;
    for a model that does not take it, the side that it was made for.
    """
    unit = patch if patch and 256 % patch else 16
    # Not the size that it was made for, which tells nothing of other sizes.
    sides = [side for side in (max(16 * unit, least), max(20 * unit, 2 * least)) if side != made_for][:1]
    if made_for:
        sides.append(made_for)
    for side in sides:
        try:
            with torch.inference_mode():
                maps = states(torch.zeros(1, 3, side, side))
            break
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
            if side == sides[-1]:
                line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
                raise FathomError(f"Encoder {name} does not run on an image alone ({line}).") from error
    shapes = {layer: (int(z.shape[-2]), int(z.shape[-1])) for layer, z in maps.items()}
    stride = max((round(side / grid[0]) for grid in shapes.values()), default=1)
    if patch and len(set(shapes.values())) == 1 and stride != patch:
        raise FathomError(
            f"Encoder {name} gives {next(iter(shapes.values()))} tokens of patches of {patch} for {side}x{side} "
            "pixels: it leaves some out, and where the others lie is not known."
        )
    return Dry(side, shapes, stride, fixed=side != sides[0])


def chosen_layers(name: str, shapes: Mapping[str, Grid]) -> tuple[str, ...]:
    """The layers read by default: the last stage of each grid; of a model on one grid, the ends of its four quarters."""
    stages = [layer for layer in shapes if layer.startswith("stage")]
    if not stages:
        raise FathomError(f"Encoder {name} reports no states; name submodules to read, as @network.layer.")
    last = {shapes[layer]: layer for layer in stages}
    if len(last) > 1:
        return tuple(layer for layer in stages if layer in last.values())
    quarters = min(ISOTROPIC_LAYERS, len(stages))
    return tuple(stages[len(stages) * (i + 1) // quarters - 1] for i in range(quarters))
