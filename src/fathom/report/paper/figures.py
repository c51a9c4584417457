"""Figures of a paper as vector graphics: losses with their intervals, and loss against the number of training scenes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fathom.encoders.spec import short_names
from fathom.files.atomic import atomic_path
from fathom.report.paper.table import PaperTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import LabelCurveRecord

FORMATS = ("svg", "pdf", "png")

COLOURS = {"encoder": "#0b5fa5", "head": "#0b5fa5", "upper_bound": "#2e7d32"}
"""By role; everything else is grey."""

STYLES = ("-", "--", ":", "-.")
"""Lines are told apart without colour too."""

WIDTH = 5.5
"""Inches: a column and a half of most papers."""


def write_figures(evidence: Evidence, tables: Sequence[PaperTable], out: Path, formats: Iterable[str]) -> list[Path]:
    """``losses-FEATURE`` for each table and ``labels-FEATURE`` where there are label curves, in each format, into `out`."""
    formats = tuple(formats)
    written = []
    for table in tables:
        figures = {f"losses-{table.feature}": losses_figure(table)}
        curves = [curve for curve in evidence.label_curves if curve.feature == table.feature]
        if curves:
            figures[f"labels-{table.feature}"] = labels_figure(curves, table)
        for name, figure in figures.items():
            written += [_save(figure, out / f"{name}.{form}", form) for form in formats]
    return written


def losses_figure(table: PaperTable) -> Figure:
    """A dot for each line of the table, the best at the bottom, with its interval."""
    from matplotlib.figure import Figure

    lines = sorted(table.lines, key=lambda line: -line.mse)
    figure = Figure(figsize=(WIDTH, 0.6 + 0.22 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for place, line in enumerate(lines):
        colour = COLOURS.get(line.role, "0.5")
        if line.span is not None:
            axes.plot(line.span, (place, place), color=colour, linewidth=1.2)
        axes.plot([line.mse], [place], "o", color=colour, markersize=4)
    axes.set_yticks(range(len(lines)), [line.name.replace("$", r"\$") for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"test MSE of {table.feature}" + (f", {table.unit}²" if table.unit else ""), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def labels_figure(curves: Sequence[LabelCurveRecord], table: PaperTable) -> Figure:
    """Loss against the number of labelled training scenes, one line an encoder or baseline."""
    from matplotlib.figure import Figure

    names = short_names([curve.encoder for curve in curves], 32)
    figure = Figure(figsize=(WIDTH, 3.2), layout="constrained")
    axes = figure.subplots()
    for place, curve in enumerate(curves):
        points = [(scenes, mse) for scenes, mse in zip(curve.scenes, curve.mse, strict=True) if mse is not None]
        colour = COLOURS.get(curve.role, "0.5")
        style = STYLES[place % len(STYLES)]
        axes.plot(
            *zip(*points, strict=True),
            style,
            color=colour,
            marker="o",
            markersize=3,
            linewidth=1.2,
            label=names[curve.encoder].replace("$", r"\$"),
        )
    axes.set_xlabel("training scenes", fontsize=8)
    axes.set_ylabel(f"test MSE of {table.feature}" + (f", {table.unit}²" if table.unit else ""), fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def _save(figure: Figure, path: Path, form: str) -> Path:
    import matplotlib as mpl

    # Text stays text, so that a paper's editor can find and change it; the same run gives the same file.
    with (
        mpl.rc_context({"svg.fonttype": "none", "pdf.fonttype": 42, "svg.hashsalt": "fathom"}),
        atomic_path(path) as temporary,
    ):
        figure.savefig(
            temporary, format=form, dpi=200, metadata={"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(form)
        )
    return path
