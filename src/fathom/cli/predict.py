"""``fathom predict``."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathom.cli.options import Device, Json, Quiet, SkipBad, parse_size
from fathom.errors import DataError, UsageError

if TYPE_CHECKING:
    from fathom.depth_models.predict import Prediction
    from fathom.media.images import Found
    from fathom.sample import Intrinsics

SHOWN = 20
"""Rows of the table on the screen; --json holds all."""


class Cloud(StrEnum):
    """Formats of point clouds."""

    ply = "ply"


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="Run, checkpoint or model folder of a depth network.")],
    images: Annotated[list[Path], typer.Argument(help="Images, or folders that are searched for images.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results; made if missing.")],
    npy: Annotated[bool, typer.Option("--npy", help="Also write float32 metres as NAME_depth.npy.")] = False,
    pointcloud: Annotated[
        Cloud | None, typer.Option("--pointcloud", help="Also write a coloured point cloud NAME.ply.")
    ] = None,
    fov: Annotated[
        float | None,
        typer.Option("--fov", help="Horizontal field of view in degrees, for point clouds; 60 along the longer side."),
    ] = None,
    intrinsics: Annotated[
        str | None, typer.Option("--intrinsics", metavar="FX,FY,CX,CY", help="Camera in pixels of the image.")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option("--size", metavar="HxW", help="Size at which the network sees each image; as in training."),
    ] = None,
    near: Annotated[float | None, typer.Option("--near", help="Metres at the near end of the colour scale.")] = None,
    far: Annotated[float | None, typer.Option("--far", help="Metres at the far end of the colour scale.")] = None,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Read depth from images: 16-bit PNG in millimetres, a colour map with a scale, and more on request."""
    from fathom.depth_models.predict import open_depth_model
    from fathom.depth_models.predict import predict as predict_depth
    from fathom.media.images import find_images
    from fathom.progress import note, set_quiet, track

    set_quiet(quiet)
    working = parse_size(size) if size else None
    view = _intrinsics(intrinsics)
    if (fov is not None or view is not None) and pointcloud is None:
        raise UsageError("--fov and --intrinsics describe the camera of a point cloud; add --pointcloud ply.")
    found = find_images(images, out)
    trained = open_depth_model(checkpoint)
    if pointcloud and fov is None and view is None:
        from fathom.media.pointcloud import DEFAULT_FOV

        note(f"No camera is given: point clouds assume {DEFAULT_FOV:g} degrees across the image's longer side.")
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for item in track(found, "predicting"):
        try:
            prediction = predict_depth(trained, item.path, size=working, device=device)
        except DataError as error:
            if not skip_bad:
                raise
            skipped.append({"image": _shown(item.path), "reason": _shown(error)})
            continue
        files = _save(prediction, item, out, npy=npy, near=near, far=far)
        if pointcloud:
            files.append(prediction.pointcloud(_target(out, item, "ply"), intrinsics=view, fov=fov))
        rows.append(_row(prediction, item, files))
    _print(rows, skipped, out)
    if json_file is not None:
        from fathom.atomic import write_json

        record = {
            "schema_version": 1, "checkpoint": _shown(trained.path), "model": trained.model_name,
            "images": rows, "skipped": skipped,
        }  # fmt: skip
        write_json(json_file, record)
    if not rows:
        raise DataError(
            images[0], f"gave no image that can be read ({len(skipped)} left out)", skipped[0]["reason"].rstrip(".")
        )


def _intrinsics(text: str | None) -> Intrinsics | None:
    from fathom.sample import Intrinsics

    if text is None:
        return None
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--intrinsics '{text}' is not four numbers FX,FY,CX,CY.") from None
    return Intrinsics(fx, fy, cx, cy)


def _target(out: Path, item: Found, output: str) -> Path:
    from fathom.media.images import OUTPUTS

    return out / (item.name + OUTPUTS[output])


def _save(
    prediction: Prediction, item: Found, out: Path, *, npy: bool, near: float | None, far: float | None
) -> list[Path]:
    from fathom.depth_models.predict import DepthRangeWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DepthRangeWarning)  # said with the results, for all images at once
        files = [prediction.save_png16(_target(out, item, "depth"))]
    files.append(prediction.save_colour(_target(out, item, "colour"), near=near, far=far))
    if npy:
        files.append(prediction.save_npy(_target(out, item, "npy")))
    return files


def _row(prediction: Prediction, item: Found, files: list[Path]) -> dict[str, Any]:
    import numpy as np

    least, median, most = (float(v) for v in np.nanquantile(prediction.depth, (0, 0.5, 1)))
    return {
        "image": _shown(item.path),
        "name": _shown(item.name),
        "size": list(prediction.depth.shape),
        "input_size": list(prediction.input_size),
        "nearest": least,
        "median": median,
        "farthest": most,
        "beyond_png": prediction.beyond_png(),
        "files": [_shown(file) for file in files],
    }


def _shown(value: object) -> str:
    """Text that can be printed whatever bytes a file's name is made of."""
    return str(value).encode("utf-8", "replace").decode()


def _print(rows: list[dict[str, Any]], skipped: list[dict[str, str]], out: Path) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    if rows:
        table = Table(title=f"Depth in metres, {len(rows)} image{'s' if len(rows) > 1 else ''}")
        table.add_column("name", overflow="fold")
        for heading in ("size", "nearest", "median", "farthest"):
            table.add_column(heading, justify="right")
        for row in rows[:SHOWN]:
            depths = (f"{row[key]:.2f}" for key in ("nearest", "median", "farthest"))
            table.add_row(escape(row["name"]), "x".join(map(str, row["size"])), *depths)
        console.print(table)
        if len(rows) > SHOWN:
            console.print(f"... and {len(rows) - SHOWN} more; --json FILE lists all.")
        console.print(
            f"Written to {escape(_shown(out))}: NAME_depth.png (millimetres), NAME_colour.png", soft_wrap=True
        )
    for row in rows:
        if row["beyond_png"]:
            console.print(
                f"{escape(row['image'])}: {row['beyond_png']} pixels lie beyond 65.535 m, the most that 16 bits of "
                "millimetres hold, and are stored as 65.535 m; --npy keeps them.",
                soft_wrap=True,
            )
    for entry in skipped:
        console.print(f"Left out: {escape(entry['reason'])}", soft_wrap=True)
