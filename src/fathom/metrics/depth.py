"""Depth metrics, image by image, for many predictions of one frame at once.

With d = p − g, q = d/g and e = ln p − ln g over the valid pixels of an image (definitions and sources: docs/metrics.md):

    abs_rel mean|q|     sq_rel mean(d²/g)       sq_rel_kitti mean(q²)     mae mean|d|     rmse √mean(d²)
    rmse_log √mean(e²)  log10 mean|e|/ln 10     silog 100·√(mean e² − (mean e)²)
    silog_half 100·√(mean e² − ½(mean e)²)      deltaₖ fraction of max(p/g, g/p) < 1.25ᵏ

Valid pixels are gathered once for all predictions, then worked on in pieces that stay in a processor's cache. The work is
done by NumPy and BLAS: on masks and logarithms they are several times faster than PyTorch's operators on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32
from numpy import ndarray
from torch import Tensor

METRICS = (
    "abs_rel",
    "sq_rel",
    "sq_rel_kitti",
    "rmse",
    "rmse_log",
    "log10",
    "silog",
    "silog_half",
    "mae",
    "delta1",
    "delta2",
    "delta3",
)
"""Names in print order; smaller is better except for the deltas."""

PIECE = 1 << 15
"""Pixels worked on at once: the six arrays that they need fit a core's second-level cache."""

CANCELS = 0.1
"""SILog is a difference of two sums; where less than this fraction of the first is left, both are taken again in float64."""

LN2 = math.log(2)

_DIFFERENCES = frozenset({"abs_rel", "sq_rel", "sq_rel_kitti", "rmse", "mae"})
_LOGARITHMS = frozenset({"rmse_log", "log10", "silog", "silog_half"})
_SILOG = frozenset({"silog", "silog_half"})
_DELTAS = {"delta1": 1.25, "delta2": 1.25**2, "delta3": 1.25**3}


def metrics_of_rows(
    predictions: Float[Tensor, "R H W"],
    target: Float[Tensor, "H W"],
    valid: Bool[Tensor, "H W"],
    names: Sequence[str] = METRICS,
) -> dict[str, Float[Tensor, "R"]]:
    """Metrics of R predictions of one frame, float64, over its valid pixels; NaN where there is none.

    Valid predictions and targets must be positive wherever a logarithm or a ratio is asked for: clamp them first, as every
    protocol does. What an invalid pixel holds, NaN included, has no influence.
    """
    wanted = frozenset(names)
    p, g, mask = (x.detach().cpu().numpy() for x in (predictions.float(), target.float(), valid))
    count = int(np.count_nonzero(mask))
    if count == 0:
        return {name: torch.full((len(p),), torch.nan, dtype=torch.float64) for name in names}
    totals: list[dict[str, float]] = [{} for _ in p]
    work = _workspace(max(PIECE, g.shape[1]))
    for row, a, b in _pieces(p, g, mask):
        total = totals[row]
        for name, value in _sums(a, b, wanted, work).items():
            total[name] = total.get(name, 0.0) + value
    for row, total in enumerate(totals):
        if wanted & _SILOG and total["log_squared"] - total["log"] ** 2 / count < CANCELS * total["log_squared"]:
            total |= _exact_logarithms(p[row], g, mask)
    rows = [_from_sums(total, count, wanted) for total in totals]
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in names}


def _workspace(pixels: int) -> Float32[ndarray, "3 m"]:
    """Two rows for at least `pixels` numbers and one of ones, each beginning at a multiple of 64 bytes.

    BLAS sums in another order where its input begins elsewhere, and the last digits would depend on what the allocator gave.
    """
    columns = -(-pixels // 16) * 16
    raw = np.empty(3 * columns + 16, dtype=np.float32)
    start = (-raw.ctypes.data % 64) // raw.itemsize
    work = raw[start : start + 3 * columns].reshape(3, columns)
    work[2] = 1.0
    return work


def _pieces(
    p: Float32[ndarray, "R H W"], g: Float32[ndarray, "H W"], mask: Bool[ndarray, "H W"]
) -> Iterator[tuple[int, Float32[ndarray, "n"], Float32[ndarray, "n"]]]:
    """(row, its valid pixels, theirs in the truth), a band of image lines after the other."""
    height, width = g.shape
    lines = max(1, PIECE // width)
    for top in range(0, height, lines):
        band = slice(top, top + lines)
        inside = mask[band].ravel()
        held = int(np.count_nonzero(inside))
        if not held:
            continue
        # The places are found once for all rows; a mask would be read again for each.
        places = np.flatnonzero(inside) if held < inside.size else None
        truth = g[band].ravel()
        truth = truth if places is None else truth.take(places)
        for row in range(len(p)):
            values = p[row, band].ravel()
            yield row, values if places is None else values.take(places), truth


def _exact_logarithms(
    p: Float32[ndarray, "H W"], g: Float32[ndarray, "H W"], mask: Bool[ndarray, "H W"]
) -> dict[str, float]:
    """Σe and Σe² in float64."""
    first = second = 0.0
    for _, a, b in _pieces(p[None], g, mask):
        e = np.log(a.astype(np.float64) / b)
        first, second = first + float(e.sum()), second + float(np.dot(e, e))
    return {"log": first, "log_squared": second}


def _from_sums(total: Mapping[str, float], count: int, wanted: frozenset[str]) -> dict[str, float]:
    """Metrics out of sums over `count` pixels."""
    mean = {name: value / count for name, value in total.items()}
    out = {name: mean[name] for name in wanted & mean.keys()}
    if "rmse" in wanted:
        out["rmse"] = math.sqrt(mean["squared"])
    if wanted & _LOGARITHMS:
        first, second = mean["log"], mean["log_squared"]
        out["rmse_log"] = math.sqrt(second)
        out["log10"] = mean["log_size"] / math.log(10)
        out["silog"] = 100 * math.sqrt(max(second - first**2, 0.0))
        out["silog_half"] = 100 * math.sqrt(max(second - first**2 / 2, 0.0))
    return out


def _sums(
    p: Float32[ndarray, "n"], g: Float32[ndarray, "n"], wanted: frozenset[str], work: Float32[ndarray, "3 m"]
) -> dict[str, float]:
    """Sums over n pixels of what the `wanted` metrics are made of; the first two rows of `work` are overwritten."""
    from scipy.linalg.blas import sasum  # Σ|x| in one pass

    out: dict[str, float] = {}
    first, second, ones = work[:, : len(p)]
    if wanted & _DIFFERENCES:
        d = np.subtract(p, g, out=first)
        out["squared"], out["mae"] = float(np.dot(d, d)), float(sasum(d))
        if wanted & {"abs_rel", "sq_rel", "sq_rel_kitti"}:
            q = np.divide(d, g, out=second)
            out["abs_rel"] = float(sasum(q))
            out["sq_rel"], out["sq_rel_kitti"] = float(np.dot(q, d)), float(np.dot(q, q))
    if wanted & _LOGARITHMS or wanted & _DELTAS.keys():
        ratio = np.divide(p, g, out=first)
        if wanted & _DELTAS.keys():
            worse = np.divide(g, p, out=second)
            np.maximum(ratio, worse, out=worse)
            for name, threshold in _DELTAS.items():
                if name in wanted:
                    out[name] = int(np.count_nonzero(worse < threshold))
        if wanted & _LOGARITHMS:
            e = np.log2(ratio, out=first)  # two thirds of the time of the natural one
            out["log_size"] = LN2 * float(sasum(e))
            out["log"], out["log_squared"] = LN2 * float(np.dot(e, ones)), LN2**2 * float(np.dot(e, e))
    return out
