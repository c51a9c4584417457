"""Intervals and one-sided tests over scenes, paired comparisons, and Holm's correction: pure functions of sums by scene.

Scenes, not pixels, are the independent units: pixels of one room resemble each other. Quantities are of two kinds, with sums over
scenes s:

    `Ratio`        R = Σ a_s / Σ b_s                  a difference of two metrics, the fraction of a gap that is closed
    `Contrast`     C = Σ_i ln Σ x_is − Σ_j ln Σ y_js    a loss (ln Σ errors − ln Σ cells), the ratio of two losses on the same scenes

A contrast is for sums that are positive. On the logarithm a loss, or the ratio of two, is far less skewed than the difference of two
losses, and what it says of a fraction removed, 1 − e^−C, cannot exceed 100 %.

Two intervals are made of each, of which the wider end is taken on each side:

    Student's      C ± t_ν · se,                se the delete-one-scene jackknife (Efron & Stein 1981; CR3),
                                                ν = √((S − 1)(S_eff − 1)), S_eff = 1/Σh² with h the share of a scene in Σ b (or the first Σ y)
    bootstrap-t    C − t*_{1−τ} · se, ...       quantiles of (C* − C)/se* over resampled scenes (Hall 1988)

with se* the linearised error of the resample (Cochran 1977, ch. 6). ν lies between S − 1, too many where one scene holds half of all
cells, and S_eff − 1, the equal scenes that unequal ones are worth, too few there.

Either alone falls short somewhere: Student's where scene losses are skewed (its far tail is too short), the bootstrap-t where
they are symmetric with heavy tails or few (its quantiles are those of ten values). Both fall short with few scenes, among which the
rare hard ones are often missing, so that nothing in the sample shows the tail. There the tails are narrowed,

    τ = (1 − level)/2 · κ(S),   p-values divided by κ(S),   κ(S) = S²/(S² + 15²) · min(1, S²/15²), at least 0.1

so that the test and the interval stay one. The form, the 15 and the 0.1 are empirical: docs/method.md has the coverage that was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 10_000
LEAST_SCENES = 5
"""Fewer scenes give no interval: 4 values have too few distinct resamples for a 2.5 % tail."""


FEW_SCENES = 15.0
"""Scenes at which the nominal tails are halved, and below which they are narrowed once more, since the hardest scenes are often all
missing. Chosen in simulated worlds whose encoder is worse in the hardest fifth of the scenes, so that at 10 and 12 scenes false verdicts
and coverage keep their goals with a margin (benchmarks/calibration.py, seeds 0, 2001 and 2002; docs/method.md reports another seed)."""

LEAST_SHARE = 0.1
"""Tails are narrowed to no less: further out, resamples of 5 scenes that hold one or two of them decide, and intervals have no end."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; low and high are NaN with fewer than `LEAST_SCENES` scenes.

    Attributes:
        estimate: R or C.
        low, high: bounds.
        se: its standard error.
        p_above: one-sided p-value of "it is 0 or less".
        p_below: one-sided p-value of "it is 0 or more".
        p_margin: one-sided p-value of "it is the margin or more", where a margin was asked for.
    """

    estimate: float
    low: float
    high: float
    se: float
    p_above: float = float("nan")
    p_below: float = float("nan")
    p_margin: float = float("nan")

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Both bounds; None where they are not finite: with too few scenes, or relative to 0."""
        return (self.low, self.high) if np.isfinite([self.low, self.high]).all() else None


@dataclass(frozen=True)
class Ratio:
    """R = Σa/Σb over scenes.

    Attributes:
        a, b: numerators and denominators by scene, ``(S,)``.
        seed_variance: variance of the estimate that does not come from scenes but from random seeds, and
        seed_df: its degrees of freedom. Half-widths are added in quadrature (Zou & Donner 2008), p-values take the
            degrees of freedom of the sum (Satterthwaite 1946).
    """

    a: Array
    b: Array
    seed_variance: float = 0.0
    seed_df: int = 0
    margin: float = float("nan")

    @property
    def columns(self) -> tuple[Array, ...]:
        """Everything by scene."""
        return self.a, self.b


@dataclass(frozen=True)
class Contrast:
    """C = Σ_i ln Σ above_i − Σ_j ln Σ below_j over scenes, as many terms above as below, all of them 0 or more.

    Attributes:
        above, below: terms by scene, ``(S,)`` each.
        seed_variance, seed_df: as in `Ratio`.
        margin: a value that is tested besides 0.
    """

    above: tuple[Array, ...]
    below: tuple[Array, ...]
    seed_variance: float = 0.0
    seed_df: int = 0
    margin: float = float("nan")

    @property
    def columns(self) -> tuple[Array, ...]:
        """Everything by scene, above and below in turn."""
        return tuple(item for pair in zip(self.above, self.below, strict=True) for item in pair)


@lru_cache(maxsize=4)
def resampling_weights(scenes: int, resamples: int, seed: int) -> Array:
    """How often each scene is drawn in each resample, ``(resamples, scenes)``; rows sum to `scenes`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples).astype(np.float64)


def linearised(a: Array, b: Array) -> tuple[float, float]:
    """R = Σa/Σb over scenes, and its linearised standard error, se² = S/(S−1) · Σ (a_s − R b_s)² / (Σ b_s)²."""
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


METHOD = "wider of Student's (jackknife over scenes) and bootstrap-t over scenes, 10,000 resamples, tails narrowed for few scenes"
"""What the intervals are, for tables."""


def tail_share(scenes: int) -> float:
    """κ(S): the share of its nominal tail at which an interval or a test over so many scenes is made."""
    return max(LEAST_SHARE, scenes**2 / (scenes**2 + FEW_SCENES**2) * min(1.0, scenes**2 / FEW_SCENES**2))


def freedom(b: Array) -> Array:
    """ν = √((S − 1)(S_eff − 1)) of each column of scene weights ``(S, K)``."""
    scenes, total = len(b), b.sum(0)
    h = b / np.where(total == 0, 1.0, total)
    effective = np.maximum(1 / np.maximum((h**2).sum(0), 1e-300) - 1, 1.0)
    return np.asarray(np.minimum(np.sqrt((scenes - 1) * effective), scenes - 1))


WHOLE = 1 - 1e-6
"""A scene that holds all there is leaves nothing to compare with: its share is kept below this, the error stays huge."""


def jackknife(a: Array, b: Array) -> tuple[Array, Array]:
    """R = Σa/Σb and its delete-one-scene standard error, of ``(S,)`` or of each column of ``(S, K)``.

    R without scene s is R − e_s/(B(1 − h_s)), with e_s = a_s − R b_s, B = Σb and h_s = b_s/B.
    """
    total = b.sum(0)
    ratio, h = a.sum(0) / total, b / total
    scenes = len(a)
    change = (a - ratio * b) / (total * (1 - np.minimum(h, WHOLE)))
    return np.asarray(ratio), np.asarray(np.sqrt((scenes - 1) / scenes * (change**2).sum(0)))


def bootstrap_t(a: Array, b: Array, *, resamples: int, seed: int) -> Array:
    """t* of every resample of scenes, studentised by its own linearised error.

    Returns ``(resamples,)`` for ``(S,)``, ``(resamples, K)`` for ``(S, K)``; NaN where a resample has no error of its own
    (one scene S times).
    """
    weights = resampling_weights(len(a), resamples, seed)
    centre = a.sum(0) / b.sum(0)
    e = a - centre * b  # about the estimate: R* − R is then Σ*e/Σ*b, without the digits that a difference would lose
    with np.errstate(all="ignore"):  # a resample may hold nothing of the denominator
        total = weights @ b
        step = (weights @ e) / total
        squares = weights @ (e * e) - 2 * step * (weights @ (e * b)) + step**2 * (weights @ (b * b))
        return _studentised(step, squares / total**2, len(a))


def log_jackknife(terms: Sequence[Array]) -> tuple[Array, Array]:
    """C and its delete-one-scene standard error; `terms` are above and below in turn, ``(S,)`` or ``(S, K)`` each.

    C without scene s is C + Σ_k c_k ln(1 − h_ks), h the share of the scene in its sum and c_k = ±1.
    """
    scenes, signs = len(terms[0]), _signs(terms)
    with np.errstate(all="ignore"):
        totals = [item.sum(0) for item in terms]
        value = sum(sign * np.log(total) for sign, total in zip(signs, totals, strict=True))
        change = sum(
            sign * np.log1p(-np.minimum(item / total, WHOLE))
            for sign, item, total in zip(signs, terms, totals, strict=True)
        )
    return np.asarray(value), np.asarray(np.sqrt((scenes - 1) / scenes * (change**2).sum(0)))


def log_bootstrap_t(terms: Sequence[Array], *, resamples: int, seed: int) -> Array:
    """t* of a contrast, as `bootstrap_t`; its linearised error is se² = S/(S−1) · Σ_s (Σ_k c_k x_ks/X_k)², X_k = Σ_s x_ks."""
    scenes, signs = len(terms[0]), _signs(terms)
    weights = resampling_weights(scenes, resamples, seed)
    with np.errstate(all="ignore"):  # a resample may hold nothing of a term
        shares = [item / item.sum(0) for item in terms]
        totals = [weights @ share for share in shares]
        step = sum(sign * np.log(total) for sign, total in zip(signs, totals, strict=True))
        squares = np.zeros_like(totals[0])
        for i, j in combinations_with_replacement(range(len(terms)), 2):
            product = (weights @ (shares[i] * shares[j])) / (totals[i] * totals[j])
            squares += (1 if i == j else 2) * signs[i] * signs[j] * product
        return _studentised(np.asarray(step), squares, scenes)


def _signs(terms: Sequence[Array]) -> list[int]:
    return [1 if index % 2 == 0 else -1 for index in range(len(terms))]


def _studentised(step: Array, squares: Array, scenes: int) -> Array:
    """step / √(S/(S−1) · squares), NaN where the error is none."""
    se = np.sqrt(scenes / (scenes - 1) * np.maximum(squares, 0))
    se = np.where(np.isfinite(se), se, 0.0)
    usable = np.isfinite(step) & (se > 1e-9 * np.maximum(np.median(se, axis=0), 1e-300))
    return np.asarray(np.where(usable, step / se, np.nan))


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
    """The interval of R = Σa/Σb; see `scene_intervals`.

    With `log` (for a that are 0 or more) it is that of the contrast ln Σa − ln Σb, put back: R, its bounds and its error are in the unit
    of R, and there are no p-values, since R cannot be at 0.
    """
    if not log:
        asked: Ratio | Contrast = Ratio(a, b, seed_variance, seed_df)
        return scene_intervals([asked], level=level, resamples=resamples, seed=seed)[0]
    total = float(np.sum(b))
    ratio = float(np.sum(a)) / total if total else float("nan")
    relative = seed_variance / ratio**2 if ratio > 0 else 0.0
    asked = Contrast((np.asarray(a),), (np.asarray(b),), relative, seed_df)
    found = scene_intervals([asked], level=level, resamples=resamples, seed=seed)[0]
    with np.errstate(all="ignore"):
        return Interval(ratio, float(np.exp(found.low)), float(np.exp(found.high)), ratio * found.se)


COLUMNS = 512
"""Quantities resampled at once: with 10,000 resamples a matrix of 40 MB."""


def scene_intervals(
    asked: Sequence[Ratio | Contrast], *, level: float = 0.95, resamples: int = RESAMPLES, seed: int = 0
) -> list[Interval]:
    """The interval described above of each quantity, with one-sided p-values (the larger of both methods').

    All quantities of one kind over the same number of scenes share their resamples, so many cost little more than one.

    Args:
        asked: scenes where every term is 0 do not count.
        level: of the two-sided interval.
        resamples, seed: of the bootstrap.
    """
    found: list[Interval] = [_NO_INTERVAL] * len(asked)
    groups: dict[tuple[type, int, int], list[tuple[int, list[Array]]]] = {}
    for index, item in enumerate(asked):
        columns = [np.asarray(column, dtype=np.float64) for column in item.columns]
        keep = np.any([column != 0 for column in columns], axis=0)
        columns = [column[keep] for column in columns]
        if len(columns[0]) < LEAST_SCENES:
            found[index] = replace(_NO_INTERVAL, estimate=float(_estimate(item, columns)))
        else:
            groups.setdefault((type(item), len(columns), len(columns[0])), []).append((index, columns))
    for group in groups.values():
        for start in range(0, len(group), COLUMNS):
            part = group[start : start + COLUMNS]
            terms = [np.stack(column, axis=1) for column in zip(*(columns for _, columns in part), strict=True)]
            intervals = _intervals(terms, [asked[index] for index, _ in part], level, resamples, seed)
            for (index, _), interval in zip(part, intervals, strict=True):
                found[index] = interval
    return found


_NO_INTERVAL = Interval(float("nan"), float("nan"), float("nan"), float("nan"))


def _estimate(item: Ratio | Contrast, columns: Sequence[Array]) -> Array:
    """R or C of these scenes alone, NaN where there is none."""
    with np.errstate(all="ignore"):
        if isinstance(item, Ratio):
            return np.asarray(np.divide(columns[0].sum(0), columns[1].sum(0)))
        return log_jackknife([*columns])[0] if len(columns[0]) else np.asarray(np.nan)


def _intervals(
    terms: Sequence[Array], asked: Sequence[Ratio | Contrast], level: float, resamples: int, seed: int
) -> list[Interval]:
    """Of ``(S, K)`` columns of one kind, all scenes of which count."""
    scenes, ratio = len(terms[0]), isinstance(asked[0], Ratio)
    estimate, se = jackknife(terms[0], terms[1]) if ratio else log_jackknife(terms)
    df = freedom(terms[1])
    # Without spread over scenes, or with a sum of 0 under the logarithm, nothing is left to chance.
    flat = ~np.isfinite(estimate) | (se <= 1e-12 * np.maximum(np.abs(estimate) if ratio else 1.0, 1e-300))
    se = np.where(flat, 0.0, se)
    bootstrap = (
        bootstrap_t(terms[0], terms[1], resamples=resamples, seed=seed)
        if ratio
        else (log_bootstrap_t(terms, resamples=resamples, seed=seed))
    )
    found = _Studied(estimate, se, df, bootstrap, flat, tail_share(scenes), asked)
    low, high = found.bounds(level)
    margin = np.array([item.margin for item in asked], dtype=np.float64)
    p_above, p_below = found.p_values(np.zeros_like(margin))
    p_margin = margin if np.isnan(margin).all() else np.where(np.isnan(margin), np.nan, found.p_values(margin)[1])
    columns = (estimate, low, high, np.sqrt(se**2 + found.variance), p_above, p_below, p_margin)
    return [Interval(*map(float, row)) for row in zip(*columns, strict=True)]


class _Studied:
    """K quantities with their errors and the t* of their resamples ``(R, K)``: bounds, and p-values at any value."""

    def __init__(
        self,
        estimate: Array,
        se: Array,
        df: Array,
        bootstrap: Array,
        flat: NDArray[np.bool_],
        share: float,
        asked: Sequence[Ratio | Contrast],
    ) -> None:
        self.estimate, self.se, self.df, self.bootstrap, self.flat, self.share = (
            estimate,
            se,
            df,
            bootstrap,
            flat,
            share,
        )
        variance = np.array([item.seed_variance for item in asked], dtype=np.float64)
        seed_df = np.array([item.seed_df for item in asked], dtype=np.float64)
        self.varies = (variance > 0) & (seed_df > 0)
        self.variance = np.where(self.varies, variance, 0.0)
        self.seed_df = np.maximum(seed_df, 1)

    def bounds(self, level: float) -> tuple[Array, Array]:
        """The wider end of both methods on each side; half-widths over seeds are added in quadrature."""
        from scipy import stats

        tail = (1 - level) / 2 * self.share
        lower, upper = _quantiles(self.bootstrap, [tail, 1 - tail])
        student = stats.t.ppf(1 - tail, self.df)
        seeds = stats.t.ppf((1 + level) / 2, self.seed_df) * np.sqrt(self.variance)
        with np.errstate(all="ignore"):
            down = np.hypot(np.where(self.flat, 0.0, np.fmax(upper, student) * self.se), seeds)
            up = np.hypot(np.where(self.flat, 0.0, np.fmax(-lower, student) * self.se), seeds)
            return self.estimate - down, self.estimate + up

    def p_values(self, value: Array) -> tuple[Array, Array]:
        """Of "the value or less" and of "the value or more"."""
        from scipy import stats

        with np.errstate(all="ignore"):
            away = np.where(self.estimate == value, 0.0, self.estimate - value)
            observed = away / self.se
            count = (~np.isnan(self.bootstrap)).sum(0)
            above = np.maximum((1 + (self.bootstrap >= observed).sum(0)) / (1 + count), stats.t.sf(observed, self.df))
            below = np.maximum((1 + (self.bootstrap <= observed).sum(0)) / (1 + count), stats.t.cdf(observed, self.df))
            above, below = np.minimum(above / self.share, 1.0), np.minimum(below / self.share, 1.0)
            above, below = np.where(self.flat, away <= 0, above), np.where(self.flat, away >= 0, below)
            both = self.se**2 + self.variance
            pooled = both**2 / (self.se**4 / self.df + self.variance**2 / self.seed_df + 1e-300)
            t = away / np.sqrt(both)
            above = np.where(self.varies, np.maximum(above, stats.t.sf(t, pooled)), above)
            below = np.where(self.varies, np.maximum(below, stats.t.cdf(t, pooled)), below)
        unknown = np.isnan(self.estimate)  # 0 against 0
        return np.where(unknown, 1.0, above), np.where(unknown, 1.0, below)


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
