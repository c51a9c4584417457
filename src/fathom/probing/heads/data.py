"""What heads are trained on: cached features and targets of frames, drawn as random valid cells or read as whole grids.

Only valid cells leave this module, so an invalid one has no influence on a loss, on batch statistics, on the standardisation
of the inputs, or on the range of the bins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from fathom.probing.heads.feature_cache import CachedFeatures, RowFile, mapped, row_file
from fathom.probing.heads.fitted import CHUNK, Inputs
from fathom.probing.heads.heads import Spread
from fathom.probing.linear.design import Design, Placed
from fathom.probing.targets import TargetGroup
from fathom.sample import Grid

STANDARDISE_BATCHES = 64
"""Batches that the mean and deviation of the columns are taken from."""


class Targets:
    """Targets of all frames of one target group, the control's included, on disk like the features.

    Args:
        folder: to write in. group: the targets. rows: frames at most. grid: of the probe.
        files: closes them; after that `of` can be called.
    """

    def __init__(self, folder: Path, group: TargetGroup, rows: int, grid: Grid, files: ExitStack) -> None:
        self.group = group
        stem = hashlib.sha256(group.name.encode("utf-8", "surrogateescape")).hexdigest()[:8]
        self._paths = (folder / f"values-{stem}.npy", folder / f"valid-{stem}.npy")
        self._files: tuple[RowFile, RowFile] = (
            files.enter_context(row_file(self._paths[0], rows, (group.width, *grid), np.float32)),
            files.enter_context(row_file(self._paths[1], rows, (1, *grid), np.bool_)),
        )
        self._maps: tuple[np.ndarray, np.ndarray] | None = None

    def add(self, values: Float[Tensor, "B q h w"], valid: Bool[Tensor, "B 1 h w"]) -> None:
        """Append the targets of some frames."""
        self._files[0].add(values.numpy())
        self._files[1].add(valid.numpy())

    def of(self, frames: Int[Tensor, "B"]) -> tuple[Float[Tensor, "B q h w"], Bool[Tensor, "B 1 h w"]]:
        """Values and validity of the frames at some rows."""
        if self._maps is None:
            self._maps = mapped(self._paths[0]), mapped(self._paths[1])
        index = frames.numpy()
        return torch.from_numpy(self._maps[0][index]), torch.from_numpy(self._maps[1][index])

    def sums_of_features(self, rows: int) -> Float[Tensor, "rows k"]:
        """Of the valid cells of each of the first `rows` frames: n, Σy, Σy² of the features' outputs, the control's left out."""
        parts = []
        for frames in torch.split(torch.arange(rows), CHUNK):
            Y, valid = self.of(frames)
            inside = torch.where(valid, Y[:, : self.group.channels], 0.0).double().flatten(2)
            parts.append(torch.cat([valid.double().sum(dim=(2, 3)), inside.sum(2), inside.square().sum(2)], 1))
        return torch.cat(parts)


@dataclass(frozen=True)
class Material:
    """Features of one encoder with the targets of one group, frame by frame.

    Attributes:
        design: of the encoder. features: as stored. targets: of the same rows.
    """

    design: Design
    features: CachedFeatures
    targets: Targets

    def draw(
        self, frames: Int[Tensor, "B"], count: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "n p"], Float[Tensor, "n q"]]:
        """The valid ones of `count` random cells, the same of each frame; features as stored, and targets."""
        height, width = self.design.grid
        cells = torch.randperm(height * width, generator=generator)[:count]
        values, valid = self.targets.of(frames)
        inside = valid.flatten(1)[:, cells]
        X = self.features.cells(self.design, frames, cells)
        return X[inside], values.flatten(2)[:, :, cells].transpose(1, 2)[inside]

    def grids(
        self, part: Int[Tensor, "n"]
    ) -> Iterator[tuple[Placed, Float[Tensor, "B q h w"], Bool[Tensor, "B 1 h w"]]]:
        """Whole grids of a few frames at a time: maps as stored, targets, validity."""
        for frames in torch.split(part, CHUNK):
            yield self.features.stored(self.design, frames), *self.targets.of(frames)

    def spread(self, part: Int[Tensor, "n"]) -> Spread:
        """Mean, deviation and range of each output over the valid cells of some frames, of which there are some."""
        count, parts = 0, []
        for frames in torch.split(part, CHUNK):
            Y, valid = self.targets.of(frames)
            rows = Y.permute(0, 2, 3, 1)[valid[:, 0]].double()
            if len(rows):
                mean = rows.mean(0)
                parts.append((len(rows), mean, (rows - mean).square().sum(0), rows.amin(0), rows.amax(0)))
                count += len(rows)
        mean = torch.stack([n * m for n, m, *_ in parts]).sum(0) / count
        squares = torch.stack([within + n * (m - mean).square() for n, m, within, *_ in parts]).sum(0)
        low = torch.stack([part[3] for part in parts]).amin(0)
        high = torch.stack([part[4] for part in parts]).amax(0)
        return Spread(mean, (squares / count).sqrt(), low, high)

    def standardise(self, part: Int[Tensor, "n"], frames: int, cells: int, generator: torch.Generator) -> Inputs:
        """Mean and 1/deviation of each stored column, over random valid cells of random frames of `part`."""
        sums = squares = torch.zeros(self.design.channels, dtype=torch.float64)
        count = 0
        shuffled = part[torch.randperm(len(part), generator=generator)]
        for batch in torch.split(shuffled, frames)[:STANDARDISE_BATCHES]:
            rows = self.draw(batch, cells, generator)[0].double()
            sums, squares, count = sums + rows.sum(0), squares + rows.square().sum(0), count + len(rows)
        mean = sums / max(count, 1)
        variance = (squares / max(count, 1) - mean.square()).clamp(min=0)
        # Columns are stored in about unit deviation: a millionth of that is float16's rounding.
        gain = torch.where(variance > 1e-12, variance.clamp(min=1e-12).rsqrt(), 0.0)
        return Inputs(mean.float(), gain.float())
