"""The charts of the report as Plotly figures: plain dicts, drawn by the page's own script.

Colours of text and lines are left to the page, which knows whether it is light, dark or on paper. Plotly reads its labels as a
little HTML, so every name is escaped here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from fathom.report.plotly import LINES, Dot, Figure, axis, bars, decimals, dots, layout, number, with_interval
from fathom.report.probe.predictors import MAIN, ROLES, display_names, predictor, predictors, seeds_together

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import Cue, GainRecord, Row, VerdictRecord

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

DASHES = ("dot", "dash", "longdash", "dashdot", "longdashdot")
"""Lines of several baselines in one chart."""

ASIDE = {"random": -0.1, "permuted": 0.1}
"""How far controls stand next to their layer, so that intervals do not cover each other."""

LOG_FROM = 30
"""Ratio of the largest to the least loss from which on a chart has a logarithmic axis."""


def unit(feature: str) -> str:
    """Of the squared error of a feature."""
    return "m²" if feature == "depth" else "its unit squared"


def losses_chart(evidence: Evidence, feature: str) -> Figure:
    """Test loss of baselines, controls, encoders and upper bound with 95 % intervals, the worst at the top."""
    found = predictors(evidence, feature)
    losses = [item.mse for item in found if item.mse > 0]
    log = bool(losses) and max(losses) > LOG_FROM * min(losses)
    form = ".3g" if log else decimals(losses)
    rows = [Dot(item.name, item.mse, item.interval, item.role, item.losses, form) for item in found]
    if log:
        rows = [row for row in rows if row.value > 0]
    kinds = {role: (legend, COLOURS[role], MARKS[role]) for role, legend in ROLES.items()}
    return dots(rows, f"test MSE, {unit(feature)}", kinds, log=log)


def gains_chart(verdict: VerdictRecord, names: Mapping[str, str]) -> Figure | None:
    """Fraction of each baseline's loss that one encoder removes, paired by scene; the least at the top."""
    rows = []
    for gain in verdict.gains:
        if gain.estimate is None:
            continue
        label = names.get(gain.baseline, gain.baseline) + (f" ×{gain.seeds}" if gain.seeds > 1 else "")
        interval = _bounds(gain)
        clear = interval is not None and interval[0] > 0
        percent = None if interval is None else (100 * interval[0], 100 * interval[1])
        rows.append(Dot(label, 100 * gain.estimate, percent, "clear" if clear else "open", digits=".1f"))
    if not rows:
        return None
    lines = [(0.0, "0, no gain"), (100 * verdict.margin, f"margin, {100 * verdict.margin:g} %")]
    kinds = {
        "clear": ("95 % interval above 0", COLOURS["encoder"], "diamond"),
        "open": ("interval holds 0 or lies below", COLOURS["baseline"], "diamond-open"),
    }
    return dots(rows, "fraction of the baseline's loss that the encoder removes, %", kinds, lines=lines)


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
        for group in seeds_together([row for row in rows if row.role == role]):
            seeds: dict[str, list[Row]] = {}
            for row in group:
                seeds.setdefault(row.layer, []).append(row)
            # The rows of an encoder without seeds stand one by one, those of a control by layer.
            found = [predictor(seeds[layer], names) for layer in layers if layer in seeds]
            at = [layers.index(item.layer) + ASIDE.get(role, 0.0) for item in found]
            colour, values = COLOURS[role], [item.mse for item in found]
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers",
                    "name": escape(ROLES[role]),
                    "x": at,
                    "y": values,
                    "error_y": bars(values, [item.interval for item in found]) | {"color": colour},
                    "line": {"color": colour, "width": 1.5, "dash": "solid" if role == "encoder" else "dot"},
                    "marker": {"color": colour, "symbol": MARKS[role], "size": 9},
                    "text": [
                        f"{escape(item.name)}, {escape(item.layer)}<br>{with_interval(item.mse, item.interval)}"
                        for item in found
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
    form = decimals(value for curve in curves for value in curve.mse if value is not None)
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
                # The bars of all baselines at one place would hide each other; theirs are in the text under the pointer.
                "error_y": bars(values, intervals if role in MAIN else [None] * len(values))
                | {"color": colour, "thickness": 1, "width": 3, "visible": role in MAIN},
                "line": {"color": colour, "width": 2 if role in MAIN else 1.3,
                         "dash": DASHES[baselines.index(spec) % len(DASHES)] if spec in baselines else "solid"},
                "marker": {"color": colour, "size": 7,
                           "symbol": SHAPES[baselines.index(spec) % len(SHAPES)] if spec in baselines else MARKS[role]},
                "text": [
                    f"{escape(names.get(spec, spec))}, {number(count)} scenes<br>{with_interval(value, bounds, form)}"
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
