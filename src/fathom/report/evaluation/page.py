"""The page of an evaluation. Nothing is computed here but what a chart needs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fathom.files.atomic import write_text
from fathom.media.colour import DEPTH_MAP, ERROR_MAP, shared_range
from fathom.progress import count
from fathom.report.evaluation.charts import depth_charts, difference_chart, frames_chart, scores_chart
from fathom.report.evaluation.tables import SEEN, difference_table, heading, numbers, with_short_names
from fathom.report.html import render
from fathom.report.plotly import Figure, number, with_interval
from fathom.report.thumbnails import gradient, indexed, jpeg
from fathom.statistics import LEAST_SCENES

if TYPE_CHECKING:
    from fathom.evaluation.frames import FrameScores, Shown
    from fathom.evaluation.result import Evaluation, Score, Table


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
    models = [result.name for result in with_short_names(record.tables[0])[0].results if result.role == "model"]
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
    table, names = with_short_names(table)
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
        "frames": count(table.frames, "frame"),
        "scenes": count(len(table.scenes), "scene"),
        "intervals": len(table.scenes) >= LEAST_SCENES,
        "protocol": table.protocol.name,
        "description": table.protocol.description,
        "marks": f"{SEEN} trained on scenes that are measured here."
        if any(r.seen_scenes for r in table.results)
        else "",
        "scores": place("Scores", {heading(name): scores_chart(table, name) for name in metrics}, "metric"),
        "table": numbers(table),
        "differences": place(
            "Paired differences", {heading(name): difference_chart(table, name) for name in tested}, "metric"
        ),
        "difference_table": difference_table(table),
        "by_depth": place("Error against depth", depth_charts(table), "error"),
        "every_frame": place(
            "Every frame", {heading(name): frames_chart(table, frames, name) for name in metrics}, "metric"
        ),
        "first": table.results[0].name,
        "album": album,
        "scales": scales,
    }


def _renamed(frame: FrameScores, names: Mapping[str, str]) -> FrameScores:
    return replace(frame, metrics={names[name]: values for name, values in frame.metrics.items()})


def headline(table: Table) -> str:
    """What the first model scores, and how that compares with the mean map."""
    first = table.results[0]
    fitted = "" if first.alignment == "none" else f" ({first.alignment} fitted to the truth of each frame)"
    said = f"{first.name}{fitted}: RMSE {_words(first.scores['rmse'], 'm')}, δ1 {_words(first.scores['delta1'], '')}"
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
    bounds = against.interval
    apart = bounds is not None and not bounds[0] <= 0 <= bounds[1]
    shown = "" if against.better else f"; {'after Holm’s correction ' if apart else ''}no difference is shown"
    if bounds is not None and against.estimate < 0:
        bounds = -bounds[1], -bounds[0]
    interval = f" ({_range(bounds)})" if bounds else ""
    return f"{said}. Its RMSE is {size} m {more} than that of the mean map{interval}{shown}."


def _words(score: Score, unit: str) -> str:
    unit = f" {unit}" if unit else ""
    return f"{number(score.mean)}{unit}" + (f" ({_range(score.interval)})" if score.interval else "")


def _range(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"95 % {number(interval[0])} to {number(interval[1])}"


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
