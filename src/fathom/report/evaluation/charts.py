"""The charts of an evaluation as Plotly figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from fathom.metrics.groups import ALL, Metric
from fathom.report.evaluation.tables import marked
from fathom.report.plotly import LINES, Dot, Figure, axis, dots, layout, number, with_interval

if TYPE_CHECKING:
    from fathom.evaluation.by_depth import Band
    from fathom.evaluation.frames import FrameScores
    from fathom.evaluation.result import Result, Table

MODEL, BASELINE = "#2b7bba", "#8a9099"


def scores_chart(table: Table, name: str) -> Figure:
    """One metric of every line, the best at the bottom."""
    metric = ALL[name]
    rows = [
        Dot(marked(result), result.scores[name].mean, result.scores[name].interval, result.role)
        for result in table.results
        if name in result.scores
    ]
    rows.sort(key=lambda row: row.value, reverse=not metric.higher)
    kinds = {"model": ("model", MODEL, "diamond"), "baseline": ("baseline", BASELINE, "circle")}
    figure = dots(rows, _title(metric), kinds)
    figure["layout"]["xaxis"]["rangemode"] = "nonnegative"  # as every metric is, also where one dot stands alone
    return figure


def difference_chart(table: Table, name: str) -> Figure:
    items = [item for item in table.differences if item.metric == name]
    rows = [
        Dot(f"{item.first} − {item.second}", item.estimate, item.interval, "clear" if item.better else "open")
        for item in items
    ]
    kinds = {
        "clear": ("p below 0.05 after Holm", MODEL, "diamond"),
        "open": ("no difference shown", BASELINE, "diamond-open"),
    }
    better = "right" if ALL[name].higher else "left"
    return dots(
        rows, f"difference of {_title(ALL[name])}; {better} of 0: the first is better", kinds, lines=[(0.0, "0")]
    )


def _title(metric: Metric) -> str:
    return metric.label + (f", {metric.unit}" if metric.unit else "")


_BY_DEPTH: dict[str, tuple[Callable[[Band], float], Callable[[Band], tuple[float, float] | None], str]] = {
    "RMSE": (lambda band: band.rmse, lambda band: band.rmse_interval, "RMSE, m"),
    "mean of prediction − truth": (lambda band: band.bias, lambda band: band.bias_interval, "prediction − truth, m"),
    "AbsRel": (lambda band: band.abs_rel, lambda band: None, "AbsRel"),
}


def depth_charts(table: Table) -> dict[str, Figure]:
    """RMSE, bias and AbsRel of every line against true depth."""
    made = {}
    for title, (value, interval, unit) in _BY_DEPTH.items():
        traces: list[Figure] = []
        for index, result in enumerate(table.results):
            colour = LINES[index % len(LINES)]
            traces += _depth_traces(result, colour, value, interval)
        far = max((band.depth for result in table.results for band in result.by_depth), default=1.0)
        near = min((band.depth for result in table.results for band in result.by_depth), default=1.0)
        log = far > 30 * near
        made[title] = {
            "data": traces,
            "layout": layout(
                420,
                xaxis=axis("true depth, m", type="log" if log else "linear", zeroline=False),
                yaxis=axis(unit, zeroline=title.startswith("mean")),
            ),
        }
    return made


def _depth_traces(
    result: Result,
    colour: str,
    value: Callable[[Band], float],
    interval: Callable[[Band], tuple[float, float] | None],
) -> Iterator[Figure]:
    bands = result.by_depth
    depths = [band.depth for band in bands]
    name = escape(result.name)
    yield {
        "type": "scatter",
        "mode": "lines+markers",
        "name": name,
        "legendgroup": name,
        "x": depths,
        "y": [value(band) for band in bands],
        "line": {"color": colour, "width": 2, "dash": "solid" if result.role == "model" else "dot"},
        "marker": {"color": colour, "size": 5},
        "text": [
            f"{name}<br>{band.nearest:.2f} to {band.farthest:.2f} m<br>{with_interval(value(band), interval(band))}"
            for band in bands
        ],
        "hoverinfo": "text",
    }
    known = [(band.depth, bounds) for band in bands if (bounds := interval(band)) is not None]
    if known and result.role == "model":
        x = [depth for depth, _ in known]
        yield {
            "type": "scatter",
            "mode": "none",
            "fill": "toself",
            "legendgroup": name,
            "showlegend": False,
            "x": [*x, *x[::-1]],
            "y": [*(high for _, (_, high) in known), *(low for _, (low, _) in known[::-1])],
            "fillcolor": f"{colour}26",
            "hoverinfo": "skip",
        }


def frames_chart(table: Table, frames: Sequence[FrameScores], metric: str) -> Figure:
    """A dot a frame and model; scenes from left to right."""
    order = {scene: index for index, scene in enumerate(table.scenes)}
    scored = sorted((frame for frame in frames if frame.metrics), key=lambda frame: order[frame.scene])
    traces = []
    for index, result in enumerate(table.results):
        if result.role != "model":
            continue
        known = [(x, f, f.metrics[result.name].get(metric, float("nan"))) for x, f in enumerate(scored)]
        known = [item for item in known if item[2] == item[2]]
        traces.append(
            {
                "type": "scattergl" if len(known) > 2000 else "scatter",
                "mode": "markers",
                "name": escape(result.name),
                "x": [x for x, _, _ in known],
                "y": [value for _, _, value in known],
                "marker": {"color": LINES[index % len(LINES)], "size": 6, "opacity": 0.75},
                "text": [
                    f"{escape(result.name)}<br>{escape(frame.scene)}, {escape(frame.id)}<br>{number(value)}"
                    for _, frame, value in known
                ],
                "hoverinfo": "text",
            }
        )
    starts = [x for x, frame in enumerate(scored) if x == 0 or scored[x - 1].scene != frame.scene]
    shapes = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": x - 0.5, "x1": x - 0.5, "y0": 0, "y1": 1, "layer": "below",
         "line": {"color": "#8a9099", "width": 0.5}}
        for x in starts[1:]
    ]  # fmt: skip
    return {
        "data": traces,
        "layout": layout(
            360,
            xaxis=axis("frames by scene", showgrid=False, zeroline=False, showticklabels=False),
            yaxis=axis(_title(ALL[metric]), zeroline=False),
            shapes=shapes,
        ),
    }
