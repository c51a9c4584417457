"""Depth metrics, image by image, for many predictions of one frame at once.

With d = p − g and e = ln p − ln g over the valid pixels of an image (Eigen et al. 2014; Lee et al. 2019 for SILog):

    AbsRel mean(|d|/g)      SqRel mean(d²/g)        RMSE √mean(d²)     RMSElog √mean(e²)
    log10  mean|log₁₀p − log₁₀g|      SILog 100·√(mean e² − (mean e)²)      MAE mean|d|
    δk     share of max(p/g, g/p) < 1.25ᵏ
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

METRICS = (
    "abs_rel",
    "sq_rel",
    "rmse",
    "rmse_log",
    "log10",
    "silog",
    "mae",
    "delta1",
    "delta2",
    "delta3",
)
"""Names in print order; smaller is better but for the deltas."""

HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3"})


def metrics_of_rows(
    predictions: Float[Tensor, "R H W"],
    target: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    names: Sequence[str] = METRICS,
) -> dict[str, Float[Tensor, "R"]]:
    """Metrics of R predictions of one frame, float64, over its valid pixels; NaN where there is none.

    Predictions and valid targets must be positive: clamp them first, as every protocol does. The valid pixels are
    gathered once for all predictions.
    """
    if bool(valid.all()):
        p, g = predictions.flatten(1), target.flatten()
    else:
        p, g = predictions[:, valid], target[valid]
    n = g.numel()
    if n == 0:
        return {name: torch.full((len(predictions),), torch.nan, dtype=torch.float64) for name in names}
    out: dict[str, Tensor] = {}
    wanted = set(names)

    def mean(values: Tensor) -> Float[Tensor, "R"]:
        return values.sum(1, dtype=torch.float64) / n

    if wanted & {"abs_rel", "sq_rel", "rmse", "mae"}:
        d = p - g
        size = d.abs()
        if wanted & {"abs_rel", "sq_rel"}:
            relative = size / g
            out["abs_rel"] = mean(relative)
            if "sq_rel" in wanted:
                out["sq_rel"] = mean(relative * size)
        out["mae"] = mean(size)
        out["rmse"] = mean(d.square_()).sqrt()
    if wanted & {"rmse_log", "log10", "silog"}:
        e = (p / g).log_()
        out["log10"] = mean(e.abs()) / math.log(10)
        first, second = mean(e), mean(e.square_())
        out["rmse_log"] = second.sqrt()
        out["silog"] = 100 * (second - first.square()).clamp(min=0).sqrt()
    if wanted & {"delta1", "delta2", "delta3"}:
        ratio = p / g
        ratio = torch.maximum(ratio, ratio.reciprocal())
        for k in (1, 2, 3):
            if f"delta{k}" in wanted:
                out[f"delta{k}"] = (ratio < 1.25**k).sum(1).double() / n
    return {name: out[name] for name in names}


def depth_metrics(
    prediction: Float[Tensor, "B H W"], target: Float[Tensor, "B H W"], valid: Bool[Tensor, "B H W"]
) -> dict[str, Float[Tensor, "B"]]:
    """Metrics of one prediction for each of B frames."""
    frames = [metrics_of_rows(p[None], g, v) for p, g, v in zip(prediction, target, valid, strict=True)]
    return {name: torch.cat([frame[name] for frame in frames]) for name in METRICS}


def squared_error(
    prediction: Float[Tensor, "H W"], target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> tuple[float, int]:
    """Σd² and the count of valid pixels: what the RMSE pooled over all pixels of a data set is made of."""
    d = (prediction - target)[valid].double()
    return float(d.square().sum()), int(valid.sum())
