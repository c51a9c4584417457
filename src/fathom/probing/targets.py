"""Controls that need no encoder of their own: the mean map by position, and targets of other rooms.

The mean map is what a picture-blind guesser who has seen the training set would say. The shuffled target is the control
task of Hewitt & Liang (2019) for dense maps: every frame is given the target of a frame of another scene, so a probe can
only learn what all frames share; how much better it does on the true target is its selectivity.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.sample import Sample


@dataclass
class MeanMap:
    """Sums of the target in each grid cell, by block of training scenes.

    Attributes:
        sums: Σy, ``(G, q, h, w)``. squares: Σy², ``(G, q, h, w)``. counts: valid frames, ``(G, 1, h, w)``.
    """

    sums: Float[Tensor, "G q h w"]
    squares: Float[Tensor, "G q h w"]
    counts: Float[Tensor, "G 1 h w"]

    @staticmethod
    def zeros(groups: int, outputs: int, grid: tuple[int, int]) -> MeanMap:
        """Of no frame."""
        wide = torch.zeros(groups, outputs, *grid, dtype=torch.float64)
        return MeanMap(wide, wide.clone(), torch.zeros(groups, 1, *grid, dtype=torch.float64))

    def add(self, group: int, Y: Float[Tensor, "B q h w"], valid: Bool[Tensor, "B 1 h w"]) -> None:
        """Add frames to a block."""
        masked = torch.where(valid, Y, 0.0).double().cpu()
        self.sums[group] += masked.sum(0)
        self.squares[group] += masked.square().sum(0)
        self.counts[group] += valid.sum(0).double().cpu()

    def map(self, groups: Sequence[int] | None = None) -> Float[Tensor, "q h w"]:
        """Mean of each cell over the named blocks; a cell never seen gets the mean over all cells."""
        index = slice(None) if groups is None else torch.as_tensor(list(groups))
        sums, counts = self.sums[index].sum(0), self.counts[index].sum(0)
        overall = sums.sum(dim=(1, 2)) / counts.sum().clamp(min=1)  # of these blocks alone
        return torch.where(counts > 0, sums / counts.clamp(min=1), overall[:, None, None])

    def mean(self) -> Float[Tensor, "q"]:
        """Mean of the target over all cells of all frames."""
        return self.sums.sum(dim=(0, 2, 3)) / self.counts.sum().clamp(min=1)

    def variance(self) -> Float[Tensor, "q"]:
        """Variance of the target over all cells of all frames."""
        squares = self.squares.sum(dim=(0, 2, 3)) / self.counts.sum().clamp(min=1)
        return (squares - self.mean().square()).clamp(min=0)

    def losses(self, folds: Sequence[Sequence[int]]) -> tuple[Float[Tensor, "q"], Float[Tensor, "q"]]:
        """Mean squared error of each output: cross-validated over folds of blocks, and in sample."""
        every = range(len(self.counts))
        held_out = torch.zeros(self.sums.shape[1], dtype=torch.float64)
        for fold in folds:
            guess = self.map([block for block in every if block not in set(fold)])
            held_out += self._squared(guess, list(fold))
        cells = self.counts.sum()
        return held_out / cells, self._squared(self.map(), list(every)) / cells

    def _squared(self, guess: Float[Tensor, "q h w"], groups: list[int]) -> Float[Tensor, "q"]:
        sums, squares, counts = (part[groups].sum(0) for part in (self.sums, self.squares, self.counts))
        return (squares - 2 * guess * sums + counts * guess.square()).sum(dim=(1, 2)).clamp(min=0)


@dataclass(frozen=True)
class Donors:
    """Targets of frames of different training scenes, handed to other frames as the control task.

    Attributes:
        targets: ``(D, q, h, w)``, each map's invalid cells filled with its mean.
        scenes: the scene of each.
        seed: which frame gets which donor.
    """

    targets: Float[Tensor, "D q h w"]
    scenes: tuple[str, ...]
    seed: int

    def of(self, sample: Sample) -> Float[Tensor, "q h w"]:
        """The control target of a frame: a donor from another scene, always the same one for the same frame."""
        digest = hashlib.sha256(f"{self.seed}:{sample.id}".encode("utf-8", "surrogateescape")).digest()
        start = int.from_bytes(digest[:8], "little") % len(self.scenes)
        for step in range(len(self.scenes)):
            index = (start + step) % len(self.scenes)
            if self.scenes[index] != sample.scene:
                return self.targets[index]
        return self.targets[start]


def donor_positions(train: Dataset, count: int, seed: int) -> list[int]:
    """Positions of up to `count` frames, each of another scene, chosen by name and seed."""
    first: dict[str, int] = {}
    for position, scene in enumerate(train.frame_scenes):
        first.setdefault(scene, position)
    ranked = sorted(
        first,
        key=lambda scene: hashlib.sha256(f"donor:{seed}:{scene}".encode("utf-8", "surrogateescape")).digest(),
    )
    return [first[scene] for scene in ranked[:count]]


def fill_invalid(Y: Float[Tensor, "q h w"], valid: Bool[Tensor, "1 h w"]) -> Float[Tensor, "q h w"]:
    """The map with invalid cells replaced by the mean of the valid ones."""
    mean = torch.where(valid, Y, 0.0).sum(dim=(1, 2)) / valid.sum().clamp(min=1)
    return torch.where(valid, Y, mean[:, None, None])
