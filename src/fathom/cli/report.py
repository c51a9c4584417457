"""``fathom report``: the page of a probe run, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a 'fathom probe' run, or its evidence.json.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page; default: report.html in RUN.")
    ] = None,
) -> None:
    """Write the report of RUN as one HTML file that needs no network."""
    from fathom.probing.evidence.evidence import Evidence
    from fathom.report.page import write_report
    from fathom.report.picture_store import load_pictures
    from fathom.report.probe import REPORT

    folder = run if run.is_dir() else run.parent
    evidence = Evidence.load(run)
    evidence.pictures = load_pictures(evidence, folder)
    path = write_report(evidence, out or folder / REPORT)
    print(f"Written: {path}")
