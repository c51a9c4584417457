"""``portrait:`` — photos of phones that carry a depth map inside: HEIC portraits, through pillow-heif (extra ``heif``).

What such a map holds is what its metadata say: depth or disparity, up to an unknown unit. It is therefore not depth in metres
but a *target*, except where the file states the range of a uniform depth and the user its unit (``depth-scale``).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.camera import exif_camera
from fathom.data.dataset import Frame
from fathom.data.formats.files import SKIP, clean_depth, metres_per_count
from fathom.data.formats.folders.target_files import check_view
from fathom.errors import DataError, MissingExtraError
from fathom.files import limits
from fathom.files.inputs import regular_file
from fathom.sample import Grid, Intrinsics, Sample

SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})

Stored = Literal["depth", "disparity"]

INVERSE_DEPTH, DISPARITY, DEPTH = 0, 1, 2
"""Uniform kinds of HEVC's depth representation information (ITU-T H.265, depth_representation_type)."""


@dataclass
class PortraitSource:
    """Photos with a depth map inside; see `open_portrait`."""

    location: str
    frames: Sequence[Frame]
    stored: Stored | None
    scale: float | None
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "portrait"
    left_out: Sequence[str] = ()

    def read(self, index: int) -> Sample:
        """One photo; its map is the target, or depth where the unit is known."""
        frame = self.frames[index]
        path = frame.files[0]
        photo = _open(path)
        limits.check("pixels", photo.size[0] * photo.size[1], path)
        held = _depth_image(photo, path)
        try:
            image = torch.from_numpy(np.array(photo.to_pillow().convert("RGB")).transpose(2, 0, 1).copy())
            counts = np.asarray(held.to_pillow())
        except (OSError, ValueError, RuntimeError, SyntaxError, EOFError) as error:
            raise DataError(path, f"cannot be decoded ({error})", SKIP) from error
        if counts.ndim == 3:
            counts = counts[..., 0]
        values, stored = relative(counts, held.info.get("metadata"), self.stored, path)
        size = int(image.shape[-2]), int(image.shape[-1])
        check_view(path, values, size)
        camera = _camera(photo, size)
        if self.scale is not None:
            if stored != "depth":
                raise DataError(path, "holds disparity of an unknown scale, no depth", "leave depth-scale away")
            depth, valid = clean_depth(values * self.scale, path)
            return Sample(image, depth, valid, frame.scene, frame.id, camera)
        empty = torch.zeros(1, *size)
        return Sample(image, empty, empty > 0, frame.scene, frame.id, camera, target=values)


def relative(
    counts: np.ndarray, metadata: Mapping[str, Any] | None, stated: Stored | None, path: Path
) -> tuple[Float[Tensor, "1 h w"], Stored]:
    """A stored map as depth or disparity up to one unknown factor or range, and which of the two it is.

    With v in [0, 1]: inverse depth is 1/z = v (1/z_near - 1/z_far) + 1/z_far; depth is z = v (z_far - z_near) + z_near;
    disparity runs from d_min to d_max. Where the range is not stated, disparity and depth are v itself.
    """
    levels = float(np.iinfo(counts.dtype).max) if counts.dtype.kind == "u" else 1.0
    share = torch.from_numpy(counts.astype(np.float32) / levels)[None]
    known: dict[str, Any] = dict(metadata or {})
    kind = known.get("representation_type")
    near, far = float(known.get("z_near", 0)), float(known.get("z_far", 0))
    ranged = 0 < near < far
    if kind == INVERSE_DEPTH and ranged:
        return 1 / (share * (1 / near - 1 / far) + 1 / far), "depth"
    if kind == DEPTH and ranged:
        return share * (far - near) + near, "depth"
    if kind in (INVERSE_DEPTH, DISPARITY):
        low, high = known.get("d_min"), known.get("d_max")
        if low is not None and high is not None and low < high:
            share = share * (high - low) + low
        return share, "disparity"
    if kind == DEPTH:
        return share, "depth"
    if stated is None:
        raise DataError(
            path, "does not say whether its map is depth or disparity", "give 'PATH?stored=disparity' or stored=depth"
        )
    return share, stated


def recognise(path: Path) -> bool:
    """Whether a path is a HEIC photo with a depth map inside, or a folder whose first photo is one."""
    photos = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
    first = next((photo for photo in photos if photo.suffix.lower() in SUFFIXES), None)
    if first is None:
        return False
    try:
        return bool(_open(first).info.get("depth_images"))
    except MissingExtraError:
        return True  # and reading says what is missing
    except DataError:
        return False


def open_portrait(
    path: Path, *, stored: Stored | None = None, depth_scale: float | None = None, skip_bad: bool = False
) -> PortraitSource:
    """Open a photo or a folder of photos; each is a scene.

    Args:
        path: a ``.heic`` file or a folder.
        stored: what the maps hold, where their metadata do not say.
        depth_scale: metres per unit of the depth that the files state by a range (``z_near``, ``z_far``).
        skip_bad: leave out photos without a depth map.
    """
    files = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES)
    left_out: list[str] = []
    frames = []
    for file in files:
        if skip_bad:
            try:
                _depth_image(_open(file), file)
            except DataError as error:
                left_out.append(str(error).rstrip("."))
                continue
        frames.append(Frame(file.stem, file.stem, (file,)))
    if not frames:
        raise DataError(path, "holds no photo with a depth map", "looked for .heic files; save portraits as HEIC")
    scale = None if depth_scale is None else metres_per_count(depth_scale)
    facts = {
        "depth": "none: maps of portraits are relative, and are read as a target"
        if scale is None
        else f"value x {scale:g} m",
        "target": "the photo's own map: depth or disparity as its metadata say, up to scale",
        "scene": "photo",
    }
    if scale is not None:
        del facts["target"]
    if left_out:
        facts["left out"] = f"{len(left_out)} incomplete: {'; '.join(left_out[:3])}"
    return PortraitSource(str(path), tuple(frames), stored, scale, facts, left_out=tuple(left_out))


def _open(path: Path) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "heif") from None
    try:
        photo = pillow_heif.open_heif(str(regular_file(path)), convert_hdr_to_8bit=False)
    except (OSError, ValueError, RuntimeError, SyntaxError, EOFError) as error:
        raise DataError(path, f"is not a readable HEIC photo ({error})", SKIP) from error
    if not 0 <= photo.primary_index < len(photo):
        raise DataError(path, "is not a readable HEIC photo (it holds no picture)", SKIP)
    return photo


def _camera(photo: Any, size: Grid) -> Intrinsics | None:
    """From the focal length in the photo's EXIF; None where it states none."""
    from PIL.Image import Exif

    exif = Exif()
    try:
        exif.load(photo.info.get("exif") or b"")
    except (OSError, ValueError, SyntaxError, KeyError, struct.error):
        return None
    return exif_camera(exif, size)


def _depth_image(photo: Any, path: Path) -> Any:
    maps = photo.info.get("depth_images") or []
    if not maps:
        raise DataError(
            path, "has no depth map inside", "take it in portrait mode and copy the original file, or use --skip-bad"
        )
    return maps[0]
