"""The page of a sweep: every run with its verdicts, and the encoders of all runs ranked on the test data that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import fathom
from fathom.encoders.spec import short_names
from fathom.files.atomic import write_text
from fathom.report.html import render
from fathom.report.probe.tables import ranking_tables

if TYPE_CHECKING:
    from fathom.probing.evidence.comparison.pairs import Measurement
    from fathom.probing.evidence.comparison.ranking import Ranking
    from fathom.probing.sweep import Sweep


def write_sweep(found: Sweep, out: Path) -> Path:
    """Write ``index.html`` into the folder of a sweep."""
    path = out / "index.html"
    write_text(path, sweep_page(found))
    return path


def sweep_page(found: Sweep) -> str:
    """The page as HTML."""
    every = [item.encoder for evidence in found.runs.values() for item in evidence.encoders]
    names = dict(short_names(every, 32))
    return render(
        "sweep.html",
        title="Probe runs",
        about=f"{len(found.runs)} runs",
        version=fathom.__version__,
        data={},
        runs=[
            (name, f"{quote(name)}/report.html", evidence.data.test.location, evidence.verdicts, evidence.notes)
            for name, evidence in found.runs.items()
        ],
        names=names,
        failed=list(found.failed.items()),
        rankings=[
            (group, item.feature, *ranking_tables(_labelled(item, list(found.runs), names), names))
            for group, item in found.rankings
        ],
        several=len({group for group, _ in found.rankings}) > 1,
    )


def _labelled(ranking: Ranking, runs: Sequence[str], names: Mapping[str, str]) -> Ranking:
    """The ranking with the name of the run behind each encoder that several runs have."""
    every = [item.encoder for item in ranking.places]

    def label(item: Measurement) -> Measurement:
        if every.count(item.encoder) == 1:
            return item
        return replace(item, encoder=f"{names.get(item.encoder, item.encoder)} ({runs[item.run - 1]})")

    pairs = tuple(
        replace(pair, measurement=label(pair.measurement), against=label(pair.against)) for pair in ranking.pairs
    )
    return replace(ranking, places=tuple(map(label, ranking.places)), pairs=pairs)
