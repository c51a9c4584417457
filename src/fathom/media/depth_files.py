"""Depth maps as files: 16-bit PNG in millimetres, NPY, and the JSON sidecar that says what the numbers mean."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.files.atomic import atomic_path, write_json

MOST_METRES = 65.535
"""The largest depth that 16 bits of millimetres hold."""

SIDECAR_VERSION = 1


class DepthRangeWarning(UserWarning):
    """Depth that a 16-bit map in millimetres cannot hold."""


def beyond_png(metres: NDArray[np.floating]) -> int:
    """Pixels deeper than a 16-bit map in millimetres can say."""
    return int(np.count_nonzero(metres > MOST_METRES))


def save_png16(metres: NDArray[np.floating], path: str | Path) -> Path:
    """Write millimetres as 16-bit PNG; 0 is unknown, 65535 is 65.535 m *or more* (with a `DepthRangeWarning`)."""
    from PIL import Image

    beyond = beyond_png(metres)
    if beyond:
        warnings.warn(
            f"{path}: {beyond} pixels lie beyond {MOST_METRES} m and are stored as {MOST_METRES} m; save NPY to keep them.",
            DepthRangeWarning,
            stacklevel=3,
        )
    millimetres = np.nan_to_num(metres.astype(np.float64), nan=0.0).clip(0, MOST_METRES) * 1000
    with atomic_path(path) as temporary:
        Image.fromarray(millimetres.round().astype(np.uint16)).save(temporary, format="PNG")
    return Path(path)


def save_npy(values: NDArray[np.floating], path: str | Path) -> Path:
    """Write a map as it is: ``(H, W)`` float32 NPY, NaN where unknown."""
    content = BytesIO()  # written to a file, NumPy passes over a disk that is full
    np.save(content, values.astype(np.float32), allow_pickle=False)
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.getbuffer())
    return Path(path)


def save_sidecar(record: Mapping[str, Any], path: str | Path) -> Path:
    """Write what a depth file's numbers mean, as JSON; see docs/predict.md for the keys."""
    write_json(path, {"schema_version": SIDECAR_VERSION, **record})
    return Path(path)
