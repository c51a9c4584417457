"""``virtual-kitti:`` — Virtual KITTI 2 (Cabon et al. 2020): rendered drives, each in several weathers and camera angles."""

from __future__ import annotations

from pathlib import Path

from fathom.data.formats.poses import matrix_pose, table_rows
from fathom.data.formats.views import CountedDepth, View, ViewSource, in_both, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching
from fathom.sample import Intrinsics

DEPTH = CountedDepth(0.01, (0, 65535))
"""Centimetres; 65535 is the sky, beyond 655.35 m."""

CAMERA = Intrinsics(725.0087, 725.0087, 620.5, 187.0)
"""Of the 1242x375 image, as published: its exact middle is at (621, 187.5), so that pixel centres count from 0 there."""

_FRAMES = "*/frames/{kind}/Camera_*/{kind}_*.*"
_LEVELS = ("", "*/", "*/*/")


def recognise(path: Path) -> bool:
    """Whether a folder holds scenes of Virtual KITTI 2."""
    return path.is_dir() and any(
        next(path.glob(level + _FRAMES.format(kind="depth")), None) is not None for level in _LEVELS
    )


def open_virtual_kitti(path: Path, *, variant: str | None = None, every: int = 1, skip_bad: bool = False) -> ViewSource:
    """Open Virtual KITTI 2; the variants of a scene are one scene.

    Args:
        path: a folder above ``SceneXX``, also where images and depth were unpacked into folders of their own, or one scene.
        variant: one of them alone, such as ``clone``, ``fog`` or ``15-deg-left``.
        every: keep each n-th frame of a scene.
        skip_bad: leave out incomplete frames.
    """
    left_out: list[str] | None = [] if skip_bad else None
    images, depths = (_keyed(path, kind, variant) for kind in ("rgb", "depth"))
    cameras: dict[Path, dict[tuple[int, int], tuple[float, ...]]] = {}
    poses: dict[Path, dict[tuple[int, int], tuple[float, ...]]] = {}
    views = []
    for key in in_both(images, depths, left_out):
        scene, _, camera, number = key
        # .../SceneXX/<variant>/frames/rgb/Camera_N/file; the tables lie beside "frames".
        homes = [file.parents[3] for file in (images[key], depths[key])]
        place = (int(number), int(camera.removeprefix("Camera_")))
        intrinsics = _look_up(homes, "intrinsic.txt", 4, cameras).get(place)
        extrinsics = _look_up(homes, "extrinsic.txt", 16, poses).get(place)
        view = CAMERA if intrinsics is None else Intrinsics(*intrinsics)
        view = Intrinsics(view.fx, view.fy, view.cx + 0.5, view.cy + 0.5)
        pose = None if extrinsics is None else _camera_to_world(extrinsics, homes[0] / "extrinsic.txt")
        views.append(View("/".join(key), scene, images[key], depths[key], view, pose))
    facts = {"depth": str(DEPTH) + " (65535 is the sky)", "scene": "SceneXX; its variants are one scene"}
    if variant:
        facts["variant"] = variant
    return view_source(
        "virtual-kitti",
        path,
        views,
        DEPTH,
        facts,
        wanted=f"SceneXX/{variant or '<variant>'}/frames/rgb/Camera_N/rgb_NNNNN.jpg with frames/depth/Camera_N/depth_NNNNN.png",
        left_out=left_out,
        every=every,
    )


def _keyed(path: Path, kind: str, variant: str | None) -> dict[tuple[str, str, str, str], Path]:
    """Files by scene, variant, camera and number."""
    found = {}
    for level in _LEVELS:
        for file in matching(path, level + _FRAMES.format(kind=kind)):
            whole = file.resolve()
            which = whole.parents[3].name
            if variant is None or which == variant:
                found[whole.parents[4].name, which, file.parent.name, file.stem.rpartition("_")[2]] = file
    return found


def _look_up(
    homes: list[Path], name: str, columns: int, known: dict[Path, dict[tuple[int, int], tuple[float, ...]]]
) -> dict[tuple[int, int], tuple[float, ...]]:
    """A table ``frame cameraID numbers...`` beside the frames, by frame and camera; empty where there is none."""
    table = next((home / name for home in homes if (home / name).is_file()), homes[0] / name)
    if table not in known:
        known[table] = {}
        for row in table_rows(table)[1:] if table.is_file() else []:
            try:
                place = (int(row[0]), int(row[1])) if len(row) > 1 else (0, 0)
                numbers = [float(field) for field in row[2:]]
            except ValueError as error:
                raise DataError(table, f"has a damaged line ({error})", "unpack the data again") from error
            if len(numbers) != columns:
                raise DataError(table, f"has a line of {len(row)} numbers; wanted {columns + 2}", "unpack again")
            known[table][place] = tuple(numbers)
    return known[table]


def _camera_to_world(numbers: tuple[float, ...], table: Path) -> tuple[float, ...] | None:
    """The inverse of the published world-to-camera matrix."""
    pose = matrix_pose(numbers, table)
    return None if pose is None else tuple(pose.double().inverse().float().flatten().tolist())
