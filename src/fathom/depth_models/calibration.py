"""Calibrated intervals of metric depth: what `fathom calibrate` finds, and what `predict --interval` adds to a prediction.

The interval of a pixel with predicted depth d is ``[d / exp(q u), d · exp(q u)]``: q is the conformal quantile of the level
(`fathom.metrics.conformal`) and u the relative uncertainty of the pixel, a function of the prediction and the camera alone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.depth_models.model import DepthModel
from fathom.errors import CheckpointError, UsageError
from fathom.files.atomic import write_json
from fathom.models.saved import read_json
from fathom.sample import Intrinsics

FILE = "calibration.json"
SCHEMA_VERSION = 1
LEVELS = tuple(round(0.01 * percent, 2) for percent in range(50, 100))
"""The levels whose quantiles are kept; between two of them the higher one serves."""

TERMS = ("1", "ln d", "(ln d)²", "y", "y²", "x²")
"""What ln u is linear in: depth, and where the pixel's ray points (tangents, x right and y down)."""

Map = NDArray[np.floating]


@dataclass(frozen=True)
class Calibration:
    """Quantiles of a model's errors on scenes that it was not trained on.

    Attributes:
        model: its name.
        data: what it was calibrated on.
        scenes: how many.
        quantiles: q of each of `levels`, in units of the uncertainty.
        levels: those that the scenes suffice for.
        shape: coefficients of `TERMS` in ln u; zeros for a constant relative uncertainty.
        facts: measured coverage and sharpness, for the record.
    """

    model: str
    data: str
    scenes: int
    levels: tuple[float, ...]
    quantiles: tuple[float, ...]
    shape: tuple[float, ...]
    facts: dict[str, Any]

    def quantile(self, level: float) -> float:
        """q of `level`; `UsageError` where the calibration cannot promise it."""
        if not 0 < level < 1:
            raise UsageError(f"An interval of {level:g} is not a probability between 0 and 1, such as 0.9.")
        for known, quantile in zip(self.levels, self.quantiles, strict=True):
            if known >= level - 1e-9:
                return quantile
        most = f"at most {max(self.levels):g}" if self.levels else "no interval"
        raise UsageError(
            f"An interval of {level:g} needs more calibration scenes: the {self.scenes} of {self.data} promise {most}; use a lower "
            "level or calibrate on more scenes (fathom calibrate)."
        )

    def interval(self, depth: Map, camera: Intrinsics, level: float) -> tuple[Map, Map]:
        """Lower and upper depth of every pixel of ``(H, W)`` metres, for a random pixel of a new scene."""
        factor = np.exp(self.quantile(level) * uncertainty(depth, camera, self.shape)).astype(depth.dtype)
        return depth / factor, depth * factor

    def save(self, path: Path) -> Path:
        """Write it as JSON."""
        write_json(path, {"schema_version": SCHEMA_VERSION, **asdict(self)}, checksum=True)
        return path


def terms(depth: Map, camera: Intrinsics) -> Map:
    """`TERMS` at every pixel, ``(6, H, W)``."""
    x, y = tangents(depth.shape[0], depth.shape[1], camera)
    return terms_at(depth, np.broadcast_to(x, depth.shape), np.broadcast_to(y[:, None], depth.shape))


def tangents(height: int, width: int, camera: Intrinsics) -> tuple[Map, Map]:
    """Where the columns and the rows of a map look: (x − cx)/fx, ``(W,)``, and (y − cy)/fy, ``(H,)``."""
    x = (np.arange(width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(height) + 0.5 - camera.cy) / camera.fy
    return x, y


def terms_at(depth: Map, x: Map, y: Map) -> Map:
    """`TERMS` of pixels of any shape."""
    log = np.log(np.maximum(depth, 1e-3))
    return np.stack([np.ones_like(log), log, log**2, y, y**2, x**2])


def uncertainty(depth: Map, camera: Intrinsics, shape: tuple[float, ...]) -> Map:
    """u = exp(shape · terms), kept within a factor of 4 of 1 so that no unusual view gets an absurd interval."""
    if not any(shape):
        return np.ones_like(depth)
    exponent = np.tensordot(np.asarray(shape), terms(depth, camera), 1)
    clipped: Map = np.exp(np.clip(exponent, -np.log(4), np.log(4)))
    return clipped


def calibration_of(model: DepthModel) -> Calibration:
    """The calibration that lies with a model; `UsageError` says how to get one."""
    if model.kind != "metric":
        raise UsageError(
            f"'{model.name}' gives {model.kind} values, which have no unit, so there is no interval in metres; use a metric model."
        )
    folder = model.facts().get("path")
    file = None if folder is None else Path(str(folder)) / FILE
    if file is None or not file.is_file():
        raise UsageError(
            f"'{model.name}' has no calibration; run fathom calibrate '{model.name}' DATA --out FILE on scenes it was not trained "
            "on, and give the file with --calibration."
        )
    return read_calibration(file)


def read_calibration(path: Path) -> Calibration:
    """A calibration file; `CheckpointError` where it is none."""
    values = read_json(path, checksum=True)
    if values.pop("schema_version", None) != SCHEMA_VERSION:
        raise CheckpointError(path, "is not a calibration of this version of Fathom", "run fathom calibrate again")
    try:
        for key in ("levels", "quantiles", "shape"):
            values[key] = tuple(float(value) for value in values[key])
        found = Calibration(**values)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(path, f"does not hold a calibration ({error})", "run fathom calibrate again") from error
    if len(found.levels) != len(found.quantiles) or len(found.shape) != len(TERMS):
        raise CheckpointError(path, "does not hold a calibration (lengths differ)", "run fathom calibrate again")
    return found
