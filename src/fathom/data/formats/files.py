"""Reading one image or one depth map from a file, safely: every way a file can be broken is a `DataError` that names it."""

from __future__ import annotations

import importlib
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from fathom.data.formats.npy import load_npy
from fathom.errors import DataError, MissingExtraError, UsageError
from fathom.files import limits
from fathom.files.inputs import regular_file

if TYPE_CHECKING:
    from PIL.Image import Exif

SKIP = "replace the file or leave the frame out with --skip-bad"

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff", ".heic", ".heif", ".avif"}
)
HEIF_SUFFIXES = frozenset({".heic", ".heif"})
"""Photographs of phones, which Pillow reads with a plug-in."""

DEPTH_SUFFIXES = frozenset({".png", ".npy", ".exr", ".tif", ".tiff", ".pgm"})


class DepthUnitWarning(UserWarning):
    """Depth values that are hardly metres."""


class UnknownUnitError(DataError):
    """Depth whose unit nothing tells; it is never guessed."""

    @classmethod
    def of_counts(cls, path: str | Path, dtype: np.dtype) -> UnknownUnitError:
        """Of a map of integers."""
        example = "0.0392157 where 255 is 10 m" if dtype.itemsize == 1 else "1000 for millimetres"
        fix = f"give 'PATH?depth-scale=...' ({example})"
        return cls(path, f"holds {dtype} counts, and nothing says how many make a metre", fix)


_BROKEN_IMAGE = (
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    OverflowError,
    IndexError,
    KeyError,
    TypeError,
)
"""What Pillow's decoders raise for damaged images, beside OSError."""


@contextmanager
def _reading(path: Path, what: str) -> Iterator[None]:
    """Turn what Pillow and the file system raise into one sentence."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except UnidentifiedImageError:
        raise DataError(path, f"is not {what}", SKIP) from None
    except Image.DecompressionBombError as error:
        if claimed := re.search(r"\((\d+) pixels\)", str(error)):
            limits.check("pixels", int(claimed[1]), path)
        raise DataError(path, f"is not {what} that can be read ({error})", SKIP) from None
    except (*_BROKEN_IMAGE, OSError) as error:
        problem = f"cannot be read as {what} ({error})"
        raise DataError(path, problem, SKIP) from error


def decode_image(path: Path, data: bytes | None = None) -> np.ndarray:
    """Decode the file (or `data` from an archive member called `path`) as Pillow has it: ``(H, W)`` or ``(H, W, C)``."""
    from PIL import Image, ImageOps

    with _reading(path, "an image"), warnings.catch_warnings():
        # The limit is ours and is checked below, before any pixel is decoded.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        if Image.MAX_IMAGE_PIXELS is not None:  # Pillow's own limit must not be below ours where the user raised ours
            Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS, limits.most("pixels"))
        _prepare(path)
        source = BytesIO(data) if data is not None else regular_file(path)
        with Image.open(source) as picture:
            limits.check("pixels", picture.width * picture.height, path)
            decoded: Image.Image = picture
            if decoded.mode == "P":
                decoded = decoded.convert("RGBA" if "transparency" in decoded.info else "RGB")
            decoded.load()
            return np.asarray(ImageOps.exif_transpose(decoded))


def read_exif(path: str | Path) -> Exif:
    """The EXIF of an image file, empty where it has none."""
    from PIL import Image

    path = Path(path)
    _prepare(path)
    with _reading(path, "an image"), Image.open(regular_file(path)) as picture:
        return picture.getexif()


def _prepare(path: Path) -> None:
    """Let Pillow read HEIC where `path` is one; one sentence where no plug-in is installed."""
    if path.suffix.lower() not in HEIF_SUFFIXES:
        return
    for plugin in ("pi_heif", "pillow_heif"):
        with suppress(ImportError):
            importlib.import_module(plugin).register_heif_opener()
            return
    raise MissingExtraError(f"Reading {path}", "heif")


def read_rgb(path: str | Path, data: bytes | None = None) -> UInt8[Tensor, "3 H W"]:
    """An RGB image: grey is repeated, alpha dropped, 16 bits brought to 8, EXIF orientation applied."""
    path = Path(path)
    array = decode_image(path, data)
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype in (np.uint16, np.int32):
        array = (array >> 8).clip(0, 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise DataError(path, f"holds {array.dtype} values, no image of 8 or 16 bits")
    if array.ndim == 2 or array.shape[2] == 2:
        grey = array if array.ndim == 2 else array[..., 0]
        array = np.repeat(grey[..., None], 3, axis=2)
    elif array.shape[2] == 4 and _mode(path, data) == "CMYK":
        from PIL import Image

        array = np.asarray(Image.fromarray(array, "CMYK").convert("RGB"))
    return torch.from_numpy(np.ascontiguousarray(array[..., :3].transpose(2, 0, 1)))


def _mode(path: Path, data: bytes | None) -> str:
    from PIL import Image

    with Image.open(BytesIO(data) if data is not None else path) as picture:
        return str(picture.mode)


def read_counts(path: str | Path, data: bytes | None = None) -> np.ndarray:
    """Depth or labels stored as integers, ``(H, W)`` uint8 or uint16; palettes and colour are refused."""
    path = Path(path)
    array = decode_image(path, data)
    if array.ndim != 2:
        raise DataError(path, "is a colour image, no map of depth counts", "name the folder of the depth maps")
    if array.dtype == np.int32:
        if array.min() < 0 or array.max() > 65535:
            raise DataError(path, "holds counts beyond 16 bits")
        array = array.astype(np.uint16)
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(path, f"holds {array.dtype} values where counts of 8 or 16 bits are wanted")
    return array


def read_npy(path: str | Path, channels: int = 1) -> np.ndarray:
    """A NumPy map: ``(H, W)``, or ``(H, W, C)`` where `channels` is more; a single leading or trailing axis is dropped."""
    path = Path(path)
    array = load_npy(path)
    shape = array.shape
    if channels == 1 and array.ndim == 3 and 1 in (shape[0], shape[-1]):
        array = array[0] if shape[0] == 1 else array[..., 0]
    wanted = 2 if channels == 1 else 3
    if array.ndim != wanted or (channels > 1 and array.shape[-1] != channels) or 0 in array.shape:
        raise DataError(path, f"has shape {shape}; wanted (H, W{f', {channels}' if channels > 1 else ''})", SKIP)
    return array


def read_map(path: str | Path) -> np.ndarray:
    """One map of numbers as stored in NPY, EXR or TIFF, ``(H, W)``."""
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".npy":
        array = read_npy(path)
    elif suffix == ".exr":
        from fathom.data.formats.exr import read_exr

        array = read_exr(path)
    else:
        array = decode_image(path)
    if array.ndim != 2:
        raise DataError(path, f"has shape {array.shape}; wanted one depth map (H, W)")
    if array.dtype.kind not in "iuf":
        raise DataError(path, f"holds {array.dtype} values, no depth", SKIP)
    return array


def read_metres(path: str | Path) -> np.ndarray:
    """Depth stored as floating-point metres in NPY, EXR or TIFF, ``(H, W)`` float32."""
    array = read_map(path)
    if array.dtype.kind != "f":
        raise UnknownUnitError.of_counts(path, array.dtype)
    return array.astype(np.float32)


def clean_depth(
    metres: np.ndarray | Tensor, path: str | Path = ""
) -> tuple[Float[Tensor, "1 H W"], Bool[Tensor, "1 H W"]]:
    """Depth and validity from raw metres: NaN, infinities, zero and below are invalid and stored as 0.

    Warns with `DepthUnitWarning` where the median can hardly be metres.
    """
    raw = torch.from_numpy(np.array(metres, np.float32)) if isinstance(metres, np.ndarray) else metres.float()
    depth = raw.reshape(1, *raw.shape[-2:])
    valid = torch.isfinite(depth) & (depth > 0)
    depth = torch.where(valid, depth, 0.0)
    sample = depth[:, ::8, ::8]
    inside = sample[sample > 0]
    if inside.numel():
        median = float(inside.median())
        if median > 500:
            warnings.warn(
                f"{path}: median depth is {median:.0f} m; these look like millimetres read as metres: give 'PATH?depth-scale=1000'.",
                DepthUnitWarning,
                stacklevel=2,
            )
        elif median < 0.02:
            warnings.warn(
                f"{path}: median depth is {median:.4f} m; check the unit ('PATH?depth-scale=...').",
                DepthUnitWarning,
                stacklevel=2,
            )
    return depth, valid


def metres_per_count(scale: float) -> float:
    """Both conventions of a depth scale, told apart by size: below 1 metres a count (0.001), else counts a metre (1000)."""
    if not 0 < scale < math.inf:
        raise UsageError(f"A depth-scale of {scale:g} is no number above 0.")
    return scale if scale < 1 else 1 / scale
