"""Features of the image and the grid alone, whose answer is known: the pixels must know colour, the position baseline position.

A probe run that does not find them has gone wrong before any encoder is to blame.
"""

from __future__ import annotations

import torch

from fathom.features.feature import Target
from fathom.grids import masked_average
from fathom.sample import Grid, Sample

LUMA = (0.299, 0.587, 0.114)
"""Weights of R, G and B (ITU-R BT.601)."""


def luminance(sample: Sample, grid: Grid) -> Target:
    """Luma, 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601), averaged over the cell: ``(1, h, w)`` in [0, 1], no unit.

    Linear in the colours, so that the averaged pixels hold it exactly.
    """
    luma = (torch.tensor(LUMA)[:, None, None] * sample.float_image()).sum(0, keepdim=True)
    return masked_average(luma, torch.ones_like(luma, dtype=torch.bool), grid)


def colour(sample: Sample, grid: Grid) -> Target:
    """Mean R, G and B of the cell, as stored (gamma-encoded): ``(3, h, w)`` in [0, 1], no unit."""
    image = sample.float_image()
    return masked_average(image, torch.ones_like(image[:1], dtype=torch.bool), grid)


def position(sample: Sample, grid: Grid) -> Target:
    """Row and column of the cell's centre, −1 at the top and left edge, 1 at the bottom and right: ``(2, h, w)``, no unit."""
    height, width = grid
    y = ((torch.arange(height) + 0.5) / height * 2 - 1)[:, None].expand(grid)
    x = ((torch.arange(width) + 0.5) / width * 2 - 1)[None].expand(grid)
    return torch.stack([y, x]), torch.ones(1, *grid, dtype=torch.bool)
