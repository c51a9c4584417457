"""``fathom evaluate``: depth models and baselines on the same frames, in one table with paired intervals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fathom.cli.options import Device, Json, Out, Quiet, SkipBad, Workers, parse_size

if TYPE_CHECKING:
    from fathom.evaluation.held_out import Split

WIDTH = 120
"""Of tables where no terminal says how wide it is."""


def evaluate(
    ctx: typer.Context,
    given: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL... DATA...",
            help="Depth models, then data. MODEL: a shipped network (fathom predict --help lists them), a run or checkpoint, "
            "hf:ORG/NAME, probe:RUN, module:FILE:FACTORY. DATA: rooms, KIND:PATH, or a path whose kind is recognised.",
        ),
    ],
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", "-p", help="nyu-eigen, kitti-eigen, ibims, diode, native ...; chosen by the data."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            "--split",
            metavar="test|val|all|FILE",
            help="Frames to measure on; FILE of 'fathom data split': its test part. Default: the official test part, else scenes "
            "that no model was trained on.",
        ),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the prediction for the mirrored image.")] = False,
    align: Annotated[
        str | None,
        typer.Option(
            "--align",
            help="Fit each prediction to its truth first: none, median, scale, scale-shift, scale-shift-disparity, "
            "robust-scale, robust-scale-shift. Default: what each model's kind of depth requires.",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", "-m", help="Also: boundaries, edges, points, normals, ordinal. Repeatable."),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Size at which the models see images; each model's own by default."),
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images predicted at once.")] = 8,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Best frames and worst frames to show, each.")] = 3,
    out: Out = Path("fathom-evaluate"),
    json: Json = None,
    device: Device = "auto",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Measure every MODEL on the same frames of every DATA, next to the mean map and a constant.

    Prints means with 95 % intervals over scenes and paired differences; writes report.html, evaluation.json and per_image.csv
    into --out. 'fathom compare' pairs evaluations.
    """
    import shlex
    import sys

    from fathom.evaluation.evaluate import evaluate as run
    from fathom.evaluation.naming import split_models_and_data
    from fathom.files.atomic import write_json
    from fathom.files.lock import output_lock
    from fathom.progress import console, set_quiet
    from fathom.report.evaluation.page import write_page
    from fathom.report.evaluation.tables import tables

    set_quiet(quiet)
    models, data = split_models_and_data(given)
    ctx.with_resource(output_lock(out, "an evaluation"))
    found = run(
        models,
        data,
        protocol=protocol,
        split=_part(split),
        flip=flip,
        align=align,
        metrics=metrics or (),
        size=parse_size(size) if size else None,
        batch_size=batch_size,
        device=device,
        workers=workers,
        skip_bad=skip_bad,
        pictures=pictures,
        command=shlex.join(["fathom", *sys.argv[1:]]),
    )
    written = [write_page(found, out / "report.html"), *found.save(out)]
    if json is not None:
        write_json(json, found.to_json())
        written.append(json)
    screen = console(WIDTH)
    for table in found.record.tables:
        for shown in tables(table):
            screen.print(shown)
        for line in table.notes:
            screen.print(f"note: {line}", soft_wrap=True)
    screen.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)


def _part(text: str | None) -> Split | Path | None:
    """A part by name, or a file that holds a split."""
    from fathom.errors import UsageError, nearest
    from fathom.evaluation.held_out import SPLITS

    for name in SPLITS:
        if text == name:
            return name
    if text is None or Path(text).is_file():
        return None if text is None else Path(text)
    raise UsageError(f"--split: there is no part and no file '{text}'{nearest(text, SPLITS)}.")
