"""``fathom compare``: probe runs in pairs on the test scenes that they share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fathom.cli.options import Json

WIDTH = 140
"""Of tables where no terminal says how wide it is."""


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of 'fathom probe' runs.")],
    against: Annotated[
        str | None,
        typer.Option(
            "--against", help="Encoder that all are compared with; default: the first encoder of the first RUN."
        ),
    ] = None,
    json: Json = None,
) -> None:
    """Compare the encoders of RUNs, paired on the same test scenes; runs whose test data differ are refused.

    One RUN compares the encoders in it.
    """

    from fathom.atomic import write_json
    from fathom.probing.evidence.compare import compare as run
    from fathom.probing.evidence.evidence import Evidence
    from fathom.progress import console

    names = [str(path) for path in runs]
    found = run([Evidence.load(path) for path in runs], names, against=against)
    if json is not None:
        write_json(json, found.to_json())
    screen = console(WIDTH)
    for number, name in enumerate(names, 1):
        screen.print(f"run {number}: {name}", soft_wrap=True)
    for table in found.tables():
        screen.print(table)
    for line in found.notes:
        screen.print(f"note: {line}", soft_wrap=True)
    if json is not None:
        screen.print(f"Written: {json}", soft_wrap=True)
