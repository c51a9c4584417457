"""``record3d:`` — captures of the Record3D app: ``.r3d`` archives, its EXR export, and pairs with depth in 16-bit PNG.

An ``.r3d`` archive is a zip: ``metadata`` (JSON) and ``rgbd/N.jpg``, ``rgbd/N.depth`` (LZFSE-compressed float32 metres) and
``rgbd/N.conf`` (LZFSE-compressed uint8: 0 low, 1 medium, 2 high). The export is a folder of ``rgb/N.jpg``,
``depth/N.exr`` and ``metadata.json``. Depth is z-depth at 256x192 or so; colour is several times larger, and the
intrinsics belong to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.camera import read_intrinsics
from fathom.data.dataset import Frame
from fathom.data.formats.files import (
    UnknownUnitError,
    clean_depth,
    metres_per_count,
    read_counts,
    read_metres,
    read_rgb,
)
from fathom.data.formats.poses import Y_UP_TO_Y_DOWN, quaternion_pose
from fathom.errors import DataError, MissingExtraError, UsageError
from fathom.files import limits
from fathom.files.archives import open_archive
from fathom.files.inputs import parse_json, read_bytes
from fathom.sample import Grid, Intrinsics, Sample

Side = Annotated[int, msgspec.Meta(gt=0, le=1_000_000)]
"""Pixels of a side of an image."""

WHAT, AGAIN = "a readable .r3d archive", "export it again from Record3D"

SKIP = "replace the file or leave it out with --skip-bad"


class Metadata(msgspec.Struct):
    """The metadata of a capture as far as they are read; what a version of the app leaves out is None.

    Attributes:
        w, h: of the colour image that `K` belongs to. dw, dh: of the depth maps.
        K: the camera matrix by columns. perFrameIntrinsicCoeffs: fx, fy, cx, cy of each frame.
        poses: qx, qy, qz, qw, tx, ty, tz of each frame.
        frameTimestamps: seconds since the recording began, of each frame.
    """

    w: Side | None = None
    h: Side | None = None
    dw: Side | None = None
    dh: Side | None = None
    K: Annotated[list[float], msgspec.Meta(min_length=9)] | None = None
    perFrameIntrinsicCoeffs: list[Annotated[list[float], msgspec.Meta(min_length=4)] | None] | None = None  # noqa: N815
    poses: list[Annotated[list[float], msgspec.Meta(min_length=7)] | None] | None = None
    frameTimestamps: list[float | None] | None = None  # noqa: N815


@dataclass(frozen=True)
class Capture:
    """What a capture's metadata say, whichever form it is stored in."""

    path: Path
    metadata: Metadata

    def intrinsics(self, number: int, image: Grid) -> Intrinsics | None:
        """Of the colour image: the frame's own where the capture kept them (focus changes them), else K, by columns."""
        own = _row(self.metadata.perFrameIntrinsicCoeffs, number)
        if own is not None:
            camera = read_intrinsics(own[:4], self.path)
        elif (k := self.metadata.K) is not None:
            camera = read_intrinsics((k[0], k[4], k[6], k[7]), self.path)
        else:
            return None
        if self.metadata.h and self.metadata.w:
            camera = camera.scaled(image[0] / self.metadata.h, image[1] / self.metadata.w)
        return camera

    def pose(self, number: int) -> Float[Tensor, "4 4"] | None:
        """Camera to world, camera axes x right, y down, z forward."""
        row = _row(self.metadata.poses, number)
        if row is None:
            return None
        return quaternion_pose(row[:4], row[4:7], self.path, Y_UP_TO_Y_DOWN)

    def timestamp(self, number: int) -> float | None:
        """Seconds since the recording began."""
        times = self.metadata.frameTimestamps
        return None if times is None or number >= len(times) else times[number]

    def depth_size(self, count: int, image: Grid, path: Path) -> Grid:
        """(height, width) of a depth map of `count` values: as named, else inferred from the shape of the image."""
        height, width = self.metadata.dh, self.metadata.dw
        if height and width:
            if height * width != count:
                raise DataError(path, f"holds {count} values for a depth map of {height}x{width}", SKIP)
            return height, width
        height = round(math.sqrt(count * image[0] / image[1]))
        if height < 1 or count % height or abs(count / height / height - image[1] / image[0]) > 0.02:
            raise DataError(
                path, f"holds {count} depth values, which fit no map shaped like the {image[0]}x{image[1]} image", SKIP
            )
        return height, count // height


def _row(rows: Sequence[list[float] | None] | None, number: int) -> list[float] | None:
    return None if rows is None or number >= len(rows) else rows[number]


@dataclass(frozen=True)
class Shot:
    """One frame of a capture; `number` also indexes the metadata's per-frame lists."""

    capture: Capture
    number: int
    image: str
    depth: str
    confidence: str | None = None


@dataclass
class Record3DSource:
    """Frames of Record3D captures; see `open_record3d`."""

    location: str
    shots: Sequence[Shot]
    frames: Sequence[Frame]
    least_confidence: int
    scale: float | None
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "record3d"
    left_out: Sequence[str] = ()

    def read(self, index: int) -> Sample:
        """One frame, colour and depth at their own sizes."""
        shot, frame = self.shots[index], self.frames[index]
        path = shot.capture.path
        if path.is_file():
            with open_archive(path, WHAT, AGAIN) as opened:
                image = read_rgb(path / shot.image, opened.read(shot.image))
                packed = opened.read(shot.depth)
                confident = opened.read(shot.confidence) if shot.confidence else None
            values = lzfse(packed, path / shot.depth)
            if len(values) % 4:
                raise DataError(path / shot.depth, f"unpacks to {len(values)} bytes, no float32 values", SKIP)
            size = shot.capture.depth_size(len(values) // 4, _size(image), path / shot.depth)
            metres = np.frombuffer(values, "<f4").reshape(size)
            # A map of 0x0 says that the device has no confidence.
            unpacked = lzfse(confident, path) if confident else b""
            levels = np.frombuffer(unpacked, np.uint8) if unpacked else None
            if levels is not None and levels.size != metres.size:
                raise DataError(
                    path / str(shot.confidence), f"holds {levels.size} levels for {metres.size} pixels", SKIP
                )
        else:
            image, levels = read_rgb(path / shot.image), None
            metres = self._metres(path / shot.depth)
        depth, valid = clean_depth(metres, path / shot.depth)
        if levels is not None and self.least_confidence > 0:
            valid &= torch.from_numpy(levels.reshape(metres.shape) >= self.least_confidence)[None]
        camera = shot.capture.intrinsics(shot.number, _size(image))
        pose, time = shot.capture.pose(shot.number), shot.capture.timestamp(shot.number)
        return Sample(image, depth, valid, frame.scene, frame.id, camera, pose=pose, timestamp=time)

    def _metres(self, path: Path) -> np.ndarray:
        if path.suffix.lower() != ".png":
            return read_metres(path)
        counts = read_counts(path)
        if self.scale is None:
            raise UnknownUnitError.of_counts(path, counts.dtype)
        return counts.astype(np.float32) * np.float32(self.scale)


def _size(image: Tensor) -> Grid:
    return int(image.shape[-2]), int(image.shape[-1])


def lzfse(data: bytes, path: Path) -> bytes:
    """Unpack LZFSE; data without its signature are raw already."""
    if not data.startswith(b"bvx"):
        return data
    try:
        import imagecodecs
    except ImportError:
        raise MissingExtraError("Reading the depth of .r3d captures", "record3d") from None
    most = limits.most("member-bytes")
    try:
        # A fixed output buffer: a small stream cannot ask for gigabytes. What does not fit is cut without an error.
        unpacked = bytes(imagecodecs.lzfse_decode(data, out=most + 1))
    except (RuntimeError, ValueError, MemoryError) as error:
        raise DataError(path, f"is not a whole LZFSE stream ({error})", SKIP) from error
    if len(unpacked) > most:
        fix = f"where you trust the file, raise the limit with --limit member-bytes={2 * most}"
        raise DataError(path, f"unpacks to more than {most:,} bytes", fix)
    return unpacked


def open_record3d(
    path: Path,
    *,
    confidence: int = 0,
    depth_scale: float | None = None,
    every: int = 1,
    skip_bad: bool = False,
) -> Record3DSource:
    """Open Record3D captures; each capture is one scene.

    Args:
        path: an ``.r3d`` archive, a folder of them, an export folder, or a folder of exports.
        confidence: the least confidence that counts: 0 all, 1 without low, 2 high alone.
        depth_scale: of depth kept as 16-bit PNG: below 1 metres a count, else counts a metre.
        every: keep each n-th frame; neighbours in a video are nearly the same.
        skip_bad: leave out captures and frames that are incomplete.
    """
    if confidence not in (0, 1, 2):
        raise UsageError(f"confidence={confidence} is not 0, 1 or 2.")
    if every < 1:
        raise UsageError(f"every={every} is not 1 or more.")
    shots: list[Shot] = []
    frames: list[Frame] = []
    left_out: list[str] = []
    captures = _captures(path)
    if not captures:
        raise DataError(path, "holds no capture", "looked for .r3d archives and for folders with rgb/ and depth/")
    for capture in captures:
        name = capture.stem if capture.is_file() else capture.name
        try:
            found = _archived(capture) if capture.is_file() else _exported(capture, left_out if skip_bad else None)
        except DataError as error:
            if not skip_bad or len(captures) == 1:
                raise
            left_out.append(str(error).rstrip("."))
            continue
        for shot in found[::every]:
            files = (capture,) if capture.is_file() else (capture / shot.image, capture / shot.depth)
            frames.append(Frame(f"{name}/{shot.number}", name, files))
            shots.append(shot)
    if len({frame.id for frame in frames}) < len(frames):
        raise DataError(path, "holds two captures of one name", "rename one")
    if not frames:
        raise DataError(path, f"holds no frame ({left_out[0] if left_out else 'none was left'})", "check the captures")
    facts = {"depth": "z-depth in metres, LiDAR" if depth_scale is None else
             f"z-depth; count x {metres_per_count(depth_scale):.6g} m", "scene": "capture"}  # fmt: skip
    if confidence:
        facts["confidence"] = f"pixels below level {confidence} are invalid where levels are stored"
    if left_out:
        facts["left out"] = f"{len(left_out)} incomplete: {'; '.join(left_out[:3])}"
    scale = None if depth_scale is None else metres_per_count(depth_scale)
    return Record3DSource(str(path), shots, frames, confidence, scale, facts, left_out=tuple(left_out))


def _captures(path: Path) -> list[Path]:
    if path.is_file() or _is_export(path):
        return [path]
    return [
        p
        for p in sorted(path.iterdir())
        if (p.suffix.lower() == ".r3d" and not p.is_dir()) or (p.is_dir() and _is_export(p))
    ]


def _is_export(path: Path) -> bool:
    return (path / "rgb").is_dir() and (path / "depth").is_dir()


def _metadata(data: bytes, path: Path) -> Metadata:
    return parse_json(data, path, Metadata, what="a description of a capture", fix=SKIP)


def _archived(path: Path) -> list[Shot]:
    with open_archive(path, WHAT, AGAIN) as opened:
        for name in opened.members:
            if name.startswith(("/", "\\")) or ".." in PurePosixPath(name.replace("\\", "/")).parts:
                raise DataError(path, f"has a member named {name!r}, outside of itself", "do not trust this archive")
        capture = Capture(path, _metadata(opened.read("metadata", limit="json-bytes"), path))
        held = set(opened.members)
    # By number, not by name: 10.jpg comes after 9.jpg.
    numbers = sorted(int(m[1]) for name in held if (m := re.fullmatch(r"rgbd/([0-9]{1,9})\.depth", name)))
    if not numbers:
        raise DataError(path, "has metadata but no frame (rgbd/N.depth)", AGAIN)
    lacking = next((n for n in numbers if f"rgbd/{n}.jpg" not in held), None)
    if lacking is not None:
        raise DataError(path, f"has rgbd/{lacking}.depth without rgbd/{lacking}.jpg", SKIP)
    return [
        Shot(capture, n, f"rgbd/{n}.jpg", f"rgbd/{n}.depth", f"rgbd/{n}.conf" if f"rgbd/{n}.conf" in held else None)
        for n in numbers
        if f"rgbd/{n}.depth" in held
    ]


def _exported(path: Path, left_out: list[str] | None) -> list[Shot]:
    table = path / "metadata.json"
    capture = Capture(path, _metadata(read_bytes(table), table) if table.exists() else Metadata())
    sides = []
    for folder, suffixes in (("rgb", (".jpg", ".jpeg", ".png")), ("depth", (".exr", ".png", ".npy"))):
        found: dict[int, str] = {}
        for file in sorted((path / folder).iterdir()):
            if file.suffix.lower() in suffixes and re.fullmatch("[0-9]{1,9}", file.stem):
                if int(file.stem) in found:
                    raise DataError(file, f"has the same number as {found[int(file.stem)]}", "keep one of the two")
                found[int(file.stem)] = f"{folder}/{file.name}"
        sides.append(found)
    images, depths = sides
    for number in sorted(images.keys() ^ depths.keys()):
        have, lack = ("image", "depth map") if number in images else ("depth map", "image")
        if left_out is None:
            raise DataError(path, f"has an {have} {number} without {lack}".replace("an depth", "a depth"), SKIP)
        left_out.append(f"{path / (images if number in images else depths)[number]}: has no {lack} beside it")
    shots = [Shot(capture, n, images[n], depths[n]) for n in sorted(images.keys() & depths.keys())]
    if not shots:
        raise DataError(path, "holds no pair rgb/N and depth/N", "export the capture again")
    return shots
