"""``fathom report``: the page of a probe run or an evaluation with what a paper takes from it, and the card of a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[
        Path,
        typer.Argument(
            help="Folder of a 'fathom probe' or 'fathom evaluate' run, or its JSON file; or a network trained with Fathom."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="PATH",
            help="The page, by default report.html in RUN; of a network the folder of its card, by default card in RUN.",
        ),
    ] = None,
    evaluation: Annotated[
        list[Path] | None,
        typer.Option(
            "--evaluation",
            metavar="FOLDER",
            help="Of a network: a 'fathom evaluate' run whose scores and worst frames its card shows; may be repeated.",
        ),
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
    """Write the report of RUN as one HTML file that needs no internet; on request tables, methods and figures for a paper.

    Of a network trained with Fathom it writes the model card: README.md with its pictures.
    """
    from fathom.errors import UsageError, nearest
    from fathom.evaluation.result import is_evaluation
    from fathom.files.atomic import write_text
    from fathom.models.saved import is_network
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
    paper = csv or latex or bool(formats)
    if is_network(run):
        if paper:
            raise UsageError(f"{run} is a network: --csv, --latex and --figures are of probe runs.")
        print(f"Written: {_card(run, out, evaluation or [])}")
        return
    if evaluation:
        raise UsageError(f"--evaluation belongs to the card of a network, and {run} is none.")
    if is_evaluation(run):
        if paper:
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


def _card(network: Path, out: Path | None, evaluations: list[Path]) -> Path:
    from fathom.errors import UsageError
    from fathom.report.model_card import write_card

    if out is None and not (network / "checkpoints").is_dir():
        raise UsageError(f"Name the folder of the card of {network}: --out FOLDER.")
    return write_card(network, out or network / "card", evaluations)


def _evaluation_page(run: Path, out: Path) -> Path:
    from fathom.evaluation.result import Evaluation
    from fathom.report.evaluation.page import write_page

    return write_page(Evaluation.load(run, frames=True), out)
