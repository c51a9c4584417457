"""Intervals and tests over scenes.

Scenes, not pixels, are the independent units: pixels of one room resemble each other. Every quantity here is a ratio of
sums over scenes, R = Σ a_s / Σ b_s:

    mean squared error           a = Σ squared error,        b = valid cells
    difference of two losses     a = E₁ − E₂,                b = valid cells
    share of a gap closed        a = E_floor − E_encoder,    b = E_floor − E_ceiling

Its linearised standard error over S scenes (Cochran 1977, ch. 6) is

    se² = S/(S−1) · Σ (a_s − R b_s)² / (Σ b_s)²

and the interval is the bootstrap-t (Efron 1979; Hall 1988): scenes are resampled, t* = (R* − R)/se* collected, and its own
quantiles used in place of Student's, which corrects for skewed scene losses where the percentile bootstrap is too narrow.
Positive quantities (losses) are treated on the logarithm. docs/method.md shows the coverage by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

METHOD = "bootstrap-t over scenes, 10,000 resamples"
"""What the intervals are, for tables."""

RESAMPLES = 10_000
LEAST_SCENES = 5
"""Fewer scenes give no interval: the bootstrap-t of 4 values has too few distinct resamples for a 2.5 % tail."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; low and high are NaN with fewer than `LEAST_SCENES` scenes.

    Attributes:
        estimate: R.
        low, high: bounds.
        se: linearised standard error of R.
        p_above: one-sided p-value of "R ≤ 0", for quantities that may have either sign.
        p_below: one-sided p-value of "R ≥ 0".
    """

    estimate: float
    low: float
    high: float
    se: float
    p_above: float = float("nan")
    p_below: float = float("nan")


@lru_cache(maxsize=4)
def resampling_weights(scenes: int, resamples: int, seed: int) -> Array:
    """How often each scene is drawn in each resample, ``(resamples, scenes)``; rows sum to `scenes`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples).astype(np.float64)


def linearised(a: Array, b: Array) -> tuple[float, float]:
    """R = Σa/Σb over scenes, and its standard error."""
    total = b.sum()
    ratio = a.sum() / total
    scenes = len(a)
    residual = a - ratio * b
    se = np.sqrt(scenes / max(scenes - 1, 1) * (residual**2).sum()) / abs(total)
    return float(ratio), float(se)


def _resampled(a: Array, b: Array, weights: Array) -> tuple[Array, Array]:
    """R* and se* of every resample, from matrix products alone."""
    scenes = len(a)
    total = weights @ b
    ratio = (weights @ a) / total
    squares = weights @ np.stack([a * a, a * b, b * b], axis=1)
    residual = squares[:, 0] - 2 * ratio * squares[:, 1] + ratio**2 * squares[:, 2]
    se = np.sqrt(scenes / (scenes - 1) * np.maximum(residual, 0)) / np.abs(total)
    return ratio, se


def interval(
    a: Array,
    b: Array,
    *,
    level: float = 0.95,
    log: bool = False,
    resamples: int = RESAMPLES,
    seed: int = 0,
    seed_variance: float = 0.0,
    seed_df: int = 0,
) -> Interval:
    """The bootstrap-t interval of R = Σa/Σb.

    Args:
        a, b: numerators and denominators by scene.
        level: of the two-sided interval.
        log: work on ln R, for positive quantities.
        seed_variance: variance of the estimate that does not come from scenes (a mean over random seeds), and
        seed_df: its degrees of freedom. It is folded in by adding half-widths in quadrature (MOVER, Zou & Donner 2008).
    """
    from scipy import stats

    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    keep = (b != 0) | (a != 0)
    a, b = a[keep], b[keep]
    ratio, se = linearised(a, b) if len(a) else (float("nan"), float("nan"))
    if len(a) < LEAST_SCENES:
        return Interval(ratio, float("nan"), float("nan"), se)
    if se <= 1e-12 * max(abs(ratio), 1e-300):
        return Interval(ratio, ratio, ratio, se, float(ratio <= 0), float(ratio >= 0))
    resampled, its_se = _resampled(a, b, resampling_weights(len(a), resamples, seed))
    good = its_se > 1e-9 * se
    if log:
        good &= resampled > 0
        t = np.log(resampled[good] / ratio) / (its_se[good] / resampled[good])
        unit = se / ratio
    else:
        t = (resampled[good] - ratio) / its_se[good]
        unit = se
    tail = (1 - level) / 2
    upper_t, lower_t = np.quantile(t, [1 - tail, tail])
    if log:
        low, high = ratio * np.exp(-upper_t * unit), ratio * np.exp(-lower_t * unit)
    else:
        low, high = ratio - upper_t * unit, ratio - lower_t * unit
    p_above = p_below = float("nan")
    if not log:
        observed = ratio / se
        p_above = float((1 + (t >= observed).sum()) / (1 + len(t)))
        p_below = float((1 + (t <= observed).sum()) / (1 + len(t)))
    if seed_variance > 0 and seed_df > 0:
        half = float(stats.t.ppf(1 - tail, seed_df)) * np.sqrt(seed_variance)
        low, high = ratio - np.hypot(ratio - low, half), ratio + np.hypot(high - ratio, half)
        both = se**2 + seed_variance
        df = both**2 / (se**4 / (len(a) - 1) + seed_variance**2 / seed_df)
        p_above = max(p_above, float(stats.t.sf(ratio / np.sqrt(both), df)))
        p_below = max(p_below, float(stats.t.cdf(ratio / np.sqrt(both), df)))
        se = float(np.sqrt(both))
    return Interval(ratio, float(low), float(high), se, p_above, p_below)


def ratio_interval(errors: Array, counts: Array, level: float = 0.95, **options: int) -> Interval:
    """Interval of a mean loss: Σ errors / Σ counts over scenes."""
    return interval(errors, counts, level=level, log=bool(np.sum(errors) > 0), **options)


def paired_interval(
    first: Array, second: Array, counts: Array, level: float = 0.95, seed_variance: float = 0.0, seed_df: int = 0
) -> Interval:
    """Interval of loss(first) − loss(second) on the same scenes: paired, so that hard rooms cancel."""
    return interval(
        np.asarray(first) - np.asarray(second), counts, level=level, seed_variance=seed_variance, seed_df=seed_df
    )


def share_interval(floor: Array, encoder: Array, ceiling: Array, level: float = 0.95) -> Interval:
    """Interval of (L_floor − L_encoder) / (L_floor − L_ceiling)."""
    floor = np.asarray(floor)
    return interval(floor - np.asarray(encoder), floor - np.asarray(ceiling), level=level)


def mean_over_seeds(errors: Sequence[Array], counts: Array) -> tuple[Array, float, int]:
    """Per-scene errors averaged over random seeds, the variance of their mean loss, and its degrees of freedom."""
    stacked = np.stack([np.asarray(item, dtype=np.float64) for item in errors])
    losses = stacked.sum(1) / np.sum(counts)
    seeds = len(losses)
    variance = float(losses.var(ddof=1) / seeds) if seeds > 1 else 0.0
    return stacked.mean(0), variance, seeds - 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
