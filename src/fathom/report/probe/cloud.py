"""The 3D point cloud of the report: what its script needs to show truth and predictions of a frame in space.

A pinhole camera sends each pixel along a ray, X = Z · (x, y, 1), so rays are kept once a frame and of truth and each prediction
the depths alone.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.data.camera import ASSUMED_FOV, assumed
from fathom.media.pointcloud import unproject
from fathom.report.thumbnails import enlarged, truth_of

if TYPE_CHECKING:
    from fathom.probing.evidence.pictures import Picture

MOST_POINTS = 5000
"""Of one cloud: what a phone turns without stutter, and enough to see walls and furniture."""


def cloud(pictures: Sequence[Picture], encoders: Sequence[str], names: Mapping[str, str]) -> dict[str, Any]:
    """The clouds of some frames.

    Returns:
        ``encoders``: names for the reader. ``frames``: of each its ``title``, the number of points ``n``, and in base64
        ``rays`` (float32, n x 3: x right, y down, z = 1), ``colours`` (uint8, n x 3), ``truth`` (float32, n, metres, NaN
        where unknown) and ``predictions`` (float32, encoders x n, metres).
    """
    return {
        "encoders": [names.get(name, name) for name in encoders],
        "frames": [_frame(picture, encoders) for picture in pictures],
    }


def assumption(pictures: Sequence[Picture]) -> str:
    """What had to be assumed about the camera, in words; empty where every frame has its own."""
    if all(picture.intrinsics is not None for picture in pictures):
        return ""
    return (
        f"The data do not say what camera they were taken with; {ASSUMED_FOV:g} degrees across the longer side are "
        "assumed. A wrong angle stretches the cloud sideways and leaves its depths alone."
    )


def _frame(picture: Picture, encoders: Sequence[str]) -> dict[str, Any]:
    truth = truth_of(picture)
    height, width = truth.shape
    step = max(1, int(np.ceil((height * width / MOST_POINTS) ** 0.5)))
    kept = np.zeros((height, width), dtype=bool)
    kept[step // 2 :: step, step // 2 :: step] = True
    view = picture.intrinsics or assumed((height, width))
    rays, _ = unproject(np.where(kept, np.float32(1), np.float32(np.nan)), view)
    predictions = [enlarged(picture.predictions[name].numpy(), truth.shape)[kept] for name in encoders]
    colours = (picture.image.permute(1, 2, 0).numpy()[kept] * 255).round().clip(0, 255).astype(np.uint8)
    title = picture.id if picture.id == picture.scene else f"{picture.scene}, {picture.id}"
    return {
        "title": title,
        "n": len(rays),
        "rays": _packed(rays, "<f4"),
        "colours": _packed(colours, "u1"),
        "truth": _packed(truth[kept], "<f4"),
        "predictions": _packed(np.stack(predictions) if predictions else np.zeros((0, len(rays))), "<f4"),
    }


def _packed(values: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(values, dtype=kind).tobytes()).decode("ascii")
