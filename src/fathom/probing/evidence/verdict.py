"""The verdict on an encoder and a feature, by a written rule, from test losses by scene.

With G_j = L_j − L_encoder the gain over baseline j (mean squared errors on unseen scenes):

    implicit    every G_j > 0, and selectivity > 0, each one-sided at `LEVEL` after Holm over the encoders and features compared
    absent      G_r < margin · L_r for the reference baseline r, one-sided at `LEVEL` after Holm
    inconclusive   neither
    too few scenes   fewer than `LEAST_SCENES` test scenes: nothing is said

*Which baseline is best* is never chosen on test data. `implicit` asks for a gain over each baseline, which is an
intersection-union test (Berger 1982): its level is that of its worst part, with no correction for the number of baselines, and
no choice is made. `absent` needs no more than one baseline that the encoder is not better than by the margin; the reference is
the baseline of the least cross-validated loss on the training scenes, so the choice has not seen the test scenes either. It is the
upper of Schuirmann's (1987) two one-sided tests: being worse than the baseline is also "no better".

A baseline with several seeds (the same architecture with random weights) is a distribution, and the question is whether the encoder
could be one more draw from it: the variance is s²(1 + 1/k), that of a draw against a mean of k, not s²/k.

Selectivity (Hewitt & Liang 2019) is what a probe does on the feature less what it does on a control task, here targets of other
rooms. Reported is R² less R² on the control. Tested is the same against the reference baseline, (1 − L/L_r) − (1 − L_c/L_c,r): the
share of the baseline's loss removed on the feature less that on the control. Both tasks can be learnt by place alone, about as well;
how much by depends on the rooms drawn, which swamps the difference of R² and cancels against the baseline.

docs/method.md discusses all of this, with sources and the error rates measured by simulation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fathom.errors import FathomError
from fathom.statistics import RESAMPLES, Interval, holm, scene_interval

Array = NDArray[np.float64]
Kind = Literal["implicit", "inconclusive", "absent", "too few scenes"]

LEAST_SCENES = 10
"""Test scenes with at least one valid cell below which no verdict is given: the fewest at which its error rates were measured."""

LEVEL = 0.04
"""Nominal one-sided level of `implicit` and of `absent`. In planted worlds with skewed gains tests at 5 % err at up to 6 %; at 4 %
they keep what is promised, at most 5 % (docs/method.md)."""

MARGIN = 0.05
"""A gain under this share of the baseline's loss counts as no better: a twentieth of the squared error."""


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
    """

    encoder: str
    feature: str
    cells: Array
    errors: Array
    baselines: tuple[Baseline, ...]
    control: Control | None = None
    upper_bound: Array | None = None


@dataclass(frozen=True)
class Gain:
    """L_baseline − L_encoder with its 95 % interval; p is one-sided, of "no gain"."""

    baseline: str
    seeds: int
    interval: Interval


@dataclass(frozen=True)
class Findings:
    """What the tests on one case found, before anything is corrected for the number of cases.

    Attributes:
        scenes: test scenes with a valid cell.
        gains: over each baseline, in the case's order.
        reference: the baseline of the least cross-validated loss.
        baseline_loss, encoder_loss: of the reference and the encoder.
        selectivity: R² less R² on the control task. p_selectivity: of "no selectivity", 1 without a control task.
        share: of the gap from reference to upper bound that is closed, if there is an upper bound that beats the reference.
        relative: the gain over the reference as a share of its loss.
        p_implicit: largest p of all gains and the selectivity. p_absent: of "the gain over the reference is at least the
            margin". Both 1 with too few scenes.
        margin: used.
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


@dataclass(frozen=True)
class Verdict:
    """Kind, the sentence that explains it, and what it stands on.

    Attributes:
        kind: `implicit`, `inconclusive`, `absent` or `too few scenes`.
        sentence: for the reader of the report.
        p_implicit, p_absent: after Holm over the cases decided together.
        findings: the tests behind it.
    """

    kind: Kind
    sentence: str
    p_implicit: float
    p_absent: float
    findings: Findings

    def to_json(self) -> dict[str, Any]:
        """The entry of `Evidence.verdicts`; keys are documented in docs/evidence.md."""
        found = self.findings

        def bounds(item: Interval | None) -> list[float] | None:
            return None if item is None else [item.low, item.high]

        return {
            "encoder": found.encoder,
            "feature": found.feature,
            "verdict": self.kind,
            "sentence": self.sentence,
            "scenes": found.scenes,
            "baseline": found.reference.baseline,
            "baseline_mse": found.baseline_loss,
            "encoder_mse": found.encoder_loss,
            "share": None if found.share is None else found.share.estimate,
            "share_interval": bounds(found.share),
            "relative_gain": found.relative.estimate,
            "relative_gain_interval": bounds(found.relative),
            "selectivity": None if found.selectivity is None else found.selectivity.estimate,
            "selectivity_interval": bounds(found.selectivity),
            "p_selectivity": found.p_selectivity,
            "p_implicit": self.p_implicit,
            "p_absent": self.p_absent,
            "margin": found.margin,
            "gains": [
                {"baseline": gain.baseline, "seeds": gain.seeds, **asdict(gain.interval)}
                for gain in sorted(found.gains, key=lambda gain: gain.interval.estimate)
            ],
        }


def selectivity_interval(
    errors: Array, against: Array, control: Array, control_against: Array, *, resamples: int = RESAMPLES
) -> Interval:
    """Interval of (1 − Σe/Σv) − (1 − Σe_c/Σv_c), e the probe's errors, v those it is measured against, c of the control task.

    Not one ratio but a difference of two: the influence of each scene on it, (e_c − R_c v_c)/Σv_c − (e − R v)/Σv, is taken as
    one value a scene.
    """
    e, v, e_c, v_c = (np.asarray(item, dtype=np.float64) for item in (errors, against, control, control_against))
    true, shuffled = e.sum() / v.sum(), e_c.sum() / v_c.sum()
    influence = (e_c - shuffled * v_c) / v_c.sum() - (e - true * v) / v.sum()
    present = (v != 0) | (v_c != 0)
    scenes = int(present.sum())
    values = (shuffled - true) + scenes * influence[present]
    return scene_interval(values, np.ones(scenes), resamples=resamples)


def weigh(case: Case, *, margin: float = MARGIN, resamples: int = RESAMPLES) -> Findings:
    """Every test of one case."""
    if not case.baselines:
        raise FathomError(
            f"Encoder {case.encoder} has no baseline to be compared with, so there can be no verdict on it."
        )
    cells, errors = np.asarray(case.cells, dtype=np.float64), np.asarray(case.errors, dtype=np.float64)

    def gain(baseline: Baseline, scale: float = 1.0) -> Interval:
        variance, df = baseline.draw_variance(cells)
        return scene_interval(
            scale * baseline.mean - errors, cells, resamples=resamples, seed_variance=scale**2 * variance, seed_df=df
        )

    gains = tuple(Gain(baseline.name, len(baseline.errors), gain(baseline)) for baseline in case.baselines)
    position = reference_baseline(case)
    baseline = case.baselines[position]
    shortfall = gain(baseline, 1 - margin)
    selectivity, tested = _selectivity(case, baseline, errors, resamples)
    scenes = int((cells > 0).sum())
    enough = scenes >= LEAST_SCENES
    p_values = [item.interval.p_above for item in gains] + [tested]
    return Findings(
        encoder=case.encoder,
        feature=case.feature,
        scenes=scenes,
        gains=gains,
        reference=gains[position],
        baseline_loss=float(baseline.mean.sum() / cells.sum()),
        encoder_loss=float(errors.sum() / cells.sum()),
        selectivity=selectivity,
        p_selectivity=tested,
        share=_share(baseline, errors, case.upper_bound, cells, resamples),
        relative=_over(baseline, baseline.mean - errors, baseline.mean, cells, resamples),
        p_implicit=max(p_values) if enough else 1.0,
        p_absent=shortfall.p_below if enough else 1.0,
        margin=margin,
    )


def _selectivity(case: Case, baseline: Baseline, errors: Array, resamples: int) -> tuple[Interval | None, float]:
    """R² less R² on the control, and the p-value of "none" against the baseline (against the mean, if its control is unknown)."""
    control = case.control
    if control is None:
        return None, 1.0
    plain = selectivity_interval(errors, control.around, control.errors, control.control_around, resamples=resamples)
    if baseline.control is None:
        return plain, plain.p_above
    return plain, selectivity_interval(
        errors, baseline.mean, control.errors, baseline.control, resamples=resamples
    ).p_above


def reference_baseline(case: Case) -> int:
    """Index of the baseline with the least cross-validated loss; baselines without one count last, then by test loss."""
    totals = [float(baseline.mean.sum()) for baseline in case.baselines]
    known = [float("inf") if baseline.cv_mse is None else baseline.cv_mse for baseline in case.baselines]
    return min(range(len(totals)), key=lambda index: (known[index], totals[index]))


def _over(baseline: Baseline, a: Array, b: Array, cells: Array, resamples: int) -> Interval:
    """Interval of Σa/Σb where Σa varies with the baseline's seeds by the variance of its loss."""
    variance, df = baseline.draw_variance(cells)
    scale = float(np.sum(cells) / np.sum(b)) * (1 - float(np.sum(a) / np.sum(b)))  # ∂R/∂L_baseline
    return scene_interval(a, b, resamples=resamples, seed_variance=scale**2 * variance, seed_df=df)


def _share(
    baseline: Baseline, errors: Array, upper_bound: Array | None, cells: Array, resamples: int
) -> Interval | None:
    """(L_baseline − L_encoder)/(L_baseline − L_upper_bound), or None where the upper bound is no better than the baseline."""
    if upper_bound is None or float(np.sum(upper_bound)) >= float(baseline.mean.sum()):
        return None
    return _over(baseline, baseline.mean - errors, baseline.mean - np.asarray(upper_bound), cells, resamples)


def decide(findings: Findings, p_implicit: float, p_absent: float, *, level: float = LEVEL) -> Verdict:
    """The rule, on p-values that are already corrected."""
    kind: Kind
    if findings.scenes < LEAST_SCENES:
        kind = "too few scenes"
    elif p_implicit <= level:
        kind = "implicit"
    elif p_absent <= level:
        kind = "absent"
    else:
        kind = "inconclusive"
    return Verdict(kind, sentence(findings, kind), p_implicit, p_absent, findings)


def verdicts(
    cases: Sequence[Case], *, level: float = LEVEL, margin: float = MARGIN, resamples: int = RESAMPLES
) -> list[Verdict]:
    """A verdict for each encoder and feature compared, corrected for their number by Holm's (1979) method."""
    found = [weigh(case, margin=margin, resamples=resamples) for case in cases]
    implicit = holm([item.p_implicit for item in found])
    absent = holm([item.p_absent for item in found])
    return [decide(item, p, q, level=level) for item, p, q in zip(found, implicit, absent, strict=True)]


def sentence(findings: Findings, kind: Kind) -> str:
    """One sentence that says the verdict and what it stands on."""
    who, what, baseline = findings.encoder, findings.feature, findings.reference.baseline
    if kind == "too few scenes":
        return f"{findings.scenes} test scenes are too few for a verdict on {who} and {what}; it takes {LEAST_SCENES} or more."
    effect = _effect(findings)
    closed = "" if findings.share is None else f", {_percent(findings.share)} of the way to the upper bound"
    if kind == "implicit":
        small = findings.relative.estimate < findings.margin
        also = f"; though real, this is under {100 * findings.margin:g} % of that loss" if small else ""
        return (
            f"{who} carries {what} that a linear probe reads out: on {findings.scenes} unseen scenes it beats every baseline, "
            f"removing {_percent(findings.relative)} of the loss of {baseline}{closed}{also}."
        )
    if kind == "absent":
        return (
            f"A linear probe finds no {what} in {who} beyond {baseline}: on {findings.scenes} unseen scenes it {effect}, "
            f"and a gain of {100 * findings.margin:g} % that would count is excluded."
        )
    return f"It is inconclusive that {who} carries {what}: it {effect}{closed}, but {_obstacle(findings)}."


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
    weakest = max(findings.gains, key=lambda gain: gain.interval.p_above)
    if findings.selectivity is None:
        return "there is no control task to hold it against"
    if findings.p_selectivity > weakest.interval.p_above:
        return f"it may do as well on targets of other rooms (selectivity {findings.selectivity.estimate:.3f})"
    if weakest.interval.estimate <= 0:
        return f"{weakest.baseline} does as well or better on these {findings.scenes} scenes"
    spread = f" and {weakest.seeds} seeds" if weakest.seeds > 1 else ""
    return f"the gain over {weakest.baseline} could be chance with {findings.scenes} scenes{spread}"


def _percent(interval: Interval) -> str:
    words = f"{100 * interval.estimate:.1f} %"
    if np.isfinite([interval.low, interval.high]).all():
        words += f" (95 % interval {100 * interval.low:.1f} to {100 * interval.high:.1f} %)"
    return words
