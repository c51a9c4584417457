"""``fathom adapt``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fathom.cli.options import Device, Json, Quiet


def adapt(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] DATA", help="MODEL: any depth model, the shipped one if left out. DATA: frames with depth."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the adapted model.")] = Path("fathom-adapted"),
    level: Annotated[float, typer.Option("--level", help="Probability of the intervals that are compared.")] = 0.9,
    device: Device = "auto",
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Fit a depth model to your room or camera, in seconds, from a few frames with depth such as an iPhone's LiDAR gives.

    Scale, scale and shift, or a ridge regression on the network's last features, whichever cross-validation prefers. The scores
    before and after are of frames that the fit has not seen.
    """
    from fathom.errors import UsageError
    from fathom.evaluation.adapt import adapt as run
    from fathom.models.shipped import DEFAULT
    from fathom.progress import set_quiet

    set_quiet(quiet)
    if len(arguments) > 2:
        raise UsageError(f"Name a model and one DATA, not {len(arguments)} things.")
    model, data = arguments if len(arguments) == 2 else (DEFAULT, arguments[0])
    found = run(model, data, out, level=level, device=device)
    _print(found, model, data, out)
    if json_file is not None:
        from fathom.files.atomic import write_json

        write_json(json_file, {"schema_version": 1, "model": model, "data": data, **found.table()})


def _print(found: Any, model: str, data: str, out: Path) -> None:
    from rich.table import Table

    from fathom.evaluation.adapt import compared
    from fathom.progress import console, significant

    screen = console()
    what = "scenes" if found.grouped_by == "scene" else "blocks of time"
    table = Table(title=f"{model} on {data}: frames the fit has not seen, {len(found.after)} {what}")
    for heading in ("", "before", "after", "difference, 95 % interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, shown in (("abs_rel", "AbsRel"), ("rmse", "RMSE (m)"), ("delta1", "δ1")):
        values = compared(found, name)
        before = significant(values["before"]) if "before" in values else "no metres"
        known = values.get("low", float("nan"))
        table.add_row(
            shown,
            before,
            significant(values["after"]),
            f"{known:+.3f} to {values['high']:+.3f}" if known == known else "",
        )
    screen.print(table)
    chosen = found.chosen.method + (f" with penalty {found.chosen.penalty:g}" if found.chosen.penalty else "")
    screen.print(f"Chosen by cross-validation over {what}: {chosen}.", soft_wrap=True)
    coverage = found.coverage
    parts = [
        f"{when} {coverage[when]:.3f} (width / depth {coverage[f'width_{when}']:.2f})"
        for when in ("before", "after")
        if coverage[when] is not None
    ]
    if parts:
        screen.print(f"Pixels inside the interval of {coverage['level']:g}: {', '.join(parts)}.", soft_wrap=True)
    if found.grouped_by == "time":
        screen.print(
            "The frames are of one scene: the scores hold for more frames of this capture, and say nothing of other places.",
            soft_wrap=True,
        )
    screen.print(f"Adapted model: {out} (fathom predict {out} PHOTO --interval {coverage['level']:g})", soft_wrap=True)
