"""Which of two points is nearer? Accuracy over pairs (Chen et al. 2016; the form of DA-2K, Yang et al. 2024).

It needs no alignment, and is the only score that people can annotate by eye. Where the data have no annotated pairs, pairs
are drawn from the true depth, of points whose depths differ by a tenth or more.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

PAIRS = 5_000
"""Drawn from an image."""
RATIO = 1.1
"""Least ratio of the two depths of a drawn pair."""


def ordinal_accuracy(
    prediction: Float[Tensor, "H W"],
    near: Int[Tensor, "N 2"],
    far: Int[Tensor, "N 2"],
    *,
    larger_is_nearer: bool = False,
) -> float:
    """The fraction of pairs that the prediction orders as they are; equal values count half. NaN without a pair.

    Args:
        prediction: depth, or disparity with `larger_is_nearer`.
        near, far: (row, column) of the nearer and of the farther point of each pair.
    """
    if not len(near):
        return float("nan")
    a, b = (prediction[points[:, 0], points[:, 1]] for points in (near, far))
    right = a > b if larger_is_nearer else a < b
    return float((right.double() + 0.5 * (a == b).double()).mean())


def drawn_pairs(
    target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"], seed: int = 0
) -> tuple[Int[Tensor, "N 2"], Int[Tensor, "N 2"]]:
    """(nearer, farther) points of at most `PAIRS` pairs of valid pixels whose depths have a ratio of `RATIO` or more."""
    points = valid.nonzero()
    if not len(points):
        return points, points
    chosen = torch.from_numpy(np.random.default_rng(seed).integers(0, len(points), (2, PAIRS)))
    first, second = points[chosen[0]], points[chosen[1]]
    a, b = (target[p[:, 0], p[:, 1]] for p in (first, second))
    keep = torch.maximum(a / b, b / a) >= RATIO
    swap = (a > b)[:, None]
    near, far = torch.where(swap, second, first), torch.where(swap, first, second)
    return near[keep], far[keep]
