"""The page and the tables of an evaluation. Nothing is computed here but what a chart needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fathom.files.atomic import write_text
from fathom.media.colour import DEPTH_MAP, ERROR_MAP, shared_range
from fathom.metrics.groups import ALL, Metric
from fathom.report.charts import LINES, Dot, Figure, axis, dots, layout, number, with_interval
from fathom.report.html import render
from fathom.report.thumbnails import gradient, indexed, jpeg

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from fathom.evaluation.by_depth import Band
    from fathom.evaluation.compare import Comparison
    from fathom.evaluation.result import Difference, Evaluation, FrameScores, Result, Score, Shown, Table

HEADLINE = (
    "abs_rel",
    "rmse",
    "silog",
    "delta1",
    "boundary_f1",
    "dbe_accuracy",
    "points_f5cm",
    "normal_mean",
    "ordinal",
)
"""Columns of the terminal's table, as far as they were measured; the page has all of them."""
MODEL, BASELINE = "#2b7bba", "#8a9099"
SEEN = "†"
"""Mark of a model that was trained on measured scenes."""


def tables(table: Table) -> Iterator[RichTable]:
    """The results and the paired differences, for the terminal."""
    from rich.table import Table as RichTable

    from fathom.progress import printable

    table, _ = _short_names(table)
    data = table.data
    title = (
        f"{data.location} ({data.part}), protocol {table.protocol.name}: "
        f"{table.frames} frames of {len(table.scenes)} scenes, mean (95 % interval)"
    )
    shown = RichTable(title=printable(title, one_line=True), title_justify="left")
    shown.add_column("")
    shown.add_column("aligned by")
    names = [name for name in HEADLINE if name in table.metrics]
    for name in names:
        shown.add_column(_heading(name), justify="right", no_wrap=True)
    models = sum(result.role == "model" for result in table.results)
    for index, result in enumerate(table.results):
        cells = [_narrow(result.scores.get(name)) for name in names]
        shown.add_row(printable(_marked(result)), result.alignment, *cells, end_section=index == models - 1)
    yield shown
    if table.differences:
        yield _paired_table("Paired differences over scenes, first − second", table.differences)


def compared_tables(found: Comparison) -> Iterator[RichTable]:
    """The differences of evaluations, for the terminal."""
    for table in found.tables:
        title = (
            f"{table.location}, protocol {table.protocol}, {table.frames} frames of {table.scenes} scenes: "
            f"differences from {table.reference}"
        )
        names = short_names([line.name for line in table.lines])
        short = [
            replace(item, first=names[item.first], second=names[item.second], better=names.get(item.better, ""))
            for item in table.differences
        ]
        yield _paired_table(title, short)


def _paired_table(title: str, differences: Sequence[Difference]) -> RichTable:
    from rich.table import Table as RichTable

    from fathom.progress import printable

    shown = RichTable(title=printable(title, one_line=True), title_justify="left")
    for heading in ("first", "second", "metric", "first − second (95 %)", "p, Holm", "better"):
        shown.add_column(heading, justify="right" if "p," in heading or "95" in heading else "left")
    for item in differences:
        shown.add_row(*map(printable, _difference_cells(item)))
    return shown


def write_page(evaluation: Evaluation, path: str | Path) -> Path:
    """Write the page of an evaluation to `path`, whole or not at all."""
    write_text(path, page(evaluation))
    return Path(path)


def page(evaluation: Evaluation) -> str:
    """The page as HTML."""
    figures: dict[str, Figure] = {}
    record = evaluation.record
    parts = [
        _part(table, frames, [shown for shown in evaluation.shown if shown.table == index], figures)
        for index, (table, frames) in enumerate(zip(record.tables, evaluation.frames, strict=True))
    ]
    models = [result.name for result in _short_names(record.tables[0])[0].results if result.role == "model"]
    places = ", ".join(Path(table.data.location).name for table in record.tables)
    return render(
        "evaluation.html",
        title=f"Depth of {', '.join(models)}",
        about=places,
        version=record.versions.get("fathom", ""),
        data={"figures": figures},
        parts=parts,
        facts=list(_facts(evaluation)),
    )


@dataclass(frozen=True)
class _Chart:
    """A place for a chart on the page; with `choices` a select shows one of several."""

    id: str
    what: str
    height: int
    label: str = ""
    choices: tuple[str, ...] = ()


def _part(
    table: Table, frames: Sequence[FrameScores], shown: Sequence[Shown], figures: dict[str, Figure]
) -> dict[str, Any]:
    """What the template shows of one data set."""
    table, names = _short_names(table)
    frames = [_renamed(frame, names) for frame in frames]
    shown = [
        replace(
            one,
            scores=_renamed(one.scores, names),
            predictions={names[name]: values for name, values in one.predictions.items()},
        )
        for one in shown
    ]

    def place(what: str, choices: Mapping[str, Figure], label: str) -> _Chart | None:
        if not choices:
            return None
        key = f"chart-{len(figures)}"
        listed = list(choices.values())
        figures[key] = {"choices": listed}
        offered = tuple(choices) if len(listed) > 1 else ()
        return _Chart(key, what, max(figure["layout"]["height"] for figure in listed), label, offered)

    metrics = table.metrics
    tested = list(dict.fromkeys(item.metric for item in table.differences))
    album, scales = _album(shown) if shown else ([], [])
    return {
        "title": f"{Path(table.data.location).name}, {table.data.part}",
        "headline": headline(table),
        "notes": table.notes,
        "frames": table.frames,
        "scenes": len(table.scenes),
        "protocol": table.protocol.name,
        "description": table.protocol.description,
        "marks": f"{SEEN} trained on scenes that are measured here."
        if any(r.seen_scenes for r in table.results)
        else "",
        "scores": place("Scores", {_heading(name): _scores_chart(table, name) for name in metrics}, "metric"),
        "table": _numbers(table),
        "differences": place(
            "Paired differences", {_heading(name): _difference_chart(table, name) for name in tested}, "metric"
        ),
        "difference_table": _difference_table(table),
        "by_depth": place("Error against depth", _depth_charts(table), "error"),
        "every_frame": place(
            "Every frame", {_heading(name): _frames_chart(table, frames, name) for name in metrics}, "metric"
        ),
        "first": table.results[0].name,
        "album": album,
        "scales": scales,
    }


def short_names(names: Sequence[str]) -> dict[str, str]:
    """The last parts of each path among `names`, as many as tell them all apart."""
    parts = {name: name.rstrip("/").split("/") for name in names}
    for depth in range(1, max(map(len, parts.values())) + 1):
        tails = {name: "/".join(own[-depth:]) for name, own in parts.items()}
        if len(set(tails.values())) == len(tails):
            return tails
    return {name: name for name in names}


def _short_names(table: Table) -> tuple[Table, dict[str, str]]:
    """The table with names that fit a chart, and what became of each: paths lose their folders where that is clear."""
    names = short_names([result.name for result in table.results])
    results = tuple(replace(result, name=names[result.name]) for result in table.results)
    differences = tuple(
        replace(item, first=names[item.first], second=names[item.second], better=names.get(item.better, ""))
        for item in table.differences
    )
    return replace(table, results=results, differences=differences), names


def _renamed(frame: FrameScores, names: Mapping[str, str]) -> FrameScores:
    return replace(frame, metrics={names[name]: values for name, values in frame.metrics.items()})


def headline(table: Table) -> str:
    """What the first model scores, and how that compares with the mean map."""
    first = table.results[0]
    said = f"{first.name}: RMSE {_words(first.scores['rmse'], 'm')}, δ1 {_words(first.scores['delta1'], '')}"
    against = next(
        (
            d
            for d in table.differences
            if d.metric == "rmse" and d.first == first.name and d.second.startswith("mean map")
        ),
        None,
    )
    if against is None:
        return f"{said}."
    size = with_interval(abs(against.estimate), None)
    more = "less" if against.estimate < 0 else "more"
    shown = "" if against.better else "; no difference is shown"
    bounds = against.interval
    if bounds is not None and against.estimate < 0:
        bounds = -bounds[1], -bounds[0]
    interval = f" ({_range(bounds)})" if bounds else ""
    return f"{said}. Its RMSE is {size} m {more} than that of the mean map{interval}{shown}."


def _heading(name: str) -> str:
    metric = ALL[name]
    return f"{metric.label} {'↑' if metric.higher else '↓'}" + (f" ({metric.unit})" if metric.unit else "")


def _cell(score: Score | None) -> str:
    return "" if score is None else with_interval(score.mean, score.interval)


def _narrow(score: Score | None) -> str:
    """A mean above its interval."""
    if score is None:
        return ""
    bounds = "" if score.interval is None else "\n" + "–".join(map(number, score.interval))
    return number(score.mean) + bounds


def _words(score: Score, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    return f"{number(score.mean)}{unit}" + (f" ({_range(score.interval)})" if score.interval else "")


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"95 % {number(interval[0])} to {number(interval[1])}"


def _marked(result: Result) -> str:
    return result.name + (f" {SEEN}" if result.seen_scenes else "")


def _difference_cells(item: Difference) -> tuple[str, ...]:
    p = "" if item.p_holm is None else "< 0.001" if item.p_holm < 0.001 else f"{item.p_holm:.3f}"
    better = item.better or ("" if item.p_holm is None else "no difference shown")
    return item.first, item.second, _heading(item.metric), with_interval(item.estimate, item.interval), p, better


def _numbers(table: Table) -> dict[str, Any]:
    """Every score of every line."""
    heads = ["", "kind", "aligned by", *map(_heading, table.metrics), "RMSE over all pixels ↓ (m)"]
    lines = [
        {
            "kind": "encoder" if result.role == "model" else "baseline",
            "cells": [
                _marked(result),
                result.kind,
                result.alignment,
                *(_cell(result.scores.get(name)) for name in table.metrics),
                _cell(result.pooled_rmse),
            ],
        }
        for result in table.results
    ]
    return {"heads": heads, "lines": lines}


def _difference_table(table: Table) -> dict[str, Any]:
    heads = ["first", "second", "metric", "first − second (95 %)", "p, Holm", "better"]
    return {"heads": heads, "lines": [{"kind": "", "cells": _difference_cells(item)} for item in table.differences]}


def _scores_chart(table: Table, name: str) -> Figure:
    """One metric of every line, the best at the bottom."""
    metric = ALL[name]
    rows = [
        Dot(_marked(result), result.scores[name].mean, result.scores[name].interval, result.role)
        for result in table.results
        if name in result.scores
    ]
    rows.sort(key=lambda row: row.value, reverse=not metric.higher)
    kinds = {"model": ("model", MODEL, "diamond"), "baseline": ("baseline", BASELINE, "circle")}
    return dots(rows, _title(metric), kinds)


def _difference_chart(table: Table, name: str) -> Figure:
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


def _depth_charts(table: Table) -> dict[str, Figure]:
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


def _frames_chart(table: Table, frames: Sequence[FrameScores], metric: str) -> Figure:
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


def _album(shown: Sequence[Shown]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Best and worst frames as small pictures, and the two scales that all of them share."""
    truths = [_known(frame.depth[0].numpy(), frame.valid[0].numpy()) for frame in shown]
    gaps = [
        {name: _known(values.numpy() - truth, np.isfinite(truth)) for name, values in frame.predictions.items()}
        for frame, truth in zip(shown, truths, strict=True)
    ]
    low, high = shared_range(truths)
    most = max(shared_range([np.abs(gap) for maps in gaps for gap in maps.values()])[1], 1e-3)
    frames = []
    for frame, truth, errors in zip(shown, truths, gaps, strict=True):
        pictures = [
            {"title": "photograph, truth", "below": "", "above": jpeg(frame.image.permute(1, 2, 0).numpy()),
             "under": indexed(truth, low, high, DEPTH_MAP), "alt": "true depth"}
        ]  # fmt: skip
        for name, values in frame.predictions.items():
            scores = frame.scores.metrics[name]
            pictures.append(
                {"title": name, "below": f"AbsRel {scores['abs_rel']:.3f}, RMSE {scores['rmse']:.2f} m",
                 "above": indexed(values.numpy(), low, high, DEPTH_MAP), "under": indexed(errors[name], -most, most, ERROR_MAP),
                 "alt": "error"}
            )  # fmt: skip
        frames.append({"title": f"{frame.place}: {frame.scores.scene}, {frame.scores.id}", "pictures": pictures})
    scales = [
        {"background": gradient(DEPTH_MAP), "words": (f"{low:.1f} m", "depth", f"{high:.1f} m")},
        {"background": gradient(ERROR_MAP), "words": (f"−{most:.1f} m, too near", "error", f"+{most:.1f} m, too far")},
    ]
    return frames, scales


def _known(values: NDArray[np.floating], valid: NDArray[np.bool_]) -> NDArray[np.floating]:
    return np.where(valid, values, np.nan)


def _facts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    record = evaluation.record
    yield "command", record.command or "from Python"
    for table in record.tables:
        data = table.data
        yield (
            "data",
            f"{data.location} ({data.kind}), {data.part}: {data.frames} frames, fingerprint {data.fingerprint}",
        )
        yield "protocol", table.protocol.description
        for key, value in data.facts.items():
            yield f"data: {key}", value
    for result in record.tables[0].results:
        if result.role == "model":
            seen = (
                "" if result.input_size is None else f", images seen at {result.input_size[0]}x{result.input_size[1]}"
            )
            licence = f", licence {result.licence}" if result.licence else ""
            facts = "".join(f", {key} {value}" for key, value in result.facts.items())
            yield result.name, f"{result.kind}, aligned by {result.alignment}{seen}{licence}{facts}"
    settings = record.settings
    yield "mirrored image averaged in", "yes" if settings.flip else "no"
    yield "intervals", f"95 %, {settings.interval_method}"
    yield "device", settings.device
    yield "versions", ", ".join(f"{key} {value}" for key, value in record.versions.items())
