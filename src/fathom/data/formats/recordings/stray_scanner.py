"""``stray-scanner:`` — recordings of the Stray Scanner app (iPhone with LiDAR): a video, depth maps, odometry."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from jaxtyping import UInt8
from torch import Tensor

from fathom.data.camera import read_intrinsics
from fathom.data.formats.files import SKIP
from fathom.data.formats.poses import quaternion_pose, read_camera, read_text
from fathom.data.formats.recordings.video import Video
from fathom.data.formats.views import ConfidentDepth, View, ViewSource, by_number, counted, view_source
from fathom.errors import DataError, UsageError
from fathom.files.inputs import matching

MOST_OPEN = 4
"""Videos whose decoders are kept."""

FLAT = 2.5
"""Metres beyond which the phone's depth looks as if planes had been fitted to it."""


def _is_recording(path: Path) -> bool:
    return (path / "odometry.csv").is_file() and (path / "depth").is_dir()


def _recordings(path: Path) -> list[Path]:
    if _is_recording(path):
        return [path]
    return sorted(p for p in path.iterdir() if p.is_dir() and _is_recording(p))


def recognise(path: Path) -> bool:
    """Whether a folder is a recording or holds some."""
    return path.is_dir() and bool(_recordings(path))


@dataclass
class _VideoFrames:
    """Images from the videos of recordings; the last few stay open in each process."""

    videos: dict[Path, Video] = field(default_factory=dict)
    lock: Lock = field(default_factory=Lock)

    def __getstate__(self) -> dict[str, object]:
        return {}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.videos, self.lock = {}, Lock()

    def __call__(self, view: View) -> UInt8[Tensor, "3 H W"]:
        # Frames are read in several threads, and a decoder has one position.
        with self.lock:
            video = self.videos.pop(view.image, None) or Video(view.image)
            self.videos[view.image] = video
            while len(self.videos) > MOST_OPEN:
                self.videos.pop(next(iter(self.videos)))
            return video.frame(view.number)


def open_stray_scanner(
    path: Path, *, confidence: int = 0, depth_scale: float | None = None, every: int = 1, skip_bad: bool = False
) -> ViewSource:
    """Open one recording or a folder of them; each is a scene.

    Args:
        path: a folder with ``rgb.mp4``, ``depth/``, ``odometry.csv`` and ``camera_matrix.csv``, or a folder of such folders.
        confidence: the least confidence that counts: 0 all, 1 without low, 2 high alone.
        depth_scale: below 1 metres a count, else counts a metre; millimetres by default.
        every: keep each n-th frame; neighbours in a video are nearly the same.
        skip_bad: leave out frames without depth.
    """
    if confidence not in (0, 1, 2):
        raise UsageError(f"confidence={confidence} is not 0, 1 or 2.")
    left_out: list[str] | None = [] if skip_bad else None
    views: list[View] = []
    for recording in _recordings(path):
        views += _views(recording, left_out)
    depth = counted(depth_scale, 0.001)
    facts = {
        "depth": f"{depth}; beyond about {FLAT} m the phone's depth is smooth, as if planes were fitted",
        "scene": "recording",
        "pose": "camera to world",
    }
    if confidence:
        facts["confidence"] = f"pixels below level {confidence} are invalid where levels are stored"
    return view_source(
        "stray-scanner",
        path,
        views,
        ConfidentDepth(depth, confidence),
        facts,
        wanted="rgb.mp4 with depth/000000.png, odometry.csv and camera_matrix.csv",
        left_out=left_out,
        every=every,
        rgb=_VideoFrames(),
    )


def _views(recording: Path, left_out: list[str] | None) -> list[View]:
    scene = recording.resolve().name
    video = recording / "rgb.mp4"
    if not video.is_file():
        raise DataError(video, "does not exist", "copy the whole recording from the phone")
    depths = by_number(matching(recording / "depth", "*.png"))
    sure = by_number(matching(recording / "confidence", "*.png"))
    fixed = read_camera(recording / "camera_matrix.csv") if (recording / "camera_matrix.csv").is_file() else None
    views = []
    table = recording / "odometry.csv"
    for row in _odometry(table):
        number = int(row["frame"])
        if number not in depths:
            if left_out is None:
                raise DataError(table, f"names frame {number}, which has no depth map", SKIP)
            left_out.append(f"{recording}: frame {number} has no depth map")
            continue
        own = [row[key] for key in ("fx", "fy", "cx", "cy") if key in row]
        camera = read_intrinsics(own, table) if len(own) == 4 else fixed
        turn, place = ([row[key] for key in keys] for keys in (("qx", "qy", "qz", "qw"), ("x", "y", "z")))
        pose = quaternion_pose(turn, place, table)
        views.append(
            View(
                f"{scene}/{number}",
                scene,
                video,
                depths[number],
                camera,
                tuple(pose.flatten().tolist()),
                row["timestamp"],
                {"confidence": sure[number]} if number in sure else {},
                number,
            )
        )
    return views


def _odometry(table: Path) -> list[Mapping[str, float]]:
    """Rows of ``timestamp, frame, x, y, z, qx, qy, qz, qw`` and, in newer files, ``fx, fy, cx, cy``."""
    lines = [line.split(",") for line in read_text(table).splitlines() if line.strip()]
    names = [name.strip().lower() for name in lines[0]] if lines else []
    missing = {"timestamp", "frame", "x", "y", "z", "qx", "qy", "qz", "qw"} - set(names)
    if missing:
        raise DataError(table, f"lacks the columns {', '.join(sorted(missing))}", "copy the whole recording again")
    rows: list[Mapping[str, float]] = []
    for line in lines[1:]:
        try:
            row = dict(zip(names, map(float, line), strict=True))
        except ValueError as error:
            raise DataError(table, f"has a damaged line ({error})", "copy the whole recording again") from error
        if not (all(map(math.isfinite, row.values())) and row["frame"].is_integer()):
            raise DataError(table, f"has a damaged line ({','.join(line)[:80]})", "copy the whole recording again")
        rows.append(row)
    return rows
