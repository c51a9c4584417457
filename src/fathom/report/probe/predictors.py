"""Rows of a run as the lines of a chart or table: one probe each, seeds of one control together; and how they are named."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fathom.encoders.spec import short_names
from fathom.probing.evidence.pictures import prediction_name

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import Row

ROLES = {
    "baseline": "baseline",
    "random": "same architecture, random weights",
    "permuted": "same weights, permuted",
    "encoder": "encoder",
    "head": "encoder, trained head beyond linear",
    "upper_bound": "supervised upper bound",
}
"""Role of a row -> what a reader is told, in the order of legends."""

MAIN = ("encoder", "head", "upper_bound")
"""Roles that a run is about; the others are what they are compared with."""
MOST_COLUMNS = 8
"""Predictions in the picture, unless the encoders and their untrained copies alone are more; the rest are the best of the others."""

SEEDED = ("random", "permuted")
"""Roles of which an encoder may have several, differently seeded."""
MOST_LETTERS = 24
"""Of a name in a chart: what a phone shows next to a number and its interval."""


@dataclass(frozen=True)
class Predictor:
    """One line of a chart or table.

    Attributes:
        name: for the reader, shortened; of several seeds with their number.
        rows: one probe at one layer, or the seeds of one control.
    """

    name: str
    rows: tuple[Row, ...]

    @property
    def role(self) -> str:
        """See `ROLES`."""
        return self.rows[0].role

    @property
    def layer(self) -> str:
        """Read at; seeds may differ in the layer that cross-validation chose."""
        return "/".join(dict.fromkeys(row.layer for row in self.rows))

    @property
    def losses(self) -> tuple[float, ...]:
        """On the test scenes, of each seed."""
        return tuple(row.test_mse for row in self.rows)

    @property
    def mse(self) -> float:
        """On the test scenes, mean over seeds."""
        return math.fsum(self.losses) / len(self.rows)

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % over scenes; with several seeds that of one further seed, as in the verdict."""
        return self.rows[0].interval if len(self.rows) == 1 else seeds_interval(self.rows)

    @property
    def span(self) -> tuple[float, float] | None:
        """95 % over scenes; with several seeds the range of their losses."""
        return self.rows[0].interval if len(self.rows) == 1 else (min(self.losses), max(self.losses))

    def mean(self, value: Callable[[Row], float | None]) -> float | None:
        """Of a number of each row, over the seeds; None where one has none."""
        values = [found for row in self.rows if (found := value(row)) is not None]
        return math.fsum(values) / len(values) if len(values) == len(self.rows) else None


def predictors(evidence: Evidence, feature: str, most: int = MOST_LETTERS) -> list[Predictor]:
    """Every encoder, baseline and control at its chosen layer, the worst first; names have up to `most` letters."""
    names = display_names(evidence, most)
    rows = [row for row in evidence.rows if row.feature == feature and row.chosen]
    return sorted((predictor(group, names) for group in seeds_together(rows)), key=lambda item: -item.mse)


def seeds_together(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that are seeds of one control together, all others by themselves, in order of first appearance."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        seeded = row.of is not None and row.role in SEEDED
        key = (
            (row.role, str(row.of), "") if seeded else (row.role, row.encoder, row.layer if row.role == "head" else "")
        )
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def predictor(group: Sequence[Row], names: Mapping[str, str]) -> Predictor:
    """Of one row, or of the seeds of one control."""
    first = group[0]
    if len(group) > 1:
        return Predictor(f"{names[f'{first.role}:{first.of}']} ×{len(group)}", tuple(group))
    return Predictor(names[prediction_name(first.encoder, first.layer, first.role)], tuple(group))


def seeds_interval(group: Sequence[Row]) -> tuple[float, float] | None:
    """95 % interval of the loss of one further seed, over scenes and seeds."""
    from fathom.probing.evidence.verdict.cases import Baseline
    from fathom.statistics import scene_interval

    baseline = Baseline(group[0].encoder, tuple(np.asarray(row.errors, dtype=np.float64) for row in group))
    cells = np.asarray(group[0].cells, dtype=np.float64)
    variance, df = baseline.draw_variance(cells)
    log = bool(baseline.mean.sum() > 0)
    return scene_interval(baseline.mean, cells, log=log, seed_variance=variance, seed_df=df).bounds


def display_names(evidence: Evidence, most: int = MOST_LETTERS) -> dict[str, str]:
    """Every SPEC of a run, and of its groups of controls, as charts show it: short, and no two alike."""
    specs = dict.fromkeys(row.encoder for row in evidence.rows)
    specs |= dict.fromkeys(f"{row.role}:{row.of}" for row in evidence.rows if row.role in SEEDED and row.of is not None)
    names = short_names(specs, most)
    heads = [row for row in evidence.rows if row.role == "head"]
    return names | {
        prediction_name(row.encoder, row.layer, row.role): prediction_name(names[row.encoder], row.layer, row.role)
        for row in heads
    }


def columns(evidence: Evidence) -> list[str]:
    """Which predictions are drawn, baselines and controls first and the rest after, each from worst to best."""
    drawn = set(evidence.pictures[0].predictions)
    # Pictures are of the first depth feature, the one with metrics at full resolution.
    feature = next((row.feature for row in evidence.rows if row.abs_rel is not None), evidence.features[0])
    chosen: dict[str, Row] = {}
    for row in evidence.rows:
        name = prediction_name(row.encoder, row.layer, row.role)
        if row.chosen and row.feature == feature and name in drawn:
            chosen.setdefault(name, row)
    ranked = sorted(chosen, key=lambda name: chosen[name].test_mse)
    main = [name for name in ranked if chosen[name].role in MAIN]
    # An encoder's picture says nothing without that of its untrained copy; a permuted copy comes where there is room.
    untrained = [name for name in ranked if chosen[name].role == "random"]
    rest = [name for name in ranked if name not in (*main, *untrained, "constant")]
    kept = [*main, *untrained, *rest][: max(MOST_COLUMNS, len(main) + len(untrained))]
    return sorted(kept, key=lambda name: (chosen[name].role in MAIN, -chosen[name].test_mse))
