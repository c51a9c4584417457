"""One way of showing depth everywhere: near is bright, far is dark, the scale is in metres, nothing is drawn where unknown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

DEPTH_MAP = "magma_r"
NEARNESS_MAP = "magma"
"""Of values that are large where it is near, such as 1/depth."""

ERROR_MAP = "RdBu_r"
UNKNOWN = "0.85"
"""Grey of pixels without ground truth."""


def shared_range(maps: Sequence[NDArray[np.floating]], trim: float = 0.01) -> tuple[float, float]:
    """One (least, most) for several maps: their joint quantiles, so that a few outliers do not flatten the rest."""
    inside = [values[np.isfinite(values)] for values in maps]
    joint = np.concatenate(
        [values[:: max(1, values.size // 20000)] for values in inside if values.size] or [np.zeros(1)]
    )
    low, high = (float(v) for v in np.quantile(joint, [trim, 1 - trim]))
    return (low, high) if high > low else (low, low + 1e-3)


def colourise(depth: NDArray[np.floating], low: float, high: float, colours: str = DEPTH_MAP) -> NDArray[np.uint8]:
    """``(H, W)`` metres to ``(H, W, 3)`` RGB on a colour map; pixels that are not finite become light grey."""
    from matplotlib import colormaps

    known = np.isfinite(depth)
    share = np.clip((np.where(known, depth, low) - low) / (high - low), 0, 1)
    rgb = (colormaps[colours](share)[..., :3] * 255).round().astype(np.uint8)
    rgb[~known] = round(255 * float(UNKNOWN))
    return rgb
