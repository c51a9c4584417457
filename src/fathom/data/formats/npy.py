"""NumPy's ``.npy`` files, read by an own small parser: nothing is evaluated, and the size must be exactly what the header claims.

``numpy.load`` parses the header as Python, which fails in a dozen ways on a damaged one, and it ignores bytes beyond the
array, so that a header that lost half of its data type reads scrambled values without a word. Format: NumPy NEP 1.
"""

from __future__ import annotations

import math
import re
import struct
import sys
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import regular_file

_MAGIC = b"\x93NUMPY"
_LENGTH = {1: "<H", 2: "<I", 3: "<I"}
"""Major version -> how the length of the header is stored."""

_ENTRIES = {
    "descr": r"'(?P<descr>[<>|=]?[a-zA-Z][0-9]{0,4})'",
    "fortran_order": r"(?P<fortran_order>True|False)",
    "shape": r"\((?P<shape>\s*+(?:[0-9]{1,19}L?\s*+(?:,\s*+[0-9]{1,19}L?\s*+)*+,?\s*+)?)\)",
}

NUMBERS = "biufc"
"""NumPy's kinds of booleans, integers, floats and complex numbers."""

FIX = "replace the file or use --skip-bad"


class Header(NamedTuple):
    """What a header says of the array."""

    dtype: np.dtype
    shape: tuple[int, ...]
    fortran: bool

    @property
    def size(self) -> int:
        """Bytes of the array."""
        return math.prod(self.shape) * self.dtype.itemsize


def load_npy(path: str | Path) -> np.ndarray:
    """The array that a file holds, of any shape, of numbers or booleans."""
    path = regular_file(path)
    try:
        with path.open("rb") as file:
            return from_stream(file, path.stat().st_size, path)
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", FIX) from error


def from_stream(file: BinaryIO, total: int, path: Path, kinds: str = NUMBERS) -> np.ndarray:
    """The array in a stream of `total` bytes, of NumPy's `kinds` of values; `path` names it in messages."""
    header = read_header(file, path, kinds)
    limits.check("values", math.prod(header.shape), path)
    held = total - file.tell()
    if held != header.size:
        shape = "x".join(map(str, header.shape)) or "one number"
        raise DataError(
            path, f"holds {held:,} bytes where its header wants {header.size:,} ({header.dtype.name}, {shape})", FIX
        )
    data = np.empty(header.size, np.uint8)
    if file.readinto(memoryview(data)) != header.size:  # type: ignore[arg-type,attr-defined]
        raise DataError(path, "is cut short", FIX)
    native = data.view(header.dtype).astype(header.dtype.newbyteorder("="), copy=False)
    if native.dtype.kind == "U" and native.view(np.uint32).max(initial=0) > sys.maxunicode:
        raise DataError(
            path, "holds text that is not Unicode", FIX
        )  # of which NumPy would make texts that Python cannot hold
    return native.reshape(header.shape, order="F" if header.fortran else "C")


def read_header(file: BinaryIO, path: Path, kinds: str = NUMBERS) -> Header:
    """The header at the beginning of a stream, which then stands at the first byte of the array."""
    start = file.read(8)
    if len(start) < 8 or not start.startswith(_MAGIC) or start[6] not in _LENGTH:
        raise DataError(path, "is not a NumPy array (it does not begin as one)", FIX)
    form = _LENGTH[start[6]]
    length = file.read(struct.calcsize(form))
    if len(length) < struct.calcsize(form):
        raise DataError(path, "is not a NumPy array (it ends within its header)", FIX)
    size = int(struct.unpack(form, length)[0])
    limits.check("header-bytes", size, path, "is not a NumPy array that this reads: it claims")
    text = file.read(size).decode("latin-1")
    return parse_header(text, path, kinds)


def parse_header(text: str, path: Path, kinds: str = NUMBERS) -> Header:
    """The three entries of a header's text, in any order."""
    found: dict[str, str] = {}
    outer = text.strip()
    rest = outer[1:-1].strip() if outer[:1] == "{" and outer[-1:] == "}" else ""
    while rest:
        for key, pattern in _ENTRIES.items():
            match = re.match(rf"'{key}'\s*+:\s*+{pattern}\s*+(?:,\s*+|$)", rest)
            if match and key not in found:
                found[key], rest = match[key], rest[match.end() :]
                break
        else:
            break
    if rest or found.keys() != _ENTRIES.keys():
        raise DataError(path, f"is not a NumPy array (its header is {text.strip()[:80]!r})", FIX)
    try:
        dtype = np.dtype(found["descr"])
    except TypeError:
        raise DataError(path, f"is not a NumPy array of numbers ({found['descr']})", FIX) from None
    if dtype.kind not in kinds or dtype.itemsize == 0:
        raise DataError(path, f"is not a NumPy array of numbers (it holds {dtype})", FIX)
    shape = tuple(int(side.strip().rstrip("L")) for side in found["shape"].split(",") if side.strip())
    if len(shape) > 32:
        raise DataError(path, f"claims {len(shape)} axes", FIX)
    return Header(dtype, shape, found["fortran_order"] == "True")
