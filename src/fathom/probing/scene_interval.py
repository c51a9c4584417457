"""Intervals and one-sided tests over scenes that hold with ten of them.

For a ratio of sums over scenes, R = Σa/Σb (see `fathom.probing.statistics`), two intervals are made and the wider end of
each is taken:

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

import numpy as np
from numpy.typing import NDArray

from fathom.probing.statistics import LEAST_SCENES, RESAMPLES, Interval, resampling_weights

Array = NDArray[np.float64]

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
