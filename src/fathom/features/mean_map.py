"""The mean of a target by position: what a guesser who never looks at the image says after seeing the training set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass
class MeanMap:
    """Sums of a target in each cell of a grid, by group of frames.

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
        """Add frames to a group."""
        masked = torch.where(valid, Y, 0.0).double().cpu()
        self.sums[group] += masked.sum(0)
        self.squares[group] += masked.square().sum(0)
        self.counts[group] += valid.sum(0).double().cpu()

    def map(self, groups: Sequence[int] | None = None) -> Float[Tensor, "q h w"]:
        """Mean of each cell over the named groups; a cell never seen gets the mean over all cells."""
        index = slice(None) if groups is None else torch.as_tensor(list(groups))
        sums, counts = self.sums[index].sum(0), self.counts[index].sum(0)
        overall = sums.sum(dim=(1, 2)) / counts.sum().clamp(min=1)  # of these groups alone
        return torch.where(counts > 0, sums / counts.clamp(min=1), overall[:, None, None])

    def mean(self) -> Float[Tensor, "q"]:
        """Mean of the target over all cells of all frames."""
        return self.sums.sum(dim=(0, 2, 3)) / self.counts.sum().clamp(min=1)

    def variance(self) -> Float[Tensor, "q"]:
        """Variance of the target over all cells of all frames."""
        squares = self.squares.sum(dim=(0, 2, 3)) / self.counts.sum().clamp(min=1)
        return (squares - self.mean().square()).clamp(min=0)

    def losses(self, folds: Sequence[Sequence[int]]) -> tuple[Float[Tensor, "q"], Float[Tensor, "q"]]:
        """Mean squared error of each output: cross-validated over folds of groups, and in sample."""
        every = range(len(self.counts))
        held_out = torch.zeros(self.sums.shape[1], dtype=torch.float64)
        for fold in folds:
            guess = self.map([group for group in every if group not in set(fold)])
            held_out += self._squared(guess, list(fold))
        cells = self.counts.sum()
        return held_out / cells, self._squared(self.map(), list(every)) / cells

    def _squared(self, guess: Float[Tensor, "q h w"], groups: list[int]) -> Float[Tensor, "q"]:
        sums, squares, counts = (part[groups].sum(0) for part in (self.sums, self.squares, self.counts))
        return (squares - 2 * guess * sums + counts * guess.square()).sum(dim=(1, 2)).clamp(min=0)
