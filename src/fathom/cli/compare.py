"""``fathom compare``: probe runs, or evaluations, in pairs on the test scenes that they share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli.options import Json

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

WIDTH = 140
"""Of tables where no terminal says how wide it is."""


def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of 'fathom probe' or of 'fathom evaluate' runs.")
    ],
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Encoder or model that all are compared with; default: the first one of the first RUN.",
        ),
    ] = None,
    all_pairs: Annotated[
        bool,
        typer.Option("--all-pairs", help="Rank all encoders and compare every pair, corrected for their number."),
    ] = False,
    json: Json = None,
) -> None:
    """Compare the encoders or the models of RUNs, paired on the same test scenes; runs whose test data differ are refused.

    One RUN compares the encoders or models in it.
    """
    from fathom.errors import UsageError
    from fathom.evaluation.result import is_evaluation

    evaluations = [path for path in runs if is_evaluation(path)]
    if evaluations and len(evaluations) < len(runs):
        other = next(path for path in runs if path not in evaluations)
        raise UsageError(f"{evaluations[0]} is an evaluation and {other} is none; compare runs of one kind.")
    if not evaluations:
        _compare_probes(runs, against, all_pairs, json)
    elif all_pairs:
        raise UsageError("--all-pairs compares probe runs; of evaluations give --against.")
    else:
        _compare_evaluations(runs, against, json)


def _compare_evaluations(runs: Sequence[Path], against: str | None, json: Path | None) -> None:
    import msgspec

    from fathom.evaluation.compare import compare as run
    from fathom.evaluation.result import Evaluation
    from fathom.files.atomic import write_json
    from fathom.progress import console
    from fathom.report.evaluation.tables import compared_tables

    names = [str(path) for path in runs]
    found = run([Evaluation.load(path) for path in runs], names, against=against)
    if json is not None:
        write_json(json, msgspec.to_builtins(found))
    _show(console(WIDTH), names, compared_tables(found), found.notes, json)


def _compare_probes(runs: Sequence[Path], against: str | None, all_pairs: bool, json: Path | None) -> None:
    from fathom.files.atomic import write_json
    from fathom.probing.evidence.comparison.compare import compare as run
    from fathom.probing.evidence.comparison.comparison_table import comparison_tables
    from fathom.probing.evidence.comparison.pairs import TESTED
    from fathom.probing.evidence.comparison.ranking import ranking_of
    from fathom.probing.evidence.evidence import Evidence
    from fathom.progress import console

    names = [str(path) for path in runs]
    found = run([Evidence.load(path) for path in runs], names, against=against)
    tables, record = comparison_tables(found), found.to_json()
    if all_pairs:
        rankings = [
            ranking_of(feature, [item for item in items if item.role in TESTED])
            for feature, items in found.measurements.items()
        ]
        ranked = [item for item in rankings if item is not None]
        tables = [table for item in ranked for table in (item.table(), item.pairs_table())]
        record["all_pairs"] = [pair.to_json() for item in ranked for pair in item.pairs]
    if json is not None:
        write_json(json, record)
    _show(console(WIDTH), names, tables, found.notes, json)


def _show(
    screen: Console, names: Sequence[str], tables: Iterable[Table], notes: Iterable[str], json: Path | None
) -> None:
    """Print runs, tables and notes."""
    for number, name in enumerate(names, 1):
        screen.print(f"run {number}: {name}", soft_wrap=True)
    for table in tables:
        screen.print(table)
    for line in notes:
        screen.print(f"note: {line}", soft_wrap=True)
    if json is not None:
        screen.print(f"Written: {json}", soft_wrap=True)
