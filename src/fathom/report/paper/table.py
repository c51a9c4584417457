"""The table of a paper: one line an encoder at its chosen layer, as CSV and as LaTeX, with a caption that states its terms."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fathom.report.plotly import decimal_places
from fathom.report.probe.predictors import Predictor, predictors

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.records import Row

ORDER = ("baseline", "permuted", "random", "encoder", "head", "upper_bound")
"""Groups of lines, from top to bottom."""

MEANINGS = {
    "pixels": "Pixels: mean colour of the cell.",
    "patch": "Patch: mean colours of the cells around it.",
    "mean-map": "Mean-map: mean of the training frames at each cell.",
    "permuted": "Permuted: the trained weights, shuffled in each tensor.",
    "banded": "Banded: all layers, a penalty for each.",
}
"""What the caption says of a name in the table, where it stands there."""

MARKS = {"implicit": r"$\bullet$", "absent": r"$\circ$", "inconclusive": "?"}
"""How a verdict is drawn in LaTeX; any other is spelt out."""


@dataclass(frozen=True)
class Column:
    """A column of numbers.

    Attributes:
        key: in the CSV. head: in LaTeX.
        value: of a row, None where it has none.
        decimals: of every number in the column, trailing zeros kept.
        larger: whether larger is better.
    """

    key: str
    head: str
    value: Callable[[Row], float | None]
    decimals: int = 3
    larger: bool = True


@dataclass(frozen=True)
class PaperTable:
    """The lines and columns of one feature.

    Attributes:
        feature, unit: what was probed for.
        lines: baselines, controls, encoders, each group worst first. columns: those that any line fills.
        verdicts: by encoder.
        caption: what a reader must know, in one paragraph of plain text.
    """

    feature: str
    unit: str
    lines: tuple[Predictor, ...]
    columns: tuple[Column, ...]
    verdicts: Mapping[str, str]
    caption: str

    def verdict(self, line: Predictor) -> str:
        """Of an encoder; empty for every other line, and a trained head's is not that of its encoder."""
        return self.verdicts.get(line.rows[0].encoder, "") if line.role == "encoder" else ""

    def best(self, column: Column) -> Predictor | None:
        """The encoder that is best in a column; None with fewer than two encoders that have a number there."""
        found = [
            (value, line)
            for line in self.lines
            if line.role == "encoder" and (value := line.mean(column.value)) is not None
        ]
        if len(found) < 2:
            return None
        return (max if column.larger else min)(found, key=lambda pair: pair[0])[1]


def paper_table(evidence: Evidence, feature: str) -> PaperTable:
    """The table of one feature."""
    lines = predictors(evidence, feature, 32)
    lines.sort(key=lambda line: ORDER.index(line.role) if line.role in ORDER else len(ORDER))  # each group worst first
    columns = [
        column
        for column in _columns([row for line in lines for row in line.rows])
        if any(line.mean(column.value) is not None for line in lines)
    ]
    verdicts = {item.encoder: item.verdict for item in evidence.verdicts if item.feature == feature}
    unit = lines[0].rows[0].unit if lines else ""
    caption = _caption(evidence, feature, lines, columns)
    return PaperTable(feature, unit, tuple(lines), tuple(columns), verdicts, caption)


def _columns(rows: Sequence[Row]) -> list[Column]:
    digits = decimal_places(row.test_mse for row in rows)
    return [
        Column("mse", "MSE", lambda row: row.test_mse, digits, larger=False),
        Column("ratio_to_pixels", r"MSE / pixels", lambda row: row.ratio_to_pixels, larger=False),
        Column("r2", "$R^2$", lambda row: row.r2),
        Column("abs_rel", "AbsRel", lambda row: row.abs_rel, larger=False),
        Column("delta1", r"$\delta_1$", lambda row: row.delta1),
        Column("accuracy", "accuracy", lambda row: row.accuracy),
        Column("miou", "mIoU", lambda row: row.miou),
        Column("iou", "IoU", lambda row: row.iou),
        Column("angle_mean", r"mean angle", lambda row: row.angle_mean, 2, larger=False),
        Column("angle_median", r"median angle", lambda row: row.angle_median, 2, larger=False),
        Column("angle_11", r"$<11.25^\circ$", lambda row: row.angle_11),
        Column("angle_22", r"$<22.5^\circ$", lambda row: row.angle_22),
        Column("angle_30", r"$<30^\circ$", lambda row: row.angle_30),
    ]


def _caption(evidence: Evidence, feature: str, lines: Sequence[Predictor], columns: Sequence[Column]) -> str:
    train, test = evidence.data.train, evidence.data.test
    unit = f", {rows_unit}²" if (rows_unit := lines[0].rows[0].unit) else ""
    words = [
        f"Linear probes for {feature}: mean squared error (MSE{unit}) on a grid of {evidence.grid[0]}×{evidence.grid[1]} cells, "
        f"input {evidence.size[0]}×{evidence.size[1]} pixels, over {test.frames} frames of {len(evidence.test_scenes)} test scenes of {Path(test.location).name} "
        f"that no probe was fitted on ({train.frames} frames of {train.scenes} scenes to fit on).",
        "Layer and penalty are chosen by cross-validation over training scenes.",
        f"Intervals are 95 % over test scenes: the {evidence.interval_method}.",
    ]
    if any(len(line.rows) > 1 for line in lines):
        seeds = max(len(line.rows) for line in lines)
        words.append(f"Random: mean of {seeds} sets of random weights, with their range in place of the interval.")
    named = {name for line in lines for name in (line.role, line.name, *line.layer.split("/"))}
    words += [meaning for name, meaning in MEANINGS.items() if name in named]
    if any(column.key == "abs_rel" for column in columns):
        words.append(f"AbsRel and δ1 are at full resolution, protocol {evidence.protocol.name}.")
    if any(item.feature == feature for item in evidence.verdicts):
        words.append(
            "Verdict: implicit where the encoder beats every baseline and its untrained copies, absent where a gain of "
            f"{100 * evidence.verdicts[0].margin:g} % over a baseline is ruled out."
        )
    if sum(line.role == "encoder" for line in lines) > 1:
        words.append("The best encoder of each column is bold.")
    return " ".join(words)


def fixed(value: float | None, decimals: int) -> str:
    """With so many decimals, trailing zeros kept; empty for None."""
    return "" if value is None else f"{value:.{decimals}f}"


def to_csv(tables: Sequence[PaperTable]) -> str:
    """All tables in one, a column for the feature and one for each number and each end of the interval."""
    keys = list(dict.fromkeys(column.key for table in tables for column in table.columns))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["feature", "unit", "encoder", "role", "layer", "seeds", *keys, "mse_low", "mse_high", "verdict"])
    for table in tables:
        columns = {column.key: column for column in table.columns}
        for line in table.lines:
            numbers = [
                fixed(line.mean(columns[key].value), columns[key].decimals) if key in columns else "" for key in keys
            ]
            ends = [fixed(end, table.columns[0].decimals) for end in line.span or (None, None)]
            own = [table.feature, table.unit, line.rows[0].encoder, line.role, line.layer, len(line.rows)]
            writer.writerow([*own, *numbers, *ends, table.verdict(line)])
    return text.getvalue()


def to_latex(tables: Sequence[PaperTable]) -> str:
    """A ``table`` environment for each feature; needs the package booktabs."""
    return "\n".join(_latex(table) for table in tables)


def _latex(table: PaperTable) -> str:
    verdicts = bool(table.verdicts)
    heads = ["encoder", "layer", *(column.head for column in table.columns)]
    heads.insert(3, r"95\,\%")
    body, before = [], ""
    for line in table.lines:
        if before and line.role != before and "encoder" in (line.role, before):
            body.append(r"\midrule")
        before = line.role
        body.append(" & ".join(_latex_cells(table, line) + ([_mark(table.verdict(line))] if verdicts else [])) + r" \\")
    used = [name for name in MARKS if name in table.verdicts.values()]
    legend = " Verdicts: " + ", ".join(f"{MARKS[name]} {name}" for name in used) + "." if used else ""
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small\setlength{\tabcolsep}{4pt}",
        rf"\caption{{{escaped(table.caption)}{legend}}}",
        rf"\label{{tab:probe-{table.feature.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{ll{'r' * (len(heads) - 2)}{'c' if verdicts else ''}}}",
        r"\toprule",
        " & ".join(heads + (["verdict"] if verdicts else [])) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _latex_cells(table: PaperTable, line: Predictor) -> list[str]:
    name = f"{line.name} (upper bound)" if line.role == "upper_bound" else line.name
    cells = [escaped(name), "--" if line.role == "baseline" else escaped(line.layer)]
    for column in table.columns:
        number = fixed(line.mean(column.value), column.decimals)
        cells.append(rf"\textbf{{{number}}}" if table.best(column) is line else number)
    ends = [fixed(end, table.columns[0].decimals) for end in line.span or ()]
    cells.insert(3, "--".join(ends))
    return cells


def _mark(verdict: str) -> str:
    return MARKS.get(verdict, escaped(verdict))


def escaped(text: str) -> str:
    """Plain text for LaTeX."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "…": r"\ldots{}", "×": r"$\times$",
               "δ": r"$\delta$", "λ": r"$\lambda$", "–": "--", "²": r"\textsuperscript{2}"}  # fmt: skip
    return "".join(special.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text)
