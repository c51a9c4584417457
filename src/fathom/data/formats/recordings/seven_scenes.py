"""``seven-scenes:`` — 7-Scenes (Shotton et al. 2013) and recordings in its file names, in sequences or in one flat folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fathom.data.formats.poses import given_camera, read_camera, read_text
from fathom.data.formats.views import View, ViewSource, counted, in_both, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching
from fathom.sample import Intrinsics

CAMERA = Intrinsics(585.0, 585.0, 320.0, 240.0)
"""Of the 640x480 depth map, as published; the colour camera was not calibrated."""

UNKNOWN = (0, 65535)


def recognise(path: Path) -> bool:
    """Whether a folder holds frames named as in 7-Scenes, itself or in its sequences."""
    patterns = ("", "seq-*/", "*/seq-*/")
    return path.is_dir() and any(
        next(path.glob(f"{prefix}frame-*.color.*"), None) is not None
        and next(path.glob(f"{prefix}frame-*.depth.png"), None) is not None
        for prefix in patterns
    )


def open_seven_scenes(
    path: Path,
    *,
    part: Literal["all", "train", "test"] = "all",
    depth_scale: float | None = None,
    intrinsics: str | None = None,
    every: int = 1,
    skip_bad: bool = False,
) -> ViewSource:
    """Open 7-Scenes at any level: all rooms, one room, one sequence, or a flat folder of frames.

    Args:
        path: the folder.
        part: sequences that ``TrainSplit.txt`` or ``TestSplit.txt`` lists. The official split is by sequence: each room is
            in both parts.
        depth_scale: below 1 metres a count, else counts a metre; millimetres by default.
        intrinsics: ``fx,fy,cx,cy`` of the stored images; by default ``camera-intrinsics.txt``, else those published.
        every: keep each n-th frame of a room; neighbours in a video are nearly the same.
        skip_bad: leave out incomplete frames.
    """
    left_out: list[str] | None = [] if skip_bad else None
    folders = sorted(
        {file.parent for prefix in ("", "seq-*/", "*/seq-*/") for file in matching(path, f"{prefix}frame-*.color.*")}
    )
    views: list[View] = []
    parts: dict[str, str] = {}
    rooms = [_room(folder) for folder in folders]
    for folder, room in zip(folders, rooms, strict=True):
        side = _side(folder, room)
        if part != "all" and side != part:
            continue
        camera = given_camera(intrinsics) or _camera(folder)
        # One room needs no folder in the names of its frames.
        name = room.name if folder.resolve() == room else f"{room.name}/{folder.name}"
        for view in _views(folder, name, room.name, camera, left_out):
            views.append(view)
            if side is not None:
                parts[view.id] = side
    depth = counted(depth_scale, 0.001, UNKNOWN)
    facts = {
        "depth": str(depth),
        "registration": "Microsoft's own frames are raw, so that colour and depth are some pixels apart",
        "scene": "room; all sequences of a room are one scene",
    }
    if parts:
        facts["official split"] = (
            "by sequence, so that each room is in both parts: choose one by part=train or part=test"
        )
    if part != "all":
        facts["part"] = part
    return view_source(
        "seven-scenes",
        path,
        views,
        depth,
        facts,
        wanted=f"frame-000000.color.png with frame-000000.depth.png, in seq-NN/ or side by side{_of(part)}",
        left_out=left_out,
        parts=parts,
        every=every,
    )


def _of(part: str) -> str:
    return "" if part == "all" else f", of sequences that {part.capitalize()}Split.txt lists"


def _room(folder: Path) -> Path:
    """The folder of the room that a folder of frames belongs to."""
    whole = folder.resolve()
    return whole.parent if re.fullmatch(r"seq-?\d+", whole.name) else whole


def _side(folder: Path, room: Path) -> str | None:
    """The official part that the room's lists put a sequence in."""
    match = re.fullmatch(r"seq-?([0-9]{1,9})", folder.resolve().name)
    if match is None:
        return None
    for part in ("train", "test"):
        table = room / f"{part.capitalize()}Split.txt"
        if table.is_file() and int(match[1]) in (
            int(number) for number in re.findall(r"\b[0-9]{1,9}\b|(?<=[a-z])[0-9]{1,9}\b", read_text(table))
        ):
            return part
    return None


def _camera(folder: Path) -> Intrinsics:
    for place in (folder, folder.parent):
        table = place / "camera-intrinsics.txt"
        if table.is_file():
            return read_camera(table)
    return CAMERA


def _views(folder: Path, name: str, room: str, camera: Intrinsics, left_out: list[str] | None) -> list[View]:
    images = {file.name.split(".")[0]: file for file in matching(folder, "frame-*.color.*")}
    depths = {file.name.split(".")[0]: file for file in matching(folder, "frame-*.depth.png")}
    if len(images) < len(matching(folder, "frame-*.color.*")):
        raise DataError(folder, "has two images of one frame", "keep one of each")
    poses = {file.name.split(".")[0]: file for file in matching(folder, "frame-*.pose.txt")}
    return [
        View(f"{name}/{key}", room, images[key], depths[key], camera, poses.get(key))
        for key in in_both(images, depths, left_out)
    ]
