"""Depth maps as coloured points in space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from numpy import ndarray

from fathom.files.atomic import atomic_path
from fathom.sample import Intrinsics

_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])


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
