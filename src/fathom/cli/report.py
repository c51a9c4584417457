"""``fathom report``: the page of a probe run or an evaluation, and what a paper takes from it, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="Folder of a 'fathom probe' or 'fathom evaluate' run, or its JSON file.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="FILE", help="The page; default: report.html in RUN.")
    ] = None,
    csv: Annotated[
        bool, typer.Option("--csv", help="Also write table.csv: every encoder at its chosen layer.")
    ] = False,
    latex: Annotated[
        bool, typer.Option("--latex", help="Also write table.tex, with a caption, and methods.txt.")
    ] = False,
    figures: Annotated[
        str, typer.Option("--figures", metavar="FORMATS", help="Also write figures, such as svg,pdf.")
    ] = "",
) -> None:
    """Write the report of RUN as one HTML file that needs no network; on request tables, methods and figures for a paper."""
    from fathom.errors import UsageError, nearest
    from fathom.evaluation.result import is_evaluation
    from fathom.files.atomic import write_text
    from fathom.probing.evidence.evidence import Evidence
    from fathom.report.paper.figures import FORMATS, write_figures
    from fathom.report.paper.methods import methods
    from fathom.report.paper.table import paper_table, to_csv, to_latex
    from fathom.report.probe.draw import REPORT
    from fathom.report.probe.page import write_report
    from fathom.report.probe.picture_store import load_pictures

    formats = [name.strip() for name in figures.split(",") if name.strip()]
    for name in formats:
        if name not in FORMATS:
            raise UsageError(f"--figures: there is no format '{name}'{nearest(name, FORMATS)}.")
    folder = run if run.is_dir() else run.parent
    if is_evaluation(run):
        if csv or latex or formats:
            raise UsageError(
                f"{run} is an evaluation: --csv, --latex and --figures are of probe runs (see its per_image.csv)."
            )
        print(f"Written: {_evaluation_page(run, out or folder / 'report.html')}")
        return
    evidence = Evidence.load(run)
    evidence.pictures = load_pictures(evidence, folder)
    path = write_report(evidence, out or folder / REPORT)
    written = [path]
    tables = [paper_table(evidence, feature) for feature in evidence.features]
    texts = {"table.csv": to_csv(tables)} if csv else {}
    texts |= {"table.tex": to_latex(tables), "methods.txt": methods(evidence)} if latex else {}
    for file, text in texts.items():
        write_text(path.parent / file, text)
        written.append(path.parent / file)
    written += write_figures(evidence, tables, path.parent, formats)
    print("Written: " + ", ".join(str(item) for item in written))


def _evaluation_page(run: Path, out: Path) -> Path:
    from fathom.evaluation.result import Evaluation
    from fathom.report.evaluation.page import write_page

    return write_page(Evaluation.load(run, frames=True), out)
