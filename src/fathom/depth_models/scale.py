"""Known distances fix the scale of a prediction; how many it takes depends on the kind of depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.depth_models.model import Kind
from fathom.errors import UsageError


@dataclass(frozen=True)
class Known:
    """The point of the image at (`x`, `y`), in pixels from the upper left corner, is `metres` away along the optical axis."""

    x: float
    y: float
    metres: float

    def __post_init__(self) -> None:
        if not (self.metres > 0 and math.isfinite(self.metres)):
            raise UsageError(f"A known distance of {self.metres:g} m is not above 0.")


def parse_known(text: str) -> Known:
    """``"320,240=1.5"``: the pixel at column 320 and row 240 is 1.5 m away."""
    try:
        where, metres = text.split("=")
        x, y = (float(part) for part in where.split(","))
        return Known(x, y, float(metres))
    except ValueError:
        raise UsageError(f"--known '{text}' is not X,Y=METRES, such as 320,240=1.5.") from None


def fix_scale(
    values: NDArray[np.float32], kind: Kind, known: Sequence[Known], source: str = ""
) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Metres from values of any kind and distances that are known at some pixels.

    ``metric`` and ``scale-invariant``: d = s·v, log s the mean of log(m/v). ``affine-depth``: d = s·v + t, and
    ``affine-disparity``: 1/d = s·v + t, by least squares, which takes two points or more.

    Args:
        values: ``(H, W)``, NaN where unknown.
        kind: of the values.
        known: points with their distances.
        source: the image's name, for messages.

    Returns:
        ``(H, W)`` metres, NaN where unknown or where the fit gives no positive depth; and a sentence for each operation.
    """
    what = f" of {source}" if source else ""
    v = np.array([_value_at(values, point, what) for point in known], np.float64)
    m = np.array([point.metres for point in known], np.float64)
    if kind in ("metric", "scale-invariant"):
        if not (v > 0).all():
            raise UsageError(f"The depth{what} is not above 0 at a known point, so no factor fits; name another point.")
        factor = float(np.exp(np.log(m / v).mean()))
        return (values * np.float32(factor)), (f"times {factor:.6g}, from {_points(known)}",)
    if len(known) < 2:
        raise UsageError(
            f"One known distance does not fix {kind} values, which are known up to a factor and a shift; give --known twice, at "
            "two points of different depth."
        )
    target = m if kind == "affine-depth" else 1 / m
    design = np.stack([v, np.ones_like(v)], axis=1)
    if np.ptp(v) < 1e-6 * max(float(np.abs(v).max()), 1e-12):
        raise UsageError(
            f"The known points{what} have the same value in the model's map; name points of different depth."
        )
    (s, t), *_ = np.linalg.lstsq(design, target, rcond=None)
    if s <= 0:
        raise UsageError(
            f"The known distances{what} contradict the model: where it sees the nearer point, a larger distance is given; check "
            "the points, which are X (column), Y (row)."
        )
    fitted = values.astype(np.float64) * s + t
    with np.errstate(divide="ignore", invalid="ignore"):
        metres = np.where(fitted > 0, fitted if kind == "affine-depth" else 1 / fitted, np.nan)
    form = "depth" if kind == "affine-depth" else "1/depth"
    return metres.astype(np.float32), (f"{form} = {s:.6g} * value + {t:.6g}, from {_points(known)}",)


def _value_at(values: NDArray[np.float32], point: Known, what: str) -> float:
    height, width = values.shape
    row, column = math.floor(point.y), math.floor(point.x)
    if not (0 <= row < height and 0 <= column < width):
        raise UsageError(
            f"The known point ({point.x:g}, {point.y:g}) lies outside the image{what}, which is {width} wide and {height} high."
        )
    value = float(values[row, column])
    if not math.isfinite(value):
        raise UsageError(f"The model gives no value at the known point ({point.x:g}, {point.y:g}){what}; name another.")
    return value


def _points(known: Sequence[Known]) -> str:
    return ", ".join(f"({point.x:g}, {point.y:g}) = {point.metres:g} m" for point in known)
