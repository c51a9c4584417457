"""The verdict on an encoder and a feature, by a written rule, from test losses by scene.

With G_j = L_j − L_encoder the gain over baseline j (mean squared errors on unseen scenes):

    implicit       every G_j > 0 and every selectivity S_j > 0, one-sided at `implicit_level` after Holm over the cases
    absent         some G_j < margin · L_j, one-sided at `LEVEL`, p-values weighted over j, after Holm
    inconclusive   neither
    too few scenes fewer than `LEAST_SCENES` test scenes: nothing is said
    withheld       the test scenes are no unseen scenes (near-duplicates in training, or frames taken for scenes)

`implicit` is an intersection-union test (Berger 1982): its level is that of its worst part, whatever the number of baselines, so a
further baseline can only make it stricter. `absent` needs one baseline that the encoder does not beat by the margin. It is the upper
of Schuirmann's (1987) two one-sided tests for each baseline, joined by a weighted Bonferroni rule (Genovese, Roeder & Wasserman
2006): p = min_j p_j / w_j with Σ w_j = 1. Weights come from losses cross-validated on training scenes, so test scenes had no say,

    w_j ∝ exp(−(cv_j / min cv − 1) / margin)

and two nearly tied baselines share the weight instead of one of them being *the* reference: no verdict turns on which is ahead.

A baseline with several seeds (the same architecture with random weights) is a distribution, and the question is whether the encoder
could be one more draw from it: the variance is s²(1 + 1/k), that of a draw against a mean of k, not s²/k.

Selectivity (Hewitt & Liang 2019) is what a probe does on the feature less what it does on a control task, here targets of other
rooms. Reported is R² less R² on the control. Tested is the same against each baseline, S_j = (1 − L/L_j) − (1 − L_c/L_c,j): the
share of its loss removed on the feature less that on the control. Both tasks can be learnt by place alone, about as well; how much
by depends on the rooms drawn, which swamps the difference of R² and cancels against a baseline.

docs/method.md discusses all of this, with sources and the error rates measured by simulation and on real data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fathom.errors import FathomError
from fathom.statistics import RESAMPLES, Interval, Ratio, holm, scene_intervals

Array = NDArray[np.float64]
Kind = Literal["implicit", "inconclusive", "absent", "too few scenes", "withheld"]

LEAST_SCENES = 10
"""Test scenes with at least one valid cell below which no verdict is given: the fewest at which its error rates were measured."""

LEVEL = 0.04
"""Nominal one-sided level of `absent`, and of `implicit` from `FEW` scenes on. In planted worlds with skewed gains tests at 5 % err at
up to 6 %; at 4 % they keep what is promised, at most 5 % (docs/method.md)."""

FEW = 50
"""Test scenes below which `implicit` is tested at `STRICT`."""

STRICT = 0.01
"""Nominal level of `implicit` with few scenes. An encoder as good as a baseline, but worse in the hardest fifth of the scenes, passed
at 4 % in 13, 11 and 8 % of the worlds with 10, 12 and 25 scenes, since few hard scenes are drawn; at 1 % in 4.9, 4.5 and 4.4 %."""

MARGIN = 0.05
"""A gain under this share of the baseline's loss counts as no better: a twentieth of the squared error."""

MOST_SEEDS = 100
"""Up to so many random seeds are suggested; if it took more, the encoder is hardly different from its random copies."""

SAME = 1e-4
"""Relative difference of scene errors below which two encoders are the same one: other weights differ by percents."""

HOPELESS = 100.0
"""Times the baseline's loss beyond which a number says no more: the baseline knows the feature all but perfectly."""


@dataclass(frozen=True)
class Baseline:
    """What the encoder must beat.

    Attributes:
        name: its SPEC.
        errors: Σ of squared errors in each test scene, one array ``(S,)`` a seed; a baseline without seeds has one.
        cv_mse: cross-validated loss on the training scenes (mean over seeds), or None where it was not taken.
        control: errors on the control task in each test scene, ``(S,)`` (mean over seeds), or None where there was none.
    """

    name: str
    errors: tuple[Array, ...]
    cv_mse: float | None = None
    control: Array | None = None

    @property
    def mean(self) -> Array:
        """Errors by scene, averaged over seeds."""
        return np.asarray(np.stack(self.errors).astype(np.float64).mean(axis=0))

    @property
    def is_copy(self) -> bool:
        """Whether this is the encoder's own architecture without what it learned."""
        return self.name.startswith(("random:", "permuted:"))

    def draw_variance(self, cells: Array) -> tuple[float, int]:
        """Variance of one further seed's loss against the mean of these, s²(1 + 1/k), and its degrees of freedom."""
        seeds = len(self.errors)
        if seeds < 2:
            return 0.0, 0
        losses = np.array([np.sum(item) for item in self.errors]) / np.sum(cells)
        return float(losses.var(ddof=1) * (1 + 1 / seeds)), seeds - 1


@dataclass(frozen=True)
class Control:
    """The control task on the test scenes, each ``(S,)``: what selectivity is computed from.

    Attributes:
        errors: Σ of squared errors of the encoder's probe of the control target.
        around: Σ(y − training mean)² of the true feature. control_around: the same of the control target.
    """

    errors: Array
    around: Array
    control_around: Array


@dataclass(frozen=True)
class Case:
    """All that the verdict on one encoder and one feature depends on.

    Attributes:
        encoder, feature: names.
        cells: valid cells in each test scene, ``(S,)``.
        errors: the encoder's, at the layer that cross-validation chose, ``(S,)``.
        baselines: everything it is compared with, random and permuted weights included.
        control: the control task, or None where there was none; then nothing can be `implicit`.
        upper_bound: errors of a supervised network, ``(S,)``, if one was named.
        untrained: whether copies of the encoder with random weights took part; without them nothing can be `implicit`.
    """

    encoder: str
    feature: str
    cells: Array
    errors: Array
    baselines: tuple[Baseline, ...]
    control: Control | None = None
    upper_bound: Array | None = None
    untrained: bool = True


@dataclass(frozen=True)
class Gain:
    """L_baseline − L_encoder, and the tests against this baseline.

    Attributes:
        baseline: its name. seeds: how many of it there are.
        interval: of the gain, 95 %; `p_above` is the p-value of "no gain".
        p_selectivity: of "no selectivity against this baseline", None where its control task is unknown.
        p_margin: of "the gain is the margin or more". weight: of this baseline in `absent`.
    """

    baseline: str
    seeds: int
    interval: Interval
    p_selectivity: float | None
    p_margin: float
    weight: float


@dataclass(frozen=True)
class Findings:
    """What the tests on one case found, before anything is corrected for the number of cases.

    Attributes:
        scenes: test scenes with a valid cell.
        gains: over each baseline, in the case's order.
        reference: the baseline of the least cross-validated loss, which reported shares refer to; no test hangs on it.
        baseline_loss, encoder_loss: of the reference and the encoder.
        selectivity: R² less R² on the control task. p_selectivity: of "no selectivity against some baseline", 1 without a
            control task.
        share: of the gap from reference to upper bound that is closed, if there is an upper bound that beats the reference.
        relative: the gain over the reference as a share of its loss.
        p_implicit: largest p of all gains and selectivities. p_absent: of "every gain is the margin or more". Both 1 with too few
            scenes.
        margin: used.
        seeds_needed: random seeds with which `implicit` would be reached if gain and spread stay as they are, where the seeds
            and not the scenes stand in its way; None where they do not, infinite where no number would do.
        same_as: the random or permuted copy whose errors are the encoder's own, which then learned nothing that matters.
        untrained: as in `Case`.
    """

    encoder: str
    feature: str
    scenes: int
    gains: tuple[Gain, ...]
    reference: Gain
    baseline_loss: float
    encoder_loss: float
    selectivity: Interval | None
    p_selectivity: float
    share: Interval | None
    relative: Interval
    p_implicit: float
    p_absent: float
    margin: float
    seeds_needed: float | None
    same_as: str | None
    untrained: bool = True


@dataclass(frozen=True)
class Verdict:
    """Kind, the sentence that explains it, and what it stands on.

    Attributes:
        kind: `implicit`, `inconclusive`, `absent`, `too few scenes` or `withheld`.
        sentence: for the reader of the report.
        p_implicit, p_absent: after Holm over the cases decided together.
        findings: the tests behind it.
    """

    kind: Kind
    sentence: str
    p_implicit: float
    p_absent: float
    findings: Findings


def selectivity_ratio(errors: Array, against: Array, control: Array, control_against: Array) -> Ratio:
    """(1 − Σe/Σv) − (1 − Σe_c/Σv_c), e the probe's errors, v those it is measured against, c of the control task.

    Not one ratio but a difference of two: the influence of each scene on it, (e_c − R_c v_c)/Σv_c − (e − R v)/Σv, is taken as
    one value a scene.
    """
    e, v, e_c, v_c = (np.asarray(item, dtype=np.float64) for item in (errors, against, control, control_against))
    true, shuffled = e.sum() / v.sum(), e_c.sum() / v_c.sum()
    influence = (e_c - shuffled * v_c) / v_c.sum() - (e - true * v) / v.sum()
    present = (v != 0) | (v_c != 0)
    scenes = int(present.sum())
    return Ratio((shuffled - true) + scenes * influence[present], np.ones(scenes))


def weigh(case: Case, *, margin: float = MARGIN, resamples: int = RESAMPLES) -> Findings:
    """Every test of one case."""
    return weigh_all([case], margin=margin, resamples=resamples)[0]


def weigh_all(cases: Sequence[Case], *, margin: float = MARGIN, resamples: int = RESAMPLES) -> list[Findings]:
    """Every test of each case; what one case gives does not depend on the others."""
    asked = [_ratios(case, margin) for case in cases]
    intervals = iter(scene_intervals([ratio for ratios in asked for ratio in ratios.values()], resamples=resamples))
    return [
        _findings(case, {key: next(intervals) for key in ratios}, margin)
        for case, ratios in zip(cases, asked, strict=True)
    ]


def _ratios(case: Case, margin: float) -> dict[str, Ratio]:
    """Everything a case needs an interval of, by name; of baseline j with ``/j`` after the name."""
    if not case.baselines:
        raise FathomError(
            f"Encoder {case.encoder} has no baseline to be compared with, so there can be no verdict on it."
        )
    cells, errors, control = (
        np.asarray(case.cells, dtype=np.float64),
        np.asarray(case.errors, dtype=np.float64),
        case.control,
    )
    asked: dict[str, Ratio] = {}
    for index, baseline in enumerate(case.baselines):
        variance, df = baseline.draw_variance(cells)
        for name, scale in (("gain", 1.0), ("margin", 1 - margin)):
            asked[f"{name}/{index}"] = Ratio(
                scale * baseline.mean - errors, cells, seed_variance=scale**2 * variance, seed_df=df
            )
        if control is not None and baseline.control is not None:
            asked[f"selectivity/{index}"] = selectivity_ratio(errors, baseline.mean, control.errors, baseline.control)
    if control is not None:
        asked["selectivity"] = selectivity_ratio(errors, control.around, control.errors, control.control_around)
    reference = case.baselines[reference_baseline(case)]
    asked["relative"] = _over(reference, reference.mean - errors, reference.mean, cells)
    if case.upper_bound is not None and float(np.sum(case.upper_bound)) < float(reference.mean.sum()):
        asked["share"] = _over(reference, reference.mean - errors, reference.mean - np.asarray(case.upper_bound), cells)
    return asked


def _findings(case: Case, found: Mapping[str, Interval], margin: float) -> Findings:
    """The tests of a case from its intervals."""
    cells = np.asarray(case.cells, dtype=np.float64)
    weights = reference_weights(case, margin)
    gains = tuple(
        Gain(
            baseline.name,
            len(baseline.errors),
            found[f"gain/{index}"],
            found[f"selectivity/{index}"].p_above if f"selectivity/{index}" in found else None,
            found[f"margin/{index}"].p_below,
            weights[index],
        )
        for index, baseline in enumerate(case.baselines)
    )
    position = reference_baseline(case)
    plain = found.get("selectivity")
    known = [gain.p_selectivity for gain in gains if gain.p_selectivity is not None]
    selective = max(known) if known else 1.0 if plain is None else plain.p_above
    scenes = int((cells > 0).sum())
    enough = scenes >= LEAST_SCENES
    same_as = _same_as(case)
    largest = max(selective, *(gain.interval.p_above for gain in gains))
    joined = min(gain.p_margin / gain.weight if gain.weight > 0 else 1.0 for gain in gains)
    return Findings(
        encoder=case.encoder,
        feature=case.feature,
        scenes=scenes,
        gains=gains,
        reference=gains[position],
        baseline_loss=float(case.baselines[position].mean.sum() / cells.sum()),
        encoder_loss=float(np.sum(case.errors) / cells.sum()),
        selectivity=plain,
        p_selectivity=selective,
        share=found.get("share"),
        relative=found["relative"],
        p_implicit=largest if enough and same_as is None and case.untrained else 1.0,
        p_absent=min(joined, 1.0) if enough else 1.0,
        margin=margin,
        seeds_needed=_seeds_needed(case, gains, selective) if enough and same_as is None else None,
        same_as=same_as,
        untrained=case.untrained,
    )


def reference_baseline(case: Case) -> int:
    """Index of the baseline with the least cross-validated loss; baselines without one count last, then by test loss."""
    totals = [float(baseline.mean.sum()) for baseline in case.baselines]
    known = [float("inf") if baseline.cv_mse is None else baseline.cv_mse for baseline in case.baselines]
    return min(range(len(totals)), key=lambda index: (known[index], totals[index]))


def reference_weights(case: Case, margin: float = MARGIN) -> list[float]:
    """w_j of each baseline, from cross-validated losses alone; equal where none is known, 0 where others are."""
    losses = [baseline.cv_mse for baseline in case.baselines]
    known = [loss for loss in losses if loss is not None]
    if not known:
        return [1 / len(losses)] * len(losses)
    least, scale = min(known), max(margin, 1e-3)
    above = [float("inf") if loss is None else (loss - least) / max(least, 1e-300) for loss in losses]
    raw = [float(np.exp(-item / scale)) for item in above]
    return [item / sum(raw) for item in raw]


def _same_as(case: Case) -> str | None:
    """The copy of the encoder with other weights that errs exactly as it does, if there is one."""
    errors = np.asarray(case.errors, dtype=np.float64)
    for baseline in case.baselines:
        if baseline.is_copy and any(np.allclose(errors, item, rtol=SAME, atol=0) for item in baseline.errors):
            return baseline.name
    return None


def _seeds_needed(case: Case, gains: Sequence[Gain], selective: float) -> float | None:
    """With how many seeds the gain over the random copies would be sure, where that alone is missing for `implicit`.

    The gap G, the spread s over seeds and the error over scenes are kept as they were found; the error of G with k seeds is
    then √(se² + s²(1 + 1/k)), with Satterthwaite's degrees of freedom.
    """
    from scipy import stats

    level = implicit_level(int((np.asarray(case.cells) > 0).sum()))
    failing = [
        (gain, baseline) for gain, baseline in zip(gains, case.baselines, strict=True) if gain.interval.p_above > level
    ]
    if selective > level or len(failing) != 1 or failing[0][0].seeds < 2:
        return None
    gain, baseline = failing[0]
    drawn, _ = baseline.draw_variance(np.asarray(case.cells, dtype=np.float64))
    spread = drawn / (1 + 1 / gain.seeds)
    over_scenes = max(gain.interval.se**2 - drawn, 0.0)
    df = max(int((case.cells > 0).sum()) - 1, 1)
    if gain.interval.estimate <= 0 or stats.t.sf(gain.interval.estimate / max(over_scenes, 1e-300) ** 0.5, df) > level:
        return None  # the scenes alone leave it open
    for seeds in range(gain.seeds + 1, MOST_SEEDS + 1):
        variance = spread * (1 + 1 / seeds)
        both = over_scenes + variance
        pooled = both**2 / (over_scenes**2 / df + variance**2 / (seeds - 1))
        if stats.t.sf(gain.interval.estimate / both**0.5, pooled) <= level:
            return float(seeds)
    return float("inf")


def _over(baseline: Baseline, a: Array, b: Array, cells: Array) -> Ratio:
    """Σa/Σb where Σa varies with the baseline's seeds by the variance of its loss."""
    variance, df = baseline.draw_variance(cells)
    scale = float(np.sum(cells) / np.sum(b)) * (1 - float(np.sum(a) / np.sum(b)))  # ∂R/∂L_baseline
    return Ratio(a, b, seed_variance=scale**2 * variance, seed_df=df)


def implicit_level(scenes: int) -> float:
    """Nominal level of `implicit` on so many test scenes."""
    return STRICT if scenes < FEW else LEVEL


def decide(
    findings: Findings, p_implicit: float, p_absent: float, *, level: float | None = None, withheld: str = ""
) -> Verdict:
    """The rule, on p-values that are already corrected, at `level` or the module's own; `withheld` is the reason for which no verdict is given, if there is one."""
    kind: Kind
    if withheld:
        kind = "withheld"
    elif findings.scenes < LEAST_SCENES:
        kind = "too few scenes"
    elif p_implicit <= (implicit_level(findings.scenes) if level is None else level):
        kind = "implicit"
    elif p_absent <= (LEVEL if level is None else level):
        kind = "absent"
    else:
        kind = "inconclusive"
    return Verdict(kind, withheld or sentence(findings, kind), p_implicit, p_absent, findings)


def verdicts(
    cases: Sequence[Case],
    *,
    level: float | None = None,
    margin: float = MARGIN,
    resamples: int = RESAMPLES,
    withheld: str = "",
) -> list[Verdict]:
    """A verdict for each encoder and feature compared, corrected for their number by Holm's (1979) method."""
    found = weigh_all(cases, margin=margin, resamples=resamples)
    implicit = holm([item.p_implicit for item in found])
    absent = holm([item.p_absent for item in found])
    return [
        decide(item, p, q, level=level, withheld=withheld) for item, p, q in zip(found, implicit, absent, strict=True)
    ]


def sentence(findings: Findings, kind: Kind) -> str:
    """One sentence that says the verdict and what it stands on."""
    who, what, baseline = findings.encoder, findings.feature, findings.reference.baseline
    if kind == "too few scenes":
        return f"{findings.scenes} test scenes are too few for a verdict on {who} and {what}; at least {LEAST_SCENES} are needed."
    effect = _effect(findings)
    closed = "" if findings.share is None else f", {_percent(findings.share)} of the way to the upper bound"
    if kind == "implicit":
        small = findings.relative.estimate < findings.margin
        also = f"; the gain is real but under {100 * findings.margin:g} % of that loss" if small else ""
        return (
            f"A linear probe reads {what} from {who}: on {findings.scenes} unseen scenes it beats every baseline and "
            f"removes {_percent(findings.relative)} of the loss of {baseline}{closed}{also}."
        )
    if kind == "absent":
        against = min(findings.gains, key=lambda gain: gain.p_margin / max(gain.weight, 1e-300))
        also = f" and {effect}" if against.baseline == baseline else f"; compared with {baseline} it {effect}"
        return (
            f"A linear probe reads no more {what} from {who} than from {against.baseline}: on {findings.scenes} unseen scenes "
            f"it does not remove {100 * findings.margin:g} % of that baseline's loss{also}."
        )
    return f"It is inconclusive whether {who} carries {what}: it {effect}{closed}, but {_obstacle(findings)}."


def _effect(findings: Findings) -> str:
    """What the encoder does to the loss of the reference baseline."""
    baseline, relative = findings.reference.baseline, findings.relative
    if relative.estimate >= 0:
        return f"removes {_percent(relative)} of the loss of {baseline}"
    if relative.estimate < -HOPELESS:
        return f"has over {HOPELESS:g} times the loss of {baseline}"
    above = replace(relative, estimate=-relative.estimate, low=-relative.high, high=-relative.low)
    return f"has a loss {_percent(above)} above that of {baseline}"


def _obstacle(findings: Findings) -> str:
    """What stands between the findings and `implicit`: the weakest part of the test."""
    if findings.same_as is not None:
        return (
            f"its errors are exactly those of {findings.same_as}: the encoder is untrained, or the copy has its weights"
        )
    if not findings.untrained:
        return "no untrained copy of it took part (--controls), and without one nothing is called implicit"
    weakest = max(findings.gains, key=lambda gain: gain.interval.p_above)
    if findings.selectivity is None:
        return "there is no control task to compare it with"
    if findings.p_selectivity > weakest.interval.p_above:
        return f"it may do as well on targets of other rooms (selectivity {findings.selectivity.estimate:.3f})"
    if weakest.interval.estimate <= 0:
        return f"{weakest.baseline} does as well or better on these {findings.scenes} scenes"
    if findings.seeds_needed is None:
        return f"the gain over {weakest.baseline} could be chance with {findings.scenes} scenes"
    if np.isinf(findings.seeds_needed):
        return f"it could be one more draw of {weakest.baseline}, whose {weakest.seeds} seeds differ by as much"
    return (
        f"the gain over {weakest.baseline} could be chance with {weakest.seeds} seeds; {findings.seeds_needed:.0f} would decide "
        f"if they spread as these do (--controls {findings.seeds_needed:.0f})"
    )


def _percent(interval: Interval) -> str:
    words = f"{100 * interval.estimate:.1f} %"
    if np.isfinite([interval.low, interval.high]).all():
        words += f" (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
    return words
