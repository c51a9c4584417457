"""Intervals and one-sided tests over scenes, paired comparisons, and Holm's correction: pure functions of sums by scene.

Scenes, not pixels, are the independent units: pixels of one room resemble each other. Every quantity here is a ratio of
sums over scenes, R = Σ a_s / Σ b_s:

    mean squared error           a = Σ squared error,        b = valid cells
    difference of two losses     a = E₁ − E₂,                b = valid cells
    share of a gap closed        a = E_baseline − E_encoder,    b = E_baseline − E_upper_bound

Its linearised standard error over S scenes (Cochran 1977, ch. 6) is

    se² = S/(S−1) · Σ (a_s − R b_s)² / (Σ b_s)²

and two intervals are made of it, of which the wider end is taken on each side:

    Student's      R ± t_ν · se_J,                se_J the delete-one-scene jackknife (Efron & Stein 1981; CR3),
                                                  ν = √((S − 1)(S_eff − 1)), S_eff = 1/Σh² with h = b/Σb
    bootstrap-t    R − t*_{1−α/2} · se_J, ...     quantiles of (R* − R)/se* over resampled scenes (Hall 1988)

ν lies between S − 1, too many where one scene holds half of all cells, and S_eff − 1, the equal scenes that unequal ones are
worth, too few there.

Either alone falls short somewhere: Student's where scene losses are skewed (its far tail is too short), the bootstrap-t where
they are symmetric with heavy tails or few (its quantiles are those of ten values). The envelope holds in both, at the price
of an interval a little wide where either would do: docs/method.md has its coverage, measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 10_000
LEAST_SCENES = 5
"""Fewer scenes give no interval: 4 values have too few distinct resamples for a 2.5 % tail."""


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


def mean_over_seeds(errors: Sequence[Array], counts: Array) -> tuple[Array, float, int]:
    """Per-scene errors averaged over random seeds, the variance of their mean loss, and its degrees of freedom."""
    stacked = np.stack([np.asarray(item, dtype=np.float64) for item in errors])
    losses = stacked.sum(1) / np.sum(counts)
    seeds = len(losses)
    variance = float(losses.var(ddof=1) / seeds) if seeds > 1 else 0.0
    return stacked.mean(0), variance, seeds - 1


METHOD = "wider of Student's (jackknife over scenes) and bootstrap-t over scenes, 10,000 resamples"
"""What the intervals are, for tables."""


def jackknife(a: Array, b: Array) -> tuple[float, float, float]:
    """R = Σa/Σb, its delete-one-scene standard error, and the degrees of freedom ν.

    R without scene s is R − e_s/(B(1 − h_s)), with e_s = a_s − R b_s, B = Σb and h_s = b_s/B.
    """
    total = b.sum()
    ratio, h = a.sum() / total, b / total
    scenes = len(a)
    # A scene that holds all there is leaves nothing to compare with: its share is kept off 1, the error stays huge.
    change = (a - ratio * b) / (total * np.maximum(1 - h, 1e-6))
    se = np.sqrt((scenes - 1) / scenes * (change**2).sum())
    effective = max(1 / (h**2).sum() - 1, 1.0)
    return float(ratio), float(se), float(min(np.sqrt((scenes - 1) * effective), scenes - 1))


def bootstrap_t(a: Array, b: Array, *, log: bool, resamples: int, seed: int) -> Array:
    """t* of every resample of scenes, studentised by its own linearised error; on the logarithm if `log`."""
    weights = resampling_weights(len(a), resamples, seed)
    scenes, total = len(a), weights @ b
    ratio = (weights @ a) / total
    squares = weights @ np.stack([a * a, a * b, b * b], axis=1)
    residual = squares[:, 0] - 2 * ratio * squares[:, 1] + ratio**2 * squares[:, 2]
    se = np.sqrt(scenes / (scenes - 1) * np.maximum(residual, 0)) / np.abs(total)
    centre = a.sum() / b.sum()
    spread = se > 1e-9 * max(float(np.median(se)), 1e-300)  # a resample of one scene S times has no error of its own
    if log:
        keep = spread & (ratio > 0)
        return np.asarray(np.log(ratio[keep] / centre) * ratio[keep] / se[keep])
    return np.asarray((ratio[spread] - centre) / se[spread])


def scene_interval(
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
    """The interval of R = Σa/Σb described above, with one-sided p-values of R ≤ 0 and R ≥ 0 (the larger of the two).

    Args:
        a, b: numerators and denominators by scene.
        level: of the two-sided interval.
        log: work on ln R, for positive quantities; gives no p-value, since ln R cannot be at 0.
        resamples, seed: of the bootstrap.
        seed_variance: variance of the estimate that does not come from scenes but from random seeds, and
        seed_df: its degrees of freedom. Half-widths are added in quadrature (Zou & Donner 2008), p-values take the
            degrees of freedom of the sum (Satterthwaite 1946).
    """
    from scipy import stats

    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    keep = (a != 0) | (b != 0)
    a, b = a[keep], b[keep]
    nan = float("nan")
    if len(a) < LEAST_SCENES:
        return Interval(float(a.sum() / b.sum()) if b.sum() else nan, nan, nan, nan)
    ratio, se, df = jackknife(a, b)
    if se <= 1e-12 * max(abs(ratio), 1e-300):
        low = high = ratio
        p_above, p_below = float(ratio <= 0), float(ratio >= 0)
        se = 0.0
    else:
        t = bootstrap_t(a, b, log=log, resamples=resamples, seed=seed)
        tail = (1 - level) / 2
        student = float(stats.t.ppf(1 - tail, df))
        lower, upper = np.quantile(t, [tail, 1 - tail])
        down, up = max(float(upper), student) * se, max(-float(lower), student) * se
        low, high = (ratio * np.exp(-down / ratio), ratio * np.exp(up / ratio)) if log else (ratio - down, ratio + up)
        observed = ratio / se
        p_above = max((1 + float((t >= observed).sum())) / (1 + len(t)), float(stats.t.sf(observed, df)))
        p_below = max((1 + float((t <= observed).sum())) / (1 + len(t)), float(stats.t.cdf(observed, df)))
    if seed_variance > 0 and seed_df > 0:
        half = float(stats.t.ppf((1 + level) / 2, seed_df)) * np.sqrt(seed_variance)
        low, high = ratio - np.hypot(ratio - low, half), ratio + np.hypot(high - ratio, half)
        both = se**2 + seed_variance
        pooled = both**2 / (se**4 / df + seed_variance**2 / seed_df)
        p_above = max(p_above, float(stats.t.sf(ratio / np.sqrt(both), pooled)))
        p_below = max(p_below, float(stats.t.cdf(ratio / np.sqrt(both), pooled)))
        se = float(np.sqrt(both))
    if log:
        p_above = p_below = nan
    return Interval(ratio, float(low), float(high), se, p_above, p_below)


def loss_interval(errors: Array, counts: Array, *, resamples: int = RESAMPLES) -> Interval:
    """Interval of a mean loss, Σ errors / Σ counts over scenes, on the logarithm."""
    return scene_interval(errors, counts, log=bool(np.sum(errors) > 0), resamples=resamples)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
