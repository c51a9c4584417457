"""Near-duplicate frames across a split: rooms that are in training and in test under two names.

Each image becomes a difference hash (signs of the brightness differences between neighbours of a 16x16 grid, both ways:
512 bits). Copies that were rescaled, recompressed, brightened or shifted a little differ in some 10 to 40 bits; different
frames of NYU Depth V2, even of one room, in 112 and more. Mirrored copies are found by hashing the mirror image too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int16, UInt8
from numpy import ndarray
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped, read_each
from fathom.sample import Sample

CELLS = 16
NEAR = 80
"""Bits of 512 in which near-duplicates differ at most: between the 40 of altered copies and the 112 of other frames."""

FLAT = 2.0
"""Grey levels of spread below which an image has no pattern to compare: a blank frame resembles every other one."""

SMALLEST = 4 * CELLS
"""Pixels of the short side below which a run compares nothing: a cell of the hash would be a few pixels."""

MOST = 4000
"""Frames of each part that a run compares; of more, every second, third ... is taken."""

TOLERATED = 0.05
"""Share of test scenes with a near-duplicate in training from which on they are no unseen scenes."""


@dataclass(frozen=True)
class Leak:
    """A test frame that is nearly a training frame; `bits` of 512 differ."""

    train: str
    test: str
    train_scene: str
    test_scene: str
    bits: int
    mirrored: bool


def difference_hash(image: UInt8[Tensor, "3 H W"]) -> Bool[ndarray, "512"]:
    """Hash of an image."""
    return _bits(_grey(image))


def _bits(grey: UInt8[ndarray, "H W"]) -> Bool[ndarray, "512"]:
    across, down = _shrunk(grey, CELLS, CELLS + 1), _shrunk(grey, CELLS + 1, CELLS)
    return np.concatenate([(np.diff(across, axis=1) > 0).ravel(), (np.diff(down, axis=0) > 0).ravel()])


def _grey(image: UInt8[Tensor, "3 H W"]) -> UInt8[ndarray, "H W"]:
    """Brightness as Pillow has it, from planes as they lie: to interleave them for Pillow takes several times as long."""
    red, green, blue = (plane.to(torch.int32) for plane in image)
    found = (red * 19595).add_(green, alpha=38470).add_(blue, alpha=7471).add_(2**15) >> 16
    return np.asarray(found.to(torch.uint8).numpy())


def _shrunk(grey: UInt8[ndarray, "H W"], height: int, width: int) -> Int16[ndarray, "h w"]:
    from PIL.Image import Resampling, fromarray

    return np.asarray(fromarray(grey).resize((width, height), Resampling.BOX)).astype(np.int16)


def find_leaks(train: Dataset, test: Dataset, *, near: int = NEAR, skipped: Skipped | None = None) -> list[Leak]:
    """Pairs of a training and a test frame that differ in at most `near` bits, nearest first."""
    sides = [_hashes(part, mirrored, skipped) for part, mirrored in ((train, False), (test, True))]
    scene = dict(zip(train.ids, train.frame_scenes, strict=True)) | dict(zip(test.ids, test.frame_scenes, strict=True))
    return _near_pairs(*sides[0], *sides[1], scene, near)


def _near_pairs(
    train_ids: Sequence[tuple[str, bool]],
    train_bits: np.ndarray,
    test_ids: Sequence[tuple[str, bool]],
    test_bits: np.ndarray,
    scene: Mapping[str, str],
    near: int,
) -> list[Leak]:
    """Pairs of hashes, ``(N, 512)`` float32 each, that differ in at most `near` bits; ids say whether it is of a mirror image."""
    best: dict[tuple[str, str], Leak] = {}
    for start in range(0, len(test_ids), 512):
        block = test_bits[start : start + 512]
        distance = block.sum(1)[:, None] + train_bits.sum(1)[None] - 2 * block @ train_bits.T
        for row, column in zip(*np.nonzero(distance <= near), strict=True):
            name, mirrored = test_ids[start + row]
            pair = (train_ids[column][0], name)
            bits = int(distance[row, column])
            if pair not in best or bits < best[pair].bits:
                best[pair] = Leak(pair[0], name, scene[pair[0]], scene[name], bits, mirrored)
    return sorted(best.values(), key=lambda leak: (leak.bits, leak.train, leak.test))


class LeakWatch:
    """The same comparison over frames that are read anyway, a batch at a time.

    Attributes:
        train, test: the parts. bits: hash of each training frame that was looked at, by its id.
        test_bits: of each test frame, by its id and whether it is mirrored.
    """

    def __init__(self, train: Dataset, test: Dataset) -> None:
        self.train, self.test = train, test
        self.bits: dict[str, np.ndarray] = {}
        self.test_bits: dict[tuple[str, bool], np.ndarray] = {}
        self._watched = {id_ for part in (train, test) for id_ in part.ids[:: -(-len(part) // MOST)]}

    def see_train(self, samples: Sequence[Sample]) -> None:
        """Look at training frames."""
        for sample in samples:
            if sample.id in self._watched:
                found = _hash(sample, flip=False) if min(sample.image_size) >= SMALLEST else None
                self.bits[sample.id] = np.zeros(0, dtype=bool) if found is None else found

    def see_test(self, samples: Sequence[Sample]) -> None:
        """Look at test frames and their mirror images."""
        for sample in samples:
            watched = sample.id in self._watched and min(sample.image_size) >= SMALLEST
            for flip in (False, True) if watched else ():
                found = _hash(sample, flip)
                if found is not None:
                    self.test_bits[sample.id, flip] = found

    def leaks(self, near: int = NEAR) -> list[Leak]:
        """Near-duplicates among what was seen, nearest first."""
        seen = {(id_, False): bits for id_, bits in self.bits.items() if len(bits)}
        scene = dict(zip(self.train.ids, self.train.frame_scenes, strict=True))
        scene |= dict(zip(self.test.ids, self.test.frame_scenes, strict=True))
        return _near_pairs(
            list(seen), _stacked(seen.values()), list(self.test_bits), _stacked(self.test_bits.values()), scene, near
        )


def leaking_scenes(leaks: Sequence[Leak]) -> set[str]:
    """Test scenes with a near-duplicate in training."""
    return {leak.test_scene for leak in leaks}


def not_unseen(leaks: Sequence[Leak], test_scenes: int) -> bool:
    """Whether so many test scenes have near-duplicates in training that a score on them shows memory."""
    return len(leaking_scenes(leaks)) >= TOLERATED * test_scenes and bool(leaks)


def _stacked(hashes: Iterable[np.ndarray]) -> np.ndarray:
    rows = list(hashes)
    return np.array(rows, dtype=np.float32).reshape(len(rows), 2 * CELLS * CELLS)


def _hash(sample: Sample, flip: bool) -> np.ndarray | None:
    """Hash of a frame or of its mirror image; None of an image without any pattern."""
    grey = _grey(sample.image if sample.image.dtype == torch.uint8 else (sample.float_image() * 255).round().byte())
    grey = np.ascontiguousarray(grey[:, ::-1]) if flip else grey
    return None if _shrunk(grey[::4, ::4], CELLS, CELLS + 1).std() < FLAT else _bits(grey)


def _hashes(dataset: Dataset, mirrored: bool, skipped: Skipped | None) -> tuple[list[tuple[str, bool]], np.ndarray]:
    names: list[tuple[str, bool]] = []
    rows: list[np.ndarray] = []
    for _, sample in read_each(dataset, f"hashing {dataset.part} frames", skipped):
        for flip in (False, True) if mirrored else (False,):
            found = _hash(sample, flip)
            if found is not None:
                names.append((sample.id, flip))
                rows.append(found)
    return names, _stacked(rows)


def describe(leaks: Sequence[Leak], most: int = 5) -> str:
    """The nearest pairs in words."""
    shown = [
        f"{leak.test} ({leak.test_scene}) is {'a mirror of ' if leak.mirrored else ''}{leak.train} ({leak.train_scene})"
        for leak in leaks[:most]
    ]
    return "; ".join(shown) + (f"; and {len(leaks) - most} more" if len(leaks) > most else "")
