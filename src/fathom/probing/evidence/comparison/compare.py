"""Runs compared in pairs on the same test scenes, from each row's errors by scene: nothing is read or fitted again.

Runs that were not measured on the same cells have no paired difference and are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fathom.encoders.spec import short_name, short_names
from fathom.errors import UsageError, nearest
from fathom.probing.evidence.comparison.differences import differences, why_different
from fathom.probing.evidence.comparison.pairs import TESTED, Measurement, Pair, measurements_of, pair_of
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.verdict.findings import LEAST_SCENES
from fathom.statistics import METHOD, holm

SCHEMA_VERSION = 2


@dataclass(frozen=True)
class Comparison:
    """What comparing some runs found.

    Attributes:
        names: of the runs, as given.
        scenes: test scenes.
        test: fingerprint, frames, scenes and grid, the same in all runs.
        references: for each feature, what everything is compared with.
        measurements: for each feature, all of all runs.
        to_reference: each measurement against the reference of its feature.
        same_name: each measurement of a later run against the same encoder in the first run that has it.
        notes: what a reader should know, such as runs trained on different data.
    """

    names: tuple[str, ...]
    test: dict[str, Any]
    references: dict[str, Measurement]
    measurements: dict[str, tuple[Measurement, ...]]
    to_reference: tuple[Pair, ...]
    same_name: tuple[Pair, ...]
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Documented in docs/report.md."""
        return {
            "schema_version": SCHEMA_VERSION,
            "runs": list(self.names),
            "test": self.test,
            "interval_method": METHOD,
            "references": {
                feature: {"run": item.run, "encoder": item.encoder, "layer": item.layer, "mse": item.mse}
                for feature, item in self.references.items()
            },
            "to_reference": [pair.to_json() for pair in self.to_reference],
            "same_encoder": [pair.to_json() for pair in self.same_name],
            "notes": list(self.notes),
        }


def compare(runs: Sequence[Evidence], names: Sequence[str], *, against: str | None = None) -> Comparison:
    """Compare runs in pairs on their common test scenes.

    Everything is compared with one reference a feature: `against`, or else the first encoder that the first run names (of a
    run of baselines alone, the one of the least cross-validated loss). Test losses choose nothing.

    Args:
        runs: measured on the same test frames and grid.
        names: of the runs, for messages.
        against: SPEC of the reference; of the first run that has it.

    Raises:
        UsageError: fewer than two things to compare, no such reference, or runs whose test data differ, saying in what.
    """
    first = runs[0]
    for name, other in zip(names[1:], runs[1:], strict=True):
        found = differences(first, other)
        if found:
            raise UsageError(
                f"{names[0]} and {name} cannot be paired, since they were not measured on the same: {'; '.join(found)}."
            )
    features = [name for name in first.features if all(name in run.features for run in runs)]
    order = first.test_scenes
    measurements = {
        feature: tuple(
            item for number, run in enumerate(runs, 1) for item in measurements_of(run, number, feature, order)
        )
        for feature in features
    }
    if all(len(items) < 2 for items in measurements.values()):
        raise UsageError("There is nothing to compare: the runs hold one encoder and no baseline.")
    references = {feature: _reference(items, against) for feature, items in measurements.items()}
    to_reference = [
        pair_of(feature, item, references[feature])
        for feature, items in measurements.items()
        for item in items
        if item is not references[feature]
    ]
    same_name = [
        pair_of(feature, item, earlier)
        for feature, items in measurements.items()
        for item in items
        if (earlier := _earlier(item, items)) is not None
    ]
    to_reference, same_name = _decide(to_reference, same_name)
    test = first.data.test
    return Comparison(
        tuple(names),
        {
            "fingerprint": test.fingerprint,
            "frames": test.frames,
            "scenes": len(order),
            "grid": list(first.grid),
        },
        references,
        measurements,
        tuple(to_reference),
        tuple(same_name),
        tuple(_notes(runs, len(order))),
    )


def _reference(measurements: Sequence[Measurement], against: str | None) -> Measurement:
    if against is not None:
        found = [item for item in measurements if item.encoder == against]
        found = found or [item for item in measurements if short_name(item.encoder) == against]
        labels = short_names([item.encoder for item in measurements], 32)  # as tables print them
        found = found or [item for item in measurements if labels[item.encoder] == against]
        alike = list(dict.fromkeys(item.encoder for item in found))
        if len(alike) > 1:
            raise UsageError(f"'{against}' means {' and '.join(alike)}; give one of them whole.")
        if found:
            return found[0]
        raise UsageError(
            f"No run has an encoder '{against}'{nearest(against, {item.encoder for item in measurements})}."
        )
    for role in TESTED:
        for item in measurements:
            if item.role == role:
                return item
    first = [item for item in measurements if item.run == 1]
    return min(first, key=lambda item: float("inf") if item.cv_mse is None else item.cv_mse)


def _earlier(item: Measurement, measurements: Sequence[Measurement]) -> Measurement | None:
    """The same encoder in the first run that has it, if that is an earlier one."""
    return next((other for other in measurements if other.name == item.name and other.run < item.run), None)


def _decide(to_reference: Sequence[Pair], same_name: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Correct for the number of comparisons; a pair that stands in both lists is one comparison."""
    keys: dict[tuple[str, int, str, int, str], Pair] = {}
    for pair in (*to_reference, *same_name):
        if pair.p is not None:
            keys.setdefault(_key(pair), pair)
    corrected = dict(zip(keys, holm([pair.p or 0.0 for pair in keys.values()]), strict=True))

    def decided(pairs: Iterable[Pair]) -> list[Pair]:
        return [pair.decided(corrected.get(_key(pair)) if pair.p is not None else None) for pair in pairs]

    return decided(to_reference), decided(same_name)


def _key(pair: Pair) -> tuple[str, int, str, int, str]:
    return pair.feature, pair.measurement.run, pair.measurement.name, pair.against.run, pair.against.name


def _notes(runs: Sequence[Evidence], scenes: int) -> list[str]:
    notes = []
    for number, run in enumerate(runs[1:], 2):
        notes += [f"Run {number} has {text}" for text in why_different(runs[0], run)]
    if scenes < LEAST_SCENES:
        notes.append(
            f"Differences are not tested: there are {scenes} test scenes, and a test takes {LEAST_SCENES} or more."
        )
    return notes
