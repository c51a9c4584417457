"""Vectors of numbers and lists of texts from MATLAB v5 files, such as NYU's ``splits.mat``, by a reader of only that.

`scipy.io.loadmat` reads all of the format in compiled code that trusts its input: a changed byte can crash the process. This
one knows arrays of numbers and cells of text, plain or compressed, passes over the rest and checks every length. Format: "MAT-File Format",
MathWorks, level 5.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import read_bytes

_HEADER = 128
_MATRIX, _COMPRESSED, _INT8, _INT32, _UINT32 = 14, 15, 1, 5, 6
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""Data type of an element -> NumPy's name of it."""
_CELL, _CHAR = 1, 4
_NUMERIC = range(6, 16)
"""Classes of arrays of numbers: double, single, and integers of 8 to 64 bits."""
_CODES = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
"""Data type of an array of characters -> its code."""

Found = TypeVar("Found")


class _BrokenError(ValueError):
    """What is wrong with the file, in words."""


def read_vectors(path: Path, names: Collection[str], fix: str) -> dict[str, np.ndarray]:
    """The arrays called `names`, flattened in MATLAB's order (by columns); `DataError` where one is missing or damaged."""
    return _read(path, names, fix, _numbers, "array of numbers")


def read_texts(path: Path, names: Collection[str], fix: str) -> dict[str, list[str]]:
    """The texts of the cell arrays called `names`, in MATLAB's order; `DataError` where one is missing or damaged."""
    return _read(path, names, fix, _texts, "cell array of text")


def _read(
    path: Path, names: Collection[str], fix: str, values: Callable[[_Matrix, str], Found], what: str
) -> dict[str, Found]:
    data = read_bytes(path, "json-bytes")
    found: dict[str, Found] = {}
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
            matrix = _matrix(content, order) if kind == _MATRIX else None
            if matrix is not None and matrix.name in names:
                found[matrix.name] = values(matrix, order)
    except (_BrokenError, struct.error, zlib.error, UnicodeDecodeError) as error:
        raise DataError(path, f"is not a MATLAB v5 file that can be read ({error})", fix) from error
    for name in names:
        if name not in found:
            raise DataError(path, f"has no {what} called {name}", fix)
    return found


def _inflated(content: bytes) -> bytes:
    stream = zlib.decompressobj()
    most = limits.most("json-bytes")
    data = stream.decompress(content, most)
    if stream.unconsumed_tail:
        raise _BrokenError(
            f"an element unpacks to more than {most:,} bytes, a limit that --limit json-bytes={2 * most} raises"
        )
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


@dataclass(frozen=True)
class _Matrix:
    """An array before its values are read: its class, whether its numbers are complex, and what follows its name."""

    name: str
    kind: int
    is_complex: bool
    shape: tuple[int, ...]
    parts: Iterator[tuple[int, bytes]]

    @property
    def count(self) -> int:
        return math.prod(self.shape) if min(self.shape, default=-1) >= 0 else -1


def _matrix(content: bytes, order: str) -> _Matrix | None:
    """An array; None for an object of another build."""
    parts = _elements(content, order)
    flags, sides, name = (next(parts, (0, b"")) for _ in range(3))
    if flags[0] != _UINT32 or len(flags[1]) != 8 or sides[0] != _INT32 or name[0] != _INT8:
        return None
    word = struct.unpack_from(order + "I", flags[1])[0]
    shape = struct.unpack(f"{order}{len(sides[1]) // 4}i", sides[1])
    return _Matrix(name[1].decode("latin-1"), word & 0xFF, bool(word & 0x0800), shape, parts)


def _numbers(matrix: _Matrix, order: str) -> np.ndarray:
    if matrix.kind not in _NUMERIC or matrix.is_complex:
        raise _BrokenError(f"{matrix.name} is not an array of real numbers")
    kind, values = next(matrix.parts, (0, b""))
    if kind not in _TYPES:
        raise _BrokenError(f"{matrix.name} holds data of type {kind}")
    dtype = np.dtype(_TYPES[kind]).newbyteorder("<" if order == "<" else ">")
    if matrix.count * dtype.itemsize != len(values):
        raise _BrokenError(f"{matrix.name} claims a shape of {matrix.shape} and holds {len(values)} bytes")
    return np.frombuffer(values, dtype)


def _texts(matrix: _Matrix, order: str) -> list[str]:
    if matrix.kind != _CELL:
        raise _BrokenError(f"{matrix.name} is not a cell array")
    cells = [_matrix(content, order) if kind == _MATRIX else None for kind, content in matrix.parts]
    texts = [_text(cell, matrix.name, order) for cell in cells]
    if len(texts) != matrix.count:
        raise _BrokenError(f"{matrix.name} claims a shape of {matrix.shape} and holds {len(texts)} texts")
    return texts


def _text(cell: _Matrix | None, name: str, order: str) -> str:
    if cell is None or cell.kind != _CHAR:
        raise _BrokenError(f"{name} holds something else than text")
    kind, values = next(cell.parts, (0, b""))
    if kind not in _CODES:
        raise _BrokenError(f"{name} holds text of type {kind}")
    code = _CODES[kind]
    return values.decode(f"utf-16-{'le' if order == '<' else 'be'}" if code == "utf-16" else code)
