"""Maps of one or several channels from files, for targets that are not depth.

What is stored is taken as it is: no unit, no scale. Where a file can be read in two ways, it is refused until an option says
which is meant.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.formats.files import decode_image
from fathom.data.formats.npy import load_npy
from fathom.errors import DataError, MissingExtraError, UsageError
from fathom.files import limits
from fathom.files.inputs import regular_file
from fathom.sample import Grid

Layout = Literal["hwc", "chw"]

TARGET_SUFFIXES = frozenset({".npy", ".exr", ".tif", ".tiff", ".png", ".pgm"})

SKIP = "replace the file or leave the frame out with --skip-bad"


@dataclass(frozen=True)
class TargetFormat:
    """How the target files of a data set are to be read.

    Attributes:
        channels: how many each file must have; None until the first file has told.
        names: the channels to take from EXR files, in order; empty for all of them.
        layout: which axis of a three-axis NumPy array the channels are on; None where nobody said.
        invalid: the stored value that means "unknown", beside NaN.
        unit: of the values, for tables.
    """

    channels: int | None = None
    names: tuple[str, ...] = ()
    layout: Layout | None = None
    invalid: float | None = None
    unit: str = ""

    @staticmethod
    def of(channels: str | None, layout: Layout | None, invalid: float | None, unit: str) -> TargetFormat:
        """From options: `channels` is a count, such as 3, or the names of EXR channels, such as ``R,G,B``."""
        if channels is None:
            return TargetFormat(None, (), layout, invalid, unit)
        names = tuple(name.strip() for name in channels.split(",") if name.strip())
        if len(names) == 1 and re.fullmatch("0*[1-9][0-9]{0,5}", names[0]):
            return TargetFormat(int(names[0]), (), layout, invalid, unit)
        if not names or any(name.lstrip("-").isdecimal() for name in names) or len(set(names)) < len(names):
            raise UsageError(f"target-channels={channels} is neither a count such as 3 nor names such as R,G,B.")
        return TargetFormat(len(names), names, layout, invalid, unit)

    def __str__(self) -> str:
        parts = [_channels(self.channels or 0) + (f" ({', '.join(self.names)})" if self.names else "")]
        parts += [f"arrays are {self.layout}"] if self.layout else []
        parts += [f"{self.invalid:g} is unknown"] if self.invalid is not None else []
        return ", ".join(parts)


def read_target(path: Path, form: TargetFormat) -> Float[Tensor, "C h w"]:
    """One target as float32, NaN where it is unknown.

    Raises:
        DataError: naming the file that is broken, has another number of channels, or can be read in two ways.
        MissingExtraError: for EXR and multi-band TIFF without the packages that read them.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = _npy(path, form.layout)
    elif suffix == ".exr":
        array = _exr(path, form.names)
    elif suffix in (".tif", ".tiff"):
        array = _tiff(path)
    else:
        array = _picture(path)
    if array.dtype.kind not in "fiub" or 0 in array.shape:
        raise DataError(path, f"holds {array.dtype} values of shape {array.shape}, no map of numbers", SKIP)
    if form.channels is not None and len(array) != form.channels:
        raise DataError(
            path,
            f"has {_channels(len(array))} where {form.channels} are wanted",
            "make all files alike, or use --skip-bad",
        )
    with np.errstate(over="ignore"):
        values = array.astype(np.float32)
    if form.invalid is not None:
        values[array == form.invalid] = np.nan
    if np.isinf(values).any():
        raise DataError(
            path, "holds infinite values", "write NaN where nothing is known, or name the value by target-invalid"
        )
    return torch.from_numpy(np.ascontiguousarray(values))


def check_view(path: Path, target: Float[Tensor, "C h w"], image: Grid) -> None:
    """Refuse a target that does not cover the view of an image of size `image`: its sides must be in the same proportion."""
    height, width = target.shape[-2:]
    # Rounding a side to whole pixels moves it by less than one.
    if abs(height - width * image[0] / image[1]) < 1 or abs(width - height * image[1] / image[0]) < 1:
        return
    raise DataError(
        path,
        f"is a map of {height}x{width} with {_channels(len(target))}, which cannot cover the image of "
        f"{image[0]}x{image[1]}",
        "give maps of the image's proportions, and check target-layout",
    )


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"


def _npy(path: Path, layout: Layout | None) -> np.ndarray:
    array = load_npy(path)
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        raise DataError(path, f"has shape {array.shape}; wanted (H, W), (H, W, C) or (C, H, W)", SKIP)
    if layout is None:
        raise DataError(
            path,
            f"has shape {array.shape}, and nothing says which axis the channels are on",
            "give target-layout=hwc or target-layout=chw",
        )
    return array.transpose(2, 0, 1) if layout == "hwc" else array


def _exr(path: Path, names: tuple[str, ...]) -> np.ndarray:
    from fathom.data.formats.exr import read_exr_channels

    channels = read_exr_channels(path)
    missing = [name for name in names if name not in channels]
    if missing:
        raise DataError(
            path, f"has channels {', '.join(channels)}, but no {', '.join(missing)}", "check target-channels"
        )
    chosen = names or tuple(sorted(channels, key=_exr_order))
    if len({channels[name].shape for name in chosen}) > 1:
        raise DataError(
            path, f"has channels of different sizes ({', '.join(chosen)})", "choose some with target-channels"
        )
    array = np.stack([channels[name] for name in chosen])
    if array.ndim != 3:
        raise DataError(path, f"holds a deep image of shape {array.shape[1:]}, no flat map", SKIP)
    return array


def _exr_order(name: str) -> tuple[str, int, str]:
    """By layer and name, but R, G, B, A in this order and not alphabetically as the file has them."""
    layer, _, last = name.rpartition(".")
    return layer, "RGBA".find(last) if len(last) == 1 else -1, last


def _tiff(path: Path) -> np.ndarray:
    """Bands or pages as channels, at their full precision, which Pillow would not keep."""
    interleaved = _tiff_header(path)
    try:
        import imagecodecs
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "record3d") from None
    try:
        array = np.asarray(imagecodecs.tiff_decode(path.read_bytes(), index=None))
    except (RuntimeError, ValueError, OSError, TypeError, IndexError) as error:
        raise DataError(path, f"is not a readable TIFF image ({error})", SKIP) from error
    if array.ndim == 2:
        return array[None]
    if array.ndim != 3:
        raise DataError(path, f"holds {array.shape[0]} pages of several bands; wanted one of the two", SKIP)
    return array.transpose(2, 0, 1) if interleaved else array


def _tiff_header(path: Path) -> bool:
    """Whether the bands are interleaved; the sizes of all pages are checked before any pixel is decoded."""
    import struct

    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    pages: list[tuple[int, int, int, int]] = []
    try:
        with regular_file(path).open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on odd tags; what matters is refused below
            start = file.read(8)
            directory = ImageFileDirectory_v2(start + file.read(8) if start[2:3] == b"\x2b" else start)
            while directory.next and len(pages) <= limits.most("channels"):
                file.seek(directory.next)
                directory.load(file)
                width, height = int(directory[256]), int(directory[257])
                pages.append((width, height, int(directory.get(277, 1)), int(directory.get(284, 1))))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, OverflowError, struct.error) as error:
        raise DataError(path, f"is not a readable TIFF image ({error})", SKIP) from error
    if not pages:
        raise DataError(path, "is not a readable TIFF image (it has no page)", SKIP)
    width, height, bands, planar = pages[0]
    channels = bands * len(pages)
    limits.check("pixels", width * height, path)
    limits.check("channels", channels, path)
    limits.check("values", width * height * channels, path)
    if len(set(pages)) > 1:
        raise DataError(path, "has pages of different sizes or kinds", "store one map a file")
    return bands > 1 and planar == 1


def _picture(path: Path) -> np.ndarray:
    """PNG and PGM: grey of 8 or 16 bits, or colour of 8."""
    from PIL import Image

    array = decode_image(path)
    if array.ndim == 3 and path.suffix.lower() == ".png":
        with Image.open(path) as picture:
            if any(";16" in str(tile[3]) for tile in picture.tile):
                raise DataError(
                    path, "is a colour image of 16 bits, of which 8 would be read", "store it as NPY or TIFF"
                )
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
