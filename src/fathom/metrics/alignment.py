"""Bringing a prediction to the scale of the truth, image by image, for depth that has no scale of its own.

With p the predicted values and g the true depth over the pixels that count (sources: docs/metrics.md):

    none                   p as it is
    median                 s·p          s = median g / median p                             Zhou et al. 2017
    scale                  s·p          least Σ(s·p − g)²                                   Eigen et al. 2014
    scale-shift            s·p + t      least Σ(s·p + t − g)²                               Ke et al. 2024 (Marigold)
    scale-shift-disparity  1/(s·q + t)  least Σ(s·q + t − 1/g)², q disparity,               Ranftl et al. 2020 (MiDaS)
                                        s·q + t clamped to the range's disparities
    robust-scale           s·p          least Σ|s·p − g|/g                                  Wang et al. 2025 (MoGe)
    robust-scale-shift     s·p + t      least Σ|s·p + t − g|/g                              Wang et al. 2025 (MoGe)

What a model predicts decides which of them mean something: `ALIGNMENTS_OF` lists them for each kind, its default first. A
degenerate fit never fails: a constant prediction has s = 0 under a fit with a shift, and one pixel is met exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from torch import Tensor

from fathom.errors import UsageError, nearest

Kind = Literal["metric", "scale-invariant", "affine-depth", "affine-disparity"]
"""What a model's values are. ``metric``: metres. ``scale-invariant``: depth up to one factor. ``affine-depth``: depth up to a
factor and a shift. ``affine-disparity``: 1/depth up to a factor and a shift; large is near."""

Vector = Float64[ndarray, "n"]
Fit = Callable[[Vector, Vector], tuple[float, float]]
"""(p, g) -> (s, t)."""

ALIGNMENTS_OF: dict[Kind, tuple[str, ...]] = {
    "metric": (
        "none",
        "median",
        "scale",
        "scale-shift",
        "scale-shift-disparity",
        "robust-scale",
        "robust-scale-shift",
    ),
    "scale-invariant": (
        "scale",
        "median",
        "scale-shift",
        "scale-shift-disparity",
        "robust-scale",
        "robust-scale-shift",
    ),
    "affine-depth": ("scale-shift", "robust-scale-shift"),
    "affine-disparity": ("scale-shift-disparity",),
}
"""Alignments that mean something for each kind of prediction; the first is the default."""

MOST_ROBUST = 1 << 14
"""Pixels that a robust fit uses, evenly spaced; MoGe's own takes 64x64 of an image."""

TINY = 1e-12


def median(p: Vector, g: Vector) -> tuple[float, float]:
    """s = median g / median p."""
    middle = float(np.median(p))
    return (float(np.median(g)) / middle if abs(middle) > TINY else 1.0), 0.0


def scale(p: Vector, g: Vector) -> tuple[float, float]:
    """s = Σpg / Σp²."""
    squares = float(np.dot(p, p))
    return (float(np.dot(p, g)) / squares if squares > TINY else 1.0), 0.0


def scale_shift(p: Vector, g: Vector) -> tuple[float, float]:
    """s = Σ(p − p̄)(g − ḡ) / Σ(p − p̄)², t = ḡ − s·p̄; of a constant prediction s = 0."""
    mean = float(p.mean())
    centred = p - mean
    squares = float(np.dot(centred, centred))
    s = float(np.dot(centred, g)) / squares if squares > TINY * max(float(np.dot(p, p)), TINY) else 0.0
    return s, float(g.mean()) - s * mean


def robust_scale(p: Vector, g: Vector) -> tuple[float, float]:
    """The minimum of Σ|s·p − g|/g: the median of g/p with weights |p|/g."""
    p, g = _thinned(p, g)
    known = np.abs(p) > TINY
    if not known.any():
        return 1.0, 0.0
    p, g = p[known], g[known]
    return weighted_median(g / p, np.abs(p) / g), 0.0


def robust_scale_shift(p: Vector, g: Vector) -> tuple[float, float]:
    """The minimum of Σ|s·p + t − g|/g over s and t.

    For a given s the best t is the median of g − s·p with weights 1/g. What is left is convex in s: a golden-section search
    finds its minimum.
    """
    p, g = _thinned(p, g)
    w = 1 / g
    middle, spread = float(np.median(p)), float(np.ptp(p))
    if spread <= TINY * max(abs(middle), 1.0):
        return 0.0, weighted_median(g, w)
    unit = (p - middle) / spread

    def shift(s: float) -> float:
        return weighted_median(g - s * unit, w)

    def loss(s: float) -> float:
        return float(np.dot(np.abs(g - s * unit - shift(s)), w))

    bound = float(np.ptp(g)) + 1.0
    while min(loss(-2 * bound), loss(2 * bound)) < min(loss(-bound), loss(bound)):
        bound *= 2
    low, high = -2 * bound, 2 * bound  # convex: beyond twice the bound it only grows
    golden = (np.sqrt(5) - 1) / 2
    inner = [high - golden * (high - low), low + golden * (high - low)]
    values = [loss(inner[0]), loss(inner[1])]
    while high - low > 1e-9 * bound:
        if values[0] <= values[1]:
            high, inner[1], values[1] = inner[1], inner[0], values[0]
            inner[0] = high - golden * (high - low)
            values[0] = loss(inner[0])
        else:
            low, inner[0], values[0] = inner[0], inner[1], values[1]
            inner[1] = low + golden * (high - low)
            values[1] = loss(inner[1])
    s = (low + high) / 2
    return s / spread, shift(s) - s / spread * middle


def weighted_median(values: Vector, weights: Vector) -> float:
    """The least value at which half of all weight is reached."""
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(reached, reached[-1] / 2)]])


def _thinned(p: Vector, g: Vector) -> tuple[Vector, Vector]:
    step = -(-len(p) // MOST_ROBUST)
    return p[::step], g[::step]


FITS: dict[str, Fit] = {
    "median": median,
    "scale": scale,
    "scale-shift": scale_shift,
    "scale-shift-disparity": scale_shift,
    "robust-scale": robust_scale,
    "robust-scale-shift": robust_scale_shift,
}
"""The fits by name; ``scale-shift-disparity`` fits inverse depths."""

ALIGNMENTS = ("none", *FITS)


def choose_alignment(kind: Kind, wanted: str | None = None) -> str:
    """The alignment for predictions of `kind`: `wanted`, or the kind's default.

    Raises:
        UsageError: there is no such alignment, or it means nothing for this kind.
    """
    possible = ALIGNMENTS_OF[kind]
    if wanted is None:
        return possible[0]
    if wanted not in ALIGNMENTS:
        raise UsageError(f"There is no alignment '{wanted}'{nearest(wanted, ALIGNMENTS)}.")
    if wanted not in possible:
        raise UsageError(
            f"The alignment '{wanted}' means nothing for a prediction of kind '{kind}'; use {' or '.join(possible)}."
        )
    return wanted


def align(
    values: Float[Tensor, "H W"],
    target: Float[Tensor, "H W"],
    counts: Bool[Tensor, "H W"],
    *,
    kind: Kind,
    name: str,
    least: float,
    most: float,
) -> Float[Tensor, "H W"]:
    """Depth in metres out of what a model predicted.

    Args:
        values: as predicted: depth, or for `kind` ``affine-disparity`` inverse depth.
        target: true depth in metres. counts: the pixels to fit on; none leaves depth as it is.
        kind: of the values. name: one of `ALIGNMENTS_OF` [kind].
        least, most: metres; the range that inverse depths are clamped to.
    """
    in_disparity = name == "scale-shift-disparity"
    if in_disparity and kind != "affine-disparity":
        values = values.clamp(least, most).reciprocal()
    if name == "none":
        return values
    keep = (counts & torch.isfinite(values)).numpy()
    if not keep.any():
        return torch.full_like(values, torch.nan) if in_disparity else values
    p, g = values.numpy()[keep].astype(np.float64), target.numpy()[keep].astype(np.float64)
    s, t = FITS[name](p, 1 / g if in_disparity else g)
    fitted = values.double() * s + t
    if in_disparity:
        fitted = fitted.clamp(1 / most, 1 / least).reciprocal()
    return fitted.float()
