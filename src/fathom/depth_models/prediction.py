"""`Prediction`: the depth of one image, what kind of depth it is, and the camera it belongs to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.data.camera import checked, from_fov
from fathom.depth_models.calibration import Calibration
from fathom.depth_models.model import Kind, unit_of
from fathom.depth_models.scale import Known, fix_scale
from fathom.errors import UsageError
from fathom.media import depth_files
from fathom.media.pointcloud import save_ply, unproject
from fathom.sample import Grid, Intrinsics

LEAST_METRES = 1e-3
"""Metric predictions are held above it, as all scores hold them: a linear output may fall below zero."""


@dataclass(frozen=True)
class PredictionInterval:
    """Metres between which a random pixel of a new scene lies with probability `level`, and what it was calibrated on."""

    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    level: float
    calibrated_on: str


@dataclass(frozen=True)
class Prediction:
    """Depth of one image.

    Attributes:
        image: the image as it is seen (EXIF orientation applied), ``(H, W, 3)`` uint8.
        values: ``(H, W)`` float32, NaN where the model gives none; what they mean is said by `kind`.
        kind: ``metric``, ``scale-invariant``, ``affine-depth`` or ``affine-disparity``.
        camera: in pixels of the image, with its origin.
        input_size: the (height, width) at which the model saw the image, where it says.
        source: the file or frame, for messages; empty for an image from memory.
        model: name, licence and facts of the model.
        operations: what was done to the model's values to reach a scale, a sentence each.
        confidence: ``(H, W)``, larger is surer, or None.
        interval: lower and upper metres of a calibrated interval, or None; see `fathom.depth_models.calibration`.
    """

    image: NDArray[np.uint8]
    values: NDArray[np.float32]
    kind: Kind
    camera: Intrinsics
    input_size: Grid | None = None
    source: str = ""
    model: Mapping[str, Any] = field(default_factory=dict)
    operations: tuple[str, ...] = ()
    confidence: NDArray[np.float32] | None = None
    interval: PredictionInterval | None = None

    @property
    def unit(self) -> str:
        """``m`` for metric depth, else empty."""
        return unit_of(self.kind)

    @property
    def depth(self) -> NDArray[np.float32]:
        """Metres along the optical axis, ``(H, W)`` float32; `UsageError` where the model gives no metres."""
        return self._metres("depth in metres")

    def scaled(self, *known: Known) -> Prediction:
        """The prediction in metres, from points of known distance: one, or two for a kind with a shift."""
        metres, operations = fix_scale(self.values, self.kind, known, self.source)
        return replace(self, values=metres, kind="metric", operations=(*self.operations, *operations))

    def with_interval(self, calibration: Calibration, level: float) -> Prediction:
        """The prediction with the interval of `level`; `UsageError` where it is not the metres that were calibrated."""
        metres = self._metres("interval in metres")
        if self.operations:
            raise UsageError(
                "An interval belongs to the metres of the model itself, and a known distance has changed them; leave out "
                "--known, or adapt the model to your room (fathom adapt)."
            )
        lower, upper = calibration.interval(metres, self.camera, level)
        return replace(
            self, interval=PredictionInterval(lower, upper, level, f"{calibration.scenes} scenes of {calibration.data}")
        )

    def beyond_png(self) -> int:
        """Pixels deeper than a 16-bit map in millimetres can say."""
        return depth_files.beyond_png(self.depth)

    def save_png16(self, path: str | Path) -> Path:
        """Write millimetres as 16-bit PNG; 0 is unknown, 65535 is 65.535 m *or more* (with a `DepthRangeWarning`)."""
        return depth_files.save_png16(self._metres("a PNG in millimetres"), path)

    def save_npy(self, path: str | Path) -> Path:
        """Write the values as they are: ``(H, W)`` float32 NPY, NaN where unknown."""
        return depth_files.save_npy(self.values, path)

    def save_sidecar(self, path: str | Path, files: Sequence[str] = ()) -> Path:
        """Write what the numbers mean as JSON, for the depth files named in `files`."""
        return depth_files.save_sidecar({**self.record(), "files": list(files)}, path)

    def save_colour(self, path: str | Path, *, near: float | None = None, far: float | None = None) -> Path:
        """Write a PNG of the values in colour beside their scale, which states metres or that there is no unit.

        The scale runs from `near` to `far` metres; by default over this image's values but for 1 % at either end.
        """
        from fathom.media.colour_map import save_colour_map

        if near is not None or far is not None:
            self._metres("a colour scale from near to far in metres")
        return save_colour_map(self.values, path, near=near, far=far, kind=self.kind)

    def pointcloud(self, path: str | Path, *, intrinsics: Intrinsics | None = None, fov: float | None = None) -> Path:
        """Write a binary PLY of coloured points in metres, by `camera` unless another one is given."""
        metres = self._metres("a point cloud")
        view = given_camera(self.shape, intrinsics=intrinsics, fov=fov, what=self.source) or self.camera
        points, known = unproject(metres, view)
        return save_ply(path, points, self.image[known])

    @property
    def shape(self) -> Grid:
        """(height, width)."""
        return self.values.shape[0], self.values.shape[1]

    def record(self) -> dict[str, Any]:
        """What the numbers mean, as JSON values: kind, unit, camera and its origin, model, scale operations, versions."""
        import torch

        from fathom import __version__

        return {
            "image": self.source,
            "size": list(self.shape),
            "kind": self.kind,
            "unit": self.unit or None,
            "camera": asdict(self.camera),
            "model": {**self.model, "input_size": None if self.input_size is None else list(self.input_size)},
            "scale_operations": list(self.operations),
            **({} if self.interval is None else {"interval": self._interval_record(self.interval)}),
            "versions": {"fathom": __version__, "torch": torch.__version__},
        }

    def _interval_record(self, interval: PredictionInterval) -> dict[str, Any]:
        return {
            "level": interval.level,
            "calibrated_on": interval.calibrated_on,
            "promise": "a random pixel of a random new scene like those of the calibration lies inside with this probability",
        }

    def _metres(self, wanted: str) -> NDArray[np.float32]:
        if self.kind == "metric":
            return self.values
        points = "one known distance" if self.kind == "scale-invariant" else "two known distances"
        name = self.model.get("name", "this model")
        raise UsageError(
            f"{name} gives {self.kind} values, which have no unit, so there is no {wanted}; fix the scale by {points} "
            "(--known X,Y=METRES, in Python .scaled(Known(x, y, metres), ...)), or use a metric model."
        )


def given_camera(
    size: Grid, *, intrinsics: Intrinsics | None = None, fov: float | None = None, what: str = ""
) -> Intrinsics | None:
    """The camera that a user gave for an image of `size`, checked; None where none is given."""
    if intrinsics is not None and fov is not None:
        raise UsageError("A field of view and intrinsics say the same thing twice; give one of them.")
    if intrinsics is not None:
        return checked(replace(intrinsics, origin="given"), size, what or "the image")
    return None if fov is None else from_fov(size, fov)
