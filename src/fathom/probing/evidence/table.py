"""The ladder of a run as a table for the terminal: one line for each encoder and baseline, the worst first."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from fathom.encoders.spec import short_names
from fathom.probing.evidence.records import Row
from fathom.progress import significant
from fathom.statistics import LEAST_SCENES

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence

ANGLES = {
    "mean °": ("angle_mean", 2), "median °": ("angle_median", 2), "< 11.25°": ("angle_11", 3), "< 22.5°": ("angle_22", 3),
    "< 30°": ("angle_30", 3),
}  # fmt: skip
"""Heads of the columns of directions: attribute of the row, and decimals."""

CLASSES = {"accuracy": "accuracy", "miou": "mIoU", "iou": "IoU"}
"""Heads of the columns of classes and masks, by attribute of the row."""

STYLES = {"baseline": "dim", "random": "dim", "permuted": "dim", "upper_bound": "green"}
"""How a row of each role is printed; the encoders stand out."""


def ladder_table(evidence: Evidence, feature: str, layers: bool) -> Table:
    """The ladder: one line an encoder at its chosen layer (or one a layer), worst first."""
    rows = [row for row in evidence.rows if row.feature == feature and (layers or row.chosen)]
    depth = any(row.abs_rel is not None for row in rows)
    classes = [name for name in CLASSES if any(getattr(row, name) is not None for row in rows)]
    angles = any(row.angle_mean is not None for row in rows)
    unit = f" ({rows[0].unit})" if rows and rows[0].unit else ""
    title = f"{feature}{unit}: test loss on a {evidence.grid[0]}x{evidence.grid[1]} grid, {len(evidence.test_scenes)} unseen scenes"
    table = Table(title=title, title_justify="left", caption=_caption(evidence, depth), caption_justify="left")
    table.add_column("encoder", overflow="fold")
    table.add_column("layer")
    heads = ["channels", "λ", "MSE", "95 % interval", "RMSE", "/ pixels", "R²"]
    for head in (
        heads
        + (["AbsRel", "δ1"] if depth else [])
        + [CLASSES[name] for name in classes]
        + (list(ANGLES) if angles else [])
    ):
        table.add_column(head, justify="right")
    names = short_names([row.encoder for row in evidence.rows], 32)
    for group in _by_seed(rows):
        cells = _cells(names[group[0].encoder], group, layers, depth, classes, angles)
        table.add_row(*cells, style=STYLES.get(group[0].role))
    return table


def layer_table(evidence: Evidence, feature: str) -> Table:
    """The verdict on every layer of every encoder, in the order of the layers."""
    title = f"{feature}: verdict for each layer (p-values after Holm over all of them)"
    table = Table(title=title, title_justify="left")
    for head in ("encoder", "layer", "MSE", "least gain, %", "95 % interval, %", "p implicit", "p absent", "verdict"):
        table.add_column(head, justify="left" if head in ("encoder", "layer", "verdict") else "right", overflow="fold")
    names = short_names([row.encoder for row in evidence.rows], 32)
    for item in evidence.layer_verdicts:
        if item.feature == feature:
            least = item.gains[0] if item.gains else None
            ends = (None, None) if least is None else (least.low, least.high)
            table.add_row(
                names[item.encoder],
                str(item.layer),
                significant(item.encoder_mse),
                "" if least is None or least.estimate is None else f"{100 * least.estimate:+.1f}",
                "too few scenes"
                if None in ends
                else " to ".join(f"{100 * end:+.1f}" for end in ends if end is not None),
                _number(item.p_implicit, 3),
                _number(item.p_absent, 3),
                item.verdict,
            )
    return table


def _caption(evidence: Evidence, depth: bool) -> str:
    method = evidence.interval_method
    words = f"λ and layer chosen by cross-validation over training scenes; intervals over test scenes ({method})."
    if depth:
        words += f" AbsRel and δ1 at full resolution, protocol {evidence.protocol.name}."
    return words


def _by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of the same control that differ in the seed of the weights alone, together; the worst mean loss first."""
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        alone = () if row.role == "random" and row.chosen else (row.layer, str(row.seed))
        groups.setdefault((row.encoder, *alone), []).append(row)
    return sorted(groups.values(), key=lambda group: -math.fsum(row.test_mse for row in group) / len(group))


def _cells(
    name: str, group: Sequence[Row], layers: bool, depth: bool, classes: Sequence[str], angles: bool
) -> list[str]:
    """One line of the table; of several seeds the means, and their range in place of the interval."""
    row, seeds = group[0], len(group)

    def mean(name: str) -> float | None:
        values = [getattr(item, name) for item in group]
        return None if None in values else math.fsum(values) / seeds

    mse = [item.test_mse for item in group]
    few = sum(cells > 0 for cells in row.cells) < LEAST_SCENES
    interval = " – ".join(map(significant, row.interval)) if row.interval else "too few scenes" if few else "unbounded"
    if seeds > 1:
        interval = f"{seeds} seeds: {significant(min(mse))} – {significant(max(mse))}"
    chosen = list(dict.fromkeys(item.layer for item in group))
    loss = math.fsum(mse) / seeds
    cells = [
        name,
        "/".join(chosen) + ("*" if layers and row.chosen else ""),
        str(row.channels),
        f"{row.penalty:.0e}" if row.channels and row.penalty and seeds == 1 else "",
        significant(loss),
        interval,
        significant(loss**0.5),
        _number(mean("ratio_to_pixels"), 3),
        _number(mean("r2"), 3),
    ]
    cells += [_number(mean("abs_rel"), 3), _number(mean("delta1"), 3)] if depth else []
    cells += [_number(mean(name), 3) for name in classes]
    return cells + ([_number(mean(name), digits) for name, digits in ANGLES.values()] if angles else [])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
