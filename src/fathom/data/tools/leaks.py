"""Near-duplicate frames across a split: rooms that are in training and in test under two names.

Each image becomes a difference hash (signs of the brightness differences between neighbours of a 16x16 grid, both ways:
512 bits). Copies that were rescaled, recompressed, brightened or shifted a little differ in some 10 to 40 bits; different
frames of NYU Depth V2, even of one room, in 112 and more. Mirrored copies are found by hashing the mirror image too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.errors import DataError
from fathom.progress import track
from fathom.sample import Sample

CELLS = 16
NEAR = 80
"""Bits of 512 in which near-duplicates differ at most: between the 40 of altered copies and the 112 of other frames."""


@dataclass(frozen=True)
class Leak:
    """A test frame that is nearly a training frame; `bits` of 512 differ."""

    train: str
    test: str
    train_scene: str
    test_scene: str
    bits: int
    mirrored: bool


def difference_hash(image: np.ndarray) -> Bool[ndarray, "512"]:
    """Hash of an ``(H, W, 3)`` uint8 image."""
    from PIL import Image

    grey = Image.fromarray(image).convert("L")
    across = np.asarray(grey.resize((CELLS + 1, CELLS), Image.Resampling.BOX)).astype(np.int16)
    down = np.asarray(grey.resize((CELLS, CELLS + 1), Image.Resampling.BOX)).astype(np.int16)
    return np.concatenate([(np.diff(across, axis=1) > 0).ravel(), (np.diff(down, axis=0) > 0).ravel()])


def find_leaks(train: Dataset, test: Dataset, *, near: int = NEAR, skipped: Skipped | None = None) -> list[Leak]:
    """Pairs of a training and a test frame that differ in at most `near` bits, nearest first."""
    sides = [_hashes(part, mirrored, skipped) for part, mirrored in ((train, False), (test, True))]
    (train_ids, train_bits), (test_ids, test_bits) = sides
    scene = dict(zip(train.ids, train.frame_scenes, strict=True)) | dict(zip(test.ids, test.frame_scenes, strict=True))
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


def _hashes(dataset: Dataset, mirrored: bool, skipped: Skipped | None) -> tuple[list[tuple[str, bool]], np.ndarray]:
    names: list[tuple[str, bool]] = []
    rows: list[np.ndarray] = []
    for position in track(range(len(dataset)), f"hashing {dataset.part} frames"):
        try:
            sample = dataset[position]
        except DataError as error:
            if skipped is None:
                raise
            skipped.frames.append((dataset.frame(position).id, str(error)))
            continue
        for flip in (False, True) if mirrored else (False,):
            names.append((sample.id, flip))
            rows.append(difference_hash(_array(sample, flip)))
    return names, np.array(rows, dtype=np.float32).reshape(len(rows), 2 * CELLS * CELLS)


def _array(sample: Sample, flip: bool) -> np.ndarray:
    image = (sample.float_image() * 255).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(image[:, ::-1] if flip else image)


def describe(leaks: Sequence[Leak], most: int = 5) -> str:
    """The nearest pairs in words."""
    shown = [
        f"{leak.test} ({leak.test_scene}) is {'a mirror of ' if leak.mirrored else ''}{leak.train} ({leak.train_scene})"
        for leak in leaks[:most]
    ]
    return "; ".join(shown) + (f"; and {len(leaks) - most} more" if len(leaks) > most else "")
