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


CHUNK = 1 << 16
"""Pixels worked on at once: what they need fits a processor's cache."""


def metrics_of_rows(
    predictions: Float[Tensor, "R H W"],
    target: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    names: Sequence[str] = METRICS,
) -> dict[str, Float[Tensor, "R"]]:
    """Metrics of R predictions of one frame, float64, over its valid pixels; NaN where there is none.

    Predictions and valid targets must be positive: clamp them first, as every protocol does. Invalid pixels are not
    taken out, which costs more than all the arithmetic; prediction and target become 1 there, an error of nothing.
    """
    size, count = valid.numel(), int(torch.count_nonzero(valid))
    if count == 0:
        return {name: torch.full((len(predictions),), torch.nan, dtype=torch.float64) for name in names}
    p, g, inside = predictions.flatten(1), target.flatten(), valid.flatten()
    total: dict[str, Tensor] = {}
    for start in range(0, size, CHUNK):
        part = slice(start, start + CHUNK)
        if count == size:
            sums = _sums(p[:, part], g[part], set(names))
        else:
            outside = ~inside[part]
            sums = _sums(p[:, part].masked_fill(outside, 1.0), g[part].masked_fill(outside, 1.0), set(names))
        for name, value in sums.items():
            total[name] = total[name] + value.double() if name in total else value.double()
    mean = {name: value / count for name, value in total.items()}
    out: dict[str, Tensor] = {name: mean[name] for name in ("abs_rel", "sq_rel", "mae") if name in mean}
    if "squared" in mean:
        out["rmse"] = mean["squared"].sqrt()
    if "log_squared" in mean:
        out["rmse_log"] = mean["log_squared"].sqrt()
        out["silog"] = 100 * (mean["log_squared"] - mean["log"].square()).clamp(min=0).sqrt()
        out["log10"] = mean["log_size"] / math.log(10)
    for name in ("delta1", "delta2", "delta3"):
        if name in total:
            out[name] = (total[name] - (size - count)) / count
    return {name: out[name] for name in names}


def _sums(p: Float[Tensor, "R n"], g: Float[Tensor, "n"], wanted: set[str]) -> dict[str, Tensor]:
    """Sums over n pixels of what the `wanted` metrics are made of; one value for each row."""
    out: dict[str, Tensor] = {}
    ratio = p / g
    if wanted & {"abs_rel", "sq_rel", "rmse", "mae"}:
        d = p - g
        size = d.abs()
        out["squared"] = torch.linalg.vecdot(d, d)
        out["mae"] = size.sum(1)
        if wanted & {"abs_rel", "sq_rel"}:
            relative = size / g
            out["abs_rel"] = relative.sum(1)
            if "sq_rel" in wanted:
                out["sq_rel"] = torch.linalg.vecdot(relative, size)
    if wanted & {"delta1", "delta2", "delta3"}:
        worse = torch.maximum(ratio, ratio.reciprocal())
        below = torch.empty_like(worse)  # as 0 and 1 in floats: several times faster to count than booleans
        for k in (1, 2, 3):
            if f"delta{k}" in wanted:
                out[f"delta{k}"] = torch.lt(worse, 1.25**k, out=below).sum(1)
    if wanted & {"rmse_log", "log10", "silog"}:
        e = ratio.log_()
        out["log_size"] = e.abs().sum(1)
        e = e.double()  # SILog is a difference of the two sums, small where a prediction is off by a factor
        out["log"], out["log_squared"] = e.sum(1), torch.linalg.vecdot(e, e)
    return out


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
