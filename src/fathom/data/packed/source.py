"""``packed`` — shards that `fathom.data.packed.pack` wrote, read map-style: any frame by its offset, nothing unpacked first."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

from fathom.data.dataset import Frame
from fathom.data.packed.members import decode
from fathom.errors import DataError
from fathom.progress import track
from fathom.sample import Sample

INDEX = "pack.json"
SCHEMA_VERSION = 1
_AGAIN = "run 'fathom data pack' again, which writes damaged shards anew"


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
    try:
        shards = [folder / str(shard["file"]) for shard in record["shards"]]
        sizes = [int(shard["bytes"]) for shard in record["shards"]]
        lengths = [len(shard["frames"]) for shard in record["shards"]]
        starts = [0, *accumulate(lengths)]
        entries, frames = [], []
        for number, shard in enumerate(record["shards"]):
            for position, frame in enumerate(shard["frames"], start=starts[number]):
                members = {
                    str(name): (int(at), int(size), int(crc)) for name, (at, size, crc) in frame["members"].items()
                }
                entries.append(Entry(number, key(position), members))
                frames.append(Frame(str(frame["id"]), str(frame["scene"]), (shards[number],)))
        official = {str(part): tuple(map(int, indices)) for part, indices in record["official"].items()}
        facts = {str(name): str(value) for name, value in record["facts"].items()}
        outside = any(not 0 <= index < len(frames) for indices in official.values() for index in indices)
        if outside or any(shard.parent != folder for shard in shards):
            raise ValueError("it names frames or files that it does not hold")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(folder / INDEX, f"is not an index of packed data ({error})", _AGAIN) from error
    for file, size in zip(shards, sizes, strict=True):
        _check_size(file, size)
    if check:
        verify(folder)
    return PackedSource(str(folder), tuple(frames), facts, official, shards, entries)


def key(position: int) -> str:
    """The key of the members of the frame at `position`, as WebDataset has it: no dot, in order."""
    return f"{position:09d}"


def read_index(folder: Path) -> dict[str, Any]:
    """``pack.json``, its schema checked."""
    path = folder / INDEX
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        version = record["schema_version"]
    except FileNotFoundError:
        if not folder.exists():
            raise DataError(folder, "does not exist", "check the path") from None
        unfinished = (folder / PARTIAL).is_dir()
        problem = "holds a pack that was not finished" if unfinished else f"has no {INDEX}"
        fix = (
            "run the same 'fathom data pack' again, which goes on where it ended" if unfinished else "pack data into it"
        )
        raise DataError(folder, problem, fix) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(path, f"is not an index of packed data ({error})", "pack again into another folder") from error
    if version != SCHEMA_VERSION:
        problem = f"has schema_version {version!r}, and this Fathom reads {SCHEMA_VERSION}"
        raise DataError(path, problem, "use the version that wrote it")
    assert isinstance(record, dict)
    return record


PARTIAL = ".partial"
"""Folder of what a packing under way knows; gone when it is finished."""


def verify(folder: Path) -> int:
    """Compare every shard with its checksum and return their number; `DataError` names the first that differs."""
    shards = read_index(folder)["shards"]
    for shard in track(shards, "verifying"):
        verify_shard(folder, shard)
    return len(shards)


def verify_shard(folder: Path, shard: Mapping[str, Any]) -> None:
    """Compare one shard with its record in the index."""
    path = folder / str(shard["file"])
    _check_size(path, int(shard["bytes"]))
    if file_sha256(path) != shard["sha256"]:
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
