"""Evaluations compared in pairs on the same frames, from each result's sums by scene: nothing is read or predicted again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from fathom.errors import UsageError, nearest
from fathom.evaluation.result import Difference, Evaluation, Result, Score, Table
from fathom.evaluation.scoring import ROUNDING, corrected, pairable, paired
from fathom.statistics import METHOD

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Line:
    """A result of one of the runs: `name` is unique in the table."""

    run: int
    name: str
    alignment: str
    scores: dict[str, Score]


@dataclass(frozen=True)
class ComparedTable:
    """All results of all runs on one data set.

    Attributes:
        location, fingerprint, protocol: of the data. frames, scenes: how many.
        reference: what the others are compared with.
        lines: of every run. differences: of each line from the reference.
    """

    location: str
    fingerprint: str
    protocol: str
    frames: int
    scenes: int
    reference: str
    lines: tuple[Line, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """What comparing evaluations found; as `fathom compare --json` writes it."""

    schema_version: int
    runs: tuple[str, ...]
    interval_method: str
    tables: tuple[ComparedTable, ...]
    notes: tuple[str, ...]


def compare(runs: Sequence[Evaluation], names: Sequence[str], *, against: str | None = None) -> Comparison:
    """Compare the results of evaluations on the frames that they share.

    Args:
        runs: with at least one data set in common, measured under the same protocol.
        names: of the runs, for messages.
        against: name of the result that all others are compared with; by default the first model of the first run.

    Raises:
        UsageError: no data set is in all runs, saying in what they differ, or there is no such result.
    """
    tables, notes = [], []
    for table in runs[0].record.tables:
        same, problem = [table], ""
        for name, run in zip(names[1:], runs[1:], strict=True):
            reasons = [differing(table, other) for other in run.record.tables]
            match = next((t for t, reason in zip(run.record.tables, reasons, strict=True) if not reason), None)
            if match is None:
                problem = f"{names[0]} and {name} cannot be paired on {table.data.location}: {min(reasons, key=len)}"
                break
            same.append(match)
        if problem:
            notes.append(f"{problem}.")
        else:
            found, left_out = _compared(same, against)
            tables.append(found)
            notes += left_out
    if not tables:
        raise UsageError(notes[0])
    return Comparison(SCHEMA_VERSION, tuple(names), METHOD, tuple(tables), tuple(notes))


def differing(first: Table, second: Table) -> str:
    """In what two tables differ, in words; empty where their results can be paired."""
    found = []
    if first.data.fingerprint != second.data.fingerprint:
        found.append(f"other frames (fingerprints {first.data.fingerprint} and {second.data.fingerprint})")
    if first.protocol != second.protocol:
        found.append(f"other protocols ({first.protocol.name} and {second.protocol.name})")
    if not found and (first.scenes, first.frames, first.pixels) != (second.scenes, second.frames, second.pixels):
        found.append(f"{first.frames} and {second.frames} frames were measured")
    return "; ".join(found)


def _compared(tables: Sequence[Table], against: str | None) -> tuple[ComparedTable, list[str]]:
    first = tables[0]
    named = list(_named(tables))
    results = {result.name: result for _, result in named}
    reference = next((r for _, r in named if r.role == "model"), named[0][1])
    if against is not None:
        if against not in results:
            raise UsageError(f"No run has a result '{against}'{nearest(against, results)}.")
        reference = results[against]
    others = [result for result in results.values() if result is not reference]
    if not others:
        raise UsageError("There is nothing to compare: the runs hold one result.")
    notes = [
        f"{result.name} is aligned by {result.alignment} and {reference.name} by {reference.alignment}: not paired, since an "
        "alignment uses the truth."
        for result in others
        if result.alignment != reference.alignment
    ]
    notes += [
        f"{result.name if result.prompted else reference.name} was given the measured depth as its prompt: not paired with "
        f"{reference.name if result.prompted else result.name}."
        for result in others
        if result.prompted != reference.prompted
    ]
    alike = [result for result in others if pairable(result, reference)]
    found = [difference for result in alike for difference in paired(result, reference)]
    lines = tuple(Line(run, result.name, result.alignment, result.scores) for run, result in named)
    table = ComparedTable(
        first.data.location,
        first.data.fingerprint,
        first.protocol.name,
        first.frames,
        len(first.scenes),
        reference.name,
        lines,
        corrected(found),
    )
    return table, notes


def _named(tables: Sequence[Table]) -> Iterator[tuple[int, Result]]:
    """(run, result) under unique names; a baseline that an earlier run has already is left out."""
    seen: dict[str, Result] = {}
    for number, table in enumerate(tables, 1):
        for result in table.results:
            before = seen.get(result.name)
            if before is not None and result.role == "baseline" and _same(before, result):
                continue
            name = result.name if before is None else f"{result.name} (run {number})"
            seen[name] = replace(result, name=name)
            yield number, seen[name]


def _same(first: Result, second: Result) -> bool:
    """Equal in every scene up to rounding."""
    return all(
        metric in second.by_scene and np.allclose(sums.sums, second.by_scene[metric].sums, rtol=ROUNDING, atol=0)
        for metric, sums in first.by_scene.items()
    )
