"""``kitti:`` — KITTI depth (Uhrig et al. 2017): sparse depth from accumulated laser scans, with KITTI's raw images."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

from fathom.data.formats.poses import camera_of, read_camera, read_text
from fathom.data.formats.views import CountedDepth, View, ViewSource, by_number, in_both, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching
from fathom.sample import Intrinsics

SCALE = 1 / 256
"""Metres per count."""

SELECTION = "val_selection_cropped"
_DRIVE = re.compile(r"\d{4}_\d\d_\d\d_drive_\d{4}(_sync)?")
_TRUTH = "proj_depth/groundtruth/image_0[23]"


def _selection(path: Path) -> Path | None:
    """The folder of the official selection of 1000 validation frames."""
    for folder in (path, path / SELECTION, path / "depth_selection" / SELECTION):
        if (folder / "groundtruth_depth").is_dir() and (folder / "image").is_dir():
            return folder
    return None


def _truths(path: Path, find: Callable[[Path, str], Iterable[Path]] = matching) -> list[Path]:
    """Folders of depth maps at any level."""
    return sorted({p for level in range(4) for p in find(path, "*/" * level + _TRUTH)})


def recognise(path: Path) -> bool:
    """Whether a folder holds drives with ground truth, or the official selection."""
    return path.is_dir() and (_selection(path) is not None or bool(_truths(path, Path.glob)))


def open_kitti(path: Path, *, raw: Path | None = None, every: int = 1, skip_bad: bool = False) -> ViewSource:
    """Open KITTI's depth data: drives, or the official selection of validation frames.

    Args:
        path: a folder above ``*/proj_depth/groundtruth``, or ``val_selection_cropped``.
        raw: the folder of KITTI's raw data, where its images are not beside ``proj_depth``.
        every: keep each n-th frame of a drive.
        skip_bad: leave out depth maps without an image.
    """
    left_out: list[str] | None = [] if skip_bad else None
    truths, selection = _truths(path), _selection(path)
    parts: dict[str, str] = {}
    views: list[View] = []
    if truths:
        roots = [raw] if raw else [path, *path.resolve().parents[:2]]
        for truth in truths:
            drive = truth.parents[2]
            for view in _drive_views(truth, roots, left_out):
                views.append(view)
                if drive.parent.name in ("train", "val"):
                    parts[view.id] = {"train": "train", "val": "test"}[drive.parent.name]
    elif selection is not None:
        views = _selected(selection, left_out)
    facts = {
        "depth": "z-depth; count / 256 m; sparse: 0 is unknown",
        "scene": "drive",
    }
    if parts:
        facts["official split"] = "train and val, whose drives are different; val serves as test"
    return view_source(
        "kitti",
        path,
        views,
        CountedDepth(SCALE),
        facts,
        wanted=f"<drive>/proj_depth/groundtruth/image_02/N.png with <drive>/image_02/data/N.png, or {SELECTION}",
        left_out=left_out,
        parts=parts,
        every=every,
    )


def _drive_views(truth: Path, roots: list[Path], left_out: list[str] | None) -> list[View]:
    """Frames of one camera of one drive; the raw images reach beyond the ground truth at either end."""
    drive, camera = truth.parents[2], truth.name
    name = drive.resolve().name
    date = name[:10]
    places = [drive / camera / "data"]
    places += [root / date / name / camera / "data" for root in roots] + [
        root / name / camera / "data" for root in roots
    ]
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        problem = f"has depth and no images ({name}/{camera}/data)"
        if left_out is None:
            raise DataError(drive, problem, "give 'PATH?raw=FOLDER', the folder of KITTI's raw data")
        left_out.append(f"{drive}: {problem}")
        return []
    images, depths = by_number(matching(folder, "*.*")), by_number(matching(truth, "*.png"))
    calibration = next(
        (
            p
            for p in (folder.parents[2] / "calib_cam_to_cam.txt", folder.parents[1] / "calib_cam_to_cam.txt")
            if p.is_file()
        ),
        None,
    )
    view = _calibrated(calibration, camera) if calibration else None
    return [
        View(f"{name}/{camera}/{key:010d}", name, images[key], depths[key], view)
        for key in in_both(images, depths, left_out, spare_images=True)
    ]


def _calibrated(table: Path, camera: str) -> Intrinsics:
    """The rectified camera: ``P_rect_02: ...``, a 3x4 matrix."""
    match = re.search(rf"^P_rect_{camera[-2:]}:(.*)$", read_text(table), re.MULTILINE)
    try:
        numbers = [float(field) for field in match[1].split()] if match else []
    except ValueError:
        numbers = []
    # Pixel centres count from 0 there.
    found = camera_of(numbers, table)
    return Intrinsics(found.fx, found.fy, found.cx + 0.5, found.cy + 0.5)


def _selected(folder: Path, left_out: list[str] | None) -> list[View]:
    def keyed(name: str, word: str, suffix: str) -> dict[str, Path]:
        return {file.stem.replace(f"_{word}_", "_", 1): file for file in matching(folder / name, f"*{suffix}")}

    images = keyed("image", "image", ".png")
    depths = keyed("groundtruth_depth", "groundtruth_depth", ".png")
    cameras = keyed("intrinsics", "image", ".txt")
    views = []
    for key in in_both(images, depths, left_out):
        drive = _DRIVE.match(key)
        scene = drive[0] if drive else key
        camera = read_camera(cameras[key]) if key in cameras else None
        views.append(View(key, scene, images[key], depths[key], camera))
    return views
