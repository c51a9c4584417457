"""What a run measured of each participant, and the paired difference of two of them on the same test scenes.

A room that is hard is hard for every probe. The ratio of two losses on the same scenes is therefore known far better than either
loss, and is what may be compared; two intervals that overlap say nothing. It is tested as the contrast ln L − ln L_against, as gains
are in a verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.pictures import prediction_name
from fathom.probing.evidence.records import Row, finite
from fathom.probing.evidence.verdict.cases import Baseline, draw_variance
from fathom.probing.evidence.verdict.findings import LEAST_SCENES, LEVEL
from fathom.statistics import Contrast, Interval, scene_intervals

Array = NDArray[np.float64]
Finding = Literal["less loss", "more loss", "no difference shown", "the same", ""]

TESTED = ("encoder", "head", "upper_bound")
"""Roles whose differences are tested; baselines and controls are listed for orientation."""

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
        relative: the difference as a fraction of the loss of `against`, with its 95 % interval.
        p: two-sided, of "no difference"; None where nothing is tested (baselines, controls, too few scenes, equal up to rounding).
        p_holm: the same after Holm over all pairs tested.
        finding: in words.
    """

    feature: str
    measurement: Measurement
    against: Measurement
    difference: float
    relative: Interval
    p: float | None
    p_holm: float | None = None
    finding: Finding = ""

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The 95 % interval of `relative`; None with too few scenes, or where the loss of `against` is 0."""
        return self.relative.bounds

    def decided(self, p_holm: float | None) -> Pair:
        """With the finding that the corrected p-value allows."""
        finding: Finding = ""
        if same(self.measurement, self.against):
            finding = "the same"
        elif p_holm is not None:
            clear = p_holm <= LEVEL
            finding = "no difference shown" if not clear else "less loss" if self.difference < 0 else "more loss"
        return replace(self, p_holm=p_holm, finding=finding)

    def to_json(self) -> dict[str, Any]:
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
            "difference": self.difference,
            "interval": None if self.bounds is None else list(self.bounds),
            "relative": finite(self.relative.estimate),
            "p": self.p,
            "p_holm": self.p_holm,
            "finding": self.finding,
        }


def pair_of(feature: str, measurement: Measurement, against: Measurement) -> Pair:
    """The paired difference of two measurements, tested where both are of roles that are tested."""
    contrast = _contrast(measurement, against)
    tested = (
        measurement.role in TESTED
        and against.role in TESTED
        and int((measurement.cells > 0).sum()) >= LEAST_SCENES
        and not same(measurement, against)
    )
    p = min(1.0, 2 * min(contrast.p_above, contrast.p_below)) if tested else None
    with np.errstate(over="ignore"):
        ends = {name: float(np.expm1(getattr(contrast, name))) for name in ("estimate", "low", "high")}
    relative = replace(contrast, **ends, se=contrast.se * (1 + ends["estimate"]))
    return Pair(feature, measurement, against, measurement.mse - against.mse, relative, p)


def same(first: Measurement, second: Measurement) -> bool:
    """Equal in every scene up to rounding: the same probe twice, which is no comparison."""
    return len(first.errors) == len(second.errors) and all(
        np.allclose(a, b, rtol=ROUNDING, atol=0) for a, b in zip(first.errors, second.errors, strict=True)
    )


def _contrast(measurement: Measurement, against: Measurement) -> Interval:
    """ln L − ln L_against; seeds of a control vary as in the verdict, by one further draw."""
    parts = [Baseline("", item.errors) for item in (measurement, against)]
    if measurement.seeds == against.seeds and len(measurement.seeds) > 1:
        # The same seeds on both sides: what varies is the ratio of each.
        variance, df = draw_variance(np.log(parts[0].losses / parts[1].losses))
    else:
        drawn = [part.log_draw_variance() for part in parts]
        variance = sum(part for part, _ in drawn)
        # Satterthwaite: degrees of freedom of a sum of two variances.
        spread = sum(part**2 / df for part, df in drawn if df)
        df = max(1, round(variance**2 / spread)) if spread > 0 else 0
    return scene_intervals([Contrast((parts[0].mean,), (parts[1].mean,), variance, df)])[0]


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
        errors=tuple(ordered(row.errors, run.test_scenes, order) for row in group),
        cells=ordered(first.cells, run.test_scenes, order),
        cv_mse=float(np.mean(cv)) if len(cv) == len(group) else None,
    )


def ordered(values: Sequence[float], scenes: Sequence[str], order: Sequence[str]) -> Array:
    """Values by scene in the order of the first run."""
    place = {scene: index for index, scene in enumerate(scenes)}
    return np.asarray(values, dtype=np.float64)[[place[scene] for scene in order]]
