"""Packing any source into shards: few large files in place of many small ones, checked by checksums.

Shards are plain tar files in the layout of WebDataset. Each is written under a temporary name and renamed when whole,
then recorded beside it, so that a packing killed at any moment goes on with the shard that was under way and ends with
the same bytes as one that was never interrupted.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, TypeVar, get_args

import msgspec

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.data.packed.members import DepthFormat, ImageFormat, Members, encode
from fathom.data.packed.source import (
    INDEX,
    PARTIAL,
    SCHEMA_VERSION,
    PackedFrame,
    Shard,
    file_sha256,
    key,
    read_index,
    verify_shard,
)
from fathom.data.transforms import fit
from fathom.errors import DataError, UsageError, nearest
from fathom.files.atomic import atomic_path, write_json, write_text
from fathom.files.inputs import read_json, seal
from fathom.files.lock import NAME as LOCK
from fathom.files.lock import output_lock
from fathom.progress import note, track
from fathom.sample import Grid

T = TypeVar("T")
Record = dict[str, Any]
"""What makes two packings the same, as JSON values."""


@dataclass(frozen=True)
class Packed:
    """What a packing gave.

    Attributes:
        folder: to be read as ``packed:FOLDER``.
        frames: packed. shards: files they are in. bytes: of all shards.
        kept: shards that were there and whole already.
        left_out: frames that could not be read, with the reason.
    """

    folder: Path
    frames: int
    shards: int
    bytes: int
    kept: int
    left_out: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class _Settings:
    image: ImageFormat
    quality: int
    depth: DepthFormat
    size: Grid | None
    shard_mb: float

    def plan(self, dataset: Dataset) -> Record:
        """What makes two packings the same: the frames and how they are stored."""
        return {
            "schema_version": SCHEMA_VERSION,
            "source": {"kind": dataset.source.kind, "frames": len(dataset), "fingerprint": dataset.fingerprint()},
            "image": self.image if self.image == "png" else f"jpeg, quality {self.quality}",
            "depth": self.depth,
            "size": list(self.size) if self.size else None,
            "shard_mb": self.shard_mb,
        }


def pack(
    dataset: Dataset,
    out: str | Path,
    *,
    shard_mb: float = 256.0,
    image: ImageFormat = "png",
    quality: int = 95,
    depth: DepthFormat = "float32",
    size: Grid | None = None,
    threads: int = 2,
    skipped: Skipped | None = None,
) -> Packed:
    """Write `dataset` as shards into folder `out`, or go on with a packing that was interrupted there.

    Args:
        dataset: what to pack; its order is kept.
        out: a new or empty folder, or one where the same data were being packed in the same way.
        shard_mb: a shard is closed when it holds this many millions of bytes.
        image: ``png`` keeps every bit, ``jpeg`` (at `quality`) about a fifth of the size.
        depth: ``float32`` keeps every bit, ``mm16`` rounds to millimetres of 16 bits (up to 65.535 m).
        size: (height, width) to bring every frame to; as they are unless given.
        threads: frames read and encoded at a time; no byte depends on it.
        skipped: collects frames that cannot be read; without it the first one raises its `DataError`.

    Raises:
        UsageError: `out` holds something else, or another process writes there.
        DataError: a frame is broken, or `out` cannot be written.
    """
    folder = Path(out)
    for value, choices, name in ((image, get_args(ImageFormat), "image"), (depth, get_args(DepthFormat), "depth")):
        if value not in choices:
            raise UsageError(f"There is no {name} format '{value}'{nearest(value, choices)}.")
    if not shard_mb > 0 or not 1 <= quality <= 100 or threads < 1:
        raise UsageError(f"Shards of {shard_mb} MB, quality {quality} or {threads} threads cannot be.")
    _refuse_duplicates(dataset)
    with output_lock(folder, "a packing"):
        return _pack(dataset, folder, _Settings(image, quality, depth, size, shard_mb), threads, skipped)


def _pack(dataset: Dataset, folder: Path, settings: _Settings, threads: int, skipped: Skipped | None) -> Packed:
    plan = settings.plan(dataset)
    finished = _begin(folder, plan)
    records: list[Shard] = []
    kept = position = frames = 0
    encoded = _Encoded(dataset, settings, threads)
    with encoded:
        while position < len(dataset):
            record = finished.get((len(records), position))
            if record is not None and _whole(folder, record):
                kept += 1
                encoded.go_to(record.positions[1])
            else:
                record = _write_shard(folder, len(records), frames, encoded, settings, skip=skipped is not None)
            if not record.frames:
                raise DataError(dataset.source.location, "has no frame that can be read", "see 'fathom data check'")
            records.append(record)
            position, frames = record.positions[1], frames + len(record.frames)
    left_out = tuple((id_, reason) for record in records for _, id_, reason in record.left_out)
    if skipped is not None:
        skipped.frames.extend(left_out)
    elif left_out:  # an earlier run left them out, this one was not told to
        raise DataError(dataset.source.location, f"frame {left_out[0][0]} cannot be read: {left_out[0][1].rstrip('.')}")
    _finish(folder, dataset, plan, records)
    return Packed(folder, frames, len(records), sum(record.bytes for record in records), kept, left_out)


def _refuse_duplicates(dataset: Dataset) -> None:
    ids = set(dataset.ids)
    if len(ids) < len(dataset):
        raise DataError(dataset.source.location, f"has {len(dataset) - len(ids)} frames whose id is taken by another")


def _begin(folder: Path, plan: Record) -> dict[tuple[int, int], Shard]:
    """Make `folder` ready and return the shards that an earlier run recorded, by number and first position."""
    partial = folder / PARTIAL
    if (folder / INDEX).is_file():
        index = read_index(folder)
        known, records = index.plan, index.shards
    elif (partial / "plan.json").is_file():
        known = _read(partial / "plan.json", dict) or {}
        records = [shard for path in sorted(partial.glob("shard-*.json")) if (shard := _read(path, Shard))]
    else:
        if folder.is_dir() and any(entry.name not in (PARTIAL, LOCK) for entry in folder.iterdir()):
            raise UsageError(f"{folder} is not empty and holds no pack; choose a new folder.")
        known, records = plan, []
    if known != plan:
        differs = ", ".join(k for k in plan if known.get(k) != plan[k])
        raise UsageError(f"{folder} holds a pack of other data or settings ({differs} differs); choose a new folder.")
    write_json(partial / "plan.json", plan, checksum=True)
    numbers = {_name(number): number for number in range(len(records))}
    return {(numbers[record.file], record.positions[0]): record for record in records if record.file in numbers}


def _read(path: Path, kind: type[T]) -> T | None:
    """A file of the unfinished packing; None where it is not whole."""
    try:
        return read_json(path, kind, checksum=True, limit="index-bytes")
    except DataError:
        return None


def _name(number: int) -> str:
    return f"shard-{number:06d}.tar"


def _whole(folder: Path, record: Shard) -> bool:
    try:
        verify_shard(folder, record)
    except DataError as error:
        note(f"Writing it anew: {error.path}: {error.problem}.")
        return False
    return True


class _Encoded:
    """Frames of a data set, encoded by threads ahead of time, in order; a broken one is its `DataError`."""

    def __init__(self, dataset: Dataset, settings: _Settings, threads: int) -> None:
        self.dataset, self.settings, self.threads = dataset, settings, threads
        self.position = 0
        self._pending: deque[Future[tuple[str, str, Members] | DataError]] = deque()
        self._progress = (position for position in track(range(len(dataset)), "packing"))

    def __enter__(self) -> _Encoded:
        self._pool = ThreadPoolExecutor(self.threads)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._progress.close()

    def go_to(self, position: int) -> None:
        """Pass over frames that need no encoding."""
        for future in self._pending:
            future.cancel()
        self._pending.clear()
        while self.position < position:
            self._advance()

    def peek(self) -> tuple[str, str, Members] | DataError | None:
        """The next frame, or None at the end."""
        while len(self._pending) < 2 * self.threads and self.position + len(self._pending) < len(self.dataset):
            self._pending.append(self._pool.submit(self._encode, self.position + len(self._pending)))
        return self._pending[0].result() if self._pending else None

    def pop(self) -> None:
        """Go on to the frame after the one that `peek` gave."""
        self._pending.popleft()
        self._advance()

    def _advance(self) -> None:
        self.position += 1
        next(self._progress, None)

    def _encode(self, position: int) -> tuple[str, str, Members] | DataError:
        try:
            sample = self.dataset[position]
            if self.settings.size is not None:
                sample = fit(sample, self.settings.size)
            how = self.settings
            return sample.id, sample.scene, encode(sample, image=how.image, quality=how.quality, depth=how.depth)
        except DataError as error:
            return error


def _write_shard(
    folder: Path, number: int, first_key: int, encoded: _Encoded, settings: _Settings, *, skip: bool
) -> Shard:
    """Write one shard and its record, taking frames until it is full."""
    start = encoded.position
    frames: list[PackedFrame] = []
    left_out: list[tuple[int, str, str]] = []
    with atomic_path(folder / _name(number)) as temporary:
        with temporary.open("wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            while (item := encoded.peek()) is not None:
                full = tar.offset >= settings.shard_mb * 1e6
                if isinstance(item, DataError) and skip:  # also when full: no shard is to begin with nothing
                    left_out.append((encoded.position, encoded.dataset.frame(encoded.position).id, str(item)))
                elif full:
                    break
                elif isinstance(item, DataError):
                    raise item
                else:
                    id_, scene, members = item
                    frames.append(PackedFrame(id_, scene, _add(tar, key(first_key + len(frames)), members)))
                encoded.pop()
        size, digest = temporary.stat().st_size, file_sha256(temporary)
    record = Shard(_name(number), size, digest, (start, encoded.position), left_out, frames)
    write_json(folder / PARTIAL / f"shard-{number:06d}.json", msgspec.to_builtins(record), checksum=True)
    return record


def _add(tar: tarfile.TarFile, name: str, members: Members) -> dict[str, tuple[int, int, int]]:
    """Add the members of one frame; returns (first byte, bytes, CRC-32) of each. No date, no owner: equal data, equal bytes."""
    places: dict[str, tuple[int, int, int]] = {}
    for member, content in members.items():
        info = tarfile.TarInfo(f"{name}.{member}")
        info.size, info.mode = len(content), 0o644
        places[member] = (tar.offset + tarfile.BLOCKSIZE, len(content), zlib.crc32(content))
        tar.addfile(info, BytesIO(content))
    return places


def _finish(folder: Path, dataset: Dataset, plan: Record, records: list[Shard]) -> None:
    """Write the index, which makes the pack complete, and drop what only an interrupted packing needs."""
    missing = {position for record in records for position, _, _ in record.left_out}
    indices = [index for position, index in enumerate(dataset.indices) if position not in missing]
    place = {index: position for position, index in enumerate(indices)}
    official = {
        part: [place[index] for index in members if index in place] for part, members in dataset.source.official.items()
    }
    facts = dict(dataset.source.facts)
    facts["packed from"] = str(plan["source"]["kind"])
    facts["packed"] = f"images as {plan['image']}, depth as " + (
        "float32, every bit kept" if plan["depth"] == "float32" else "16-bit millimetres"
    )
    if plan["size"]:
        facts["size"] = "{}x{}, resized when packed".format(*plan["size"])
    index = {
        "schema_version": SCHEMA_VERSION,
        "plan": plan,
        "facts": facts,
        "official": {part: members for part, members in official.items() if members},
    }
    write_text(folder / INDEX, seal("".join(_index_lines(index, records))))
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def _index_lines(head: Record, records: list[Shard]) -> Iterator[str]:
    """The index as JSON with a line a frame, for people who look into it."""
    yield "{\n  " + json.dumps(head)[1:-1] + ', "shards": ['
    for number, record in enumerate(records):
        plain = msgspec.to_builtins(record)
        frames = ",\n".join(json.dumps(frame) for frame in plain.pop("frames"))
        yield f'{"," if number else ""}\n{json.dumps(plain)[:-1]}, "frames": [\n{frames}]}}'
    yield "\n]}\n"
