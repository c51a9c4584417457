"""Every test that a verdict rests on, from test errors by scene: gains, selectivity, the margin, what stands in the way.

A gain is a fraction of a baseline's loss, 1 − L/L_j, so it cannot exceed 100 %; it is tested as the contrast ln L_j − ln L. Selectivity
(Hewitt & Liang 2019) is what a probe does on the feature less what it does on a control task, here targets of other rooms. Reported
is R² less R² on the control. Tested is the same against each baseline, (ln L_j − ln L) − (ln L_c,j − ln L_c): the reduction of its loss on
the feature beyond that on the control. Both tasks can be learnt by place alone, about as well; how much by depends on the rooms
drawn, which swamps the difference of R² and cancels against a baseline.

A baseline with several seeds (the same architecture with random weights) is a distribution, and the question is whether the encoder
could be one more draw from it: the variance is s²(1 + 1/k), that of a draw against a mean of k, not s²/k. s² is moderated (Smyth 2004):
with few seeds it is drawn towards the spread that untrained networks were measured to have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fathom.errors import FathomError
from fathom.probing.evidence.records import Estimate, GainRecord, VerdictRecord, finite
from fathom.probing.evidence.verdict.cases import Baseline, Case, moderated
from fathom.statistics import RESAMPLES, Contrast, Interval, Ratio, scene_intervals

Array = NDArray[np.float64]

LEAST_SCENES = 10
"""Test scenes with at least one valid cell below which no verdict is given: the fewest at which its error rates were measured."""

LEVEL = 0.04
"""Nominal one-sided level of `implicit` and of `absent`; with it either word keeps what is promised, at most 5 % (docs/method.md)."""

MARGIN = 0.05
"""A gain under this share of the baseline's loss counts as no better: a twentieth of the squared error."""

MOST_SEEDS = 100
"""Up to so many random seeds are suggested; if it took more, the encoder is hardly different from its random copies."""

SAME = 1e-4
"""Relative difference of scene errors below which two encoders are the same one: other weights differ by percents."""


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


def weigh_all(cases: Sequence[Case], *, margin: float = MARGIN, resamples: int = RESAMPLES) -> list[VerdictRecord]:
    """Every test of each case, with p-values as if it were alone and no verdict yet; what one gives does not depend on the others."""
    asked = [_quantities(case, margin) for case in cases]
    intervals = iter(scene_intervals([item for named in asked for item in named.values()], resamples=resamples))
    return [
        _findings(case, {key: next(intervals) for key in named}, margin)
        for case, named in zip(cases, asked, strict=True)
    ]


def _quantities(case: Case, margin: float) -> dict[str, Ratio | Contrast]:
    """Everything a case needs an interval of, by name; of baseline j with ``/j`` after the name."""
    if not case.baselines:
        raise FathomError(
            f"Encoder {case.encoder} has no baseline to be compared with, so there can be no verdict on it."
        )
    errors, control = np.asarray(case.errors, dtype=np.float64), case.control
    asked: dict[str, Ratio | Contrast] = {}
    for index, baseline in enumerate(case.baselines):
        variance, df = baseline.log_draw_variance()
        asked[f"gain/{index}"] = Contrast((baseline.mean,), (errors,), variance, df, margin=-math.log1p(-margin))
        if variance:
            asked[f"scenes/{index}"] = Contrast((baseline.mean,), (errors,))
        if control is not None and baseline.control is not None:
            asked[f"selectivity/{index}"] = Contrast((baseline.mean, control.errors), (errors, baseline.control))
    if control is not None:
        asked["selectivity"] = selectivity_ratio(errors, control.around, control.errors, control.control_around)
    reference = case.baselines[reference_baseline(case)]
    if case.upper_bound is not None and float(np.sum(case.upper_bound)) < float(reference.mean.sum()):
        asked["gap"] = _gap_closed(reference, errors, np.asarray(case.upper_bound), np.asarray(case.cells))
    return asked


def _gap_closed(reference: Baseline, errors: Array, upper_bound: Array, cells: Array) -> Ratio:
    """(L_j − L)/(L_j − L_upper), whose value varies with the baseline's seeds by the variance of its loss."""
    a, b = reference.mean - errors, reference.mean - upper_bound
    variance, df = reference.draw_variance(cells)
    slope = float(np.sum(cells) / np.sum(b)) * (1 - float(np.sum(a) / np.sum(b)))  # ∂R/∂L_j
    return Ratio(a, b, slope**2 * variance, df)


def removed(contrast: Interval) -> Interval:
    """The fraction of a baseline's loss that is removed, 1 − e^−C, of the contrast C = ln L_j − ln L."""

    def fraction(value: float) -> float:
        return -math.expm1(min(-value, 700.0)) if not math.isnan(value) else value

    return replace(
        contrast,
        estimate=fraction(contrast.estimate),
        low=fraction(contrast.low),
        high=fraction(contrast.high),
        se=contrast.se * (1 - fraction(contrast.estimate)),
    )


def _findings(case: Case, found: Mapping[str, Interval], margin: float) -> VerdictRecord:
    """The tests of a case from its intervals."""
    cells, plain = np.asarray(case.cells, dtype=np.float64), found.get("selectivity")
    gains = _gains(case, found, margin)
    reference = reference_baseline(case)
    known = [gain.p_selectivity for gain in gains if gain.p_selectivity is not None]
    selective = max(known) if known else 1.0 if plain is None else _known(plain.p_above)
    scenes = found_scenes(case)
    enough = scenes >= LEAST_SCENES
    same_as = _same_as(case)
    p_implicit = max(selective, *(gain.p_above for gain in gains))
    p_absent = min(1.0, *(gain.p_margin / gain.weight for gain in gains if gain.weight > 0))
    limit, needed = _seeds_limit(case, gains, found, selective) if enough and same_as is None else (False, None)
    record = VerdictRecord(
        encoder=case.encoder,
        feature=case.feature,
        verdict="",
        sentence="",
        scenes=scenes,
        baseline=case.baselines[reference].name,
        baseline_mse=float(case.baselines[reference].mean.sum() / cells.sum()),
        encoder_mse=float(np.sum(case.errors) / cells.sum()),
        gap_closed=Estimate.of(found["gap"]) if "gap" in found else None,
        relative_gain=Estimate(gains[reference].estimate, gains[reference].low, gains[reference].high),
        selectivity=None if plain is None else Estimate.of(plain),
        p_selectivity=selective,
        p_implicit=p_implicit if enough and same_as is None and case.untrained else 1.0,
        p_absent=p_absent if enough else 1.0,
        margin=margin,
        gains=tuple(sorted(gains, key=lambda gain: -math.inf if gain.estimate is None else gain.estimate)),
        seeds_limit=limit,
        seeds_needed=needed,
        same_as=same_as,
        untrained=case.untrained,
    )
    return replace(record, p_implicit_alone=record.p_implicit, p_absent_alone=record.p_absent)


def found_scenes(case: Case) -> int:
    """Test scenes with a valid cell."""
    return int((np.asarray(case.cells) > 0).sum())


def _gains(case: Case, found: Mapping[str, Interval], margin: float) -> list[GainRecord]:
    """The gain over each baseline, in the case's order."""
    weights = reference_weights(case, margin)
    gains = []
    for index, baseline in enumerate(case.baselines):
        gain, selective = removed(found[f"gain/{index}"]), found.get(f"selectivity/{index}")
        gains.append(
            GainRecord(
                baseline=baseline.name,
                seeds=len(baseline.errors),
                estimate=finite(gain.estimate),
                low=finite(gain.low),
                high=finite(gain.high),
                se=finite(gain.se),
                p_above=_known(gain.p_above),
                p_below=_known(gain.p_below),
                p_selectivity=None if selective is None else _known(selective.p_above),
                p_margin=_known(gain.p_margin),
                weight=weights[index],
            )
        )
    return gains


def _known(p: float) -> float:
    """A p-value, 1 where too few scenes give none."""
    return 1.0 if math.isnan(p) else p


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


def _seeds_limit(
    case: Case, gains: Sequence[GainRecord], found: Mapping[str, Interval], selective: float
) -> tuple[bool, int | None]:
    """Whether the number of random copies is all that stands in the way of `implicit`, and how many would do, if any number would.

    The gain C, the spread s over seeds and the error over scenes are kept as they were found; the variance of C with k seeds is
    then se² + s̃²(1 + 1/k), s̃² moderated as for the seeds of the run, with Satterthwaite's degrees of freedom.
    """
    from scipy import stats

    failing = [index for index, gain in enumerate(gains) if gain.p_above > LEVEL]
    if selective > LEVEL or len(failing) != 1 or f"scenes/{failing[0]}" not in found:
        return False, None
    index = failing[0]
    scenes, seeds = found[f"scenes/{index}"], len(case.baselines[index].errors)
    if not _known(scenes.p_above) <= LEVEL:
        return False, None  # the scenes alone leave it open
    spread, df = float(np.log(case.baselines[index].losses).var(ddof=1)), max(found_scenes(case) - 1, 1)
    for count in range(seeds + 1, MOST_SEEDS + 1):
        variance, seed_df = moderated(spread, count)
        both = scenes.se**2 + variance
        pooled = both**2 / (scenes.se**4 / df + variance**2 / seed_df)
        if stats.t.sf(scenes.estimate / both**0.5, pooled) <= LEVEL:
            return True, count
    return True, None
