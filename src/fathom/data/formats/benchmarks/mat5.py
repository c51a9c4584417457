"""Vectors of numbers from MATLAB v5 files, such as NYU's ``splits.mat``, by a reader of only that.

`scipy.io.loadmat` reads all of the format in compiled code that trusts its input: a changed byte can crash the process. This
one knows numeric arrays, plain or compressed, passes over the rest and checks every length. Format: "MAT-File Format",
MathWorks, level 5.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import read_bytes

_HEADER = 128
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Data type of an element -> NumPy's name of it."""
_NUMERIC = range(6, 16)
"""Classes of arrays of numbers: double, single, and integers of 8 to 64 bits."""


class _BrokenError(ValueError):
    """What is wrong with the file, in words."""


def read_vectors(path: Path, names: Collection[str], fix: str) -> dict[str, np.ndarray]:
    """The arrays called `names`, flattened in MATLAB's order (by columns); `DataError` where one is missing or damaged."""
    data = read_bytes(path, "json-bytes")
    found: dict[str, np.ndarray] = {}
    try:
        if len(data) < _HEADER or data[126:128] not in (b"IM", b"MI"):
            raise _BrokenError("it does not begin as one")
        order = "<" if data[126:128] == b"IM" else ">"
        for kind, content in _elements(data[_HEADER:], order, padded=False):
            if kind == _COMPRESSED:
                inner = next(_elements(_inflated(content), order, padded=False), None)
                if inner is None:
                    continue
                kind, content = inner
            if kind == _MATRIX:
                name, values = _matrix(content, order, names)
                if values is not None:
                    found[name] = values
    except (_BrokenError, struct.error, zlib.error) as error:
        raise DataError(path, f"is not a MATLAB v5 file that can be read ({error})", fix) from error
    for name in names:
        if name not in found:
            raise DataError(path, f"has no array of numbers called {name}", fix)
    return found


def _inflated(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    most = limits.most("json-bytes")
    data = stream.decompress(content, most)
    if stream.unconsumed_tail:
        raise _BrokenError(f"an element unpacks to more than {most:,} bytes")
    return data


def _elements(data: bytes, order: str, *, padded: bool = True) -> Iterator[tuple[int, bytes]]:
    """The elements (data type, content) one after the other; inside of a matrix they are padded to 8 bytes."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from(order + "II", data, at)
        if kind >> 16:  # a small element: its size and up to four bytes of content in the tag
            kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            if size > 4:
                raise _BrokenError("a small element is too long")
        else:
            start = at + 8
            after = start + size + (-size % 8 if padded else 0)
        if start + size > len(data):
            raise _BrokenError("an element is longer than the file")
        yield kind, data[start : start + size]
        at = after


def _matrix(content: bytes, order: str, names: Collection[str]) -> tuple[str, np.ndarray | None]:
    """Name and values of an array; no values where it is not wanted."""
    parts = _elements(content, order)
    flags, sides, name = (next(parts, (0, b"")) for _ in range(3))
    if flags[0] != _UINT32 or len(flags[1]) != 8 or sides[0] != _INT32 or name[0] != _INT8:
        return "", None  # an object of another build
    text = name[1].decode("latin-1")
    if text not in names:
        return text, None
    word = struct.unpack_from(order + "I", flags[1])[0]
    if word & 0xFF not in _NUMERIC or word & 0x0800:
        raise _BrokenError(f"{text} is not an array of real numbers")
    kind, values = next(parts, (0, b""))
    if kind not in _TYPES:
        raise _BrokenError(f"{text} holds data of type {kind}")
    dtype = np.dtype(_TYPES[kind]).newbyteorder("<" if order == "<" else ">")
    shape = struct.unpack(f"{order}{len(sides[1]) // 4}i", sides[1])
    count = 1
    for side in shape:
        count *= side
    if min(shape, default=-1) < 0 or count * dtype.itemsize != len(values):
        raise _BrokenError(f"{text} claims a shape of {shape} and holds {len(values)} bytes")
    return text, np.frombuffer(values, dtype)
