"""Least squares of inverse depth over a square window: slopes and bends of a surface that noise does not drown.

Inverse depth ρ is fitted rather than depth because a plane of any tilt is exactly ρ = a·u + b·v + c in the image
coordinates u = (x − cx)/fx, v = (y − cy)/fy. On the products of 1, x, x² − mean(x²) with the same in y, which are orthogonal
over a square, the fit is a few separable filters: those of Savitzky & Golay (1964) in two dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

RESIDUAL = 0.01
"""Root mean square residual, as a share of ρ, beyond which a window holds two surfaces (an occlusion edge) and no slope."""


@dataclass(frozen=True)
class LocalFit:
    """ρ = 1/depth and its derivatives by pixel, at each pixel, float64 ``(h, w)``; `known` is where they mean something.

    Attributes:
        value: ρ, 1/m. x, y: ∂ρ/∂x, ∂ρ/∂y. xx, xy, yy: second derivatives.
        known: the window lies inside the map, is valid, and is fitted to within `RESIDUAL`.
    """

    value: Float[Tensor, "h w"]
    x: Float[Tensor, "h w"]
    y: Float[Tensor, "h w"]
    xx: Float[Tensor, "h w"]
    xy: Float[Tensor, "h w"]
    yy: Float[Tensor, "h w"]
    known: Bool[Tensor, "h w"]


def window_reach(size: tuple[int, int], share: int) -> int:
    """Pixels from the centre of a window to its edge: its side is about 1/`share` of the shorter side, at least 5 pixels."""
    return max(2, round(min(size) / (2 * share)))


def fit_disparity(depth: Float[Tensor, "1 h w"], valid: Bool[Tensor, "1 h w"], reach: int) -> LocalFit:
    """Fit a quadratic to 1/depth over the window of 2·`reach` + 1 pixels around each pixel.

    What stands in an invalid pixel has no influence. Where `known` is False the numbers mean nothing, but are finite.
    """
    # Second differences of float32 depth lose the digits that matter.
    rho = torch.where(valid, depth, 1.0)[0].double().clamp(min=1e-3).reciprocal()
    height, width = rho.shape[-2:]
    side = 2 * reach + 1
    if min(height, width) < side:
        nothing = torch.zeros(height, width, dtype=torch.float64)
        return LocalFit(nothing, nothing, nothing, nothing, nothing, nothing, nothing > 0)
    line = torch.arange(-reach, reach + 1, dtype=torch.float64)
    mean = line.square().mean()
    one, bend = torch.ones_like(line), line.square() - mean
    n1, n2 = line.square().sum(), bend.square().sum()

    def down(values: Tensor, kernel: Tensor) -> Tensor:
        return _slide(values, kernel, 0)

    def across(values: Tensor, kernel: Tensor) -> Tensor:
        return _slide(values, kernel, 1)

    flat, tilted, bent = (down(rho, kernel) for kernel in (one, line, bend))
    c = across(flat, one) / side**2
    cx, cy = across(flat, line) / (side * n1), across(tilted, one) / (side * n1)
    cxx, cyy = across(flat, bend) / (side * n2), across(bent, one) / (side * n2)
    cxy = across(tilted, line) / n1**2
    squares = across(down(rho.square(), one), one)
    explained = side**2 * c**2 + side * n1 * (cx**2 + cy**2) + side * n2 * (cxx**2 + cyy**2) + n1**2 * cxy**2
    residual = ((squares - explained).clamp(min=0) / side**2).sqrt()
    whole = across(down(valid[0].double(), one), one) > side**2 - 0.5
    known = whole & (residual < RESIDUAL * c)
    pad = [reach] * 4
    value = c - mean * (cxx + cyy)
    x, y, xx, xy, yy, value = (F.pad(part, pad) for part in (cx, cy, 2 * cxx, cxy, 2 * cyy, value))
    return LocalFit(value, x, y, xx, xy, yy, F.pad(known, pad))


def _slide(values: Float[Tensor, "h w"], kernel: Float[Tensor, "side"], axis: int) -> Float[Tensor, "a b"]:
    """Correlation along one axis where the kernel fits; shifted sums, since convolution in float64 is slow on a CPU."""
    length = values.shape[axis] - len(kernel) + 1
    total = torch.zeros_like(values.narrow(axis, 0, length))
    for start, weight in enumerate(kernel.tolist()):
        total.add_(values.narrow(axis, start, length), alpha=weight)
    return total
