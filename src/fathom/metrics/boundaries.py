"""Are the edges of objects where they should be?

`boundary_scores` compares occluding neighbours (Bochkovskii et al. 2024, Depth Pro): of two neighbouring pixels a and b, a
occludes b where depth b / depth a > t. Precision and recall are taken for each of the four directions (left, right, up, down)
and averaged, F1 is theirs, and ten thresholds t from 1.05 to 1.25 are averaged with weight t. It needs no alignment of scale.

`edge_error` is the mean difference of Sobel derivatives, in metres a pixel; it knows blur that F1 does not, and scale matters.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float32
from numpy import ndarray
from torch import Tensor

from fathom.sobel import sobel_xy

THRESHOLDS = np.linspace(1.05, 1.25, 10)


def boundary_scores(
    prediction: Float[Tensor, "H W"], target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> dict[str, float]:
    """``boundary_f1``, ``boundary_precision`` and ``boundary_recall`` over pairs of valid neighbours.

    NaN where no pair of the truth is an occlusion at the least threshold: there is no boundary to find.
    """
    directions = [
        (_steps(prediction, axis, sign), _steps(target, axis, sign), _both(valid, axis))
        for axis in (0, 1)
        for sign in (1, -1)
    ]
    sparse = [_candidates(*direction) for direction in directions]
    if not any((g > THRESHOLDS[0]).any() for _, g in sparse):
        return dict.fromkeys(("boundary_f1", "boundary_precision", "boundary_recall"), float("nan"))
    f1s, precisions, recalls = [], [], []
    for t in THRESHOLDS:
        shares = [_shares(p > t, g > t) for p, g in sparse]
        precision, recall = (float(np.mean(values)) for values in zip(*shares, strict=True))
        f1s.append(2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0)
        precisions.append(precision)
        recalls.append(recall)
    names = ("boundary_f1", "boundary_precision", "boundary_recall")
    means = (float(np.average(values, weights=THRESHOLDS)) for values in (f1s, precisions, recalls))
    return dict(zip(names, means, strict=True))


def mask_recall(prediction: Float[Tensor, "H W"], foreground: Bool[Tensor, "H W"]) -> float:
    """Recall of the outline of a foreground mask, where only masks exist: the prediction must put the inside nearer.

    NaN where the mask has no outline.
    """
    inside = foreground.numpy()
    recalls = np.zeros((len(THRESHOLDS), 4))
    outlines = 0
    for number, (axis, sign) in enumerate((axis, sign) for axis in (0, 1) for sign in (1, -1)):
        near, far = _neighbours(inside, axis, sign)
        outline = near & ~far
        outlines += int(outline.sum())
        found = _steps(prediction, axis, sign)[outline]
        recalls[:, number] = [(found > t).sum() / max(int(outline.sum()), 1) for t in THRESHOLDS]
    return float(np.average(recalls.mean(1), weights=THRESHOLDS)) if outlines else float("nan")


def edge_error(prediction: Float[Tensor, "H W"], target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]) -> float:
    """Mean of |∂ₓp − ∂ₓg| and |∂ᵧp − ∂ᵧg| by Sobel's operator (divided by 8), metres a pixel, where the whole 3x3 window is valid.

    NaN where no window is.
    """
    derivatives, known = zip(*(sobel_xy(x[None], valid[None]) for x in (prediction, target)), strict=True)
    inside = known[0][0]
    gap = (derivatives[0] - derivatives[1])[:, inside].abs()
    return float(gap.double().mean()) if bool(inside.any()) else float("nan")


def _neighbours(values: ndarray, axis: int, sign: int) -> tuple[ndarray, ndarray]:
    """(values, their neighbours one step along `axis`), or the two exchanged for the other direction."""
    first = values[:-1] if axis == 0 else values[:, :-1]
    second = values[1:] if axis == 0 else values[:, 1:]
    return (first, second) if sign > 0 else (second, first)


def _steps(depth: Float[Tensor, "H W"], axis: int, sign: int) -> Float32[ndarray, "h w"]:
    """depth of the neighbour / depth: above 1 where the neighbour is farther. Depth is at least 1 µm, as in Depth Pro's."""
    near, far = _neighbours(np.maximum(np.nan_to_num(depth.float().numpy(), nan=1.0), 1e-6), axis, sign)
    return np.asarray(far / near)


def _both(valid: Bool[Tensor, "H W"], axis: int) -> Bool[ndarray, "h w"]:
    first, second = _neighbours(valid.numpy(), axis, 1)
    return np.asarray(first & second)


def _candidates(
    p: Float32[ndarray, "h w"], g: Float32[ndarray, "h w"], valid: Bool[ndarray, "h w"]
) -> tuple[Float32[ndarray, "n"], Float32[ndarray, "n"]]:
    """Pairs that some threshold may count; all others never matter."""
    keep = valid & ((p > THRESHOLDS[0]) | (g > THRESHOLDS[0]))
    return p[keep], g[keep]


def _shares(p: Bool[ndarray, "n"], g: Bool[ndarray, "n"]) -> tuple[float, float]:
    """Precision and recall of one direction at one threshold; 0 where there is nothing to divide by."""
    hits = int(np.count_nonzero(p & g))
    return hits / max(int(np.count_nonzero(p)), 1), hits / max(int(np.count_nonzero(g)), 1)
