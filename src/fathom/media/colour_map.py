"""A depth map as a picture: every pixel as it is, and beside it the scale in metres."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fathom.errors import UsageError
from fathom.files.atomic import atomic_path
from fathom.media.colour import DEPTH_MAP, NEARNESS_MAP, colourise, shared_range

LABELS = {
    "metric": "depth in metres",
    "scale-invariant": "relative depth (no unit)",
    "affine-depth": "relative depth (no unit)",
    "affine-disparity": "relative 1/depth (no unit)",
}
"""What the scale of each kind of depth says."""

_DPI = 100
_LEAST_HEIGHT = 120
"""Pixels below which the scale would not be legible; a smaller map stands on white."""


def save_colour_map(
    depth: NDArray[np.floating],
    path: str | Path,
    *,
    near: float | None = None,
    far: float | None = None,
    kind: str = "metric",
) -> Path:
    """Write a map ``(H, W)`` as PNG, pixel for pixel at the upper left, and a colour scale at the right.

    The scale runs from `near` to `far`; where one is None, from the least or to the most of the depths but for 1 % at
    either end. Depths beyond the scale have its end colours; unknown depth is grey. `kind` says what the values are (see
    `fathom.depth_models.model.Kind`): metres are written for ``metric`` alone, and near is bright for every kind.
    """
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    least, most = shared_range([depth])
    low, high = least if near is None else near, most if far is None else far
    if not low < high:
        raise UsageError(f"The colour scale from {low:g} m to {high:g} m is empty; far must be beyond near.")
    height, width = depth.shape
    tall = max(height, _LEAST_HEIGHT)
    text = min(max(tall * 0.03, 10.0), 60.0)  # pixels
    wide = width + round(7.5 * text)
    figure = Figure(figsize=(wide / _DPI, tall / _DPI), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    colours = NEARNESS_MAP if kind == "affine-disparity" else DEPTH_MAP
    figure.figimage(colourise(depth, low, high, colours), xo=0, yo=tall - height, origin="upper")
    bar = figure.add_axes(((width + 1.2 * text) / wide, 0.06, 1.2 * text / wide, 0.88))
    scale = figure.colorbar(ScalarMappable(Normalize(low, high), colormaps[colours]), cax=bar)
    points = text * 72 / _DPI
    scale.ax.tick_params(labelsize=points, length=points / 3, width=points / 12)
    scale.set_label(LABELS[kind], fontsize=points)
    scale.outline.set_linewidth(points / 12)  # type: ignore[operator]
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI, facecolor="white")
    return Path(path)
