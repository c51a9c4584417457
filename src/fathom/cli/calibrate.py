"""``fathom calibrate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fathom.cli.options import Device, Json, Quiet


def calibrate(
    model: Annotated[str, typer.Argument(help="A metric depth model: a shipped name, a run, hf:ORG/NAME, module:...")],
    data: Annotated[str, typer.Argument(help="DATA with depth, of several scenes that the model was not trained on.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="File to write; by default calibration.json next to the model's weights."),
    ] = None,
    check: Annotated[
        list[str] | None,
        typer.Option("--check", metavar="DATA", help="Other data on which the coverage is measured; may be repeated."),
    ] = None,
    existing: Annotated[
        Path | None, typer.Option("--calibration", help="Check this file on DATA instead of making one.")
    ] = None,
    level: Annotated[float, typer.Option("--level", help="Probability that --check and --calibration look at.")] = 0.9,
    device: Device = "auto",
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Find how far MODEL is off in scenes that it was not trained on, so that 'predict --interval' can say how far to trust it."""
    from fathom.depth_models.calibration import read_calibration
    from fathom.depth_models.opening import open_depth_model
    from fathom.evaluation.calibrate import calibrate as run
    from fathom.evaluation.calibrate import coverage
    from fathom.progress import set_quiet

    set_quiet(quiet)
    opened = open_depth_model(model, device=device)
    if existing is not None:
        found, checks = read_calibration(existing), [data, *(check or ())]
    else:
        target = out or _beside(opened)
        found, checks = run(opened, data), list(check or ())
        found.save(target)
        _print(found, target)
    if checks:
        found.quantile(level)
    measured = {name: coverage(opened, name, found, level) for name in checks}
    for name, result in measured.items():
        _print_check(name, result)
    if json_file is not None:
        from dataclasses import asdict

        from fathom.files.atomic import write_json

        write_json(json_file, {"schema_version": 1, "calibration": asdict(found), "checks": measured})


def _beside(model: Any) -> Path:
    from fathom.depth_models.calibration import FILE
    from fathom.errors import UsageError
    from fathom.models.shipped import FOLDER

    path = model.facts().get("path")
    if path is None or Path(path).is_relative_to(FOLDER):
        raise UsageError(f"'{model.name}' has no folder of yours to write to; name a file: --out calibration.json.")
    return Path(path) / FILE


def _print(found: Any, target: Path) -> None:
    from rich.table import Table

    from fathom.progress import console

    screen = console()
    table = Table(title=f"Intervals of {found.model}, calibrated on {found.scenes} scenes of {found.data}")
    for heading in (
        "interval",
        "d/factor to d·factor",
        "coverage of left-out scenes",
        "width / depth",
        "at constant width",
    ):
        table.add_column(heading, justify="right")
    for level, measured in found.facts["left_out"].items():
        factor = 1 + measured["relative_width"] / 2
        table.add_row(
            level,
            f"about {factor:.2f}",
            f"{measured['coverage']:.3f} ({measured['low']:.3f} - {measured['high']:.3f})",
            f"{measured['relative_width']:.2f}",
            f"{measured['relative_width_constant']:.2f}",
        )
    screen.print(table)
    facts = found.facts
    screen.print(
        f"Ordering of errors by uncertainty (AUSE, 0 is perfect): {facts['ause']:.3f}; without order {facts['ause_constant']:.3f}.\n"
        f"It promises: {facts['promise']}; on average over scenes, not in each, and nothing for other places.\n"
        f"Written: {target}",
        soft_wrap=True,
    )


def _print_check(name: str, result: dict[str, Any]) -> None:
    from fathom.progress import console

    scenes = result["scenes"]
    bounds = "" if result["low"] != result["low"] else f" ({result['low']:.3f} - {result['high']:.3f})"
    console().print(
        f"{name}: {result['coverage']:.3f}{bounds} of the pixels inside the {result['level']:g} interval, {len(scenes)} "
        f"scene{'' if len(scenes) == 1 else 's'}, from {min(scenes.values()):.2f} to {max(scenes.values()):.2f}; mean width / "
        f"depth {result['relative_width']:.2f}. The interval promises nothing here unless these scenes are like those of its "
        "calibration.",
        soft_wrap=True,
    )
