"""What the charts of all pages share: Plotly figures as plain dicts, drawn by the page's own script.

Colours of text and lines are left to the page, which knows whether it is light, dark or on paper. Plotly reads its labels as a
little HTML, so every name is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

Figure = dict[str, Any]


LINES = ("#2b7bba", "#d55e00", "#009e73", "#c4699a", "#d98c00", "#56b4e9", "#7a5ab8", "#8c6d31")
"""Of several encoders in one chart."""


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


def number(value: float, digits: str = "#.3g") -> str:
    """Three digits, zeros at the end included, unless told otherwise; with a true minus."""
    text = format(value, digits).rstrip("." if "#" in digits else "")
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def decimals(values: Iterable[float]) -> str:
    """The format that gives every number of a chart the same decimals: three digits of the smallest that is not 0."""
    return f".{decimal_places(values)}f"


def decimal_places(values: Iterable[float]) -> int:
    """As many as show three digits of the smallest value that is not 0, at most six."""
    least = min((abs(value) for value in values if value and math.isfinite(value)), default=1.0)
    return min(max(0, 2 - math.floor(math.log10(least))), 6)


def with_interval(value: float, interval: tuple[float, float] | None, digits: str = "#.3g") -> str:
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
