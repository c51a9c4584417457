"""Depth maps as coloured points in space."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray

from fathom.atomic import atomic_path
from fathom.errors import UsageError
from fathom.sample import Grid, Intrinsics

DEFAULT_FOV = 60.0
"""Degrees across the longer side where nothing is known of the camera: between a phone's main lens (about 70) and a
normal lens (about 40 on film). A wrong angle stretches the cloud sideways; its depths stay as they are."""

_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])


def camera(size: Grid, *, intrinsics: Intrinsics | None = None, fov: float | None = None) -> Intrinsics:
    """The pinhole camera of an image of `size`: `intrinsics` themselves, or square pixels seen under an angle.

    Args:
        size: (height, width) of the image.
        intrinsics: focal lengths and principal point in pixels of this image.
        fov: horizontal field of view in degrees: ``fx = W / (2 tan(fov / 2))``. Where both are None, `DEFAULT_FOV`
            across the longer side.
    """
    if intrinsics is not None:
        if fov is not None:
            raise UsageError("A field of view and intrinsics say the same thing twice; give one of them.")
        if not (intrinsics.fx > 0 and intrinsics.fy > 0):
            raise UsageError(f"Focal lengths of {intrinsics.fx:g} and {intrinsics.fy:g} pixels are not above 0.")
        return intrinsics
    height, width = size
    if fov is not None and not 0 < fov < 180:
        raise UsageError(f"A field of view of {fov:g} degrees is not between 0 and 180.")
    across = width if fov is not None else max(height, width)
    focal = across / (2 * math.tan(math.radians(DEFAULT_FOV if fov is None else fov) / 2))
    return Intrinsics(focal, focal, width / 2, height / 2)


def unproject(depth: Float32[ndarray, "H W"], view: Intrinsics) -> tuple[Float32[ndarray, "N 3"], Bool[ndarray, "H W"]]:
    """Points of all pixels of known depth, row by row, and which pixels those are.

    ``X = (u - cx) Z / fx``, ``Y = (v - cy) Z / fy`` at pixel centres ``u = column + 0.5``, ``v = row + 0.5``; x points
    right, y down, z forward, all in metres.
    """
    known = np.isfinite(depth)
    rows, columns = np.nonzero(known)
    z = depth[known]
    x = (columns + 0.5 - view.cx) / view.fx * z
    y = (rows + 0.5 - view.cy) / view.fy * z
    return np.stack([x, y, z], axis=1).astype(np.float32), known


def save_ply(path: str | Path, points: Float32[ndarray, "N 3"], colours: UInt8[ndarray, "N 3"]) -> Path:
    """Write a binary little-endian PLY: x, y, z in metres and red, green, blue of each point."""
    vertices = np.empty(len(points), _VERTEX)
    vertices["xyz"], vertices["rgb"] = points, colours
    header = (
        "ply\nformat binary_little_endian 1.0\ncomment metres; x right, y down, z forward\n"
        f"element vertex {len(points)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        "property uchar red\nproperty uchar green\nproperty uchar blue\nend_header\n"
    )
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(header.encode("ascii"))
        file.write(vertices.tobytes())
    return Path(path)
