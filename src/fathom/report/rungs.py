"""From the rows of a run to the rungs of its ladder: seeds of one kind of control stand together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""Predictions in the picture: the encoders first, then the baselines from the best down."""

SEEDED = ("random", "permuted")
"""Roles of which an encoder may have several, differently seeded."""
MOST_LETTERS = 24
"""Of a name in a chart: what a phone shows next to a number and its interval."""


@dataclass(frozen=True)
class Rung:
    """One line of a ladder: an encoder at one layer, or several seeds of one control.

    Attributes:
        name: for the reader, shortened; of several seeds with their number. spec: in full, of the first seed.
        role: see `ROLES`.
        layer: read at.
        mse: on the test scenes, mean over seeds.
        interval: 95 % over scenes; with several seeds that of one further seed, as in the verdict.
        seeds: the loss of each.
    """

    name: str
    spec: str
    role: str
    layer: str
    mse: float
    interval: tuple[float, float] | None
    seeds: tuple[float, ...]


def ladder(evidence: Evidence, feature: str) -> list[Rung]:
    """The chosen layers of all encoders and baselines, the worst first."""
    rows = [row for row in evidence.rows if row.feature == feature and row.chosen]
    names = display_names(evidence)
    return sorted((rung(group, names) for group in grouped(rows)), key=lambda item: -item.mse)


def grouped(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows that are seeds of one control together, all others by themselves, in order of first appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        seeded = row.of is not None and row.role in SEEDED
        groups.setdefault((row.role, str(row.of) if seeded else row.encoder), []).append(row)
    return list(groups.values())


def rung(group: Sequence[Row], names: Mapping[str, str]) -> Rung:
    """The rung of one row, or of the seeds of one control."""
    first = group[0]
    name, interval = names[prediction_name(first.encoder, first.layer, first.role)], first.interval
    losses = tuple(row.test_mse for row in group)
    if len(group) > 1:
        name, interval = f"{names[f'{first.role}:{first.of}']} ×{len(group)}", seeds_interval(group)
    return Rung(name, first.encoder, first.role, first.layer, float(np.mean(losses)), interval, losses)


def seeds_interval(group: Sequence[Row]) -> tuple[float, float] | None:
    """95 % interval of the loss of one further seed, over scenes and seeds."""
    from fathom.probing.evidence.verdict import Baseline
    from fathom.statistics import scene_interval

    baseline = Baseline(group[0].encoder, tuple(np.asarray(row.errors, dtype=np.float64) for row in group))
    cells = np.asarray(group[0].cells, dtype=np.float64)
    variance, df = baseline.draw_variance(cells)
    log = bool(baseline.mean.sum() > 0)
    found = scene_interval(baseline.mean, cells, log=log, seed_variance=variance, seed_df=df)
    return (found.low, found.high) if np.isfinite([found.low, found.high]).all() else None


def display_names(evidence: Evidence) -> dict[str, str]:
    """Every SPEC of a run, and of its groups of controls, as charts show it: short, and no two alike."""
    specs = dict.fromkeys(row.encoder for row in evidence.rows)
    specs |= dict.fromkeys(f"{row.role}:{row.of}" for row in evidence.rows if row.role in SEEDED and row.of is not None)
    names = short_names(specs, MOST_LETTERS)
    heads = [row for row in evidence.rows if row.role == "head"]
    return names | {
        prediction_name(row.encoder, row.layer, row.role): prediction_name(names[row.encoder], row.layer, row.role)
        for row in heads
    }


def columns(evidence: Evidence) -> list[str]:
    """Which predictions are drawn, baselines first and the rest after, each from worst to best."""
    drawn = set(evidence.pictures[0].predictions)
    # Pictures are of the first depth feature, the one with metrics at full resolution.
    feature = next((row.feature for row in evidence.rows if row.abs_rel is not None), evidence.features[0])
    chosen: dict[str, Row] = {}
    for row in evidence.rows:
        name = prediction_name(row.encoder, row.layer, row.role)
        if row.chosen and row.feature == feature and name in drawn:
            chosen.setdefault(name, row)
    ranked = sorted(chosen, key=lambda name: chosen[name].test_mse)
    kept = [name for name in ranked if chosen[name].role not in ("baseline", "random", "permuted")][:MOST_COLUMNS]
    kept += [name for name in ranked if name not in kept and name != "constant"][: MOST_COLUMNS - len(kept)]
    return sorted(kept, key=lambda name: (chosen[name].role in MAIN, -chosen[name].test_mse))
