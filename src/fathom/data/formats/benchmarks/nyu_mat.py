"""``nyu-mat:`` — NYU Depth V2's labelled frames, one HDF5 file of 2.8 GB, read a frame at a time (Silberman et al. 2012)."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from fathom.data.dataset import Frame
from fathom.data.formats.benchmarks.mat5 import read_vectors
from fathom.data.formats.benchmarks.official_nyu import FRAMES, official_test, official_train
from fathom.data.formats.files import clean_depth
from fathom.data.transforms import crop_border
from fathom.errors import DataError
from fathom.files import limits
from fathom.files.inputs import regular_file
from fathom.sample import Intrinsics, Sample

if TYPE_CHECKING:
    import h5py

LABELED = "nyu_depth_v2_labeled.mat"

BORDER = 8
"""Pixels: the labelled images carry a white frame of about that width."""

CAMERA = Intrinsics(518.85790117450188, 519.46961112127485, 325.58244941119034 - 0.5, 253.73616633400465 - 0.5)
"""Of the 640x480 colour image. The published principal point counts pixel centres from 1; here the first is at 0.5."""

DEPTHS = {"in-painted": "depths", "raw": "rawDepths"}


@contextmanager
def _hdf5(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, IndexError, OverflowError) as error:
        raise DataError(path, f"is broken or cut short ({error})", "download it again, it has 2.8 GB") from error


def room_of(scene: str) -> str:
    """The room a recording shows: long recordings of one room were cut into parts ``living_room_0012a``, ``b`` ..."""
    return re.sub(r"(?<=\d)[a-z]$", "", scene)


@dataclass
class NyuMatSource:
    """Frames of the labelled file; see `open_nyu_mat`."""

    location: str
    frames: Sequence[Frame]
    depth: str
    border: int
    labels: bool
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]]
    kind: str = "nyu-mat"
    _open: dict[int, h5py.File] = field(default_factory=dict, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        # An open HDF5 file crosses no process boundary: each process opens its own.
        return {**self.__dict__, "_open": {}}

    @property
    def _file(self) -> h5py.File:
        process = os.getpid()
        if process not in self._open:
            self._open[process] = _open_file(Path(self.location))
        return self._open[process]

    def read(self, index: int) -> Sample:
        """One frame; no other is held in memory."""
        path = Path(self.location)
        frame = self.frames[index]
        with _hdf5(path):
            file = self._file
            # MATLAB stores columns first: (3, 640, 480) on disk is (3, W, H).
            image = np.ascontiguousarray(file["images"][index].transpose(0, 2, 1))
            metres = file[self.depth][index].T
            classes = file["labels"][index].T.astype(np.int64) - 1 if self.labels else None
        depth, valid = clean_depth(metres, f"{path}, frame {frame.id}")
        sample = Sample(
            image=torch.from_numpy(image),
            depth=depth,
            valid=valid,
            scene=frame.scene,
            id=frame.id,
            intrinsics=CAMERA,
            labels=None if classes is None else torch.from_numpy(classes)[None],
        )
        return crop_border(sample, self.border)


def _open_file(path: Path) -> h5py.File:
    import h5py

    regular_file(path)
    if not h5py.is_hdf5(path):
        raise DataError(
            path, "is not an HDF5 file", "name nyu_depth_v2_labeled.mat (MATLAB v7.3); splits.mat goes to splits=PATH"
        )
    try:
        # A small chunk cache: frames are contiguous, and nothing is read twice.
        return h5py.File(path, "r", rdcc_nbytes=1 << 20)
    except OSError as error:
        raise DataError(path, f"is broken or cut short ({error})", "download it again, it has 2.8 GB") from error


def _check_arrays(path: Path, file: h5py.File, depth: str, labels: bool) -> int:
    """Refuse arrays whose headers claim what no such file holds; returns the number of frames.

    A frame is read with the storage blocks (chunks) that it touches, so that these are bounded too.
    """
    import h5py

    for name, kinds in (("images", "u"), (DEPTHS[depth], "f"), *((("labels", "u"),) if labels else ())):
        array = file[name]
        if not isinstance(array, h5py.Dataset) or array.ndim < 3 or array.dtype.kind not in kinds:
            raise DataError(path, f"has {name} that are not an array of frames", "name nyu_depth_v2_labeled.mat")
        height, width = array.shape[-2:]
        limits.check("pixels", height * width, path)
        limits.check("values", math.prod(array.chunks or (1,)), path, f"stores {name} in blocks of")
    count = len(file["images"])
    limits.check("frames", count, path)
    return count


def _text(path: Path, file: h5py.File, reference: object) -> str:
    """A MATLAB string, which is an array of character codes that a reference leads to."""
    array = file[reference]
    if array.size > 4096 or array.dtype.kind != "u":
        raise DataError(path, "has a scene whose name is not a text", "download it again")
    return "".join(map(chr, np.asarray(array).ravel()))


def open_nyu_mat(
    path: Path,
    *,
    depth: Literal["in-painted", "raw"] = "in-painted",
    border: int = BORDER,
    splits: Path | None = None,
    labels: bool = True,
) -> NyuMatSource:
    """Open ``nyu_depth_v2_labeled.mat``.

    Args:
        path: the file, or the folder that holds it.
        depth: ``in-painted`` (holes filled by colorisation) or ``raw`` (holes invalid), both projected to the colour
            camera.
        border: pixels cut from every side.
        splits: ``splits.mat``; one beside the file is found, and for the 1449 published frames it is built in.
        labels: whether to read the class of each pixel (0-based, -1 unlabelled).
    """
    if path.is_dir():
        path = path / LABELED
    if not path.is_file():
        raise DataError(path, "does not exist", f"name {LABELED} or the folder that holds it")
    file = _open_file(path)
    with _hdf5(path), file:
        missing = {"images", DEPTHS[depth], "scenes", *(["labels"] if labels else [])} - set(file)
        if missing:
            raise DataError(path, f"lacks {', '.join(sorted(missing))}", "name nyu_depth_v2_labeled.mat")
        count, shape = _check_arrays(path, file, depth, labels), file["images"].shape
        if len(shape) != 4 or shape[1] != 3 or file[DEPTHS[depth]].shape != (count, *shape[2:]):
            raise DataError(
                path, f"has images {shape} and depths {file[DEPTHS[depth]].shape}; wanted (N,3,W,H) and (N,W,H)"
            )
        if file["scenes"].size != count:
            raise DataError(path, f"names {file['scenes'].size} scenes for {count} images", "download it again")
        rooms = [room_of(_text(path, file, reference)) for reference in np.asarray(file["scenes"]).ravel()]
    frames = tuple(Frame(f"{index + 1:04d}", room, (path,)) for index, room in enumerate(rooms))
    facts = {
        "depth": f"z-depth in float32 metres, {depth}",
        "size": f"{shape[3]}x{shape[2]}",
        "border": f"{border} pixels cut from every side",
        "scene": "room name; parts a, b, c of one room are one scene",
    }
    official, said = _official(path, splits, count)
    if said:
        facts["official split"] = said
    return NyuMatSource(str(path), frames, DEPTHS[depth], border, labels, facts, official)


def _official(path: Path, splits: Path | None, count: int) -> tuple[dict[str, Sequence[int]], str]:
    beside = path.parent / "splits.mat"
    if splits is None and not beside.exists():
        if count != FRAMES:
            return {}, ""
        return {"train": official_train(), "test": official_test()}, "795 + 654 frames, built in"
    table = splits or beside
    fix = "leave it out for the built-in split"
    arrays = read_vectors(table, ("trainNdxs", "testNdxs"), fix)
    parts = {}
    for name, key in (("train", "trainNdxs"), ("test", "testNdxs")):
        numbers = arrays[key]
        if numbers.size == 0 or not np.isin(numbers.astype(np.float64) % 1, 0).all():
            raise DataError(table, f"has {key} that are not numbers of frames", fix)
        parts[name] = [int(number) - 1 for number in numbers]
    listed = [*parts["train"], *parts["test"]]
    if len(set(listed)) < len(listed):
        raise DataError(table, "lists a frame twice", fix)
    outside = [i for indices in parts.values() for i in indices if not 0 <= i < count]
    if outside:
        raise DataError(
            table, f"names frame {outside[0] + 1}, but {path.name} has {count}", "use the splits.mat of this file"
        )
    return dict(parts), f"{len(parts['train'])} + {len(parts['test'])} frames, from {table.name}"
