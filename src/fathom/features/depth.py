"""Features of the depth map alone: no camera needed."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.features.feature import Target
from fathom.grids import masked_average
from fathom.sample import Grid, Sample
from fathom.sobel import sobel_edges

NEAREST = 1e-3
"""Metres: depth below counts as this before a logarithm or an inverse is taken."""

FLAT = 1e-6
"""A frame whose mean deviation is below this share of its median has no relative depth: 0/0."""


def depth(sample: Sample, grid: Grid) -> Target:
    """z-depth averaged over the valid pixels of each cell: ``(1, h, w)``, metres."""
    return masked_average(sample.depth, sample.valid, grid)


def log_depth(sample: Sample, grid: Grid) -> Target:
    """Natural logarithm of depth in metres, averaged over the cell: ``(1, h, w)``, log m.

    A ratio of depths becomes a difference, so that near and far count alike (Eigen et al. 2014).
    """
    return masked_average(sample.depth.clamp(min=NEAREST).log(), sample.valid, grid)


def disparity(sample: Sample, grid: Grid) -> Target:
    """Inverse depth, averaged over the cell: ``(1, h, w)``, 1/m. What a stereo pair measures; near counts most."""
    return masked_average(sample.depth.clamp(min=NEAREST).reciprocal(), sample.valid, grid)


def relative_depth(sample: Sample, grid: Grid) -> Target:
    """Depth without its scale and shift in this frame: ``(1, h, w)``, no unit.

    (d − t)/s with t = median(d) and s = mean |d − t| over the valid pixels of the frame, then averaged over each cell:
    the normalisation of MiDaS (Ranftl et al. 2022, arXiv:1907.01341, eq. 6), which takes it of inverse depth, here of
    depth. 0 is the median surface, 1 a mean deviation behind it. The median of an even number of pixels is the lower of
    the middle two. A frame of one depth has none and is invalid.
    """
    inside = sample.depth[sample.valid]
    if not inside.numel():
        return masked_average(sample.depth, sample.valid, grid)
    median = inside.median()
    spread = (inside - median).abs().mean()
    if not spread > FLAT * median.abs():
        return torch.zeros(1, *grid), torch.zeros(1, *grid, dtype=torch.bool)
    return masked_average((sample.depth - median) / spread, sample.valid, grid)


def depth_edges(sample: Sample, grid: Grid) -> Target:
    """Magnitude of the Sobel gradient of depth, averaged over the cell: ``(1, h, w)``, metres a pixel of the input.

    Sobel's kernels divided by 8, so that a ramp of one metre a pixel gives 1. A pixel counts where its whole 3x3 window is
    valid and inside the map.
    """
    return masked_average(*sobel_edges(sample.depth, sample.valid), grid)


def from_disparity(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Metres of a predicted disparity; a linear probe may go below zero, and 1 mm to 1 km keeps the inverse a depth."""
    return values.clamp(1e-3, 1e3).reciprocal()


def unchanged(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Metres of a predicted depth: itself."""
    return values
