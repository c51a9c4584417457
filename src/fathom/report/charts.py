"""The charts of the report as Plotly figures: plain dicts, drawn by the page's own script.

Colours of text and lines are left to the page, which knows whether it is light, dark or on paper. Plotly reads its labels as a
little HTML, so every name is escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from fathom.report.rungs import ROLES, display_names, grouped, ladder, rung

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import Cue, GainRecord, Row, VerdictRecord

Figure = dict[str, Any]

COLOURS = {
    "baseline": "#8a9099",
    "random": "#d98c00",
    "permuted": "#c4699a",
    "encoder": "#2b7bba",
    "head": "#56b4e9",
    "upper_bound": "#009e73",
}
"""Of each role: the hues of Okabe & Ito, told apart by the colour-blind; the marks differ as well."""
MARKS = {
    "baseline": "circle",
    "random": "triangle-up",
    "permuted": "x",
    "encoder": "diamond",
    "head": "star",
    "upper_bound": "square",
}
LINES = ("#2b7bba", "#d55e00", "#009e73", "#c4699a", "#d98c00", "#56b4e9", "#7a5ab8", "#8c6d31")
"""Of several encoders in one chart."""
SHAPES = (
    "circle-open",
    "square-open",
    "triangle-up-open",
    "triangle-down-open",
    "cross-thin-open",
    "x-thin-open",
    "star-open",
)
"""Marks of several baselines in one chart, which share a colour."""
ASIDE = {"random": -0.1, "permuted": 0.1}
"""How far controls stand next to their layer, so that intervals do not cover each other."""
LOG_FROM = 30
"""Ratio of the largest to the least loss from which on a chart has a logarithmic axis."""


@dataclass(frozen=True)
class Dot:
    """One line of a dot chart: a value with its interval, and how its number is written (`digits`, of a format)."""

    label: str
    value: float
    interval: tuple[float, float] | None
    kind: str
    single: tuple[float, ...] = ()
    digits: str = ".3g"

    @property
    def text(self) -> str:
        return with_interval(self.value, self.interval, self.digits)


def unit(feature: str) -> str:
    """Of the squared error of a feature."""
    return "m²" if feature == "depth" else "its unit squared"


def layout(height: int, **more: Any) -> Figure:
    """What all charts share: no dragging, since that would trap a finger that scrolls."""
    return {
        "height": height,
        "autosize": True,
        "margin": {"l": 12, "r": 12, "t": 30, "b": 48},
        "dragmode": False,
        "showlegend": True,
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom", "font": {"size": 11}},
        "hoverlabel": {"align": "left"},
        **more,
    }


def axis(title: str, **more: Any) -> Figure:
    return {
        "title": {"text": title, "font": {"size": 12}},
        "fixedrange": True,
        "automargin": True,
        "exponentformat": "power",
        **more,
    }


def number(value: float, digits: str = ".3g") -> str:
    """Three digits unless told otherwise, with a true minus."""
    text = format(value, digits)
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def with_interval(value: float, interval: tuple[float, float] | None, digits: str = ".3g") -> str:
    """A number, and its interval where it has one."""
    bounds = f" ({number(interval[0], digits)} to {number(interval[1], digits)})" if interval else ""
    return number(value, digits) + bounds


def bars(values: Sequence[float], intervals: Sequence[tuple[float, float] | None]) -> Figure:
    """Error bars out of intervals; none where there is no interval."""
    pairs = list(zip(values, intervals, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if bounds is None else bounds[1] - value for value, bounds in pairs],
        "arrayminus": [0.0 if bounds is None else value - bounds[0] for value, bounds in pairs],
        "thickness": 1.6,
        "width": 4,
    }


def dots(
    rows: Sequence[Dot],
    title: str,
    kinds: Mapping[str, tuple[str, str, str]],
    *,
    lines: Sequence[tuple[float, str]] = (),
    log: bool = False,
) -> Figure:
    """A dot chart, one line a row from the top, its label and its number above it so that a phone has room for the dots.

    Args:
        rows: from the top.
        title: of the value axis.
        kinds: kind -> (legend, colour, mark).
        lines: values with a dashed vertical line, and what it says.
        log: logarithmic values.
    """
    traces: list[Figure] = []
    # Long charts are drawn closer, so that one of twenty lines fits on a sheet of paper.
    step, above = (42, 16) if len(rows) <= 12 else (36, 14)
    height = 92 + step * len(rows)
    for kind, (legend, colour, mark) in kinds.items():
        own = [(index, row) for index, row in enumerate(rows) if row.kind == kind]
        if not own:
            continue
        values = [row.value for _, row in own]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escape(legend),
                "x": values,
                "y": [index for index, _ in own],
                "error_x": bars(values, [row.interval for _, row in own]) | {"color": colour},
                "marker": {"color": colour, "symbol": mark, "size": 10},
                "text": [f"{escape(row.label)}<br>{row.text}" for _, row in own],
                "hoverinfo": "text",
            }
        )
        single = [(index, value) for index, row in own for value in row.single if len(row.single) > 1]
        if single:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": "single seeds",
                    "showlegend": False,
                    "x": [value for _, value in single],
                    "y": [index for index, _ in single],
                    "marker": {"color": colour, "symbol": "line-ns-open", "size": 9},
                    "hoverinfo": "x",
                }
            )
    notes = [
        {"xref": "paper", "yref": "y", "x": x, "xanchor": anchor, "y": index, "yshift": above, "showarrow": False,
         "text": text, "font": {"size": 12}}
        for index, row in enumerate(rows)
        for x, anchor, text in ((0, "left", escape(row.label)), (1, "right", row.text))
    ]  # fmt: skip
    shapes = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": at, "x1": at, "y0": 0, "y1": 1, "layer": "below",
         "line": {"color": "#8a9099", "width": 1, "dash": "dash"}}
        for at, _ in lines
    ]  # fmt: skip
    explained = "; ".join(text for _, text in lines)
    return {
        "data": traces,
        "layout": layout(
            height,
            xaxis=axis(
                title + (f"<br>dashed: {escape(explained)}" if explained else ""),
                type="log" if log else "linear",
                zeroline=False,
            ),
            yaxis={
                "range": [len(rows) - 0.5, -0.85],
                "tickvals": list(range(len(rows))),
                "showticklabels": False,
                "zeroline": False,
                "fixedrange": True,
            },
            annotations=notes,
            shapes=shapes,
            margin={"l": 12, "r": 12, "t": 34, "b": 66 if explained else 48},
        ),
    }


def ladder_chart(evidence: Evidence, feature: str) -> Figure:
    """Test loss of baselines, controls, encoders and upper bound with 95 % intervals, the worst at the top."""
    rungs = ladder(evidence, feature)
    rows = [Dot(item.name, item.mse, item.interval, item.role, item.seeds) for item in rungs]
    losses = [item.mse for item in rungs if item.mse > 0]
    log = bool(losses) and max(losses) > LOG_FROM * min(losses)
    if log:
        rows = [row for row in rows if row.value > 0]
    kinds = {role: (legend, COLOURS[role], MARKS[role]) for role, legend in ROLES.items()}
    return dots(rows, f"test MSE, {unit(feature)}", kinds, log=log)


def gains_chart(verdict: VerdictRecord, names: Mapping[str, str]) -> Figure | None:
    """Gain of one encoder over each baseline, paired by scene; the least at the top."""
    rows = []
    for gain in verdict.gains:
        if gain.estimate is None:
            continue
        label = names.get(gain.baseline, gain.baseline) + (f" ×{gain.seeds}" if gain.seeds > 1 else "")
        interval = _bounds(gain)
        clear = interval is not None and interval[0] > 0
        rows.append(Dot(label, gain.estimate, interval, "clear" if clear else "open"))
    if not rows:
        return None
    margin = f"{100 * verdict.margin:g} % of the loss of {names.get(verdict.baseline, verdict.baseline)}"
    lines = [(0.0, "0, no gain"), (verdict.margin * verdict.baseline_mse, margin)]
    kinds = {
        "clear": ("95 % interval above 0", COLOURS["encoder"], "diamond"),
        "open": ("interval holds 0 or lies below", COLOURS["baseline"], "diamond-open"),
    }
    return dots(rows, f"loss of the baseline − loss of the encoder, {unit(verdict.feature)}", kinds, lines=lines)


def layer_charts(evidence: Evidence, feature: str) -> list[tuple[str, Figure]]:
    """For each encoder of several layers, its loss by layer next to that of its controls: (SPEC, figure)."""
    rows = [row for row in evidence.rows if row.feature == feature and row.role != "head"]
    charts, specs = [], {row.encoder for row in rows}
    # A control whose encoder is not in the run stands by itself.
    for encoder in dict.fromkeys(row.encoder for row in rows if row.of not in specs):
        own = [row for row in rows if row.encoder == encoder]
        layers = list(dict.fromkeys(row.layer for row in own))
        if len(layers) < 2:
            continue
        controls = [row for row in rows if row.of == encoder and row.layer in layers]
        charts.append((encoder, _layer_chart(evidence, feature, [*own, *controls], layers)))
    return charts


def _layer_chart(evidence: Evidence, feature: str, rows: Sequence[Row], layers: Sequence[str]) -> Figure:
    names = display_names(evidence)
    traces: list[Figure] = []
    for role in ROLES:
        for group in grouped([row for row in rows if row.role == role]):
            seeds: dict[str, list[Row]] = {}
            for row in group:
                seeds.setdefault(row.layer, []).append(row)
            # The rows of an encoder without seeds stand one by one, those of a control by layer.
            rungs = [rung(seeds[layer], names) for layer in layers if layer in seeds]
            at = [layers.index(item.layer) + ASIDE.get(role, 0.0) for item in rungs]
            colour, values = COLOURS[role], [item.mse for item in rungs]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": escape(ROLES[role]),
                    "x": at,
                    "y": values,
                    "error_y": bars(values, [item.interval for item in rungs]) | {"color": colour},
                    "line": {"color": colour, "width": 1.5, "dash": "solid" if role == "encoder" else "dot"},
                    "marker": {"color": colour, "symbol": MARKS[role], "size": 9},
                    "text": [
                        f"{escape(item.name)}, {escape(item.layer)}<br>{with_interval(item.mse, item.interval)}"
                        for item in rungs
                    ],
                    "hoverinfo": "text",
                }
            )
    chosen = [row for row in rows if row.chosen and row.encoder == rows[0].encoder]
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "chosen by cross-validation",
            "x": [layers.index(row.layer) for row in chosen],
            "y": [row.test_mse for row in chosen],
            "marker": {"symbol": "circle-open", "size": 18, "color": COLOURS["encoder"], "line": {"width": 1.5}},
            "hoverinfo": "skip",
        }
    )
    return {
        "data": traces,
        "layout": layout(
            330,
            xaxis=axis(
                "", tickvals=list(range(len(layers))), ticktext=[escape(name) for name in layers], zeroline=False,
                range=[-0.4, len(layers) - 0.6],
            ),
            yaxis=axis(f"test MSE, {unit(feature)}", zeroline=False),
        ),
    }  # fmt: skip


def heat_map(evidence: Evidence, encoder: str) -> Figure | None:
    """R² of every layer and feature of one encoder; None with fewer than two of either."""
    rows = [row for row in evidence.rows if row.encoder == encoder and row.role != "head"]
    layers, features = list(dict.fromkeys(row.layer for row in rows)), list(dict.fromkeys(row.feature for row in rows))
    if len(layers) < 2 or len(features) < 2:
        return None
    found = {(row.feature, row.layer): row.r2 for row in rows}
    values = [[found.get((feature, layer)) for layer in layers] for feature in features]
    return {
        "data": [
            {
                "type": "heatmap",
                "z": values,
                "x": list(range(len(layers))),
                "y": list(range(len(features))),
                "text": [["" if value is None else f"{value:.2f}" for value in line] for line in values],
                "texttemplate": "%{text}",
                "hoverinfo": "text",
                "zmin": 0,
                "zmax": 1,
                "colorscale": [[0, "#f1f4f8"], [0.5, "#7fb0d6"], [1, "#124a78"]],
                "xgap": 2,
                "ygap": 2,
                "colorbar": {"title": {"text": "R²"}, "thickness": 10, "len": 0.9},
            }
        ],
        "layout": layout(
            96 + 42 * len(features),
            showlegend=False,
            xaxis=axis("", tickvals=list(range(len(layers))), ticktext=[escape(name) for name in layers], side="top"),
            yaxis=axis(
                "",
                tickvals=list(range(len(features))),
                ticktext=[escape(name) for name in features],
                range=[len(features) - 0.5, -0.5],
            ),
            margin={"l": 12, "r": 12, "t": 34, "b": 20},
        ),
    }


def cue_charts(evidence: Evidence) -> list[tuple[str, str, Figure]]:
    """Change of loss under each alteration of the test images: (SPEC, feature, figure), one for each encoder and feature."""
    charts: list[tuple[str, str, Figure]] = []
    baselines = {row.encoder for row in evidence.rows if row.role == "baseline"}
    cues = sorted(evidence.cues, key=lambda cue: cue.encoder in baselines)  # baselines last
    cues = [cue for cue in cues if cue.base_mse]
    groups: list[str] = list(dict.fromkeys(cue.group for cue in cues))
    kinds = {name: (name, LINES[index % len(LINES)], "diamond") for index, name in enumerate(groups)}
    for encoder, feature in dict.fromkeys((cue.encoder, cue.feature) for cue in cues):
        own = [cue for cue in cues if (cue.encoder, cue.feature) == (encoder, feature)]
        rows = [_cue(cue) for kind in groups for cue in own if cue.group == kind]
        title = "change of test loss, %; right of 0: worse"
        charts.append((encoder, feature, dots(rows, title, kinds, lines=[(0.0, "0, no change")])))
    return charts


def _cue(cue: Cue) -> Dot:
    """One alteration, its change in percent of the loss on the original frames."""
    percent, bounds = 100 / cue.base_mse, _bounds(cue)
    return Dot(
        cue.words if cue.decides else f"{cue.words} *",
        percent * cue.change,
        None if bounds is None else (percent * bounds[0], percent * bounds[1]),
        cue.group,
        digits=".1f",
    )


def label_chart(evidence: Evidence, feature: str) -> Figure | None:
    """Loss against the number of training scenes, a line for each encoder; None where none was taken."""
    curves = [curve for curve in evidence.label_curves if curve.feature == feature]
    if not curves:
        return None
    names = display_names(evidence)
    baselines = [curve.encoder for curve in curves if curve.role == "baseline"]
    traces: list[Figure] = []
    fresh = 0
    for curve in curves:
        spec, role = curve.encoder, curve.role
        colour = COLOURS[role]
        if role == "encoder":
            colour, fresh = LINES[fresh % len(LINES)], fresh + 1
        points = [
            (scenes, mse, _ends(low, high))
            for scenes, mse, low, high in zip(curve.scenes, curve.mse, curve.low, curve.high, strict=True)
            if mse is not None
        ]
        scenes, values = [point[0] for point in points], [point[1] for point in points]
        intervals = [point[2] for point in points]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": escape(names.get(spec, spec)),
                "x": scenes,
                "y": values,
                "error_y": bars(values, intervals) | {"color": colour, "thickness": 1, "width": 3},
                "line": {"color": colour, "width": 2 if role == "encoder" else 1,
                         "dash": "solid" if role in ("encoder", "upper_bound") else "dot"},
                "marker": {"color": colour, "size": 7,
                           "symbol": SHAPES[baselines.index(spec) % len(SHAPES)] if spec in baselines else MARKS[role]},
                "text": [
                    f"{escape(names.get(spec, spec))}, {number(count)} scenes<br>{with_interval(value, bounds)}"
                    for count, value, bounds in zip(scenes, values, intervals, strict=True)
                ],
                "hoverinfo": "text",
            }
        )  # fmt: skip
    ticks = sorted({round(count) for curve in curves for count in curve.scenes})
    return {
        "data": traces,
        "layout": layout(
            400 + 18 * len(traces),
            xaxis=axis("training scenes", type="log", tickvals=ticks, ticktext=[str(tick) for tick in ticks]),
            yaxis=axis(f"test MSE, {unit(feature)}", type="log", nticks=6),
            legend={"orientation": "h", "x": 0, "y": -0.2, "yanchor": "top", "font": {"size": 11}},
        ),
    }


def _bounds(found: GainRecord | Cue) -> tuple[float, float] | None:
    return _ends(found.low, found.high)


def _ends(low: float | None, high: float | None) -> tuple[float, float] | None:
    return None if low is None or high is None else (low, high)
