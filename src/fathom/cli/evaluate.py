"""``fathom evaluate``: measure a trained depth network under a named protocol."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fathom.cli.options import Device, Json, Out, Quiet, SkipBad, Workers, parse_size

WIDTH = 120
"""Of tables where no terminal says how wide it is."""


class Align(StrEnum):
    """What is fitted to the truth, image by image, before comparing."""

    none = "none"
    scale = "scale"
    scale_shift = "scale-shift"
    median = "median"


class Part(StrEnum):
    """Which frames are measured."""

    test = "test"
    val = "val"
    all = "all"


def evaluate(
    ctx: typer.Context,
    checkpoint: Annotated[Path, typer.Argument(help="Run, checkpoint or model folder of a depth network.")],
    data: Annotated[str, typer.Argument(help="DATA: rooms, KIND:PATH, or a path whose kind is recognised.")],
    protocol: Annotated[
        str | None,
        typer.Option("--protocol", "-p", help="nyu-eigen, nyu-full, probe3d, diode ...; chosen by the data."),
    ] = None,
    split: Annotated[
        Part | None,
        typer.Option("--split", help="Default: the official test part, else scenes that training did not see."),
    ] = None,
    flip: Annotated[bool, typer.Option("--flip", help="Average with the prediction for the mirrored image.")] = False,
    align: Annotated[Align, typer.Option("--align", help="Fit each prediction to its truth first.")] = Align.none,
    size: Annotated[
        str | None, typer.Option("--size", metavar="HxW", help="Size at which the network sees images; as in training.")
    ] = None,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="Images predicted at once.")] = 8,
    pictures: Annotated[int, typer.Option("--pictures", min=0, help="Best frames and worst frames to draw, each.")] = 3,
    out: Out = Path("fathom-evaluate"),
    json: Json = None,
    device: Device = "auto",
    workers: Workers = 0,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
) -> None:
    """Measure CHECKPOINT on DATA: metrics by image, their means with intervals over scenes, pictures.

    Writes per_image.csv, summary.json, worst_best.png and error_by_depth.png into --out and prints the table.
    """
    import shlex
    import sys

    from fathom.atomic import write_json
    from fathom.evaluation.evaluate import evaluate as run
    from fathom.lock import output_lock
    from fathom.progress import console, set_quiet
    from fathom.report.evaluation import draw

    set_quiet(quiet)
    ctx.with_resource(output_lock(out, "an evaluation"))
    found = run(
        checkpoint,
        data,
        protocol=protocol,
        split=split.value if split else None,
        flip=flip,
        align=align.value,
        size=parse_size(size) if size else None,
        batch_size=batch_size,
        device=device,
        workers=workers,
        skip_bad=skip_bad,
        pictures=pictures,
        command=shlex.join(["fathom", *sys.argv[1:]]),
    )
    written = [*found.save(out), *draw(found, out)]
    if json is not None:
        write_json(json, found.to_json())
    screen = console(WIDTH)
    screen.print(found.table())
    for line in found.notes:
        screen.print(f"note: {line}", soft_wrap=True)
    screen.print(f"Written: {', '.join(map(str, written))}", soft_wrap=True)
