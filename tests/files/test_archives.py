"""Zip archives: every way in which a member can be broken is one sentence."""

from __future__ import annotations

import struct
import warnings
import zipfile
import zlib
from io import BytesIO
from pathlib import Path

import pytest

from fathom.errors import DataError
from fathom.files.archives import open_archive


def archive(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as file:
        warnings.simplefilter("ignore")
        for name, content in members:
            file.writestr(name, content)
    return buffer.getvalue()


def read(data: bytes, name: str = "a", crc32: int | None = None) -> bytes:
    with open_archive(Path("x.zip"), "a zip", "copy it again", data) as opened:
        return opened.read(name, crc32=crc32)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_whole_member_is_read_and_its_checksum_compared(method: int) -> None:
    data = archive([("a", b"one" * 50), ("b", b"two")], method)
    assert read(data) == read(data, crc32=zlib.crc32(b"one" * 50)) == b"one" * 50
    with pytest.raises(DataError, match="another member a than the one its index was written for; copy it again"):
        read(data, crc32=zlib.crc32(b"two"))
    with pytest.raises(DataError, match="lacks c"):
        read(data, "c")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_methods_are_refused(method: int) -> None:
    with pytest.raises(DataError, match=f"compressed by method {method}"):
        read(archive([("a", b"one")], method))


def test_damage_is_found() -> None:
    whole = archive([("a", b"one two three")])
    at = whole.index(b"one two three")
    with pytest.raises(DataError, match="damaged member a"):
        read(whole[:at] + b"x" + whole[at + 1 :])
    directory = whole.index(b"PK\x01\x02")
    encrypted = bytearray(whole)
    encrypted[6] |= 1
    encrypted[directory + 8] |= 1
    with pytest.raises(DataError, match="damaged member a"):
        read(bytes(encrypted))
    shorter = bytearray(whole)
    shorter[directory + 24 : directory + 28] = struct.pack("<I", 5)
    with pytest.raises(DataError, match="damaged member a"):
        read(bytes(shorter))
    with pytest.raises(DataError, match="is not a zip"):
        read(whole[:40])


def test_two_members_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match="two members of one name"):
        read(archive([("a", b"one"), ("a", b"two")]))
