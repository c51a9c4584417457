"""The camera of an image: from a field of view, from a photo's EXIF, or assumed; each says where it comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.errors import DataError, UsageError
from fathom.sample import Grid, Intrinsics, Origin

if TYPE_CHECKING:
    from PIL.Image import Exif

ASSUMED_FOV = 60.0
"""Degrees across the longer side where nothing is known of the camera: between a phone's main lens (about 70) and a
normal lens (about 40 on film)."""

FILM = math.hypot(36.0, 24.0)
"""Diagonal of a 35 mm frame in millimetres."""

_EXIF_IFD, _FOCAL_35MM = 0x8769, 0xA405


def from_fov(size: Grid, degrees: float, *, origin: Origin = "given") -> Intrinsics:
    """Square pixels seen under a horizontal angle: ``fx = fy = W / (2 tan(degrees / 2))``, centre in the middle.

    Args:
        size: (height, width) of the image.
        degrees: horizontal field of view.
        origin: recorded in the result.
    """
    if not 0 < degrees < 180:
        raise UsageError(f"A field of view of {degrees:g} degrees is not between 0 and 180.")
    height, width = size
    focal = width / (2 * math.tan(math.radians(degrees) / 2))
    return Intrinsics(focal, focal, width / 2, height / 2, origin=origin)


def assumed(size: Grid) -> Intrinsics:
    """`ASSUMED_FOV` across the longer side of an image of `size`."""
    focal = max(size) / (2 * math.tan(math.radians(ASSUMED_FOV) / 2))
    return Intrinsics(focal, focal, size[1] / 2, size[0] / 2, origin="assumed")


def from_35mm(size: Grid, millimetres: float) -> Intrinsics:
    """The camera of a 35 mm equivalent focal length, which EXIF defines by the diagonal.

    ``f = f35 · sqrt(W² + H²) / sqrt(36² + 24²)`` pixels (Exif 2.32, FocalLengthIn35mmFilm).
    """
    focal = millimetres * math.hypot(*size) / FILM
    return Intrinsics(focal, focal, size[1] / 2, size[0] / 2, origin="exif")


def exif_camera(exif: Exif, size: Grid) -> Intrinsics | None:
    """The camera that a photo's EXIF states, for its image of `size`; None where it states none."""
    value = exif.get_ifd(_EXIF_IFD).get(_FOCAL_35MM)
    try:
        millimetres = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    # 0 means unknown; beyond these bounds it is no lens that a photo was taken with.
    return from_35mm(size, millimetres) if 4 <= millimetres <= 3000 else None


def checked(camera: Intrinsics, size: Grid, what: str = "the image") -> Intrinsics:
    """`camera` itself where it can belong to an image of `size`; `UsageError` where it belongs to another one.

    Principal points of real cameras lie within a twentieth or so of the middle. One outside the middle third is that of a camera for
    another image size: that for an image half as wide lies near a quarter, that for one twice as wide at the edge.
    """
    height, width = size
    if not (1 / 3 <= camera.cx / width <= 2 / 3 and 1 / 3 <= camera.cy / height <= 2 / 3):
        raise UsageError(
            f"The camera has its centre at ({camera.cx:g}, {camera.cy:g}), as for an image about {2 * camera.cx:.0f} wide and "
            f"{2 * camera.cy:.0f} high, and {what} is {width} wide and {height} high; give the camera in pixels of this image."
        )
    return camera


def read_intrinsics(values: Sequence[float], path: str | Path) -> Intrinsics:
    """fx, fy, cx and cy as the file `path` states them; `DataError` where they are no camera's."""
    try:
        fx, fy, cx, cy = (float(value) for value in values)
        return Intrinsics(fx, fy, cx, cy)
    except (UsageError, ValueError, TypeError, OverflowError) as error:
        raise DataError(
            path, f"states a camera that cannot be ({str(error).rstrip('.')})", "correct the file"
        ) from error


def read_pose(rows: Sequence[Sequence[float]], path: str | Path) -> Float[Tensor, "4 4"]:
    """Camera to world as the file `path` states it, rows of a 4x4 matrix; `DataError` where it is no rigid motion.

    A rigid motion is ``[R t; 0 0 0 1]`` with finite t and a rotation, ``R Rᵀ = 1`` and ``det R = 1``, here to 0.01: poses are
    stored with few digits, and a quaternion that was not normalised shows beyond that.
    """
    try:
        pose = torch.tensor(rows, dtype=torch.float64).reshape(4, 4)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise DataError(path, "states a pose that is not a 4x4 matrix of numbers", "correct the file") from error
    rotation, last = pose[:3, :3], pose.new_tensor([0.0, 0.0, 0.0, 1.0])
    rigid = (
        bool(pose.isfinite().all())
        and float(pose[:3, 3].abs().max()) < 1e12
        and torch.allclose(pose[3], last, atol=1e-6)
        and torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=pose.dtype), atol=0.01)
        and float(torch.linalg.det(rotation)) > 0
    )
    if not rigid:
        raise DataError(path, "states a pose that is not a rotation and a finite translation", "correct the file")
    return pose.float()
