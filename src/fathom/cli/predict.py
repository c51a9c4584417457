"""``fathom predict``."""

from __future__ import annotations

import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fathom.cli.options import Device, Json, Quiet, SkipBad, parse_size, shipped_depth_networks
from fathom.errors import DataError, UsageError

if TYPE_CHECKING:
    from fathom.depth_models.model import DepthModel
    from fathom.depth_models.predict import Options
    from fathom.depth_models.prediction import Prediction, PredictionInterval
    from fathom.media.inputs import Input
    from fathom.sample import Intrinsics

SHOWN = 20
"""Rows of the table on the screen; --json holds all."""


class Cloud(StrEnum):
    """Formats of point clouds."""

    ply = "ply"


def predict(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] INPUT...",
            help=f"MODEL: a shipped network ({', '.join(shipped_depth_networks())}), a run or checkpoint folder, "
            "probe:RUN, hf:ORG/NAME or hf:FOLDER, module:FILE:FACTORY?kind=KIND. Left out: the shipped default. "
            "INPUT: images, folders, 'patterns*', .r3d, any DATA.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for results; made if missing.")] = Path(
        "fathom-predict"
    ),
    npy: Annotated[bool, typer.Option("--npy", help="Also write float32 metres as NAME_depth.npy.")] = False,
    pointcloud: Annotated[
        Cloud | None, typer.Option("--pointcloud", help="Also write a coloured point cloud NAME.ply.")
    ] = None,
    fov: Annotated[float | None, typer.Option("--fov", help="Horizontal field of view of the camera, degrees.")] = None,
    intrinsics: Annotated[
        str | None, typer.Option("--intrinsics", metavar="FX,FY,CX,CY", help="Camera in pixels of the image.")
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option(
            "--known", metavar="X,Y=METRES", help="A known distance fixes the scale; twice for affine models."
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            "--size", metavar="HxW", help="Size at which the model sees each image; its own choice by default."
        ),
    ] = None,
    near: Annotated[float | None, typer.Option("--near", help="Metres at the near end of the colour scale.")] = None,
    far: Annotated[float | None, typer.Option("--far", help="Metres at the far end of the colour scale.")] = None,
    interval: Annotated[
        float | None,
        typer.Option(
            "--interval", metavar="P", help="Also write lower and upper metres of a calibrated interval: 0.9."
        ),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="File of 'fathom calibrate'; by default the one that lies with the model."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Neighbouring images of one size predicted at once.")
    ] = 1,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    json_file: Json = None,
    quiet: Quiet = False,
) -> None:
    """Read depth from images: 16-bit PNG in millimetres, a colour map with its scale, a JSON sidecar, and more on request."""
    from fathom.depth_models.opening import open_depth_model, split_model
    from fathom.depth_models.predict import Options
    from fathom.depth_models.scale import parse_known
    from fathom.media.inputs import find_inputs
    from fathom.progress import set_quiet

    set_quiet(quiet)
    working = parse_size(size) if size else None
    points = tuple(parse_known(text) for text in known or ())
    name, given = split_model(inputs)
    model = open_depth_model(name, device=device, input_size=working)
    quantiles = None if interval is None else _calibration(model, calibration, interval)
    options = Options(fov, _intrinsics(intrinsics), points, batch_size, interval, quantiles)
    _refuse_metres(model, options, pointcloud=pointcloud is not None, scale=near is not None or far is not None)
    found = find_inputs(given, out, skip_bad=skip_bad)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    assumed = 0
    for item, prediction in _predictions(model, found, options, skipped, skip_bad):
        files = _save(prediction, item, out, npy=npy, near=near, far=far, cloud=pointcloud is not None)
        rows.append(_row(prediction, item, files))
        assumed += prediction.camera.origin == "assumed"
    if assumed and (pointcloud or model.uses_camera):
        _say_assumed(assumed, len(rows), model)
    _print(rows, skipped, out, model)
    if json_file is not None:
        from fathom.files.atomic import write_json

        about = {"name": _shown(model.name), "kind": model.kind, "licence": model.licence or None, **model.facts()}
        write_json(json_file, {"schema_version": 1, "model": about, "images": rows, "skipped": skipped})
    if not rows:
        raise DataError(
            given[0], f"gave no image that can be read ({len(skipped)} left out)", skipped[0]["reason"].rstrip(".")
        )


def _calibration(model: DepthModel, file: Path | None, level: float) -> Any:
    """The calibration that the intervals come from, checked before any image is read."""
    from fathom.depth_models.calibration import calibration_of, read_calibration
    from fathom.progress import note

    found = read_calibration(file) if file is not None and model.kind == "metric" else calibration_of(model)
    found.quantile(level)
    note(
        f"Intervals of {level:g}: calibrated on {found.scenes} scenes of {found.data}; they promise {level:.0%} of the pixels of "
        "new scenes like those, on average over scenes, and nothing for other places."
    )
    return found


def _predictions(
    model: DepthModel, found: list[Input], options: Options, skipped: list[dict[str, str]], skip_bad: bool
) -> Any:
    """(input, prediction) of all that can be read, in order; what cannot is added to `skipped`, or is the error."""
    from fathom.depth_models.predict import predictions, read_scene
    from fathom.progress import track

    kept: list[Input] = []

    def readable() -> Any:
        for item in found:
            try:
                scene = read_scene(item.read(), options)
            except DataError as error:
                if not skip_bad:
                    raise
                skipped.append({"image": _shown(item.shown), "reason": _shown(error)})
                continue
            kept.append(item)
            yield scene

    for index, prediction in enumerate(track(predictions(model, readable(), options), "predicting", len(found))):
        yield kept[index], prediction


def _intrinsics(text: str | None) -> Intrinsics | None:
    from fathom.sample import Intrinsics

    if text is None:
        return None
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--intrinsics '{text}' is not four numbers FX,FY,CX,CY.") from None
    return Intrinsics(fx, fy, cx, cy, origin="given")


def _refuse_metres(model: DepthModel, options: Options, *, pointcloud: bool, scale: bool) -> None:
    """Before anything is read: what needs metres is refused of a model that gives none."""
    if model.kind == "metric" or options.known or not (pointcloud or scale):
        return
    wanted = "--pointcloud" if pointcloud else "--near and --far"
    times = "--known X,Y=METRES" + ("" if model.kind == "scale-invariant" else " twice")
    raise UsageError(
        f"{wanted} takes metres, and '{model.name}' gives {model.kind} values, which have no unit; fix the scale by {times}, or "
        "use a metric model."
    )


def _save(
    prediction: Prediction, item: Input, out: Path, *, npy: bool, near: float | None, far: float | None, cloud: bool
) -> list[Path]:
    """Write what was asked for of one image, and the sidecar that describes it."""
    from fathom.media.depth_files import DepthRangeWarning
    from fathom.media.inputs import targets

    files = []
    if prediction.kind == "metric":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DepthRangeWarning)  # said with the results, for all images at once
            files.append(prediction.save_png16(targets(out, item, "depth")))
        if npy:
            files.append(prediction.save_npy(targets(out, item, "npy")))
        if prediction.interval is not None:
            files += _save_interval(prediction.interval, item, out, npy)
    else:
        output = "disparity" if prediction.kind == "affine-disparity" else "relative"
        files.append(prediction.save_npy(targets(out, item, output)))
    files.append(prediction.save_colour(targets(out, item, "colour"), near=near, far=far))
    if cloud:
        files.append(prediction.pointcloud(targets(out, item, "ply")))
    files.append(prediction.save_sidecar(targets(out, item, "sidecar"), [_shown(file.name) for file in files]))
    return files


def _save_interval(interval: PredictionInterval, item: Input, out: Path, npy: bool) -> list[Path]:
    from fathom.media.depth_files import DepthRangeWarning, save_npy, save_png16
    from fathom.media.inputs import targets

    files = []
    for end, metres in (("lower", interval.lower), ("upper", interval.upper)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DepthRangeWarning)
            files.append(save_png16(metres, targets(out, item, end)))
        if npy:
            files.append(save_npy(metres, targets(out, item, f"{end}_npy")))
    return files


def _row(prediction: Prediction, item: Input, files: list[Path]) -> dict[str, Any]:
    import numpy as np

    least, median, most = (float(v) for v in np.nanquantile(prediction.values, (0, 0.5, 1)))
    record = prediction.record()
    return {
        "image": _shown(item.shown),
        "name": _shown(item.name),
        **{key: record[key] for key in ("size", "kind", "unit", "camera", "scale_operations")},
        "input_size": record["model"]["input_size"],
        "least": least,
        "median": median,
        "most": most,
        "beyond_png": prediction.beyond_png() if prediction.kind == "metric" else 0,
        "files": [_shown(file) for file in files],
    }


def _shown(value: object) -> str:
    """Text that can be printed whatever bytes a file's name is made of."""
    return str(value).encode("utf-8", "replace").decode()


def _say_assumed(count: int, images: int, model: DepthModel) -> None:
    from fathom.data.camera import ASSUMED_FOV
    from fathom.progress import note

    scale = "metres scale with it" if model.unit else "the values depend on it"
    effect = scale if model.uses_camera else "a wrong angle stretches point clouds sideways"
    note(
        f"No camera is known of {count} of {images} images: {ASSUMED_FOV:g} degrees across the longer side are assumed, and "
        f"{effect}; --fov or --intrinsics state it."
    )


def _print(rows: list[dict[str, Any]], skipped: list[dict[str, str]], out: Path, model: DepthModel) -> None:
    from rich.table import Table

    from fathom.media.colour_map import LABELS
    from fathom.progress import console, count, significant

    screen = console()
    if rows:
        label = LABELS[rows[0]["kind"]]
        title = f"{label[0].upper()}{label[1:]}, {count(len(rows), 'image')}, by {model.name}"
        table = Table(title=_shown(title))
        table.add_column("name", overflow="fold")
        for heading in ("size", "least", "median", "most", "camera"):
            table.add_column(heading, justify="right")
        for row in rows[:SHOWN]:
            values = (
                f"{row[key]:.2f}" if row["unit"] else significant(row[key]) for key in ("least", "median", "most")
            )
            table.add_row(row["name"], "x".join(map(str, row["size"])), *values, row["camera"]["origin"])
        screen.print(table)
        if len(rows) > SHOWN:
            screen.print(f"... and {len(rows) - SHOWN} more; --json FILE lists all.")
        written = ", ".join(
            f"NAME{Path(file).name.removeprefix(Path(rows[0]['name']).name)}" for file in rows[0]["files"]
        )
        screen.print(f"Written to {_shown(out)}: {written}", soft_wrap=True)
    for row in rows:
        if row["beyond_png"]:
            screen.print(
                f"{row['image']}: {row['beyond_png']} pixels lie beyond 65.535 m, the most that 16 bits of "
                "millimetres hold, and are stored as 65.535 m; --npy keeps them.",
                soft_wrap=True,
            )
    for entry in skipped:
        screen.print(f"Left out: {entry['reason']}", soft_wrap=True)
