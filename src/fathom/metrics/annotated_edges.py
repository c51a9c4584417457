"""Depth boundary errors against annotated edges (Koch et al. 2018, iBims-1): are predicted edges sharp and in place?

The predicted map is stretched to [0, 1] and its edges are found by Canny's detector (σ = √2, thresholds 0.15 and 0.3). With
D_g and D_p the distances in pixels to the nearest annotated and to the nearest predicted edge, E_g and E_p those edges:

    accuracy       mean of D_g over predicted edges nearer than 10 pixels to an annotated one
    completeness   (Σ_{E_p} min(D_g, 10) + Σ_{E_g} min(D_p, 10)) / (|E_p| + |E_g|)

Both are 10 where no predicted edge is near an annotated one.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, Float64
from numpy import ndarray
from torch import Tensor

FARTHEST = 10.0
"""Pixels at which distances are cut off."""
SIGMA, LOW, HIGH = math.sqrt(2), 0.15, 0.3


def depth_boundary_errors(prediction: Float[Tensor, "H W"], edges: Bool[Tensor, "H W"]) -> dict[str, float]:
    """``dbe_accuracy`` and ``dbe_completeness`` in pixels; NaN where no edge is annotated."""
    from scipy.ndimage import distance_transform_edt

    annotated = edges.numpy()
    if not annotated.any():
        return {"dbe_accuracy": math.nan, "dbe_completeness": math.nan}
    predicted = canny(stretched(prediction.double().numpy()))
    to_annotated = np.asarray(distance_transform_edt(~annotated))
    near = predicted & (to_annotated < FARTHEST)
    if not near.any():
        return {"dbe_accuracy": FARTHEST, "dbe_completeness": FARTHEST}
    to_predicted = np.asarray(distance_transform_edt(~predicted))
    both = np.minimum(to_annotated, FARTHEST)[predicted].sum() + np.minimum(to_predicted, FARTHEST)[annotated].sum()
    return {
        "dbe_accuracy": float(to_annotated[near].mean()),
        "dbe_completeness": float(both / (predicted.sum() + annotated.sum())),
    }


def stretched(depth: Float64[ndarray, "H W"]) -> Float64[ndarray, "H W"]:
    """The map from 0 at its least to 1 at its largest value; a constant is 0 everywhere."""
    low, span = float(depth.min()), float(np.ptp(depth))
    return (depth - low) / span if span > 0 else np.zeros_like(depth)


def canny(image: Float64[ndarray, "H W"]) -> Bool[ndarray, "H W"]:
    """Canny's (1986) edges: Gaussian smoothing, Sobel gradient, non-maximum suppression along it, hysteresis.

    As scikit-image's `feature.canny` computes them: smoothing is normalised at the border, the outermost pixels are no edges,
    and the neighbours along the gradient are interpolated linearly.
    """
    from scipy import ndimage

    weight = ndimage.gaussian_filter(np.ones_like(image), SIGMA, mode="constant") + np.finfo(np.float64).eps
    smooth = ndimage.gaussian_filter(image, SIGMA, mode="constant") / weight
    down, across = ndimage.sobel(smooth, axis=0), ndimage.sobel(smooth, axis=1)
    size = np.hypot(down, across)
    ridge = _is_ridge(size, down, across) & (size >= LOW)
    inner = np.zeros_like(ridge)
    inner[1:-1, 1:-1] = ridge[1:-1, 1:-1]
    pieces, count = ndimage.label(inner, np.ones((3, 3)))
    strong = np.zeros(count + 1, dtype=bool)
    strong[np.unique(pieces[inner & (size >= HIGH)])] = True
    strong[0] = False
    return np.asarray(strong[pieces])


def _is_ridge(
    size: Float64[ndarray, "H W"], down: Float64[ndarray, "H W"], across: Float64[ndarray, "H W"]
) -> Bool[ndarray, "H W"]:
    """Whether the gradient is no smaller than at the two points one step along it, before and behind."""
    padded = np.pad(size, 1)
    height, width = size.shape

    def at(dy: int, dx: int) -> Float64[ndarray, "H W"]:
        return padded[1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]

    steep, same = np.abs(down) > np.abs(across), down * across >= 0
    larger = np.maximum(np.abs(down), np.abs(across))
    w = np.minimum(np.abs(down), np.abs(across)) / np.where(larger > 0, larger, 1.0)
    found = np.ones(size.shape, dtype=bool)
    for sign in (1, -1):
        straight = np.where(steep, at(sign, 0), np.where(same, at(0, sign), at(0, -sign)))
        oblique = np.where(same, at(sign, sign), at(sign, -sign))
        found &= oblique * w + straight * (1 - w) <= size
    return found
