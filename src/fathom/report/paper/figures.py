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

ROLES = {
    "baseline": ("baseline", "0.5", "o"),
    "random": ("untrained or permuted copy", "#b36b00", "^"),
    "permuted": ("untrained or permuted copy", "#b36b00", "^"),
    "encoder": ("encoder", "#0b5fa5", "D"),
    "head": ("non-linear head", "#0b5fa5", "*"),
    "upper_bound": ("upper bound", "#2e7d32", "s"),
}
"""Role -> what the legend says, colour and mark; marks tell roles apart without colour."""

HUES = ("#0b5fa5", "#c0392b", "#2e7d32", "#8e44ad", "#b36b00", "#16788a")
"""Of several encoders' lines."""

STYLES = ("-", "--", ":", "-.")
MARKS = "osv^PX*Dd<>"
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
    figure = Figure(figsize=(WIDTH, 0.8 + 0.22 * len(lines)), layout="constrained")
    axes = figure.subplots()
    for place, line in enumerate(lines):
        words, colour, mark = ROLES[line.role]
        if line.span is not None:
            axes.plot(line.span, (place, place), color=colour, linewidth=1.2)
        axes.plot([line.mse], [place], mark, color=colour, markersize=4, label=words)
    axes.set_yticks(range(len(lines)), [line.name.replace("$", r"\$") for line in lines], fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"test MSE of {table.feature}" + (f", {table.unit}²" if table.unit else ""), fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    once = dict(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(once.values(), once.keys(), loc="outside lower center", ncols=len(once), fontsize=7, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def labels_figure(curves: Sequence[LabelCurveRecord], table: PaperTable) -> Figure:
    """Loss against the number of labelled training scenes, one line an encoder or baseline."""
    from matplotlib.figure import Figure

    names = short_names([curve.encoder for curve in curves], 32)
    figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
    axes = figure.subplots()
    encoders = [curve.encoder for curve in curves if curve.role == "encoder"]
    for place, curve in enumerate(curves):
        points = [(scenes, mse) for scenes, mse in zip(curve.scenes, curve.mse, strict=True) if mse is not None]
        main = curve.role == "encoder"
        colour = HUES[encoders.index(curve.encoder) % len(HUES)] if main else ROLES[curve.role][1]
        axes.plot(
            *zip(*points, strict=True),
            linestyle="-" if main else STYLES[1 + place % (len(STYLES) - 1)],
            color=colour,
            marker=MARKS[place % len(MARKS)],
            markersize=4,
            linewidth=1.4 if main else 1.0,
            label=names[curve.encoder].replace("$", r"\$"),
        )
    axes.set_xscale("log")
    ticks = sorted({round(scenes) for curve in curves for scenes in curve.scenes})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("training scenes", fontsize=8)
    axes.set_ylabel(f"test MSE of {table.feature}" + (f", {table.unit}²" if table.unit else ""), fontsize=8)
    axes.tick_params(labelsize=8)
    figure.legend(loc="outside lower center", ncols=3, fontsize=7, frameon=False)
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
