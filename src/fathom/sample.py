"""`Sample`: one frame with its ground truth, the one currency of the package.

Depth is always float32 metres along the optical axis (z-depth, not the distance along the ray), and every pixel has a
validity. The image and the depth map may have different native sizes (Record3D's do); `fathom.data.transforms` brings
them to a common grid without letting an invalid pixel bleed into an average.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from fathom.errors import UsageError

Grid = tuple[int, int]
"""Height and width, in that order, everywhere."""

Origin = Literal["given", "data", "exif", "model", "assumed"]
"""Where a camera comes from: an option of the user, the data source, a photo's EXIF, the model's own estimate, an assumption."""


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Pinhole camera of the colour image: focal lengths and principal point in pixels of that image.

    Coordinates are continuous: pixel `i` covers [i, i + 1), so its centre is at i + 0.5.

    Attributes:
        fx, fy: focal lengths. cx, cy: principal point.
        origin: where the numbers come from.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    origin: Origin = field(default="data", kw_only=True)

    def __post_init__(self) -> None:
        numbers = (self.fx, self.fy, self.cx, self.cy)
        # Compared so that NaN fails too, and without overflow for integers of any length.
        if not (all(-math.inf < number < math.inf for number in numbers) and self.fx > 0 and self.fy > 0):
            shown = ", ".join(f"{number:.6g}" if abs(number) < 1e300 else "huge" for number in numbers)
            raise UsageError(
                f"A camera of fx, fy, cx, cy = {shown} cannot be: focal lengths are above 0, and all four are finite."
            )

    def scaled(self, sy: float, sx: float) -> Intrinsics:
        """The camera after the image is resized by `sy` (height) and `sx` (width)."""
        return replace(self, fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy)

    def cropped(self, top: int, left: int) -> Intrinsics:
        """The camera after `top` rows and `left` columns are cut away."""
        return replace(self, cx=self.cx - left, cy=self.cy - top)

    def flipped(self, width: int) -> Intrinsics:
        """The camera after a left-right flip of an image `width` pixels wide."""
        return replace(self, cx=width - self.cx)


@dataclass(frozen=True, slots=True)
class Sample:
    """One frame.

    Attributes:
        image: RGB, ``(3, H, W)``: uint8 in 0..255, or float32 in [0, 1].
        depth: metres, z-depth, ``(1, h, w)`` float32; what stands in an invalid pixel has no meaning but is finite.
        valid: ``(1, h, w)``; False where there is no ground truth.
        scene: the scene (room, recording) the frame belongs to: the unit of splits and of statistics.
        id: unique within its source.
        intrinsics: of the image as it stands here, or None if unknown.
        labels: classes, ``(1, h, w)`` int64, -1 where unlabelled, or None.
        normals: unit surface normals in camera coordinates (x right, y down, z forward), ``(3, h, w)``, zero where
            unknown, or None.
        pose: camera-to-world, ``(4, 4)`` float32, or None.
        timestamp: seconds on the recording's clock, or None.
        target: any other map to probe for, ``(C, H', W')`` float32 of the same view at a resolution of its own, NaN where
            unknown, or None. `fathom.data.transforms.fit` leaves its resolution alone.
    """

    image: UInt8[Tensor, "3 H W"] | Float[Tensor, "3 H W"]
    depth: Float[Tensor, "1 h w"]
    valid: Bool[Tensor, "1 h w"]
    scene: str
    id: str
    intrinsics: Intrinsics | None = None
    labels: Int[Tensor, "1 h w"] | None = None
    normals: Float[Tensor, "3 h w"] | None = None
    pose: Float[Tensor, "4 4"] | None = None
    target: Float[Tensor, "C a b"] | None = None
    timestamp: float | None = None

    @property
    def image_size(self) -> Grid:
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    @property
    def depth_size(self) -> Grid:
        return int(self.depth.shape[-2]), int(self.depth.shape[-1])

    def float_image(self) -> Float[Tensor, "3 H W"]:
        """The image as float32 in [0, 1]."""
        return self.image.float().div_(255) if self.image.dtype == torch.uint8 else self.image


def camera_row(camera: Intrinsics | None) -> Float[Tensor, " 4"]:
    """fx, fy, cx and cy, or four NaN."""
    if camera is None:
        return torch.full((4,), torch.nan)
    return torch.tensor([camera.fx, camera.fy, camera.cx, camera.cy], dtype=torch.float32)


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples of one common size, stacked; `camera` is fx, fy, cx and cy in pixels of the image, NaN where it is unknown."""

    image: Float[Tensor, "B 3 H W"]
    depth: Float[Tensor, "B 1 h w"]
    valid: Bool[Tensor, "B 1 h w"]
    scenes: tuple[str, ...]
    ids: tuple[str, ...]
    camera: Float[Tensor, "B 4"] | None = None

    @staticmethod
    def of(samples: Sequence[Sample]) -> Batch:
        """Stack samples whose sizes agree; images become float32 in [0, 1]."""
        return Batch(
            image=torch.stack([sample.float_image() for sample in samples]),
            depth=torch.stack([sample.depth for sample in samples]),
            valid=torch.stack([sample.valid for sample in samples]),
            scenes=tuple(sample.scene for sample in samples),
            ids=tuple(sample.id for sample in samples),
            camera=torch.stack([camera_row(sample.intrinsics) for sample in samples]),
        )
