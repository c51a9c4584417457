"""The design matrix of a probe, never formed: feature maps of several resolutions read as columns on one grid.

A layer's map Z_l lies on its own grid; on the probe's grid it is X_l = U_l Z_l with U_l a separable interpolation
(bilinear where the layer is coarser, area average where it is finer). With M the diagonal 0/1 matrix of valid cells,

    X_lᵀ M X_m = Z_lᵀ (U_lᵀ M U_m) Z_m,      X_lᵀ M Y = Z_lᵀ (U_lᵀ M Y)

so the large products run over the cells of the coarse map, not of the grid: exact, and several times cheaper for the
deep, wide layers of an encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import FathomError
from fathom.grids import area_weights
from fathom.probing.linear.moments import Moments, largest_magnitude, power_of_two
from fathom.sample import Grid

GRAM_BLOCK = 256
"""Columns formed at once of a symmetric product: small enough to skip nearly half of it, large enough for one fast product."""

COARSE = 0.7
"""A layer with fewer than this share of the grid's cells is kept on its own grid: below it the algebra pays."""


def bilinear_weights(cells: int, size: int) -> Float[Tensor, "cells size"]:
    """Interpolation of `size` samples at `cells` points, one axis; pixel-centre convention, edges repeated."""
    at = (torch.arange(cells, dtype=torch.float64) + 0.5) * size / cells - 0.5
    at = at.clamp(0, size - 1)
    low = at.floor().long().clamp(max=max(size - 2, 0))
    share = at - low
    weights = torch.zeros(cells, size, dtype=torch.float64)
    rows = torch.arange(cells)
    weights[rows, low] += 1 - share
    weights[rows, (low + 1).clamp(max=size - 1)] += share
    return weights.float()


def resampling_weights(cells: int, size: int) -> Float[Tensor, "cells size"]:
    """From `size` samples to `cells`: bilinear when enlarging, area average when shrinking; rows sum to one."""
    return bilinear_weights(cells, size) if cells >= size else area_weights(size, cells) * (cells / size)


@dataclass(frozen=True)
class Placement:
    """How maps of one native grid are read on the probe's grid: U = rows ⊗ columns.

    Attributes:
        native: the maps' own grid.
        rows: ``(h, native h)``. columns: ``(w, native w)``.
        layers: the layers that lie here, with their channel counts, in column order.
    """

    native: Grid
    rows: Float[Tensor, "h hn"]
    columns: Float[Tensor, "w wn"]
    layers: tuple[tuple[str, int], ...]

    def up(self, Z: Float[Tensor, "B C hn wn"]) -> Float[Tensor, "B C h w"]:
        """U Z."""
        return separable(self.rows.to(Z.dtype), self.columns.to(Z.dtype), Z)

    def down(self, V: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C hn wn"]:
        """Uᵀ V."""
        return separable(self.rows.T.to(V.dtype), self.columns.T.to(V.dtype), V)

    def normal(self, dtype: torch.dtype) -> tuple[Float[Tensor, "hn hn"], Float[Tensor, "wn wn"]]:
        """The factors of UᵀU."""
        rows, columns = self.rows.to(dtype), self.columns.to(dtype)
        return rows.T @ rows, columns.T @ columns


Placed = list[Float[Tensor, "B _ _ _"]]


def separable(
    rows: Float[Tensor, "m h"], columns: Float[Tensor, "n w"], maps: Float[Tensor, "B C h w"]
) -> Float[Tensor, "B C m n"]:
    """rows · map · columnsᵀ of every channel, channels last in memory: few large products, and `flat` is a view."""
    batch, channels, height, width = maps.shape
    cells = maps.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    across = (rows @ cells).reshape(batch, len(rows), width, channels)
    return (columns @ across).permute(0, 3, 1, 2)


def flat(maps: Float[Tensor, "B C h w"]) -> Float[Tensor, "n C"]:
    """Cells as rows, channels as columns."""
    batch, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(batch * height * width, channels)


def add_gram(
    total: Float[Tensor, "p p"], left: Float[Tensor, "n p"], right: Float[Tensor, "n p"], unscale: Float[Tensor, "p"]
) -> None:
    """Add leftᵀ right, rows and columns times `unscale`, to `total` where that is known to be symmetric: only blocks on
    and above the diagonal are formed."""
    p = left.shape[1]
    steps = range(0, p, GRAM_BLOCK)
    for start in steps:
        rows, rest = slice(start, start + GRAM_BLOCK), slice(start + GRAM_BLOCK, p)
        block = left[:, rows].T @ right[:, start:]
        here = block[:, :GRAM_BLOCK]
        total[rows, rows] += ((here + here.T) / 2).cpu().double() * unscale[rows, None] * unscale[rows]
        if start + GRAM_BLOCK < p:
            beside = block[:, GRAM_BLOCK:].cpu().double() * unscale[rows, None] * unscale[rest]
            total[rows, rest] += beside
            total[rest, rows] += beside.T


def _sums_by_row(z: Float[Tensor, "B p h w"], right: Float[Tensor, "B q h w"]) -> Float[Tensor, "p q"]:
    """Σ z right over cells, in float64 beyond one row of the grid.

    A channel that died after the first batch is minus its shift everywhere: the rounding of so many equal terms adds up.
    """
    rows, columns = (item.permute(0, 2, 1, 3).flatten(0, 1) for item in (z, right))
    return torch.bmm(rows, columns.mT).sum(0, dtype=torch.float64)


class Design:
    """Columns of one encoder on one grid: fixed by the first batch it sees, then the same for every batch.

    Attributes:
        name: the encoder's, for messages.
        grid: the probe's.
        placements: first the maps that are brought to the grid at once, then one for each coarser native grid.
        slices: the columns of each layer.
        channels: all columns.
    """

    def __init__(self, name: str, grid: Grid, maps: Mapping[str, Float[Tensor, "B _ _ _"]]) -> None:
        self.name, self.grid = name, grid
        self.shapes = {layer: tuple(z.shape[1:]) for layer, z in maps.items()}
        cells = grid[0] * grid[1]
        fine = {
            layer for layer, (_, h, w) in self.shapes.items() if h * w >= COARSE * cells or h > grid[0] or w > grid[1]
        }
        by_native: dict[Grid, list[tuple[str, int]]] = {}
        for layer, (channels, h, w) in self.shapes.items():
            by_native.setdefault(grid if layer in fine else (h, w), []).append((layer, channels))
        by_native.setdefault(grid, [])
        ordered = [grid, *sorted((g for g in by_native if g != grid), reverse=True)]
        device = next(iter(maps.values())).device if maps else torch.device("cpu")
        self.placements = tuple(
            Placement(
                native,
                resampling_weights(grid[0], native[0]).to(device),
                resampling_weights(grid[1], native[1]).to(device),
                tuple(by_native[native]),
            )
            for native in ordered
        )
        self._resample = {
            layer: (
                resampling_weights(grid[0], self.shapes[layer][1]).to(device),
                resampling_weights(grid[1], self.shapes[layer][2]).to(device),
            )
            for layer in fine
            if self.shapes[layer][1:] != grid
        }
        self.slices: dict[str, slice] = {}
        start = 0
        for placement in self.placements:
            for layer, channels in placement.layers:
                self.slices[layer] = slice(start, start + channels)
                start += channels
        self.channels = start

    def place(self, maps: Mapping[str, Float[Tensor, "B _ _ _"]]) -> Placed:
        """The maps of a batch, gathered by placement, columns concatenated.

        Raises `FathomError` when a layer's shape is not what it was in the first batch.
        """
        for layer, shape in self.shapes.items():
            got = tuple(maps[layer].shape[1:])
            if got != shape:
                raise FathomError(
                    f"Encoder {self.name} gave layer {layer} with shape {got} after {shape} for images of one size; "
                    "a probe needs the same channels and grid for every image."
                )
        placed = []
        for placement in self.placements:
            parts = []
            for layer, _ in placement.layers:
                z = maps[layer].float()
                if layer in self._resample:
                    z = separable(*self._resample[layer], z)
                parts.append(z.contiguous(memory_format=torch.channels_last))
            batch = next(iter(maps.values())).shape[0] if maps else 0
            placed.append(
                torch.cat(parts, 1) if parts else self.placements[0].rows.new_zeros(batch, 0, *placement.native)
            )
        return placed

    def means(self, placed: Placed) -> Float[Tensor, "p"]:
        """Mean of each column over a batch: a good shift."""
        return torch.cat([z.mean(dim=(0, 2, 3), dtype=torch.float64) for z in placed])

    def scales(self, placed: Placed) -> Float[Tensor, "p"]:
        """A power of two for each column that keeps the products of this batch inside float32's range; mostly 1."""
        return torch.cat([power_of_two(largest_magnitude(flat(z))).cpu() for z in placed])

    def centre(
        self,
        placed: Placed,
        shift: Float[Tensor, "p"],
        scale: Float[Tensor, "p"] | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Placed:
        """The maps less the shift of each column, times its scale; U has rows that sum to one, so X moves by the same shift."""
        widths = [z.shape[1] for z in placed]
        shifts = torch.split(shift, widths)
        if scale is None or bool((scale == 1).all()):
            return [z.to(dtype) - s.to(z.device, dtype)[:, None, None] for z, s in zip(placed, shifts, strict=True)]
        # Scaled first: a difference of magnitudes near float32's largest number would overflow.
        return [
            z.to(dtype) * c.to(z.device, dtype)[:, None, None] - (s * c).to(z.device, dtype)[:, None, None]
            for z, s, c in zip(placed, shifts, torch.split(scale, widths), strict=True)
        ]

    def accumulate(
        self,
        moments: Moments,
        group: int,
        centred: Placed,
        valid: Bool[Tensor, "B 1 h w"],
        Y: Float[Tensor, "B q h w"],
        scale: Float[Tensor, "p"] | None = None,
    ) -> None:
        """Add a batch of images of one group to `moments`; `centred` is about the moments' shift and times `scale`.

        Products are formed in the precision of `centred`.
        """
        dtype = next((z.dtype for z in centred if z.shape[1]), Y.dtype)
        inside = valid.expand_as(Y)
        low, high = (
            torch.where(inside, Y, torch.inf).amin((0, 2, 3)),
            torch.where(inside, Y, -torch.inf).amax((0, 2, 3)),
        )
        moments.widen(group, low, high)
        moments.note_precision(dtype)
        cy = power_of_two(largest_magnitude(flat(torch.where(inside, Y, 0.0)))).to(Y.device, dtype)
        undo_y = 1 / cy.double().cpu()
        undo = torch.ones(self.channels, dtype=torch.float64) if scale is None else 1 / scale.double().cpu()
        mask = valid.to(dtype)
        shift_y = moments.shift_y.to(Y.device, dtype)
        Yc = torch.where(inside, Y.to(dtype) * cy[:, None, None] - (shift_y * cy)[:, None, None], 0.0)
        full = bool(valid.all())
        moments.n[group] += float(valid.sum())
        moments.y[group] += Yc.sum(dim=(0, 2, 3), dtype=torch.float64).cpu() * undo_y
        moments.yy[group] += Yc.square().sum(dim=(0, 2, 3), dtype=torch.float64).cpu() * undo_y.square()
        starts = [0]
        for z in centred:
            starts.append(starts[-1] + z.shape[1])
        # Uᵀ M Y and Uᵀ M 1 of every placement; the first placement is the grid itself (U = I).
        for a, (placement, z) in enumerate(zip(self.placements, centred, strict=True)):
            if not z.shape[1]:
                continue
            block = slice(starts[a], starts[a + 1])
            rhs = torch.cat([Yc, mask], 1)
            sums = _sums_by_row(z, placement.down(rhs) if a else rhs).cpu() * undo[block, None]
            moments.xy[group, block] += sums[:, :-1] * undo_y
            moments.x[group, block] += sums[:, -1]
            self._quadratic(moments.xx[group], starts, a, centred, mask, full, undo)

    def _quadratic(
        self,
        xx: Float[Tensor, "p p"],
        starts: Sequence[int],
        a: int,
        centred: Placed,
        mask: Tensor,
        full: bool,
        undo: Float[Tensor, "p"],
    ) -> None:
        """Blocks (a, a), (a, b > a) and their transposes of Σ x xᵀ."""
        here, Za = self.placements[a], centred[a]
        rows = slice(starts[a], starts[a + 1])
        if a == 0:
            on_grid = Za if full else Za * mask
            F = flat(on_grid)
            add_gram(xx[rows, rows], F, F, undo[rows])
        else:
            if full:
                weighted = separable(*here.normal(Za.dtype), Za)
            else:
                on_grid = here.up(Za) * mask
                weighted = here.down(on_grid)
            add_gram(xx[rows, rows], flat(Za), flat(weighted), undo[rows])
        for b in range(a + 1, len(centred)):
            Zb = centred[b]
            if a and full:
                on_grid = here.up(Za)
            columns = slice(starts[b], starts[b + 1])
            product = (flat(self.placements[b].down(on_grid)).T @ flat(Zb)).cpu().double()
            product = product * undo[rows, None] * undo[columns]
            xx[rows, columns] += product
            xx[columns, rows] += product.T

    def predict(
        self, placed: Placed, weight: Float[Tensor, "p q"], bias: Float[Tensor, "q"]
    ) -> Float[Tensor, "B q h w"]:
        """X w + b on the grid, the product taken on each map's own grid."""
        total: Tensor | None = None
        parts = torch.split(weight, [z.shape[1] for z in placed])
        for placement, z, w in zip(self.placements, placed, parts, strict=True):
            if not z.shape[1]:
                continue
            native = (z.permute(0, 2, 3, 1) @ w.to(z)).permute(0, 3, 1, 2)
            on_grid = native if placement.native == self.grid else placement.up(native)
            total = on_grid if total is None else total + on_grid
        if total is None:
            batch = placed[0].shape[0]
            total = placed[0].new_zeros(batch, weight.shape[1], *self.grid)
        return total + bias.to(total)[:, None, None]
