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
from dataclasses import dataclass, replace
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


def jackknife(a: Array, b: Array) -> tuple[Array, Array, Array]:
    """R = Σa/Σb, its delete-one-scene standard error, and the degrees of freedom ν, of ``(S,)`` or of each column of ``(S, K)``.

    R without scene s is R − e_s/(B(1 − h_s)), with e_s = a_s − R b_s, B = Σb and h_s = b_s/B.
    """
    total = b.sum(0)
    ratio, h = a.sum(0) / total, b / total
    scenes = len(a)
    # A scene that holds all there is leaves nothing to compare with: its share is kept off 1, the error stays huge.
    change = (a - ratio * b) / (total * np.maximum(1 - h, 1e-6))
    se = np.sqrt((scenes - 1) / scenes * (change**2).sum(0))
    effective = np.maximum(1 / (h**2).sum(0) - 1, 1.0)
    df = np.minimum(np.sqrt((scenes - 1) * effective), scenes - 1)
    return np.asarray(ratio), np.asarray(se), np.asarray(df)


def bootstrap_t(a: Array, b: Array, *, log: bool | NDArray[np.bool_], resamples: int, seed: int) -> Array:
    """t* of every resample of scenes, studentised by its own linearised error; on the logarithm where `log`.

    Returns ``(resamples,)`` for ``(S,)``, ``(resamples, K)`` for ``(S, K)``; NaN where a resample has no error of its own
    (one scene S times) or no logarithm.
    """
    weights = resampling_weights(len(a), resamples, seed)
    scenes = len(a)
    centre = a.sum(0) / b.sum(0)
    e = a - centre * b  # about the estimate: R* − R is then Σ*e/Σ*b, without the digits that a difference would lose
    with np.errstate(all="ignore"):  # a resample may hold nothing of the denominator
        total = weights @ b
        step = (weights @ e) / total
        residual = weights @ (e * e) - 2 * step * (weights @ (e * b)) + step**2 * (weights @ (b * b))
        se = np.sqrt(scenes / (scenes - 1) * np.maximum(residual, 0)) / np.abs(total)
    se = np.where(np.isfinite(se), se, 0.0)
    usable = se > 1e-9 * np.maximum(np.median(se, axis=0), 1e-300)
    ratio = centre + step
    positive = (ratio > 0) & (centre > 0)
    with np.errstate(all="ignore"):
        on_log = np.log(np.where(positive, ratio / centre, 1.0)) * ratio / se
        t = np.where(log, np.where(positive, on_log, np.nan), step / se)
    return np.asarray(np.where(usable, t, np.nan))


@dataclass(frozen=True)
class Ratio:
    """A quantity over scenes, R = Σa/Σb, and what its interval depends on besides.

    Attributes:
        a, b: numerators and denominators by scene, ``(S,)``.
        log: work on ln R, for positive quantities; gives no p-value, since ln R cannot be at 0.
        seed_variance: variance of the estimate that does not come from scenes but from random seeds, and
        seed_df: its degrees of freedom. Half-widths are added in quadrature (Zou & Donner 2008), p-values take the
            degrees of freedom of the sum (Satterthwaite 1946).
    """

    a: Array
    b: Array
    log: bool = False
    seed_variance: float = 0.0
    seed_df: int = 0


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
    """The interval of one `Ratio`; see `scene_intervals`."""
    return scene_intervals([Ratio(a, b, log, seed_variance, seed_df)], level=level, resamples=resamples, seed=seed)[0]


COLUMNS = 512
"""Ratios resampled at once: with 10,000 resamples a matrix of 40 MB."""


def scene_intervals(
    ratios: Sequence[Ratio], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """The interval described above of each ratio, with one-sided p-values of R ≤ 0 and R ≥ 0 (the larger of both methods).

    All ratios over the same number of scenes share their resamples, so many cost little more than one.

    Args:
        ratios: scenes without numerator and denominator do not count.
        level: of the two-sided interval.
        resamples, seed: of the bootstrap.
    """
    found: list[Interval] = [_NO_INTERVAL] * len(ratios)
    groups: dict[int, list[tuple[int, Array, Array]]] = {}
    for index, item in enumerate(ratios):
        a, b = np.asarray(item.a, dtype=np.float64), np.asarray(item.b, dtype=np.float64)
        keep = (a != 0) | (b != 0)
        a, b = a[keep], b[keep]
        if len(a) < LEAST_SCENES:
            found[index] = replace(_NO_INTERVAL, estimate=float(a.sum() / b.sum()) if b.sum() else float("nan"))
        else:
            groups.setdefault(len(a), []).append((index, a, b))
    for group in groups.values():
        for start in range(0, len(group), COLUMNS):
            part = group[start : start + COLUMNS]
            stacked = np.stack([a for _, a, _ in part], axis=1), np.stack([b for _, _, b in part], axis=1)
            intervals = _intervals(*stacked, [ratios[index] for index, _, _ in part], level, resamples, seed)
            for (index, _, _), interval in zip(part, intervals, strict=True):
                found[index] = interval
    return found


_NO_INTERVAL = Interval(float("nan"), float("nan"), float("nan"), float("nan"))


def _intervals(a: Array, b: Array, ratios: Sequence[Ratio], level: float, resamples: int, seed: int) -> list[Interval]:
    """Of ``(S, K)`` columns, all scenes of which count."""
    from scipy import stats

    log = np.array([item.log for item in ratios])
    ratio, se, df = jackknife(a, b)
    flat = se <= 1e-12 * np.maximum(np.abs(ratio), 1e-300)
    se = np.where(flat, 0.0, se)
    tail = (1 - level) / 2
    t = bootstrap_t(a, b, log=log, resamples=resamples, seed=seed)
    lower, upper = _quantiles(t, [tail, 1 - tail])
    student = stats.t.ppf(1 - tail, df)
    down, up = np.fmax(upper, student) * se, np.fmax(-lower, student) * se
    with np.errstate(all="ignore"):
        low = np.where(log, ratio * np.exp(-down / ratio), ratio - down)
        high = np.where(log, ratio * np.exp(up / ratio), ratio + up)
        observed = np.where(flat, np.where(ratio == 0, 0.0, np.copysign(np.inf, ratio)), ratio / se)
        count = (~np.isnan(t)).sum(0)
        p_above = np.maximum((1 + (t >= observed).sum(0)) / (1 + count), stats.t.sf(observed, df))
        p_below = np.maximum((1 + (t <= observed).sum(0)) / (1 + count), stats.t.cdf(observed, df))
    p_above, p_below = np.where(flat, ratio <= 0, p_above), np.where(flat, ratio >= 0, p_below)
    variance = np.array([item.seed_variance for item in ratios])
    seed_df = np.array([item.seed_df for item in ratios], dtype=np.float64)
    varies = (variance > 0) & (seed_df > 0)
    if varies.any():
        freedom = np.maximum(seed_df, 1)
        half = stats.t.ppf((1 + level) / 2, freedom) * np.sqrt(variance)
        low = np.where(varies, ratio - np.hypot(ratio - low, half), low)
        high = np.where(varies, ratio + np.hypot(high - ratio, half), high)
        both = np.where(varies, se**2 + variance, 1.0)
        pooled = both**2 / (se**4 / df + variance**2 / freedom + 1e-300)
        p_above = np.where(varies, np.maximum(p_above, stats.t.sf(ratio / np.sqrt(both), pooled)), p_above)
        p_below = np.where(varies, np.maximum(p_below, stats.t.cdf(ratio / np.sqrt(both), pooled)), p_below)
        se = np.where(varies, np.sqrt(both), se)
    p_above, p_below = np.where(log, np.nan, p_above), np.where(log, np.nan, p_below)
    return [Interval(*map(float, row)) for row in zip(ratio, low, high, se, p_above, p_below, strict=True)]


def _quantiles(t: Array, tails: Sequence[float]) -> Array:
    """Quantiles of each column, NaN left out, ``(tails, K)``; NaN of a column without a number."""
    whole = ~np.isnan(t).any(0)
    found = np.full((len(tails), t.shape[1]), np.nan)
    if whole.any():
        found[:, whole] = np.quantile(t[:, whole], tails, axis=0)
    for column in np.flatnonzero(~whole):
        values = t[~np.isnan(t[:, column]), column]
        if len(values):
            found[:, column] = np.quantile(values, tails)
    return found


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
