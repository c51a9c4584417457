"""From the rows of a run to the cases that are decided, and from the decisions to the records of the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from fathom.probing.evidence.records import Estimate, GainRecord, Row, VerdictRecord, finite
from fathom.probing.evidence.verdict import Baseline, Case, Control, Gain, Verdict

ControlOf = Callable[[Row], Control | None]
"""The control task of a row on the test scenes, or None where it had none."""


def cases(rows: Sequence[Row], control_of: ControlOf) -> list[Case]:
    """A case for each encoder (not baselines, nor random or permuted controls, nor the upper bound) and feature, at its chosen layer.

    It is compared with all baselines of the run, and against the random and the permuted controls that are of this encoder, all
    seeds of one kind together.
    """
    chosen = [row for row in rows if row.chosen]
    return [
        _case(row, [other for other in chosen if other.feature == row.feature], control_of)
        for row in chosen
        if row.role == "encoder"
    ]


def _case(row: Row, peers: Sequence[Row], control_of: ControlOf) -> Case:
    groups = [[peer] for peer in peers if peer.role == "baseline"]
    for role in ("random", "permuted"):
        seeds = [peer for peer in peers if peer.role == role and peer.of == row.encoder]
        if seeds:
            groups.append(seeds)
    upper_bounds = [peer for peer in peers if peer.role == "upper_bound"]
    return Case(
        encoder=row.encoder,
        feature=row.feature,
        cells=np.asarray(row.cells, dtype=np.float64),
        errors=np.asarray(row.errors, dtype=np.float64),
        baselines=tuple(_baseline(group, control_of) for group in groups),
        control=control_of(row),
        # Of several upper bounds, the best: the gap that is left is to the best network known.
        untrained=any(group[0].role == "random" for group in groups),
        upper_bound=np.asarray(min(upper_bounds, key=lambda peer: peer.test_mse).errors) if upper_bounds else None,
    )


def _baseline(group: Sequence[Row], control_of: ControlOf) -> Baseline:
    cv = [peer.cv_mse for peer in group if peer.cv_mse is not None]
    controls = [control.errors for peer in group if (control := control_of(peer)) is not None]
    first = group[0]
    return Baseline(
        name=first.encoder if first.role == "baseline" else f"{first.role}:{first.of}",
        errors=tuple(np.asarray(peer.errors, dtype=np.float64) for peer in group),
        cv_mse=float(np.mean(cv)) if len(cv) == len(group) else None,
        control=np.mean(np.stack(controls), axis=0) if len(controls) == len(group) else None,
    )


def verdict_record(verdict: Verdict) -> VerdictRecord:
    """A verdict as the evidence has it."""
    found = verdict.findings
    return VerdictRecord(
        encoder=found.encoder,
        feature=found.feature,
        verdict=verdict.kind,
        sentence=verdict.sentence,
        scenes=found.scenes,
        baseline=found.reference.baseline,
        baseline_mse=found.baseline_loss,
        encoder_mse=found.encoder_loss,
        gap_closed=None if found.share is None else Estimate.of(found.share),
        relative_gain=Estimate.of(found.relative),
        selectivity=None if found.selectivity is None else Estimate.of(found.selectivity),
        p_selectivity=finite(found.p_selectivity),
        p_implicit=verdict.p_implicit,
        p_absent=verdict.p_absent,
        margin=found.margin,
        gains=tuple(_gain(gain) for gain in sorted(found.gains, key=lambda gain: gain.interval.estimate)),
        p_implicit_alone=found.p_implicit,
        p_absent_alone=found.p_absent,
        seeds_limit=found.seeds_needed is not None,
        seeds_needed=None if finite(found.seeds_needed) is None else int(found.seeds_needed or 0),
        same_as=found.same_as,
    )


def _gain(gain: Gain) -> GainRecord:
    found = gain.interval
    return GainRecord(
        baseline=gain.baseline,
        seeds=gain.seeds,
        estimate=finite(found.estimate),
        low=finite(found.low),
        high=finite(found.high),
        se=finite(found.se),
        p_above=finite(found.p_above),
        p_below=finite(found.p_below),
        p_selectivity=finite(gain.p_selectivity),
        p_margin=finite(gain.p_margin),
        weight=gain.weight,
    )
