"""``nyu-hdf5:`` — NYU Depth V2 as one HDF5 file a frame (FastDepth, Wofk et al. 2019), in folders or in tar shards.

Each file holds ``rgb`` (3, H, W) uint8 and ``depth`` (H, W) float32 metres. The copy on the Hugging Face hub is tar shards of
these files.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from fathom.data.dataset import Frame
from fathom.data.formats.benchmarks.nyu_mat import CAMERA, room_of
from fathom.data.formats.benchmarks.official_nyu import official_run, official_test
from fathom.data.formats.files import SKIP, clean_depth
from fathom.data.formats.hdf5 import read_hdf5
from fathom.errors import DataError, UsageError
from fathom.files import limits
from fathom.files.inputs import below, matching
from fathom.sample import Sample

PARTS = {"train": "train", "val": "test", "test": "test"}
_FLAT = ("official", "val", "test", "train")
"""Folders that are no rooms."""


@dataclass(frozen=True)
class Entry:
    """One frame: a file, or a part of a shard."""

    id: str
    scene: str
    file: Path
    offset: int | None = None
    size: int = 0
    part: str | None = None


@dataclass
class NyuHdf5Source:
    """Frames of NYU in HDF5 files; see `open_nyu_hdf5`."""

    location: str
    entries: Sequence[Entry]
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "nyu-hdf5"
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.frames = tuple(Frame(entry.id, entry.scene, (entry.file,)) for entry in self.entries)

    def read(self, index: int) -> Sample:
        """One frame."""
        entry = self.entries[index]
        data = None if entry.offset is None else _member(entry)
        path = entry.file if data is None else entry.file / f"{entry.id}.h5"
        rgb, metres = read_hdf5(path, "rgb", data), read_hdf5(path, "depth", data)
        if rgb.ndim != 3 or rgb.shape[0] != 3 or rgb.dtype != np.uint8 or metres.ndim != 2:
            raise DataError(
                path, f"holds rgb of {rgb.shape} and depth of {metres.shape}; wanted (3, H, W) and (H, W)", SKIP
            )
        if metres.dtype.kind != "f":
            raise DataError(path, f"holds depth as {metres.dtype}, whose unit is unknown", SKIP)
        depth, valid = clean_depth(metres.astype(np.float32), path)
        camera = CAMERA.scaled(rgb.shape[1] / 480, rgb.shape[2] / 640)
        return Sample(torch.from_numpy(np.ascontiguousarray(rgb)), depth, valid, entry.scene, entry.id, camera)


def _member(entry: Entry) -> bytes:
    assert entry.offset is not None
    limits.check("member-bytes", entry.size, entry.file, f"has a member {entry.id} of")
    try:
        with entry.file.open("rb") as shard:
            shard.seek(entry.offset)
            data = shard.read(entry.size)
    except OSError as error:
        raise DataError(entry.file, f"cannot be read ({error.strerror})") from error
    if len(data) < entry.size:
        raise DataError(entry.file, f"ends within {entry.id}", "copy the shard again")
    return data


def recognise(path: Path) -> bool:
    """Whether a folder holds HDF5 frames of FastDepth, or shards of them."""
    if path.suffix.lower() == ".tar":
        return path.is_file() and _holds_frames(path)
    if not path.is_dir():
        return False
    first = next((p for pattern in ("*/*.h5", "*/*/*.h5", "*.h5") for p in path.glob(pattern)), None)
    if first is not None:
        return _is_frame(first)
    shard = next((p for pattern in ("*.tar", "data/*.tar") for p in sorted(path.glob(pattern))), None)
    return shard is not None and _holds_frames(shard)


def _is_frame(path: Path) -> bool:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            return "rgb" in file and "depth" in file
    except OSError:
        return False


def _holds_frames(shard: Path) -> bool:
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                if member.isfile():
                    return member.name.endswith(".h5")
    except (tarfile.TarError, OSError):
        return False
    return False


def open_nyu_hdf5(path: Path, *, every: int = 1, skip_bad: bool = False) -> NyuHdf5Source:
    """Open NYU Depth V2 as HDF5 files or tar shards of them.

    Args:
        path: a folder above ``train/<scene>/N.h5`` and ``val/official/N.h5``, a folder of shards, or one shard.
        every: keep each n-th frame of a scene; neighbours in a video are nearly the same.
        skip_bad: leave out shards that cannot be read.
    """
    if every < 1:
        raise UsageError(f"every={every} is not 1 or more.")
    left_out: list[str] = []
    shards = [path] if path.is_file() else [*matching(path, "*.tar"), *matching(path, "data/*.tar")]
    entries: list[Entry] = []
    for shard in shards:
        try:
            entries += _sharded(shard)
        except DataError as error:
            if not skip_bad:
                raise
            left_out.append(str(error).rstrip("."))
    if not shards:
        files = sorted(file for file in below(path) if file.suffix == ".h5")
        entries = [_entry(file.relative_to(path), file, _part(file.resolve().parts)) for file in files]
    counts: dict[str, int] = {}
    kept = []
    for entry in entries:
        counts[entry.scene] = counts.get(entry.scene, -1) + 1
        if counts[entry.scene] % every == 0:
            kept.append(entry)
    if not kept:
        raise DataError(path, "holds no frame", "looked for <scene>/00001.h5 and for tar shards of such files")
    kept = _by_official_runs(kept)
    if len({entry.id for entry in kept}) < len(kept):
        raise DataError(path, "holds two frames of one name", "name one of the folders")
    facts = {
        "depth": "z-depth in float32 metres",
        "scene": "folder; parts a, b, c of one room are one scene; official test frames by runs of neighbours in the labelled set",
    }
    if left_out:
        facts["left out"] = f"{len(left_out)} incomplete: {'; '.join(left_out[:3])}"
    sides = {part: tuple(i for i, entry in enumerate(kept) if entry.part == part) for part in ("train", "test")}
    official = sides if all(sides.values()) else {}
    return NyuHdf5Source(str(path), tuple(kept), facts, official, left_out=tuple(left_out))


def _entry(name: PurePosixPath | Path, file: Path, part: str | None, offset: int | None = None, size: int = 0) -> Entry:
    id_ = str(name.with_suffix(""))
    folder = name.parent.name or (file.resolve().parent.name if offset is None else "")
    scene = id_ if folder in ("", *_FLAT) else room_of(folder)
    return Entry(id_, scene, file, offset, size, part)


def _by_official_runs(entries: list[Entry]) -> list[Entry]:
    """The official test frames, which lie in one folder under their numbers in the labelled set, in runs of neighbours."""
    official = {entry.id: int(stem) for entry in entries for folder, _, stem in [entry.id.rpartition("/")]
                if folder.endswith("official") and stem.isdigit()}  # fmt: skip
    test = set(official_test())
    if not official or not all(number - 1 in test for number in official.values()):
        return entries
    return [
        replace(entry, scene=f"official/{official_run(official[entry.id] - 1)}") if entry.id in official else entry
        for entry in entries
    ]


def _part(names: Sequence[str]) -> str | None:
    return next((PARTS[name] for name in reversed(names) if name in PARTS), None)


def _sharded(shard: Path) -> Iterator[Entry]:
    """Frames of one uncompressed shard, by their place in it."""
    part = next((PARTS[word] for word in PARTS if shard.name.startswith(word)), None)
    try:
        with tarfile.open(shard, "r:") as opened:
            for member in opened:
                if member.isfile() and member.name.endswith(".h5"):
                    yield _entry(PurePosixPath(member.name), shard, part, member.offset_data, member.size)
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(shard, f"is not a readable tar shard ({error})", "copy it again") from error
