"""Baselines: what a probe can reach without any learned representation. They live on the probe's grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fathom.encoders.base import Control, Encoder, Provenance
from fathom.errors import UsageError
from fathom.grids import area_sum
from fathom.sample import Grid

Columns = Callable[[Float[Tensor, "B 3 H W"], Grid], Float[Tensor, "B C h w"]]


def constant(images: Float[Tensor, "B 3 H W"], grid: Grid) -> Float[Tensor, "B 0 h w"]:
    """No column at all: the probe is its intercept, the training mean."""
    return images.new_zeros(len(images), 0, *grid)


def position(images: Float[Tensor, "B 3 H W"], grid: Grid) -> Float[Tensor, "B 6 h w"]:
    """y, x, y², x², xy, y³ at cell centres, in [-1, 1]: where the cell is, and nothing of what is there."""
    height, width = grid
    y = ((torch.arange(height, device=images.device) + 0.5) / height * 2 - 1)[:, None].expand(grid)
    x = ((torch.arange(width, device=images.device) + 0.5) / width * 2 - 1)[None].expand(grid)
    return torch.stack([y, x, y * y, x * x, x * y, y**3]).expand(len(images), -1, -1, -1)


def pixels(images: Float[Tensor, "B 3 H W"], grid: Grid) -> Float[Tensor, "B 3 h w"]:
    """The null model: the image merely averaged down to the grid."""
    height, width = images.shape[-2:]
    return area_sum(images, grid) * (grid[0] * grid[1] / (height * width))


def pixels_and_position(images: Float[Tensor, "B 3 H W"], grid: Grid) -> Float[Tensor, "B 9 h w"]:
    """Both."""
    return torch.cat([pixels(images, grid), position(images, grid)], 1)


def patch(images: Float[Tensor, "B 3 H W"], grid: Grid, side: int = 7) -> Float[Tensor, "B C h w"]:
    """The averaged colours of the side x side cells around each cell: context without learning. Edges are repeated."""
    cells = F.pad(pixels(images, grid), [side // 2] * 4, mode="replicate")
    neighbours = F.unfold(cells, side)
    return neighbours.reshape(*neighbours.shape[:2], *grid)


@dataclass
class Baseline(Encoder):
    """An encoder that computes a few columns from the image or from nothing.

    Attributes:
        name: the SPEC.
        columns: image and grid to ``(B, C, h, w)``.
        cells: the probe's grid; see `on_grid`.
        spec: what opened it, where its name is an alias.
    """

    name: str
    columns: Columns
    cells: Grid | None = None
    layers: tuple[str, ...] = ("baseline",)
    baseline: bool = True
    control: Control | None = None
    spec: str | None = None

    def on_grid(self, grid: Grid) -> Baseline:
        """The same baseline on the probe's grid."""
        return replace(self, cells=grid)

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """One layer, on the grid."""
        if self.cells is None:
            raise UsageError(
                f"The baseline '{self.name}' has no grid of its own; place it with on_grid((height, width))."
            )
        return {"baseline": self.columns(images, self.cells)}

    def random_copy(self, seed: int) -> Encoder | str:
        """A baseline has nothing to make random."""
        return f"{self.name} has no weights to make random"

    def permuted_copy(self, seed: int) -> Encoder | str:
        """A baseline has nothing to permute."""
        return f"{self.name} has no weights to permute"

    def provenance(self) -> Provenance:
        """Its SPEC says all."""
        return Provenance(spec=self.spec)


BASELINES: dict[str, Columns] = {
    "constant": constant,
    "position": position,
    "pixels": pixels,
    "pixels+position": pixels_and_position,
    "patch": patch,
}
"""Baselines by SPEC. ``patch:5`` is a neighbourhood of another size."""


def open_baseline(spec: str) -> Baseline | None:
    """The baseline called `spec`, or None if there is none of that name."""
    if spec in BASELINES:
        return Baseline(spec, BASELINES[spec], spec=spec)
    base, _, side = spec.partition(":")
    if base == "patch":
        if not side.isdigit() or int(side) % 2 == 0 or not 1 <= int(side) <= 31:
            raise UsageError(f"'{spec}': the side of a patch is an odd number of cells up to 31, such as patch:7.")
        return Baseline(spec, lambda images, grid: patch(images, grid, int(side)), spec=spec)
    return None
