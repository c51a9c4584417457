"""``packed`` — shards that `fathom.data.packed.pack` wrote, read map-style: any frame by its offset, nothing unpacked first."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from fathom.data.dataset import Frame
from fathom.data.packed.members import decode
from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import plain_name, read_json
from fathom.progress import track
from fathom.sample import Sample

INDEX = "pack.json"
SCHEMA_VERSION = 2
_AGAIN = "run 'fathom data pack' again, which writes damaged shards anew"


class PackedFrame(msgspec.Struct):
    """A frame in ``pack.json``; each member as (first byte, bytes, CRC-32)."""

    id: str
    scene: str
    members: dict[str, tuple[int, int, int]]


class Shard(msgspec.Struct):
    """A shard in ``pack.json``.

    Attributes:
        file: its name. bytes: its size. sha256: of all of it.
        positions: of the first frame of the data that it was packed from, and of the first one after it.
        left_out: position, id and reason of frames that could not be read.
        frames: in order.
    """

    file: str
    bytes: int
    sha256: str
    positions: tuple[int, int]
    left_out: list[tuple[int, str, str]]
    frames: list[PackedFrame]


class Index(msgspec.Struct):
    """``pack.json``."""

    plan: dict[str, Any]
    facts: dict[str, str]
    official: dict[str, tuple[int, ...]]
    shards: list[Shard]


@dataclass(frozen=True, slots=True)
class Entry:
    """Where a frame lies: its shard's number, its key, and (first byte, bytes, CRC-32) of each member."""

    shard: int
    key: str
    members: Mapping[str, tuple[int, int, int]]


@dataclass
class PackedSource:
    """Frames of packed shards; see `open_packed`.

    Attributes:
        shards: the shard files, in order.
        entries: where each frame lies.
    """

    location: str
    frames: Sequence[Frame]
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]]
    shards: Sequence[Path]
    entries: Sequence[Entry]
    kind: str = "packed"

    def read(self, index: int) -> Sample:
        """One frame. Its shard is opened for each read: a hundredth of decoding, and safe in threads and processes."""
        shard = self.shards[self.entries[index].shard]
        try:
            with shard.open("rb") as file:
                return self.read_from(file, index)
        except OSError as error:
            raise DataError(shard, f"cannot be read ({error.strerror})", _AGAIN) from error

    def read_from(self, file: BinaryIO, index: int) -> Sample:
        """Frame `index` from its shard, already open."""
        entry = self.entries[index]
        path = self.shards[entry.shard] / entry.key
        members = {}
        for name, (offset, size, checksum) in entry.members.items():
            file.seek(offset)
            members[name] = file.read(size)
            if len(members[name]) != size:
                raise DataError(path.parent, f"ends within frame {entry.key}", _AGAIN)
            if zlib.crc32(members[name]) != checksum:
                raise DataError(path.parent, f"is damaged: {entry.key}.{name} is not what was packed", _AGAIN)
        sample = decode(members, path)
        if sample.id != self.frames[index].id:
            raise DataError(path, f"holds frame '{sample.id}' where '{self.frames[index].id}' was packed", _AGAIN)
        return sample


def open_packed(path: Path, *, check: bool = False) -> PackedSource:
    """Open packed data.

    Args:
        path: the folder that holds ``pack.json``, or that file.
        check: compare every shard with its checksum first, which reads all of them.
    """
    folder = path.parent if path.name == INDEX else path
    record = read_index(folder)
    shards = [folder / shard.file for shard in record.shards]
    entries: list[Entry] = []
    frames: list[Frame] = []
    for number, shard in enumerate(record.shards):
        for frame in shard.frames:
            entries.append(Entry(number, key(len(frames)), frame.members))
            frames.append(Frame(frame.id, frame.scene, (shards[number],)))
    for file, described in zip(shards, record.shards, strict=True):
        _check_size(file, described.bytes)
    if check:
        verify(folder)
    return PackedSource(str(folder), tuple(frames), record.facts, record.official, shards, entries)


def key(position: int) -> str:
    """The key of the members of the frame at `position`, as WebDataset has it: no dot, in order."""
    return f"{position:09d}"


def read_index(folder: Path) -> Index:
    """``pack.json``: its schema, its checksum and everything in it that decides what is read."""
    path = folder / INDEX
    if not path.exists():
        if not folder.exists():
            raise DataError(folder, "does not exist", "check the path")
        unfinished = (folder / PARTIAL).is_dir()
        problem = "holds a pack that was not finished" if unfinished else f"has no {INDEX}"
        fix = (
            "run the same 'fathom data pack' again, which goes on where it ended" if unfinished else "pack data into it"
        )
        raise DataError(folder, problem, fix)
    again = "pack again into another folder"
    index = read_json(
        path,
        Index,
        what="an index of packed data",
        fix=again,
        version=SCHEMA_VERSION,
        checksum=True,
        limit="index-bytes",
    )
    for shard in index.shards:
        plain_name(shard.file, path)
    ids = [frame.id for shard in index.shards for frame in shard.frames]
    limits.check("frames", len(ids), path, "lists")
    if len(set(ids)) < len(ids):
        raise DataError(path, "lists two frames of one id", again)
    if any(not 0 <= number < len(ids) for numbers in index.official.values() for number in numbers):
        raise DataError(path, "names frames in its official split that it does not hold", again)
    for shard in index.shards:
        for frame in shard.frames:
            # Written as two comparisons, so that offsets of any number of digits are caught.
            if any(start < 0 or size < 0 or start + size > shard.bytes for start, size, _ in frame.members.values()):
                raise DataError(path, f"places a member of frame '{frame.id}' outside of its shard", again)
            for name, (_, size, _) in frame.members.items():
                limits.check("index-bytes", size, path, f"has a member {name} of")
    return index


PARTIAL = ".partial"
"""Folder of what a packing under way knows; gone when it is finished."""


def verify(folder: Path) -> int:
    """Compare every shard with its checksum and return their number; `DataError` names the first that differs."""
    shards = read_index(folder).shards
    for shard in track(shards, "verifying"):
        verify_shard(folder, shard)
    return len(shards)


def verify_shard(folder: Path, shard: Shard) -> None:
    """Compare one shard with its record in the index."""
    path = folder / plain_name(shard.file, folder / INDEX)
    _check_size(path, shard.bytes)
    if file_sha256(path) != shard.sha256:
        raise DataError(path, "is not what was packed (its checksum differs)", _AGAIN)


def _check_size(path: Path, size: int) -> None:
    if not path.is_file():
        raise DataError(path, "is missing", _AGAIN)
    if path.stat().st_size != size:
        raise DataError(path, f"is cut short or altered ({path.stat().st_size} bytes of {size})", _AGAIN)


def file_sha256(path: Path) -> str:
    """Hex digest of a whole file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
