"""What `fathom data export` leaves beside the pictures, and how a reader verifies it."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import msgspec

from fathom.errors import DataError
from fathom.files.inputs import inside, read_bytes, read_json

SUMMARY = "export.json"
"""The CRC-32 of every file; written last."""

UNFINISHED = ".fathom-unfinished"
"""Stands in a folder while an export into it is under way, and after one that was interrupted."""

_AGAIN = "run the same 'fathom data export' again"


class _Summary(msgspec.Struct):
    """``export.json``."""

    frames: int
    files: dict[str, int]


def refuse_unfinished(folder: Path) -> None:
    """Refuse a folder that an interrupted export left."""
    if (folder / UNFINISHED).exists():
        raise DataError(folder, "holds an export that was not finished", _AGAIN)


def checksums(folder: Path) -> dict[Path, int]:
    """The CRC-32 of each file of an export, empty where the folder is not one; the table of frames is compared at once."""
    path = folder / SUMMARY
    if not path.exists():
        return {}
    summary = read_json(
        path, _Summary, what="a summary of an export", fix=_AGAIN, version=1, checksum=True, limit="index-bytes"
    )
    sums = {inside(folder, name, path): value for name, value in summary.files.items()}
    compare(folder / "index.csv", sums)
    return sums


def compare(path: Path, sums: Mapping[Path, int]) -> None:
    """Compare a file with its checksum, where there is one."""
    wanted = sums.get(path)
    if wanted is not None and zlib.crc32(read_bytes(path, "index-bytes")) != wanted:
        raise DataError(path, "is not what was exported (its checksum differs)", _AGAIN)
