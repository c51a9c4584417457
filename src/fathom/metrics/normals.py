"""Do surfaces face the right way? Angles between surface normals (Fouhey et al. 2013; Wang et al. 2015).

Normals of the prediction are those of quadratics fitted to inverse depth over a window of about a 32nd of the map's shorter
side (`fathom.features.local_fit`), for the truth as well unless the data bring normals along. Where the true window holds two
surfaces there is no true normal; the prediction has one everywhere, so that it gains nothing by being rough.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.features.local_fit import LocalFit, fit_disparity, window_reach
from fathom.features.surface import NORMAL_WINDOW
from fathom.sample import Intrinsics

FRACTIONS = {"normal_11": 11.25, "normal_22": 22.5, "normal_30": 30.0}
"""Degrees under which a pixel counts."""

NAMES = ("normal_mean", "normal_median", *FRACTIONS)


def normal_scores(
    prediction: Float[Tensor, "H W"],
    target: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    camera: Intrinsics,
    truth: Float[Tensor, "3 H W"] | None = None,
) -> dict[str, float]:
    """``normal_mean`` and ``normal_median`` in degrees and the fractions of `FRACTIONS`; NaN where no normal is known.

    Args:
        prediction, target: metres. camera: of these maps, in their pixels.
        truth: unit normals of the data, zero where unknown.
    """
    reach = window_reach((target.shape[-2], target.shape[-1]), NORMAL_WINDOW)
    guess = _normals(fit_disparity(prediction[None], torch.ones_like(valid)[None], reach), camera)
    fit = fit_disparity(target[None], valid[None], reach)
    known = fit.known if truth is None else valid & (truth.square().sum(0) > 0.25)
    known = known & (guess.square().sum(0) > 0.25)
    facing = _normals(fit, camera) if truth is None else truth.double()
    return angle_scores(angles(guess, facing)[known])


def angles(first: Float[Tensor, "3 H W"], second: Float[Tensor, "3 H W"]) -> Float[Tensor, "H W"]:
    """Degrees between unit vectors: 2·atan2(|a − b|, |a + b|), exact for small angles too."""
    return torch.rad2deg(2 * torch.atan2((first - second).norm(dim=0), (first + second).norm(dim=0)))


def angle_scores(degrees: Float[Tensor, "N"]) -> dict[str, float]:
    """Mean, median and fractions of some angles."""
    if not len(degrees):
        return dict.fromkeys(NAMES, math.nan)
    middle = float(degrees.quantile(0.5)) if len(degrees) < 1 << 24 else float(degrees.median())
    return {
        "normal_mean": float(degrees.mean()),
        "normal_median": middle,
        **{name: float((degrees < limit).double().mean()) for name, limit in FRACTIONS.items()},
    }


def _normals(fit: LocalFit, camera: Intrinsics) -> Float[Tensor, "3 h w"]:
    """Unit normals towards the camera of the fitted planes, float64; zero where no whole window is.

    A plane ρ = a·u + b·v + c of inverse depth in image coordinates has its normal along −(a, b, c).
    """
    height, width = fit.value.shape
    v = ((torch.arange(height) + 0.5 - camera.cy) / camera.fy).double()[:, None]
    u = ((torch.arange(width) + 0.5 - camera.cx) / camera.fx).double()[None]
    a, b = camera.fx * fit.x, camera.fy * fit.y
    along = torch.stack([a, b, fit.value - u * a - v * b])
    length = along.norm(dim=0, keepdim=True)
    return torch.where(length > 1e-9, -along / length.clamp(min=1e-9), 0.0)
