"""Runs compared in pairs on the same test scenes, from each row's errors by scene: nothing is read or fitted again.

A room that is hard is hard for every probe. The difference of two losses on the same scenes, Σ(E₁ − E₂)/Σ cells, is therefore
known far better than either loss, and is what may be compared; two intervals that overlap say nothing. Runs that were not
measured on the same cells have no such difference and are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fathom.encoders.spec import short_name, short_names, shorten_middle
from fathom.errors import UsageError, nearest
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.pictures import prediction_name
from fathom.probing.evidence.records import Row
from fathom.probing.evidence.verdict import LEAST_SCENES, LEVEL, Baseline
from fathom.statistics import METHOD, Interval, holm, scene_interval

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[np.float64]
Finding = Literal["less loss", "more loss", "no difference shown", "the same", ""]

SCHEMA_VERSION = 1
TESTED = ("encoder", "head", "upper_bound")
"""Roles whose differences are tested; baselines and controls stand beside them for orientation."""

ROUNDING = 1e-4
"""Relative difference of a scene's error that float32, other devices and other batches explain."""


@dataclass(frozen=True)
class Measurement:
    """One encoder of one run at its chosen layer, or all seeds of one control.

    Attributes:
        run: number of the run, from 1.
        encoder: its SPEC; of several seeds ``random:SPEC``.
        layer, role: of its row.
        seeds: (SPEC, seed of its weights) of each.
        errors: Σ of squared errors in each test scene, ``(S,)`` a seed. cells: valid cells, ``(S,)``.
        cv_mse: cross-validated on the run's training scenes, where known.
    """

    run: int
    encoder: str
    layer: str
    role: str
    seeds: tuple[tuple[str, int | None], ...]
    errors: tuple[Array, ...]
    cells: Array
    cv_mse: float | None

    @property
    def name(self) -> str:
        """What it is called in every run: its SPEC, and for a head beyond linear which."""
        return prediction_name(self.encoder, self.layer, self.role)

    @property
    def mse(self) -> float:
        """Mean squared error over the test cells, mean over seeds."""
        return float(np.mean([item.sum() for item in self.errors]) / self.cells.sum())


@dataclass(frozen=True)
class Pair:
    """The loss of one measurement less that of another, on the same scenes.

    Attributes:
        feature: of both.
        measurement, against: which.
        difference: below 0 where `measurement` has the smaller loss.
        relative: the difference as a share of the loss of `against`.
        p: two-sided, of "no difference"; None where nothing is tested (baselines, controls, too few scenes, equal up to rounding).
        p_holm: the same after Holm over all pairs tested.
        finding: in words.
    """

    feature: str
    measurement: Measurement
    against: Measurement
    difference: Interval
    relative: float | None
    p: float | None
    p_holm: float | None = None
    finding: Finding = ""

    def to_json(self) -> dict[str, Any]:
        known = np.isfinite([self.difference.low, self.difference.high]).all()
        return {
            "feature": self.feature,
            "run": self.measurement.run,
            "encoder": self.measurement.encoder,
            "layer": self.measurement.layer,
            "role": self.measurement.role,
            "mse": self.measurement.mse,
            "against_run": self.against.run,
            "against": self.against.encoder,
            "against_layer": self.against.layer,
            "against_mse": self.against.mse,
            "difference": self.difference.estimate,
            "interval": [self.difference.low, self.difference.high] if known else None,
            "relative": self.relative,
            "p": self.p,
            "p_holm": self.p_holm,
            "finding": self.finding,
        }


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

    def tables(self) -> list[Table]:
        """For each feature a table against the reference, and one of the encoders that several runs share.

        Baselines and controls of a later run that equal those of an earlier one up to rounding are left out.
        """
        names = short_names({item.encoder for items in self.measurements.values() for item in items}, 32)
        again = {
            (pair.feature, pair.measurement.run, pair.measurement.name)
            for pair in self.same_name
            if pair.finding == "the same" and pair.measurement.role not in TESTED
        }
        fresh = [
            [pair for pair in pairs if (pair.feature, pair.measurement.run, pair.measurement.name) not in again]
            for pairs in (self.to_reference, self.same_name)
        ]
        tables = []
        for feature, reference in self.references.items():
            own, shared = ([pair for pair in pairs if pair.feature == feature] for pairs in fresh)
            shared = [pair for pair in shared if pair.against is not reference]  # stands in the first table
            who = f"{names[reference.encoder]} at {reference.layer} (run {reference.run})"
            title = f"{feature}, {self.test['scenes']} test scenes: difference from {who}, MSE {reference.mse:.4g}"
            tables.append(_table(title, sorted(own, key=lambda pair: -pair.measurement.mse), names, named=False))
            if shared:
                tables.append(_table(f"{feature}: the same encoder in several runs", shared, names, named=True))
        return tables


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


def differences(first: Evidence, second: Evidence) -> list[str]:
    """In what the test data of two runs differ, in words; empty where their errors can be paired."""
    found = []
    ours, theirs = (run.data.test.fingerprint for run in (first, second))
    if ours != theirs:
        found.append(f"test frames (fingerprints {ours} and {theirs})")
    here, there = set(first.test_scenes), set(second.test_scenes)
    if here != there:
        odd = min(here ^ there)
        which = "first" if odd in here else "second"
        found.append(
            f"test scenes ({len(here)} and {len(there)}, {len(here & there)} in both; '{odd}' is in the {which} alone)"
        )
    if first.grid != second.grid:
        found.append(f"grid ({first.grid[0]}x{first.grid[1]} and {second.grid[0]}x{second.grid[1]})")
    shared = [name for name in first.features if name in second.features]
    if not shared:
        found.append(f"feature ({', '.join(first.features)} and {', '.join(second.features)})")
    if found:
        return found
    for name in shared:
        cells = [_cells(run, name, first.test_scenes) for run in (first, second)]
        scenes = int((cells[0] != cells[1]).sum())
        if scenes:
            sizes = " and ".join(f"{run.size[0]}x{run.size[1]}" for run in (first, second))
            found.append(f"valid cells of {name} ({scenes} scenes differ; input sizes {sizes})")
    return found


def _cells(run: Evidence, feature: str, order: Sequence[str]) -> Array:
    row = next(row for row in run.rows if row.feature == feature)
    return _ordered(row.cells, run.test_scenes, order)


def _ordered(values: Sequence[float], scenes: Sequence[str], order: Sequence[str]) -> Array:
    """Values by scene in the order of the first run."""
    place = {scene: index for index, scene in enumerate(scenes)}
    return np.asarray(values, dtype=np.float64)[[place[scene] for scene in order]]


def measurements_of(run: Evidence, number: int, feature: str, order: Sequence[str]) -> list[Measurement]:
    """What one run measured of a feature at chosen layers, seeds of one control together, with scenes in the given order."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in run.rows:
        if row.feature == feature and row.chosen:
            seeded = row.of is not None and row.role in ("random", "permuted")
            groups.setdefault(
                (row.role, f"{row.role}:{row.of}" if seeded else row.encoder, row.layer if row.role == "head" else ""),
                [],
            ).append(row)
    return [_measurement(name, group, run, number, order) for (_, name, _), group in groups.items()]


def _measurement(name: str, group: Sequence[Row], run: Evidence, number: int, order: Sequence[str]) -> Measurement:
    first = group[0]
    cv = [row.cv_mse for row in group if row.cv_mse is not None]
    return Measurement(
        run=number,
        encoder=name if len(group) > 1 else first.encoder,
        layer=first.layer,
        role=first.role,
        seeds=tuple((row.encoder, row.seed) for row in group),
        errors=tuple(_ordered(row.errors, run.test_scenes, order) for row in group),
        cells=_ordered(first.cells, run.test_scenes, order),
        cv_mse=float(np.mean(cv)) if len(cv) == len(group) else None,
    )


def _reference(measurements: Sequence[Measurement], against: str | None) -> Measurement:
    if against is not None:
        for item in measurements:
            if against in (item.encoder, short_name(item.encoder)):
                return item
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


def pair_of(feature: str, measurement: Measurement, against: Measurement) -> Pair:
    """The paired difference of two measurements, tested where both are of roles that are tested."""
    difference = _difference(measurement, against)
    base = against.mse
    tested = (
        measurement.role in TESTED
        and against.role in TESTED
        and int((measurement.cells > 0).sum()) >= LEAST_SCENES
        and not _same(measurement, against)
    )
    p = min(1.0, 2 * min(difference.p_above, difference.p_below)) if tested else None
    return Pair(feature, measurement, against, difference, difference.estimate / base if base > 0 else None, p)


def _same(first: Measurement, second: Measurement) -> bool:
    """Equal in every scene up to rounding: the same probe twice, which is no comparison."""
    return len(first.errors) == len(second.errors) and all(
        np.allclose(a, b, rtol=ROUNDING, atol=0) for a, b in zip(first.errors, second.errors, strict=True)
    )


def _difference(measurement: Measurement, against: Measurement) -> Interval:
    """Interval of the difference of losses; seeds of a control vary as in the verdict, by one further draw."""
    cells = measurement.cells
    if measurement.seeds == against.seeds and len(measurement.seeds) > 1:
        # The same seeds on both sides: what varies is the difference of each.
        draws = tuple(a - b for a, b in zip(measurement.errors, against.errors, strict=True))
        variance, df = Baseline("", draws).draw_variance(cells)
    else:
        parts = [Baseline("", item.errors).draw_variance(cells) for item in (measurement, against)]
        variance = sum(part for part, _ in parts)
        # Satterthwaite: degrees of freedom of a sum of two variances.
        spread = sum(part**2 / df for part, df in parts if df)
        df = max(1, round(variance**2 / spread)) if spread > 0 else 0
    mean = np.mean(np.stack(measurement.errors), axis=0) - np.mean(np.stack(against.errors), axis=0)
    return scene_interval(mean, cells, seed_variance=variance, seed_df=df)


def _decide(to_reference: Sequence[Pair], same_name: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Correct for the number of comparisons; a pair that stands in both lists is one comparison."""
    keys: dict[tuple[str, int, str, int, str], Pair] = {}
    for pair in (*to_reference, *same_name):
        if pair.p is not None:
            keys.setdefault(_key(pair), pair)
    corrected = dict(zip(keys, holm([pair.p or 0.0 for pair in keys.values()]), strict=True))

    def decided(pairs: Iterable[Pair]) -> list[Pair]:
        return [_found(pair, corrected.get(_key(pair)) if pair.p is not None else None) for pair in pairs]

    return decided(to_reference), decided(same_name)


def _key(pair: Pair) -> tuple[str, int, str, int, str]:
    return pair.feature, pair.measurement.run, pair.measurement.name, pair.against.run, pair.against.name


def _found(pair: Pair, p_holm: float | None) -> Pair:
    finding: Finding = ""
    if _same(pair.measurement, pair.against):
        finding = "the same"
    elif p_holm is not None:
        clear = p_holm <= LEVEL
        finding = "no difference shown" if not clear else "less loss" if pair.difference.estimate < 0 else "more loss"
    return replace(pair, p_holm=p_holm, finding=finding)


def _notes(runs: Sequence[Evidence], scenes: int) -> list[str]:
    notes = []
    for number, run in enumerate(runs[1:], 2):
        notes += [f"Run {number} has {text}" for text in why_different(runs[0], run)]
    if scenes < LEAST_SCENES:
        notes.append(f"{scenes} test scenes are too few for a test; it takes {LEAST_SCENES} or more.")
    return notes


SPEED_ONLY = ("batch_size", "device", "workers", "cache", "pictures")
"""Settings that change no number by more than rounding."""


def why_different(first: Evidence, second: Evidence) -> list[str]:
    """In words, what two runs differ in that may change their numbers; empty where nothing does."""
    found = []
    for name in ("train", "test"):
        one, other = getattr(first.data, name), getattr(second.data, name)
        if one.fingerprint != other.fingerprint:
            what = {"train": "training", "test": "test"}[name]
            found.append(
                f"other {what} frames ({one.frames} of {one.location} and {other.frames} of {other.location})."
            )
    for item in fields(first.settings):
        one, other = getattr(first.settings, item.name), getattr(second.settings, item.name)
        if one != other and item.name not in SPEED_ONLY:
            words = item.name.replace("_", " ")
            found.append(f"other settings: {words} {_brief(one)} and {_brief(other)}.")
    before = {item.encoder: item for item in first.encoders if item.role == "encoder"}
    for encoder in second.encoders:
        earlier = before.get(encoder.encoder)
        if earlier is not None:
            differing = (what for what in ("weights", "code") if getattr(earlier, what) != getattr(encoder, what))
            found += [f"other {what} of {encoder.encoder}." for what in differing]
    made = {item.feature: item.code for item in first.targets}
    found += [
        f"other code of feature {item.feature}."
        for item in second.targets
        if made.get(item.feature, item.code) != item.code
    ]
    packages = sorted(first.versions.keys() & second.versions.keys())
    versions = [(name, first.versions[name], second.versions[name]) for name in packages]
    found += [f"another version of {name} ({one} and {other})." for name, one, other in versions if one != other]
    return found


def _brief(value: object, most: int = 40) -> str:
    return shorten_middle(str(value), most)


def _table(title: str, pairs: Sequence[Pair], names: Mapping[str, str], *, named: bool) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    heads = ["run", "encoder", "layer", "MSE", *(["in run", "MSE there"] if named else [])]
    for head in [*heads, "difference", "95 % interval", "%", "p (Holm)", "finding"]:
        left = head in ("encoder", "layer", "finding")
        table.add_column(head, justify="left" if left else "right", overflow="fold")
    for pair in pairs:
        item, other = pair.measurement, pair.against
        low, high = pair.difference.low, pair.difference.high
        seeds = f", {len(item.seeds)} seeds" if len(item.seeds) > 1 else ""
        cells = [
            str(item.run),
            names[item.encoder] + seeds,
            item.layer,
            f"{item.mse:.4g}",
            *([str(other.run), f"{other.mse:.4g}"] if named else []),
            f"{pair.difference.estimate:+.4g}",
            f"{low:+.4g} to {high:+.4g}" if np.isfinite([low, high]).all() else "too few scenes",
            "" if pair.relative is None else f"{100 * pair.relative:+.1f}",
            "" if pair.p_holm is None else "< 0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}",
            pair.finding,
        ]
        table.add_row(*(Text(cell) for cell in cells), style=None if item.role in TESTED else "dim")
    return table
