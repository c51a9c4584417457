"""Prediction intervals that hold in new scenes, and how uncertainty is judged: pure functions.

Pixels of one scene resemble each other, so that scenes are what can be exchanged. Of K calibration scenes with N_k scores each
(how far off a pixel is, in units of its stated uncertainty), the quantile of Lee, Barber and Willett (2023,
arXiv 2306.06342, hierarchical conformal prediction) is

    q = min { t :  Σ_k (1/N_k) Σ_i 1[s_ki ≤ t]  ≥  level · (K + 1) }

With scenes that are exchangeable, a random pixel of a new scene has a score of at most q with probability `level` or more: a
promise for scenes on average, not for each of them. The scene that has not come yet counts as one that exceeds every t, so that K
scenes reach levels up to K / (K + 1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def highest_level(scenes: int) -> float:
    """The largest level that `scenes` calibration scenes can promise."""
    return scenes / (scenes + 1)


def scene_quantiles(scores: Mapping[str, Array], levels: Sequence[float]) -> list[float]:
    """q of each level; infinity where the scenes are too few for it.

    Args:
        scores: of the pixels of each scene, at least one each.
        levels: between 0 and 1.
    """
    values = np.concatenate([np.asarray(scene, dtype=np.float64) for scene in scores.values()])
    weights = np.concatenate([np.full(len(scene), 1 / len(scene)) for scene in scores.values()])
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    found = []
    for level in levels:
        needed = level * (len(scores) + 1)
        index = int(np.searchsorted(reached, needed - 1e-9 * len(scores)))
        found.append(float(values[order][index]) if index < len(values) else float("inf"))
    return found


def coverage_of_left_out(scores: Mapping[str, Array], level: float) -> dict[str, float]:
    """The fraction of each scene's pixels within the interval that the other scenes give."""
    covered = {}
    for scene, own in scores.items():
        (limit,) = scene_quantiles({name: other for name, other in scores.items() if name != scene}, [level])
        covered[scene] = float((np.asarray(own) <= limit).mean())
    return covered


def sparsification_error(errors: Array, uncertainty: Array, steps: int = 50) -> float:
    """AUSE over the mean error: what is lost by trusting `uncertainty` about which pixels to leave out.

    The mean error of the pixels that are left when the most uncertain fraction is taken out, minus the same when the largest errors
    are taken out, averaged over fractions from 0 to 1 (Ilg et al. 2018). 0 is perfect order; a constant uncertainty has the
    mean error in place of the first term.
    """
    errors = np.asarray(errors, dtype=np.float64)
    mean = float(errors.mean())
    kept = len(errors) - (np.arange(steps) * len(errors)) // steps
    if mean == 0:
        return 0.0
    best = np.cumsum(np.sort(errors))[kept - 1] / kept
    order = np.argsort(uncertainty, kind="stable")
    ranked = np.asarray(uncertainty)[order]
    # A constant gives no order: each removal leaves the mean error, whatever the order of the pixels.
    ordered = np.full(len(errors), mean) if ranked[0] == ranked[-1] else errors[order]
    left = np.cumsum(ordered)[kept - 1] / kept
    return float((left - best).mean() / mean)
