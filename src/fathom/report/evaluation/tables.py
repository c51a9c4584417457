"""The tables of an evaluation as text, for the terminal and for its page."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fathom.metrics.groups import ALL
from fathom.progress import count, printable
from fathom.report.plotly import number, with_interval
from fathom.statistics import LEAST_SCENES

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from fathom.evaluation.compare import Comparison
    from fathom.evaluation.result import Difference, Result, Score, Table

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

SEEN = "†"
"""Mark of a model that was trained on measured scenes."""


def tables(table: Table) -> Iterator[RichTable]:
    """The results and the paired differences, for the terminal."""
    from rich.table import Table as RichTable

    table, _ = with_short_names(table)
    data = table.data
    title = (
        f"{data.location} ({data.part}), protocol {table.protocol.name}: "
        f"{count(table.frames, 'frame')} of {count(len(table.scenes), 'scene')}, mean"
        + (" (95 % interval)" if len(table.scenes) >= LEAST_SCENES else "")
    )
    shown = RichTable(title=printable(title, one_line=True), title_justify="left")
    shown.add_column("")
    shown.add_column("aligned by")
    names = [name for name in HEADLINE if name in table.metrics]
    for name in names:
        shown.add_column(heading(name), justify="right", no_wrap=True)
    models = sum(result.role == "model" for result in table.results)
    for index, result in enumerate(table.results):
        cells = [_narrow(result.scores.get(name)) for name in names]
        shown.add_row(printable(marked(result)), result.alignment, *cells, end_section=index == models - 1)
    yield shown
    if table.differences:
        yield _paired_table("Paired differences over scenes, first − second", table.differences)


def compared_tables(found: Comparison) -> Iterator[RichTable]:
    """The differences of evaluations, for the terminal."""
    for table in found.tables:
        title = (
            f"{table.location}, protocol {table.protocol}, {count(table.frames, 'frame')} of {count(table.scenes, 'scene')}: "
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

    shown = RichTable(title=printable(title, one_line=True), title_justify="left")
    for heading in ("first", "second", "metric", "first − second (95 %)", "p, Holm", "better"):
        shown.add_column(heading, justify="right" if "p," in heading or "95" in heading else "left")
    for item in differences:
        shown.add_row(*map(printable, difference_cells(item)))
    return shown


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names that fit a chart and still differ: without their kind (but for ``probe:``), their options, and folders above.

    As many folders are kept, and then the options, as it takes to tell all names apart.
    """
    split = {name: re.fullmatch(r"(probe:)?(?:[a-z]+:)?([^?]*)(.*)", name, re.DOTALL) for name in names}
    forms = {
        name: (found[1] or "", found[2].rstrip("/").split("/"), found[3]) for name, found in split.items() if found
    }
    most = max((len(parts) for _, parts, _ in forms.values()), default=0)
    for with_options in (False, True):
        for depth in range(1, most + 1):
            tails = {
                name: kind + "/".join(parts[-depth:]) + (options if with_options else "")
                for name, (kind, parts, options) in forms.items()
            }
            if len(set(tails.values())) == len(names) and all(tails.values()):
                return tails
    return {name: name for name in names}


def with_short_names(table: Table) -> tuple[Table, dict[str, str]]:
    """The table with names that fit a chart, and what became of each: paths lose their folders where that is clear."""
    names = short_names([result.name for result in table.results])
    results = tuple(replace(result, name=names[result.name]) for result in table.results)
    differences = tuple(
        replace(item, first=names[item.first], second=names[item.second], better=names.get(item.better, ""))
        for item in table.differences
    )
    return replace(table, results=results, differences=differences), names


def heading(name: str) -> str:
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


def marked(result: Result) -> str:
    return result.name + (f" {SEEN}" if result.seen_scenes else "")


def difference_cells(item: Difference) -> tuple[str, ...]:
    p = "" if item.p_holm is None else "< 0.001" if item.p_holm < 0.001 else f"{item.p_holm:.3f}"
    better = item.better or ("" if item.p_holm is None else "no difference shown")
    return item.first, item.second, heading(item.metric), with_interval(item.estimate, item.interval), p, better


def numbers(table: Table) -> dict[str, Any]:
    """Every score of every line."""
    heads = ["", "kind", "aligned by", *map(heading, table.metrics), "RMSE over all pixels ↓ (m)"]
    lines = [
        {
            "kind": "encoder" if result.role == "model" else "baseline",
            "cells": [
                marked(result),
                result.kind,
                result.alignment,
                *(_cell(result.scores.get(name)) for name in table.metrics),
                _cell(result.pooled_rmse),
            ],
        }
        for result in table.results
    ]
    return {"heads": heads, "lines": lines}


def difference_table(table: Table) -> dict[str, Any]:
    heads = ["first", "second", "metric", "first − second (95 %)", "p, Holm", "better"]
    return {"heads": heads, "lines": [{"kind": "", "cells": difference_cells(item)} for item in table.differences]}
