"""The report of a probe run, as one HTML file. Every text that a user or a file gave passes through `html.escape`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fathom.atomic import write_text
from fathom.media.colour import DEPTH_MAP, ERROR_MAP
from fathom.probing.evidence.ranking import rank
from fathom.report import charts
from fathom.report.html import render
from fathom.report.rungs import columns, display_names
from fathom.report.tables import facts_list, information_table, ranking_table, rows_table, verdicts_table
from fathom.report.wording import conclusions, headline, sentence

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.report.thumbnails import Album


def write_report(evidence: Evidence, path: str | Path) -> Path:
    """Write the report of a run to `path`, whole or not at all."""
    target = Path(path)
    write_text(target, page(evidence))
    return target


def page(evidence: Evidence) -> str:
    """The report as HTML."""
    builder = Page(evidence)
    body = "".join(section(builder) for section in SECTIONS)
    return render(
        "probe.html",
        title=f"What encoders know of {_listed(evidence.features)}",
        about=_data_name(evidence),
        version=str(evidence.versions.get("fathom", "")),
        data=builder.data(),
        body=Markup(body),
    )


class Page:
    """The sections of one report, and the charts that they have asked for.

    Attributes:
        evidence: of the run.
        names: SPECs and names of controls, as a reader is shown them.
        figures: charts by the id of their place.
    """

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.names = display_names(evidence)
        self.figures: dict[str, charts.Figure] = {}
        self.clouds: dict[str, Any] | None = None
        self.encoders: list[str] = []
        if evidence.pictures:
            self.encoders = columns(evidence)[::-1]  # what the run is about first, then the baselines

    def name(self, spec: object) -> str:
        """A SPEC for the reader, escaped."""
        return escape(self.names.get(str(spec), str(spec)))

    def chart(self, figure: charts.Figure, what: str) -> str:
        """A place for a chart; the script draws it."""
        key = f"chart-{len(self.figures)}"
        self.figures[key] = figure
        height = figure["layout"]["height"]
        return f'<div class="chart" id="{key}" role="img" aria-label="{escape(what)}" style="min-height:{height}px"></div>\n'

    def verdict(self) -> str:
        verdicts = self.evidence.verdicts
        parts = [f'<p class="headline">{escape(headline(self.evidence, self.names))}</p>\n']
        if len(verdicts) > 1:
            for item in verdicts:
                kind = item.verdict
                parts.append(
                    f'<div class="verdict {escape(kind.replace(" ", "-"))}"><p><span class="badge">{escape(kind)}</span>'
                    f"{escape(sentence(item, self.names))}</p></div>\n"
                )
        parts += [f'<p class="muted">Note: {escape(str(note))}</p>\n' for note in self.evidence.notes]
        return "".join(parts)

    def ladders(self) -> str:
        scenes, (height, width) = len(self.evidence.test_scenes), self.evidence.grid
        parts = [
            "<h2>The ladder</h2>\n<p>Test loss of linear probes on a "
            f"{height} x {width} grid over {scenes} unseen scenes: lower is better. What is no better than a baseline has shown "
            "nothing. Bars are 95 % intervals over scenes; ×5 is the mean of five seeds, its bar that of one more. Layers and "
            "penalties were chosen on training scenes.</p>\n"
        ]
        for feature in self.evidence.features:
            parts.append(self._heading(feature))
            figure = charts.ladder_chart(self.evidence, feature)
            parts.append(self.chart(figure, f"Test loss of every encoder and baseline for {feature}"))
        return "".join(parts)

    def gains(self) -> str:
        parts = []
        for item in self.evidence.verdicts:
            figure = charts.gains_chart(item, self.names)
            if figure is not None:
                title = f"{self.name(item.encoder)}, {escape(item.feature)}"
                parts.append(f"<div><h3>{title}</h3>\n{self.chart(figure, 'Gain over each baseline')}</div>\n")
        if not parts:
            return ""
        return (
            "<h2>Gain over each baseline</h2>\n<p>What the verdict stands on: the baseline's loss less the encoder's on the same "
            "scenes, with 95 % intervals. Implicit takes a gain over every one, each tested one-sided after Holm, and "
            "selectivity besides.</p>\n"
            f'<div class="pair">{"".join(parts)}</div>\n{verdicts_table(self.evidence, self.names)}'
        )

    def ranking(self) -> str:
        parts = []
        for feature in self.evidence.features:
            found = rank(self.evidence, feature)
            if found is not None:
                parts.append(self._heading(feature) + ranking_table(found, self.names))
        if not parts:
            return ""
        return (
            "<h2>Ranking</h2>\n<p>Encoders by test loss. Each pair is compared on the same test scenes, with 95 % intervals and "
            "p-values corrected for the number of pairs (Holm). Encoders that share a letter do not differ significantly.</p>\n"
            f"{''.join(parts)}"
        )

    def layers(self) -> str:
        lines, maps = [], []
        for feature in self.evidence.features:
            for encoder, figure in charts.layer_charts(self.evidence, feature):
                title = f"{self.name(encoder)}, {escape(feature)}"
                lines.append(f"<div><h3>{title}</h3>\n{self.chart(figure, 'Test loss by layer')}</div>\n")
        for encoder in dict.fromkeys(
            row.encoder for row in self.evidence.rows if row.role in ("encoder", "upper_bound")
        ):
            found = charts.heat_map(self.evidence, encoder)
            if found is not None:
                maps.append(
                    f"<div><h3>{self.name(encoder)}: R² by layer and feature</h3>\n{self.chart(found, 'R²')}</div>\n"
                )
        if not lines and not maps:
            return ""
        return (
            "<h2>Layers</h2>\n<p>Test loss of a probe on each layer, with 95 % intervals; <i>all</i> is all of them together,"
            " <i>banded</i> the same with a penalty for each layer."
            f'</p>\n<div class="pair">{"".join(lines + maps)}</div>\n'
        )

    def cues(self) -> str:
        parts = [
            f"<div><h3>{self.name(encoder)}, {escape(feature)}</h3>\n{self.chart(figure, 'Change of loss by cue')}</div>\n"
            for encoder, feature, figure in charts.cue_charts(self.evidence)
        ]
        cues, said = self.evidence.cues, self.evidence.cue_sentences
        baselines = {row.encoder for row in self.evidence.rows if row.role == "baseline"}
        ordered = sorted(said, key=lambda spec: spec in baselines)
        words = [f"<p><b>{self.name(spec)}</b>: {escape(said[spec])}</p>\n" for spec in ordered]
        if not parts and not words:
            return ""
        return (
            "<h2>Cues</h2>\n<p>What the probe relies on: it was fitted on images as they are and tested on altered ones.</p>\n"
            f'{"".join(words)}<div class="pair">{"".join(parts)}</div>\n'
            + ('<p class="muted">* several cues change at once.</p>\n' if any(not cue.decides for cue in cues) else "")
        )

    def labels(self) -> str:
        parts = []
        for feature in self.evidence.features:
            figure = charts.label_chart(self.evidence, feature)
            if figure is not None:
                parts.append(self._heading(feature) + self.chart(figure, "Loss by training scenes"))
                parts += self._from_how_many(feature)
        if not parts:
            return ""
        return (
            "<h2>How many labels</h2>\n<p>Test loss of probes fitted on fewer training scenes, with 95 % intervals over test "
            f"scenes and draws of training scenes.</p>\n{''.join(parts)}"
        )

    def _from_how_many(self, feature: str) -> list[str]:
        """From how many training scenes on each encoder beats every baseline, where the run says so."""
        said = []
        for curve in self.evidence.label_curves:
            if curve.feature == feature and curve.role == "encoder":
                count = curve.scenes_to_beat_baselines
                words = "at no number of scenes tried" if count is None else f"from {count:.0f} training scenes on"
                said.append(f"<p>{self.name(curve.encoder)} beats every baseline {words}.</p>\n")
        return said

    def information(self) -> str:
        table = information_table(self.evidence, self.names)
        if not table:
            return ""
        return (
            "<h2>Bits</h2>\n<p>V-information: bits a cell that a linear probe learns from the encoder. Saved: what a code of the "
            "training targets saves over the constant's, the cost of learning the probe counted. Cells of a room are not "
            f"independent: bits are the length of a code, no amount of evidence.</p>\n{table}"
        )

    def pictures(self) -> str:
        if not self.evidence.pictures:
            return ""
        from fathom.report.thumbnails import album

        drawn = album(self.evidence.pictures, self.encoders)
        frames = "".join(self._frame(drawn, index) for index in range(len(drawn.frames)))
        return (
            "<h2>Pictures</h2>\n<p>Test frames of unseen scenes: the photograph above the truth, and each prediction above its error. "
            f"One scale for all; grey is unknown.</p>\n{_scales(drawn)}{frames}"
        )

    def _frame(self, drawn: Album, index: int) -> str:
        frame = drawn.frames[index]
        cells = [_figure("photograph, truth", "", frame.photograph, frame.truth)]
        for shown in frame.shown:
            rmse = "" if shown.rmse is None else f"RMSE {shown.rmse:.2f} m"
            cells.append(_figure(self.name(shown.encoder), rmse, shown.prediction, shown.error))
        title = frame.id if frame.id == frame.scene else f"{frame.scene}, {frame.id}"
        return f'<div class="frame"><h3>{escape(title)}</h3><div class="album">{"".join(cells)}</div></div>\n'

    def cloud(self) -> str:
        if not self.evidence.pictures or not self.encoders:
            return ""
        from fathom.report.cloud import assumption, cloud

        self.clouds = cloud(self.evidence.pictures, self.encoders, self.names)
        controls = (
            _select("frame", "frame", [(str(i), frame["title"]) for i, frame in enumerate(self.clouds["frames"])]),
            _select("encoder", "prediction of", [(str(i), name) for i, name in enumerate(self.clouds["encoders"])]),
            _select(
                "show", "shown", [("both", "truth and prediction"), ("truth", "truth"), ("prediction", "prediction")]
            ),
            _select("colour", "colour of the prediction", [("source", "orange"), ("photograph", "of the photograph")]),
        )
        return (
            "<h2>In space</h2>\n<p>Each frame as points in metres: the truth in the colours of the photograph, the prediction in "
            'orange. <span class="screen">Drag to turn, pinch or scroll to come closer.</span></p>\n'
            f'<div class="controls" id="cloud-controls">{"".join(controls)}</div>\n'
            '<div class="chart" id="cloud" role="img" aria-label="Point cloud of truth and prediction"></div>\n'
            f'<p class="muted">{escape(assumption(self.evidence.pictures))}</p>\n'
        )

    def conclusions(self) -> str:
        may, not_ = conclusions(self.evidence)
        return (
            f"<h2>What may be concluded</h2>\n{_bullets(may)}<h2>What may not be concluded</h2>\n{_bullets(not_)}"
            '<p class="muted">The rule behind the words, its error rates and its sources: docs/method.md of Fathom.</p>\n'
        )

    def table(self) -> str:
        tables = (
            self._heading(feature) + rows_table(self.evidence, feature, self.names)
            for feature in self.evidence.features
        )
        return f"<h2>All numbers</h2>\n{''.join(tables)}"

    def circumstances(self) -> str:
        return f"<h2>How it was measured</h2>\n{facts_list(self.evidence, self.names)}"

    def data(self) -> dict[str, Any]:
        """What the page's script draws."""
        return {"figures": self.figures} | ({} if self.clouds is None else {"cloud-data": self.clouds})

    def _heading(self, feature: str) -> str:
        return f"<h3>{escape(feature)}</h3>\n" if len(self.evidence.features) > 1 else ""


SECTIONS: list[Callable[[Page], str]] = [
    Page.verdict,
    Page.ladders,
    Page.gains,
    Page.ranking,
    Page.layers,
    Page.cues,
    Page.labels,
    Page.information,
    Page.pictures,
    Page.cloud,
    Page.conclusions,
    Page.table,
    Page.circumstances,
]
"""The sections in order, each a function from the page to HTML, empty where the run has nothing for it."""


def _figure(title: str, below: str, *images: str) -> str:
    pictures = "".join(f'<img src="{image}" alt="{title}">' for image in images)
    small = f"<small>{escape(below)}</small>" if below else ""
    return f"<figure><figcaption>{title}{small}</figcaption>{pictures}</figure>"


def _scales(drawn: Album) -> str:
    from fathom.report.thumbnails import gradient

    low, high = drawn.depth
    bars = (
        (DEPTH_MAP, (f"{low:.1f} m", "depth", f"{high:.1f} m")),
        (ERROR_MAP, (f"−{drawn.most:.1f} m, too near", "error", f"+{drawn.most:.1f} m, too far")),
    )
    inner = "".join(
        f'<div class="scale"><i style="background:{gradient(colours)}"></i>'
        f"<span>{''.join(f'<b>{word}</b>' for word in words)}</span></div>"
        for colours, words in bars
    )
    return f'<div class="scales">{inner}</div>\n'


def _select(name: str, label: str, options: Iterable[tuple[str, str]]) -> str:
    items = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options)
    return f'<label>{label}<select name="{name}">{items}</select></label>'


def _bullets(items: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in items)}</ul>\n"


def _listed(items: Sequence[str]) -> str:
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def _data_name(evidence: Evidence) -> str:
    test = evidence.data.test
    return f"{Path(test.location).name}, {test.frames} test frames"
