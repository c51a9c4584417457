"""Depth and other maps from OpenEXR files, through the OpenEXR package (extra ``record3d``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fathom.errors import DataError, MissingExtraError
from fathom.files import limits
from fathom.files.inputs import regular_file

CHANNELS = ("Z", "depth", "Y", "R", "V")
"""Names under which depth is kept, in order of preference."""


def read_exr(path: str | Path) -> np.ndarray:
    """One channel of an EXR file as ``(H, W)`` float16 or float32, as stored."""
    path = Path(path)
    channels = read_exr_channels(path)
    name = next((known for known in CHANNELS if known in channels), None)
    if name is None:
        raise DataError(path, f"has channels {', '.join(channels)}, none of them depth ({', '.join(CHANNELS)})")
    array = channels[name]
    if array.ndim != 2 or array.dtype.kind != "f":
        raise DataError(path, f"holds {array.dtype} of shape {array.shape}; wanted floating-point (H, W)")
    return array


def read_exr_channels(path: str | Path) -> dict[str, np.ndarray]:
    """All channels of an EXR file by name, each as stored, in the file's order (by name)."""
    try:
        import OpenEXR
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "record3d") from None
    path = regular_file(path)
    try:
        header = OpenEXR.File(str(path), header_only=True).header()
        low, high = header["dataWindow"]
        pixels = max(int(high[0]) - int(low[0]) + 1, 0) * max(int(high[1]) - int(low[1]) + 1, 0)
        limits.check("pixels", pixels, path)
        limits.check("channels", len(header["channels"]), path)
        limits.check("values", pixels * len(header["channels"]), path)
        with OpenEXR.File(str(path), separate_channels=True) as file:
            return {name: np.asarray(channel.pixels) for name, channel in file.channels().items()}
    except (RuntimeError, ValueError, OSError, KeyError, TypeError, IndexError, OverflowError, MemoryError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(path, f"is not a readable EXR image ({reason})", "replace it or use --skip-bad") from error
