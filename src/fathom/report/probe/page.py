"""The report of a probe run as one HTML file: what ``templates/probe.html`` shows, gathered from the evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fathom.files.atomic import write_text
from fathom.media.colour import DEPTH_MAP, ERROR_MAP
from fathom.probing.evidence.comparison.ranking import rank
from fathom.probing.evidence.evidence import Evidence
from fathom.report.html import render
from fathom.report.plotly import Figure
from fathom.report.probe import charts
from fathom.report.probe.cloud import assumption, cloud
from fathom.report.probe.predictors import columns, display_names
from fathom.report.probe.tables import (
    circumstances,
    encoders_table,
    information_table,
    layer_verdicts_table,
    ranking_tables,
    rows_table,
    verdicts_table,
)
from fathom.report.probe.wording import conclusions, headline, power, sentence, warnings
from fathom.report.thumbnails import Album, album, gradient

CHARTS: dict[str, Callable[[Evidence], Figure | None]] = {}
"""More charts: heading -> function that draws a Plotly figure (a plain dict), or None where the run has nothing for it."""


def write_report(evidence: Evidence, path: str | Path) -> Path:
    """Write the report of a run to `path`, whole or not at all."""
    target = Path(path)
    write_text(target, page(evidence))
    return target


@dataclass(frozen=True)
class Chart:
    """A place for a chart, which the page's script draws.

    Attributes:
        key: of its figure in the page's data. what: for readers who do not see it. height: pixels.
        title: above it. lines: sentences below it.
    """

    key: str
    what: str
    height: int
    title: str
    lines: tuple[str, ...] = ()


def page(evidence: Evidence) -> str:
    """The report as HTML."""
    names = display_names(evidence)
    figures: dict[str, Figure] = {}

    def chart(figure: Figure, what: str, title: str, lines: Sequence[str] = ()) -> Chart:
        key = f"chart-{len(figures)}"
        figures[key] = figure
        return Chart(key, what, figure["layout"]["height"], title, tuple(lines))

    shown = columns(evidence)[::-1] if evidence.pictures else []  # what the run is about first, then the baselines
    clouds = cloud(evidence.pictures, shown, names) if shown else None
    drawn = album(evidence.pictures, shown) if evidence.pictures else None
    may, may_not = conclusions(evidence)
    warned = warnings(evidence)
    context = {
        "names": names,
        "several": len(evidence.features) > 1,
        "headline": headline(evidence, names),
        "warnings": warned,
        "notes": [text for text in evidence.notes if text not in warned],
        "verdicts": _verdicts(evidence, names),
        "grid": evidence.grid,
        "scenes": len(evidence.test_scenes),
        "losses": [
            chart(charts.losses_chart(evidence, name), f"Test loss of every encoder and baseline for {name}", name)
            for name in evidence.features
        ],
        "gains": [
            chart(figure, "Gain over each baseline", f"{names.get(item.encoder, item.encoder)}, {item.feature}")
            for item in evidence.verdicts
            if (figure := charts.gains_chart(item, names)) is not None
        ],
        "verdict_numbers": verdicts_table(evidence, names),
        "layer_verdicts": layer_verdicts_table(evidence, names),
        "rankings": [
            (name, *ranking_tables(found, names))
            for name in evidence.features
            if (found := rank(evidence, name)) is not None
        ],
        "layers": [
            *(
                chart(figure, "Test loss by layer", f"{names.get(encoder, encoder)}, {name}")
                for name in evidence.features
                for encoder, figure in charts.layer_charts(evidence, name)
            ),
            *(
                chart(figure, "R²", f"{names.get(encoder, encoder)}: R² by layer and feature")
                for encoder in dict.fromkeys(
                    row.encoder for row in evidence.rows if row.role in ("encoder", "upper_bound")
                )
                if (figure := charts.heat_map(evidence, encoder)) is not None
            ),
        ],
        "cue_charts": [
            chart(figure, "Change of loss by cue", f"{names.get(encoder, encoder)}, {name}")
            for encoder, name, figure in charts.cue_charts(evidence)
        ],
        "cue_sentences": _cue_sentences(evidence, names),
        "cues_open": any(not cue.decides for cue in evidence.cues),
        "labels": [
            chart(figure, "Loss by training scenes", name, _from_how_many(evidence, name, names))
            for name in evidence.features
            if (figure := charts.label_chart(evidence, name)) is not None
        ],
        "information": information_table(evidence, names),
        "more": [
            chart(figure, title, title) for title, draw in CHARTS.items() if (figure := draw(evidence)) is not None
        ],
        "album": drawn,
        "scales": _scales(drawn) if drawn else [],
        "clouds": clouds
        and {
            "frames": [(index, frame["title"]) for index, frame in enumerate(clouds["frames"])],
            "encoders": list(enumerate(clouds["encoders"])),
            "assumption": assumption(evidence.pictures),
        },
        "may": may,
        "may_not": may_not,
        "numbers": [(name, rows_table(evidence, name, names)) for name in evidence.features],
        "facts": circumstances(evidence),
        "command": evidence.command,
        "encoders": encoders_table(evidence, names),
    }
    return render(
        "probe.html",
        title=f"What encoders know about {_listed(evidence.features)}",
        about=f"{Path(evidence.data.test.location).name}, {evidence.data.test.frames} test frames",
        version=str(evidence.versions.get("fathom", "")),
        data={"figures": figures} | ({} if clouds is None else {"cloud-data": clouds}),
        **context,
    )


def _verdicts(evidence: Evidence, names: dict[str, str]) -> list[dict[str, str]]:
    """Each verdict in a box of its own, with what a run of this size can find."""
    return [
        {"kind": item.verdict, "sentence": sentence(item, names), "power": power(item, names)}
        for item in evidence.verdicts
    ]


def _cue_sentences(evidence: Evidence, names: dict[str, str]) -> list[tuple[str, str]]:
    """What each probe relies on, encoders before baselines."""
    baselines = {row.encoder for row in evidence.rows if row.role == "baseline"}
    ordered = sorted(evidence.cue_sentences, key=lambda spec: spec in baselines)
    return [(names.get(spec, spec), evidence.cue_sentences[spec]) for spec in ordered]


def _from_how_many(evidence: Evidence, feature: str, names: dict[str, str]) -> list[str]:
    """From how many training scenes on each encoder beats every baseline, where the run says so."""
    said = []
    for curve in evidence.label_curves:
        if curve.feature == feature and curve.role == "encoder":
            count = curve.scenes_to_beat_baselines
            words = "at no number of scenes tried" if count is None else f"from {count:.0f} training scenes on"
            said.append(f"{names.get(curve.encoder, curve.encoder)} beats every baseline {words}.")
    return said


def _scales(drawn: Album) -> list[dict[str, Any]]:
    """The colour scales of the pictures."""
    low, high = drawn.depth
    return [
        {"gradient": gradient(DEPTH_MAP), "words": (f"{low:.1f} m", "depth", f"{high:.1f} m")},
        {
            "gradient": gradient(ERROR_MAP),
            "words": (f"−{drawn.most:.1f} m, too near", "error", f"+{drawn.most:.1f} m, too far"),
        },
    ]


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)
