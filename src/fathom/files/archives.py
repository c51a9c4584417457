"""Members of zip archives (rooms, captures, NumPy's ``.npz``): bounded before they are unpacked, one sentence where they are broken."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import regular_file

BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    OSError,
    EOFError,
    NotImplementedError,
    RuntimeError,  # what zipfile raises for an encrypted member
    ValueError,
    OverflowError,
    IndexError,
    AttributeError,
)
"""What Python's zipfile raises for damaged, encrypted and foreign archives."""


class Archive:
    """An open zip archive; see `open_archive`."""

    def __init__(self, opened: zipfile.ZipFile, path: Path, fix: str) -> None:
        self._opened, self.path, self.fix = opened, path, fix
        self.members: Mapping[str, zipfile.ZipInfo] = {info.filename: info for info in opened.infolist()}

    def read(self, name: str, *, crc32: int | None = None, limit: str = "member-bytes") -> bytes:
        """The content of a member.

        Args:
            name: the member.
            crc32: its checksum where something outside of the archive knows it.
            limit: name of the limit of its size.
        """
        info = self.members.get(name)
        if info is None:
            raise DataError(self.path, f"lacks {name}", self.fix)
        limits.check(limit, info.file_size, self.path, f"has a member {name} of")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(self.path, f"has a member {name} compressed by method {info.compress_type}", self.fix)
        if crc32 is not None and crc32 != info.CRC:
            raise DataError(self.path, f"has another member {name} than the one its index was written for", self.fix)
        try:
            with self._opened.open(info) as member:
                data = member.read(info.file_size + 1)
        except BROKEN as error:
            raise DataError(self.path, f"has a damaged member {name} ({error})", self.fix) from error
        if len(data) != info.file_size:
            raise DataError(self.path, f"has a damaged member {name} ({len(data)} bytes of {info.file_size})", self.fix)
        return data


@contextmanager
def open_archive(path: Path, what: str, fix: str, data: bytes | None = None) -> Iterator[Archive]:
    """Open a zip archive for reading.

    Args:
        path: the file, or with `data` the name of the archive in memory.
        what: it should be, for messages: ``"a readable .r3d archive"``.
        fix: what to do where it is not.
        data: the archive itself.
    """
    try:
        opened = zipfile.ZipFile(regular_file(path) if data is None else BytesIO(data))
    except BROKEN as error:
        raise DataError(path, f"is not {what} ({error})", fix) from error
    with opened:
        names = opened.namelist()
        limits.check("members", len(names), path, "has")
        if len(set(names)) < len(names):
            raise DataError(path, "has two members of one name", fix)
        yield Archive(opened, path, fix)
