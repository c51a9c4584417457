"""Averages that know which pixels are valid."""

from __future__ import annotations

from functools import lru_cache

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.sample import Grid


@lru_cache(maxsize=64)
def area_weights(size: int, cells: int) -> Float[Tensor, "cells size"]:
    """Length of each input pixel's overlap with each output cell, in input pixels: the exact area filter, one axis."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (size / cells)
    left, right = edges[:-1, None], edges[1:, None]
    pixel = torch.arange(size, dtype=torch.float64)[None]
    overlap = torch.minimum(right, pixel + 1) - torch.maximum(left, pixel)
    return overlap.clamp_(min=0).float()


def area_sum(values: Float[Tensor, "*B H W"], grid: Grid) -> Float[Tensor, "*B h w"]:
    """Sum of `values` over each grid cell, pixels on a border counted by the share that lies inside."""
    height, width = values.shape[-2:]
    rows = area_weights(height, grid[0]).to(values)
    columns = area_weights(width, grid[1]).to(values)
    return rows @ values @ columns.T


def masked_average(
    values: Float[Tensor, "*B C H W"], valid: Bool[Tensor, "*B 1 H W"], grid: Grid, least: float = 0.5
) -> tuple[Float[Tensor, "*B C h w"], Bool[Tensor, "*B 1 h w"]]:
    """Average the valid pixels of each grid cell.

    An invalid pixel has no influence, whatever stands in it (NaN included). A cell is valid when at least the share
    `least` of its area is; the value of an invalid cell is 0.
    """
    height, width = values.shape[-2:]
    weight = area_sum(valid.to(values.dtype), grid)
    total = area_sum(torch.where(valid, values, 0.0), grid)
    cell_area = (height / grid[0]) * (width / grid[1])
    kept = weight >= least * cell_area * (1 - 1e-5)
    average = total / weight.clamp(min=1e-12)
    return torch.where(kept, average, 0.0), kept
