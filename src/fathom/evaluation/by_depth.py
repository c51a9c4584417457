"""Error against true depth, gathered in one pass in narrow bins and merged into readable bands at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

NEAREST, OCTAVES, PER_OCTAVE = 1e-3, 20, 16
"""Bins from 1 mm to 1 km, each 4.4 % wide."""
BINS = OCTAVES * PER_OCTAVE
BAND_SHARE, SPARSE_SHARE, SPARSE_BINS = 1 / 24, 1 / 500, 4
"""A band ends where it holds 1/24 of all pixels, or where it is four bins (19 %) wide and holds 1/500 of them."""


@dataclass(frozen=True)
class Band:
    """Pixels whose true depth lies between `nearest` and `farthest` metres.

    Attributes:
        pixels: how many. depth: their mean true depth.
        bias: mean of prediction − truth, metres, with its 95 % `bias_interval` over scenes.
        rmse: root of the mean squared error, metres, with its `rmse_interval`.
        abs_rel: mean of |prediction − truth| / truth.
    """

    nearest: float
    farthest: float
    pixels: int
    depth: float
    bias: float
    bias_interval: tuple[float, float] | None
    rmse: float
    rmse_interval: tuple[float, float] | None
    abs_rel: float


class ErrorByDepth:
    """Sums of errors by scene and narrow bin of true depth: count, depth, d, d², |d|/g."""

    def __init__(self) -> None:
        self._sums: dict[str, Float[Tensor, "5 bins"]] = {}

    def add(
        self,
        scene: str,
        prediction: Float[Tensor, "H W"],
        target: Float[Tensor, "H W"],
        valid: Bool[Tensor, "H W"],
    ) -> None:
        """Add the valid pixels of a frame; true depth must be positive there."""
        g = target[valid]
        d = prediction[valid] - g
        bins = ((g / NEAREST).log2_() * PER_OCTAVE).long().clamp_(0, BINS - 1)
        weights = (torch.ones_like(g), g, d, d.square(), d.abs() / g)
        sums = torch.stack([torch.bincount(bins, w.double(), minlength=BINS) for w in weights])
        self._sums[scene] = self._sums[scene] + sums if scene in self._sums else sums

    def bands(self) -> tuple[Band, ...]:
        """Neighbouring bins merged into bands that hold enough pixels to speak of; every pixel is in one.

        Intervals over scenes are Student's, from the linearised standard error (`fathom.statistics`); None with
        too few scenes.
        """
        if not self._sums:
            return ()
        sums = torch.stack(list(self._sums.values())).numpy()
        ranges = merged(sums[:, 0].sum(0))
        return tuple(_band(sums[:, :, first:end].sum(2), first, end) for first, end in ranges)


def merged(counts: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Ranges of bins (half-open), from the first that holds a pixel to the last; a sparse rest joins the last range."""
    ranges: list[tuple[int, int]] = []
    filled = np.flatnonzero(counts)
    total, start, held = counts.sum(), int(filled[0]), 0.0
    last = int(filled[-1]) + 1
    for end in range(start + 1, last + 1):
        held += counts[end - 1]
        if held >= BAND_SHARE * total or (end - start >= SPARSE_BINS and held >= SPARSE_SHARE * total):
            ranges.append((start, end))
            start, held = end, 0.0
    if start < last:
        ranges = [*ranges[:-1], (ranges[-1][0] if ranges else start, last)]
    return ranges


def _band(sums: NDArray[np.float64], first: int, end: int) -> Band:
    """The band of bins `first` to `end` from its sums by scene, ``(S, 5)``."""
    total = sums.sum(0)
    count = total[0]
    squares = _student(sums[:, 3], sums[:, 0], log=True)
    return Band(
        nearest=NEAREST * 2 ** (first / PER_OCTAVE),
        farthest=NEAREST * 2 ** (end / PER_OCTAVE),
        pixels=round(count),
        depth=float(total[1] / count),
        bias=float(total[2] / count),
        bias_interval=_student(sums[:, 2], sums[:, 0], log=False),
        rmse=math.sqrt(total[3] / count),
        rmse_interval=None if squares is None else (math.sqrt(squares[0]), math.sqrt(squares[1])),
        abs_rel=float(total[4] / count),
    )


def _student(a: NDArray[np.float64], b: NDArray[np.float64], *, log: bool) -> tuple[float, float] | None:
    """95 % interval of Σa/Σb over scenes, on the logarithm for positive ratios."""
    from scipy import stats

    from fathom.statistics import LEAST_SCENES, linearised

    present = b > 0
    a, b = a[present], b[present]
    if len(a) < LEAST_SCENES:
        return None
    ratio, se = linearised(a, b)
    half = float(stats.t.ppf(0.975, len(a) - 1)) * se
    if log and ratio > 0:
        return ratio * math.exp(-half / ratio), ratio * math.exp(half / ratio)
    return ratio - half, ratio + half
