"""The camera of an image: from a field of view, from a photo's EXIF, or assumed; each says where it comes from."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fathom.errors import UsageError
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

    A principal point outside the middle half of the image is that of a camera for another image size.
    """
    height, width = size
    if not (camera.fx > 0 and camera.fy > 0 and math.isfinite(camera.fx + camera.fy)):
        raise UsageError(f"Focal lengths of {camera.fx:g} and {camera.fy:g} pixels are not above 0.")
    if not (0.25 <= camera.cx / width <= 0.75 and 0.25 <= camera.cy / height <= 0.75):
        raise UsageError(
            f"The camera has its centre at ({camera.cx:g}, {camera.cy:g}), as for an image about {2 * camera.cx:.0f} wide and "
            f"{2 * camera.cy:.0f} high, and {what} is {width} wide and {height} high; give the camera in pixels of this image."
        )
    return camera
