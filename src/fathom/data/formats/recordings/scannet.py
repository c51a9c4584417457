"""``scannet:`` — ScanNet (Dai et al. 2017) as its SensorData tool exports it: a folder of colour, depth and poses a scan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from fathom.data.formats.poses import read_camera, table_rows
from fathom.data.formats.views import View, ViewSource, by_number, counted, in_both, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching

CAMERAS = ("intrinsic/intrinsic_color.txt", "intrinsics_color.txt", "intrinsic_color.txt")
"""Where exports keep the camera of the colour image."""

LIST = "scannetv2_{}.txt"
"""The benchmark's lists of scans, one a line, by part."""

_LEVELS = ("", "*/", "*/*/")


def _is_scan(path: Path) -> bool:
    return any((path / name).is_file() for name in CAMERAS) and (path / "color").is_dir() and (path / "depth").is_dir()


def recognise(path: Path) -> bool:
    """Whether a folder is an exported scan or holds some."""
    return path.is_dir() and any(
        _is_scan(file.parent.parent if file.parent.name == "intrinsic" else file.parent)
        for level in _LEVELS
        for name in CAMERAS
        for file in path.glob(level + name)
    )


def _listed(path: Path) -> dict[str, str]:
    """The official part of each scan, from the lists in the folder or above it."""
    whole = path.resolve()
    found: dict[str, str] = {}
    for part in ("train", "val", "test"):
        tables = (folder / LIST.format(part) for folder in (whole, whole.parent, whole.parent.parent))
        table = next((file for file in tables if file.is_file()), None)
        if table is not None:
            found |= {row[0]: part for row in table_rows(table)}
    return found


def room_of(scan: str) -> str:
    """The room of a scan: ``scene0000_00`` and ``scene0000_01`` are one."""
    return re.sub(r"(?<=^scene\d{4})_\d\d$", "", scan)


def open_scannet(
    path: Path,
    *,
    part: Literal["all", "train", "val", "test"] = "all",
    depth_scale: float | None = None,
    every: int = 1,
    skip_bad: bool = False,
) -> ViewSource:
    """Open one exported scan or a folder of them.

    Args:
        path: a folder with ``color/``, ``depth/``, ``pose/`` and ``intrinsic/``, or a folder of such folders.
        part: scans that ``scannetv2_train.txt``, ``_val.txt`` or ``_test.txt`` lists, in the folder or up to two above it.
        depth_scale: below 1 metres a count, else counts a metre; millimetres by default.
        every: keep each n-th frame of a room; neighbours in a video are nearly the same.
        skip_bad: leave out incomplete frames.
    """
    left_out: list[str] | None = [] if skip_bad else None
    scans = sorted({p for level in _LEVELS for p in ([path] if not level else matching(path, level)) if _is_scan(p)})
    listed = _listed(path)
    if part not in ("all", *listed.values()):
        raise DataError(
            path, f"has no {LIST.format(part)} with a scan to tell the part {part}", "put it into the folder"
        )
    views: list[View] = []
    for scan in scans:
        name = scan.resolve().name
        if part not in ("all", listed.get(name)):
            continue
        camera = read_camera(next(scan / file for file in CAMERAS if (scan / file).is_file()))
        images, depths = by_number(matching(scan / "color", "*")), by_number(matching(scan / "depth", "*"))
        poses = by_number(matching(scan / "pose", "*.txt"))
        views += [
            View(f"{name}/{key}", room_of(name), images[key], depths[key], camera, poses.get(key))
            for key in in_both(images, depths, left_out)
        ]
    parts = {view.id: listed[name] for view in views if (name := view.id.partition("/")[0]) in listed}
    depth = counted(depth_scale, 0.001)
    facts = {
        "depth": str(depth),
        "scene": "room; its scans _00, _01 ... are one scene",
        "pose": "camera to world; -inf, where tracking was lost, is unknown",
    }
    if listed:
        facts["official split"] = f"{', '.join(LIST.format(one) for one in dict.fromkeys(listed.values()))}; {part}"
    return view_source(
        "scannet",
        path,
        views,
        depth,
        facts,
        wanted="<scene>/color/0.jpg with depth/0.png, pose/ and intrinsic/intrinsic_color.txt"
        + ("" if part == "all" else f", of scans that {LIST.format(part)} lists"),
        left_out=left_out,
        parts=parts,
        every=every,
    )
