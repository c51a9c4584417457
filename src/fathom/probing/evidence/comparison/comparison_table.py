"""The comparison of runs as tables for the screen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table
from rich.text import Text

from fathom.encoders.spec import short_names
from fathom.probing.evidence.comparison.compare import Comparison
from fathom.probing.evidence.comparison.pairs import TESTED, Pair
from fathom.progress import significant


def comparison_tables(found: Comparison) -> list[Table]:
    """For each feature a table against the reference, and one of the encoders that several runs share.

    Baselines and controls of a later run that equal those of an earlier one up to rounding are left out.
    """
    names = short_names({item.encoder for items in found.measurements.values() for item in items}, 32)
    again = {
        (pair.feature, pair.measurement.run, pair.measurement.name)
        for pair in found.same_name
        if pair.finding == "the same" and pair.measurement.role not in TESTED
    }
    fresh = [
        [pair for pair in pairs if (pair.feature, pair.measurement.run, pair.measurement.name) not in again]
        for pairs in (found.to_reference, found.same_name)
    ]
    tables = []
    for feature, reference in found.references.items():
        own, shared = ([pair for pair in pairs if pair.feature == feature] for pairs in fresh)
        shared = [pair for pair in shared if pair.against is not reference]  # stands in the first table
        who = f"{names[reference.encoder]} at {reference.layer} (run {reference.run})"
        scenes = f"{found.test['scenes']} test scene{'' if found.test['scenes'] == 1 else 's'}"
        title = f"{feature}, {scenes}: difference from {who}, MSE {significant(reference.mse)}"
        tables.append(_table(title, sorted(own, key=lambda pair: -pair.measurement.mse), names, named=False))
        if shared:
            tables.append(_table(f"{feature}: the same encoder in several runs", shared, names, named=True))
    return tables


def difference_cells(pair: Pair) -> list[str]:
    """Difference, the same in percent, its interval, and the corrected p-value."""
    bounds = "too few scenes" if pair.bounds is None else f"{100 * pair.bounds[0]:+.1f} to {100 * pair.bounds[1]:+.1f}"
    p = "" if pair.p_holm is None else "< 0.001" if pair.p_holm < 0.001 else f"{pair.p_holm:.3f}"
    return [significant(pair.difference, "+"), f"{100 * pair.relative.estimate:+.1f}", bounds, p]


DIFFERENCE_HEADS = ("difference", "%", "95 % interval, %", "p (Holm)")
"""Of the columns that `difference_cells` fills."""


def _table(title: str, pairs: Sequence[Pair], names: Mapping[str, str], *, named: bool) -> Table:
    table = Table(title=Text(title), title_justify="left")
    heads = [
        "run",
        "encoder",
        "layer",
        "MSE",
        *(["in run", "MSE there"] if named else []),
        *DIFFERENCE_HEADS,
        "finding",
    ]
    for head in heads:
        table.add_column(head, justify="left" if head in ("encoder", "layer", "finding") else "right", overflow="fold")
    for pair in pairs:
        item, other = pair.measurement, pair.against
        seeds = f", {len(item.seeds)} seeds" if len(item.seeds) > 1 else ""
        cells = [
            str(item.run),
            names[item.encoder] + seeds,
            item.layer,
            significant(item.mse),
            *([str(other.run), significant(other.mse)] if named else []),
            *difference_cells(pair),
            pair.finding,
        ]
        table.add_row(*(Text(cell) for cell in cells), style=None if item.role in TESTED else "dim")
    return table
