"""What a probe run decides before it reads a frame: sizes, blocks of scenes, folds, order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


BLOCKS = 20
"""Blocks of training scenes: enough for label curves and description lengths; each costs p² numbers for an encoder of p channels.
A fixed number, so that what one encoder gives does not depend on how many others take part."""

SAMPLE = 16
"""Frames kept in a block of their own where scenes are small, to recompute training losses on."""

WIDEST = 4096
"""Channels beyond which moments are kept by fold alone: twenty blocks would take over 2.7 GB."""


@dataclass(frozen=True)
class Blocks:
    """Scenes gathered into blocks, the unit in which training moments are kept.

    Few scenes: one block each. Many: several scenes share a block, so that memory depends neither on the number of
    images nor on the number of scenes. Folds are made of scenes first, and blocks inside folds.

    Attributes:
        of_scene: block of each scene.
        count: how many blocks.
        folds: blocks of each cross-validation fold.
        sample: the block on whose frames training losses are computed again, directly: few frames where scenes are small.
    """

    of_scene: dict[str, int]
    count: int
    folds: tuple[tuple[int, ...], ...]
    sample: int

    def order(self, dataset: Dataset) -> list[int]:
        """Positions of the frames sorted by block, in each block as the data set has them."""
        scenes = dataset.frame_scenes
        return sorted(range(len(dataset)), key=lambda position: (self.of_scene[scenes[position]], position))

    def by_fold(self) -> Blocks:
        """The same folds with one block each, and the sample: all that the choice of λ needs."""
        joined, folds = {self.sample: 0}, []
        for fold in self.folds:
            rest = [block for block in fold if block != self.sample]
            joined |= dict.fromkeys(rest, max(joined.values()) + 1)
            folds.append(tuple(sorted({joined[block] for block in fold})))
        of_scene = {scene: joined[block] for scene, block in self.of_scene.items()}
        return Blocks(of_scene, max(joined.values()) + 1, tuple(folds), 0)


def _balance(sizes: Sequence[int], bins: int) -> list[int]:
    """Bin of each item, the next item always into the lightest bin."""
    load = [0] * bins
    chosen = []
    for size in sizes:
        lightest = min(range(bins), key=load.__getitem__)
        load[lightest] += size
        chosen.append(lightest)
    return chosen


def plan_blocks(dataset: Dataset, folds: int, seed: int) -> Blocks:
    """Assign scenes to `folds` folds and inside them to about `BLOCKS` blocks, balanced by frames.

    Names, frames and seed count; neither the order of frames nor the encoders of the run do.

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
    folds = min(folds, len(scenes))
    fold_of = dict(zip(scenes, _balance([frames[scene] for scene in scenes], folds), strict=True))
    apart = _sample([scene for scene in scenes if fold_of[scene] == 0], frames)
    if len(scenes) <= BLOCKS:
        apart = apart[:1]
    of_scene, made, count = dict.fromkeys(apart, 0), [], 1
    for fold in range(folds):
        rest = [scene for scene in scenes if fold_of[scene] == fold and scene not in of_scene]
        bins = len(rest) if len(scenes) <= BLOCKS else min(len(rest), max(BLOCKS // folds, 1))
        chosen = _balance([frames[scene] for scene in rest], bins)
        of_scene |= {scene: count + block for scene, block in zip(rest, chosen, strict=True)}
        made.append((*((0,) if fold == 0 else ()), *range(count, count + bins)))
        count += bins
    return Blocks(of_scene, count, tuple(made), 0)


def _sample(scenes: Sequence[str], frames: Mapping[str, int]) -> list[str]:
    """The smallest scenes, at least one, with up to `SAMPLE` frames together."""
    chosen: list[str] = []
    for scene in sorted(scenes, key=frames.__getitem__):
        if chosen and sum(frames[item] for item in chosen) + frames[scene] > SAMPLE:
            break
        chosen.append(scene)
    return chosen
