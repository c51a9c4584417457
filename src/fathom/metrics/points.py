"""How well do the points in space agree? F-score after back-projection by the true camera (Knapitsch et al. 2017).

A predicted point is right where a true point lies within τ metres, a true point is found where a predicted one does:

    precision = fraction of predicted points that are right      recall = fraction of true points that are found
    F_τ = 2 · precision · recall / (precision + recall)

Distances are distances, not squared ones. Depth is taken as it was compared: a relative model's is aligned first.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from torch import Tensor

from fathom.sample import Intrinsics

TAUS = {"points_f5cm": 0.05, "points_f10cm": 0.10}
"""Metres."""

MOST_QUERIES = 20_000
"""Points, evenly spaced, whose nearest neighbour is looked for; it is looked for among all."""


def point_scores(
    prediction: Float[Tensor, "H W"],
    target: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    camera: Intrinsics,
) -> dict[str, float]:
    """The F-scores of `TAUS`; NaN where no pixel is valid.

    Args:
        prediction, target: metres. camera: of these maps, in their pixels.
    """
    from scipy.spatial import KDTree

    if not bool(valid.any()):
        return dict.fromkeys(TAUS, float("nan"))
    guess, truth = (back_projected(x, valid, camera) for x in (prediction, target))
    farthest = max(TAUS.values())
    to_truth, to_guess = (
        np.asarray(KDTree(cloud).query(other[:: -(-len(other) // MOST_QUERIES)], distance_upper_bound=2 * farthest)[0])
        for cloud, other in ((truth, guess), (guess, truth))
    )
    return {name: _f(float((to_truth < tau).mean()), float((to_guess < tau).mean())) for name, tau in TAUS.items()}


def back_projected(
    depth: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"], camera: Intrinsics
) -> Float64[ndarray, "N 3"]:
    """X = (u − cx)·z/fx, Y = (v − cy)·z/fy, Z = z at the centres (u, v) of the valid pixels."""
    keep = valid.numpy()
    rows, columns = np.nonzero(keep)
    z = depth.double().numpy()[keep]
    x = (columns + 0.5 - camera.cx) / camera.fx * z
    y = (rows + 0.5 - camera.cy) / camera.fy * z
    return np.stack([x, y, z], axis=1)


def _f(precision: float, recall: float) -> float:
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0
