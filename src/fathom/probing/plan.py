"""What a probe run decides before it reads a frame: sizes, blocks of scenes, folds, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fathom.data.dataset import Dataset
from fathom.errors import FathomError
from fathom.sample import Grid
from fathom.seeding import digest

STRIDE = 8
"""Grid cells are 8 x 8 pixels of the input by default: 256 -> 32 as in the work this grew from, 240x320 -> 30x40."""

SHORT_SIDE = 240
"""Default input: the short side brought to at most this, the aspect kept, sides multiples of the stride."""


def default_size(native: Grid) -> Grid:
    """The input size used when none is asked for."""
    scale = min(1.0, SHORT_SIDE / min(native))
    height, width = (max(STRIDE, round(side * scale / STRIDE) * STRIDE) for side in native)
    return height, width


def default_grid(size: Grid) -> Grid:
    """The grid that goes with an input size."""
    return max(1, size[0] // STRIDE), max(1, size[1] // STRIDE)


@dataclass(frozen=True)
class Blocks:
    """Scenes gathered into blocks, the unit in which training moments are kept.

    Few scenes: one block each. Many: several scenes share a block, so that memory depends neither on the number of
    images nor on the number of scenes.

    Attributes:
        of_scene: block of each scene.
        count: how many blocks.
        folds: blocks of each cross-validation fold.
    """

    of_scene: dict[str, int]
    count: int
    folds: tuple[tuple[int, ...], ...]

    def order(self, dataset: Dataset) -> list[int]:
        """Positions of the frames sorted by block, in each block as the data set has them."""
        scenes = dataset.frame_scenes
        return sorted(range(len(dataset)), key=lambda position: (self.of_scene[scenes[position]], position))


def _balance(sizes: Sequence[int], bins: int) -> list[int]:
    """Bin of each item, the next item always into the lightest bin."""
    load = [0] * bins
    chosen = []
    for size in sizes:
        lightest = min(range(bins), key=load.__getitem__)
        load[lightest] += size
        chosen.append(lightest)
    return chosen


def plan_blocks(dataset: Dataset, limit: int, folds: int, seed: int) -> Blocks:
    """Assign scenes to at most `limit` blocks, blocks to `folds` folds, balanced by frames; names count, order does not.

    Raises `FathomError` when there are fewer than two scenes, since nothing could then be chosen honestly.
    """
    frames: dict[str, int] = {}
    for scene in dataset.frame_scenes:
        frames[scene] = frames.get(scene, 0) + 1
    if len(frames) < 2:
        raise FathomError(
            f"{dataset.source.location}: the training part has {len(frames)} scene; at least 2 are needed to choose "
            "the penalty by cross-validation over scenes."
        )
    scenes = sorted(frames, key=lambda scene: digest(seed, scene))
    count = min(len(scenes), max(limit, 2))
    blocks = _balance([frames[s] for s in scenes], count) if count < len(scenes) else list(range(count))
    block_frames = [0] * count
    for scene, block in zip(scenes, blocks, strict=True):
        block_frames[block] += frames[scene]
    fold_of = _balance(block_frames, min(folds, count))
    return Blocks(
        of_scene=dict(zip(scenes, blocks, strict=True)),
        count=count,
        folds=tuple(tuple(b for b in range(count) if fold_of[b] == f) for f in range(min(folds, count))),
    )


def block_limit(channels: int, budget: int = 512 << 20) -> int:
    """How many blocks of p x p float64 moments fit the budget in bytes; at least 10, for folds and label curves."""
    return max(10, budget // (8 * max(channels, 1) ** 2))


def most_blocks(channels: int, scenes: int, groups: int, encoders: int) -> int:
    """Blocks that fit memory for a run: the budget is shared by all encoders and target groups."""
    return min(scenes, block_limit(channels, (2 << 30) // max(groups * encoders, 1)))
