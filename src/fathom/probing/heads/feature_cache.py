"""Features of frozen encoders on disk: float16, memory-mapped, made in one pass and reused while nothing has changed.

A folder holds one sub-folder for each combination of data, encoder and settings, named by a digest of all three:

    FOLDER/<key>/maps-0.npy ...   (frames, channels, h, w) float16: one file for each grid that layers live on
    FOLDER/<key>/meta.json        what it was made from, frame ids, shift and scale of each channel, checksums

`meta.json` is written last, so a folder without it is no cache. A file that is cut short or altered fails its checksum and
everything is made again; a changed image or depth file changes the data's fingerprint, and changed weights change the
digest of the encoder, so neither finds the old folder. Changed code of an encoder is caught by a witness: its features of the
first frame are computed again and compared with the stored ones.

float16 reaches 65504 and has 11 bits. Each channel is stored as (x − shift) / scale, shift and scale (a power of two) from the
first batch, so that neither a large offset nor large units cost digits; a value that still does not fit is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.lib import format as npy
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.errors import DataError, FathomError
from fathom.files.atomic import atomic_path, write_json
from fathom.files.inputs import read_json
from fathom.probing.linear.design import Design, Placed
from fathom.probing.participants import Participant
from fathom.probing.passes.moments_cache import WITNESS, identity
from fathom.probing.reading import Batch, read_batches
from fathom.probing.settings import ProbeSettings
from fathom.progress import note
from fathom.sample import Sample

STALE = 86400.0
"""Seconds after which an unfinished file in a cache folder is taken to be left by a run that was killed."""


class RowFile:
    """A ``.npy`` file of a known number of rows, written in order and padded with zeros."""

    def __init__(self, path: Path, rows: int, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.rows, self.shape, self.dtype = rows, shape, np.dtype(dtype)
        self.written = self.crc = 0
        # Written, not mapped for writing: a full disk is then an error and not a signal that kills.
        self._file: IO[bytes] = path.open("wb")
        header = {"descr": npy.dtype_to_descr(self.dtype), "fortran_order": False, "shape": (rows, *shape)}
        npy.write_array_header_1_0(self._file, header)
        self._file.flush()
        self.crc = zlib.crc32(path.read_bytes())

    def add(self, rows: np.ndarray) -> None:
        """Append."""
        content = np.ascontiguousarray(rows, self.dtype).tobytes()
        self._file.write(content)
        self.crc = zlib.crc32(content, self.crc)
        self.written += len(rows)

    def close(self) -> None:
        """Pad to the announced number of rows and close."""
        empty = np.zeros((1, *self.shape), self.dtype)
        while not self._file.closed and self.written < self.rows:
            self.add(empty)
        self._file.close()


@contextmanager
def row_file(path: Path, rows: int, shape: tuple[int, ...], dtype: type[np.generic]) -> Iterator[RowFile]:
    """A `RowFile` that stands at `path` once the block ends well, and nowhere otherwise."""
    with atomic_path(path) as temporary:
        file = RowFile(temporary, rows, shape, dtype)
        try:
            yield file
        finally:
            file.close()


def mapped(path: Path) -> np.ndarray:
    """The rows of a ``.npy`` file, read from disk when they are used."""
    return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class CachedFeatures:
    """Features of the frames of a data set, in float16 on disk.

    Attributes:
        ids: of the frames, in row order; rows beyond them are padding.
        shift, scale: of each column, ``(p,)``: a column is stored as (x − shift) / scale.
        maps: by placement of the design, ``(frames, channels, h, w)``; None where the placement has no channel.
    """

    ids: tuple[str, ...]
    shift: Float[Tensor, "p"]
    scale: Float[Tensor, "p"]
    maps: tuple[np.ndarray | None, ...]

    def stored(self, design: Design, frames: Int[Tensor, "B"]) -> Placed:
        """Maps of some frames as they are stored, (x − shift) / scale, in float32, on the grids of `design`."""
        index = frames.numpy()
        return [
            torch.zeros(len(index), 0, *placement.native) if z is None else torch.from_numpy(z[index]).float()
            for placement, z in zip(design.placements, self.maps, strict=True)
        ]

    def cells(self, design: Design, frames: Int[Tensor, "B"], cells: Int[Tensor, "n"]) -> Float[Tensor, "B n p"]:
        """Some cells of the probe's grid of some frames, as they are stored; coarse maps are interpolated there alone."""
        row, column = cells // design.grid[1], cells % design.grid[1]
        index, parts = frames.numpy(), []
        for placement, z in zip(design.placements, self.maps, strict=True):
            if z is None:
                continue
            native = torch.from_numpy(z[index]).flatten(2)
            if placement.native == design.grid:
                parts.append(native[:, :, cells].transpose(1, 2).float())
            else:
                weights = placement.rows[row].cpu()[:, :, None] * placement.columns[column].cpu()[:, None, :]
                parts.append(weights.flatten(1) @ native.float().transpose(1, 2))
        return torch.cat(parts, 2) if parts else torch.zeros(len(index), len(cells), 0)


def key(made_from: dict[str, Any]) -> str:
    """Name of the sub-folder of an `identity`."""
    return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()[:16]


def open_cache(folder: Path, made_from: dict[str, Any]) -> CachedFeatures | None:
    """The features that `folder` holds of `made_from`, verified; None where there are none or they are damaged."""
    home = folder / key(made_from)
    if not (home / "meta.json").is_file():
        return None
    try:
        meta = read_json(home / "meta.json", dict, checksum=True, limit="index-bytes")
        if meta["made_from"] != made_from:
            raise ValueError("meta.json is of other data or another encoder")
        maps = [None if name is None else _verified(home / name, meta["crc32"][name]) for name in meta["maps"]]
        return CachedFeatures(tuple(meta["ids"]), torch.tensor(meta["shift"]), torch.tensor(meta["scale"]), tuple(maps))
    except (DataError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        note(f"{home}: the cached features are damaged ({error}) and are made again.")
        return None


def _verified(path: Path, crc32: int) -> np.ndarray:
    found = 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            found = zlib.crc32(block, found)
    if found != crc32:
        raise ValueError(f"{path.name} is torn or altered")
    return mapped(path)


class _Writer:
    """Stores the features of one encoder; its files appear when `files` is closed, and `finish` seals them."""

    def __init__(self, folder: Path, made_from: dict[str, Any], frames: int, name: str, files: ExitStack) -> None:
        self.home, self.made_from = folder / key(made_from), made_from
        self.frames, self.name, self._files = frames, name, files
        self.ids: list[str] = []
        self._rows: list[RowFile | None] = []
        self._shifts: list[Float[Tensor, "_"]] = []
        self._scales: list[Float[Tensor, "_"]] = []

    def add(self, placed: Placed, samples: Sequence[Sample]) -> None:
        """Store a batch; the first fixes shift, scale and shapes.

        Raises `FathomError` naming the frame whose features are too large for float16.
        """
        placed = [z.cpu() for z in placed]
        if not self._rows:
            self._open(placed)
        for index, z in enumerate(placed):
            rows = self._rows[index]
            if rows is None:
                continue
            stored = ((z - self._shifts[index][:, None, None]) / self._scales[index][:, None, None]).half()
            if not torch.isfinite(stored).all():
                self._refuse(z, stored, samples)
            rows.add(stored.numpy())
        self.ids.extend(sample.id for sample in samples)

    def _open(self, placed: Placed) -> None:
        bytes_a_frame = sum(2 * z[0].numel() for z in placed)
        # A cache that was not found, or was damaged: what is left of it goes, so that no file outlives its meta.json.
        (self.home / "meta.json").unlink(missing_ok=True)
        _sweep(self.home)
        check_space(self.home, bytes_a_frame * self.frames)
        deviations = [
            z.double().std(dim=(0, 2, 3), unbiased=False).float() if z.shape[1] else z.new_zeros(0) for z in placed
        ]
        finite = torch.nan_to_num(torch.cat(deviations), nan=0.0, posinf=0.0)
        # A channel that is silent in the first batch may be as loud as the others later.
        least = max(float(finite.max()) if len(finite) else 0.0, 1e-30) / 1024
        for index, (z, deviation) in enumerate(zip(placed, deviations, strict=True)):
            scale = torch.exp2(torch.nan_to_num(deviation, nan=1.0, posinf=1.0).clamp(min=least).log2().ceil())
            self._shifts.append(torch.nan_to_num(z.double().mean(dim=(0, 2, 3)).float(), posinf=0.0, neginf=0.0))
            self._scales.append(scale)
            path = self.home / f"maps-{index}.npy"
            opened = row_file(path, self.frames, tuple(z.shape[1:]), np.float16)
            self._rows.append(self._files.enter_context(opened) if z.shape[1] else None)

    def _refuse(self, z: Tensor, stored: Tensor, samples: Sequence[Sample]) -> None:
        for index, sample in enumerate(samples):
            if not torch.isfinite(stored[index]).all():
                raise FathomError(
                    f"Encoder {self.name} gave a value of {float(z[index].abs().max()):.3g} for frame {sample.id}, too far from "
                    "its other values to be stored in float16; check its normalisation, or name other layers with '@'."
                )

    def finish(self) -> CachedFeatures:
        """Write ``meta.json``, after the files are in place."""
        names = [None if rows is None else f"maps-{index}.npy" for index, rows in enumerate(self._rows)]
        shift, scale = torch.cat(self._shifts), torch.cat(self._scales)
        meta = {
            "made_from": self.made_from,
            "ids": self.ids,
            "shift": shift.tolist(),
            "scale": scale.tolist(),
            "maps": names,
            "crc32": {name: rows.crc for name, rows in zip(names, self._rows, strict=True) if rows and name},
        }
        write_json(self.home / "meta.json", meta, checksum=True)
        maps = tuple(None if name is None else mapped(self.home / name) for name in names)
        return CachedFeatures(tuple(self.ids), shift, scale, maps)


def _sweep(home: Path) -> None:
    """Remove unfinished files of runs that were killed long ago."""
    for path in home.glob(".maps-*") if home.is_dir() else ():
        if time.time() - path.stat().st_mtime > STALE:
            path.unlink(missing_ok=True)


def check_space(folder: Path, needed: int) -> None:
    """Raise `DataError` when the disk that is to hold `folder` has not `needed` bytes left."""
    parent = next((path for path in (folder, *folder.parents) if path.is_dir()), Path())
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise DataError(
            folder,
            f"the features take {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free",
            "name a cache folder on a larger disk, fewer layers with '@', or a coarser grid",
        )


def cache_features(
    participants: Sequence[Participant],
    train: Dataset,
    folder: Path,
    settings: ProbeSettings,
    visit: Callable[[Batch], None] = lambda batch: None,
) -> list[CachedFeatures]:
    """Features of all frames of `train`, for each participant: those in `folder` where they are of these very data, encoder
    and settings, else made now, all of them in one pass over the frames.

    Args:
        participants: their designs are fixed by the first batch if they are not yet.
        train: the frames.
        folder: of the cache.
        settings: of the run; beyond size and grid they change what is stored by no more than rounding.
        visit: called with every batch of frames, in order, whether or not encoders still need them.

    Raises:
        FathomError: an encoder gives NaN, infinity or values beyond float16 (the frame is named).
        DataError: a frame cannot be read, or the disk is full.
    """
    identities = [identity(participant.encoder, train, settings) for participant in participants]
    found = [open_cache(folder, made_from) for made_from in identities]
    writers: list[_Writer | None] = [None] * len(participants)
    seen: list[str] = []
    wanted = "reading targets" if all(found) else "storing features"
    with ExitStack() as files:
        for batch in read_batches(train, settings, f"{wanted} of {len(train)} frames"):
            visit(batch)
            for index, participant in enumerate(participants):
                cached, writer = found[index], writers[index]
                if cached is not None and seen:
                    continue
                if cached is not None:
                    first = Batch(batch.samples[:1], batch.originals[:1], settings)
                    seen_now = first.features(participant)
                    if _agrees(cached, participant.columns, seen_now, batch.samples[0].id):
                        continue
                    name = participant.encoder.name
                    note(f"The cached features of {name} are not what it gives now; they are made again.")
                    found[index] = None
                placed = batch.features(participant, keep=False)
                if writer is None:
                    writer = _Writer(folder, identities[index], len(train), participant.encoder.name, files)
                    writers[index] = writer
                writer.add(placed, batch.samples)
            seen.extend(sample.id for sample in batch.samples)
    if not seen:
        raise FathomError(f"{train.source.location}: no training frame can be read; nothing can be cached.")
    results = []
    for cached, writer in zip(found, writers, strict=True):
        result = cached if cached is not None else writer.finish() if writer is not None else None
        assert result is not None
        if list(result.ids) != seen:
            raise DataError(
                folder, "the cached features are of other frames than could be read now", "remove this folder"
            )
        results.append(result)
    return results


def _agrees(cached: CachedFeatures, design: Design, placed: Placed, first: str) -> bool:
    """Whether the encoder still gives what is stored of the first frame."""
    native = [None if z is None else z.shape[1:] for z in cached.maps]
    if cached.ids[:1] != (first,) or native != [tuple(z.shape[1:]) if z.shape[1] else None for z in placed]:
        return False
    stored = cached.stored(design, torch.zeros(1, dtype=torch.long))
    centred = design.centre([z.cpu() for z in placed], cached.shift)
    scales = torch.split(cached.scale, [z.shape[1] for z in stored])
    return all(
        bool(((now / scale[:, None, None] - old).abs() <= WITNESS * (1 + old.abs())).all())
        for now, old, scale in zip(centred, stored, scales, strict=True)
    )
