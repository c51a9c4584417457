"""``polycam:`` — the raw export of the Polycam app: key frames with depth, confidence and a camera each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from fathom.data.camera import read_intrinsics
from fathom.data.formats.poses import Y_UP_TO_Y_DOWN, matrix_pose
from fathom.data.formats.views import ConfidentDepth, View, ViewSource, by_number, counted, in_both, view_source
from fathom.errors import DataError, UsageError
from fathom.files.inputs import matching, read_json
from fathom.sample import Intrinsics


def _roots(path: Path, find: Callable[[Path, str], Iterable[Path]] = matching) -> list[Path]:
    """Folders ``keyframes`` of captures: this one's, or those of the folders in it."""
    candidates = [path, path / "keyframes", *sorted(find(path, "*/keyframes"))]
    return [root for root in candidates if (root / "depth").is_dir() and (root / "cameras").is_dir()]


def recognise(path: Path) -> bool:
    """Whether a folder is a capture or holds some."""
    return path.is_dir() and bool(_roots(path, Path.glob))


def open_polycam(
    path: Path, *, confidence: int = 0, depth_scale: float | None = None, every: int = 1, skip_bad: bool = False
) -> ViewSource:
    """Open Polycam captures; each is a scene. Corrected images and cameras are taken where the export has them.

    Args:
        path: a capture (a folder with ``keyframes/``), ``keyframes`` itself, or a folder of captures.
        confidence: the least stored confidence count (0 to 255) of a pixel that is taken; 0 takes all.
        depth_scale: below 1 metres a count, else counts a metre; millimetres by default.
        every: keep each n-th key frame.
        skip_bad: leave out incomplete frames.
    """
    if not 0 <= confidence <= 255:
        raise UsageError(f"confidence={confidence} is not from 0 to 255.")
    left_out: list[str] | None = [] if skip_bad else None
    views: list[View] = []
    for root in _roots(path):
        whole = root.resolve()
        scene = whole.parent.name if whole.name == "keyframes" else whole.name
        corrected = (root / "corrected_cameras").is_dir() and (root / "corrected_images").is_dir()
        prefix = "corrected_" if corrected else ""
        images = by_number(matching(root / f"{prefix}images", "*.*"))
        depths, sure = by_number(matching(root / "depth", "*.png")), by_number(matching(root / "confidence", "*.png"))
        cameras = by_number(matching(root / f"{prefix}cameras", "*.json"))
        for key in in_both(images, depths, left_out):
            if key not in cameras:
                if left_out is None:
                    raise DataError(images[key], f"has no camera in {prefix}cameras/", "export the capture again")
                left_out.append(f"{images[key]}: has no camera")
                continue
            camera, pose = _camera(cameras[key])
            beside = {"confidence": sure[key]} if key in sure else {}
            views.append(View(f"{scene}/{key}", scene, images[key], depths[key], camera, pose, beside=beside))
    depth = counted(depth_scale, 0.001)
    facts = {"depth": str(depth), "scene": "capture", "pose": "camera to world, turned to x right, y down, z forward"}
    if confidence:
        facts["confidence"] = f"pixels below {confidence} are invalid"
    return view_source(
        "polycam",
        path,
        views,
        ConfidentDepth(depth, confidence),
        facts,
        wanted="keyframes/images/ID.jpg with depth/ID.png and cameras/ID.json",
        left_out=left_out,
        every=every,
    )


def _camera(path: Path) -> tuple[Intrinsics, tuple[float, ...] | None]:
    """Camera and pose of one JSON: ``fx fy cx cy``, and ``t_00`` ... ``t_23``, the rows of camera-to-world.

    ARKit's camera looks along -z with y up; two axes are turned so that camera coordinates are x right, y down, z forward.
    """
    record = read_json(path, dict[str, Any], what="a camera of Polycam", fix="export the capture again")
    try:
        numbers = [float(record[key]) for key in ("fx", "fy", "cx", "cy")]
        rows = [float(record[f"t_{row}{column}"]) for row in range(3) for column in range(4)]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"is no camera of Polycam ({error!r})", "export the capture again") from error
    camera, pose = read_intrinsics(numbers, path), matrix_pose(rows, path)
    if pose is None:
        return camera, None
    pose[:, :3] *= pose.new_tensor(Y_UP_TO_Y_DOWN)
    return camera, tuple(pose.flatten().tolist())
