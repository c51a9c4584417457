"""Reading frames: targets of features, encoders on the grid, training frames into moments, test frames into errors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.encoders.base import Encoder
from fathom.errors import FathomError
from fathom.features import Feature
from fathom.probing.linear.design import Design, Placed
from fathom.probing.linear.moments import Moments
from fathom.probing.plan import Blocks, block_limit
from fathom.probing.targets import Donors, MeanMap, fill_invalid
from fathom.sample import Grid, Sample

ALL = "all"
"""Name of the concatenation of an encoder's layers."""


@dataclass(frozen=True)
class Support:
    """Features that are valid in the same cells, their outputs side by side, then the same outputs of the control task.

    Attributes:
        name: of the support.
        features: in order.
        donors: whose targets stand in for the control task, or None to leave it out.
    """

    name: str
    features: tuple[Feature, ...]
    donors: Donors | None = None

    @property
    def channels(self) -> int:
        """Output columns of the features, the control's not counted."""
        return sum(item.channels for item in self.features)

    @property
    def outputs(self) -> dict[str, slice]:
        """The output columns of each feature."""
        slices, start = {}, 0
        for item in self.features:
            slices[item.name] = slice(start, start + item.channels)
            start += item.channels
        return slices

    def control(self, feature: str) -> slice:
        """The output columns of a feature's control task."""
        part = self.outputs[feature]
        return slice(self.channels + part.start, self.channels + part.stop)

    @property
    def ties(self) -> list[list[int]]:
        """Outputs that share one penalty: those of a feature, and those of its control."""
        parts = list(self.outputs.values())
        if self.donors is not None:
            parts += [self.control(item.name) for item in self.features]
        return [list(range(part.start, part.stop)) for part in parts]

    def target(self, sample: Sample, grid: Grid) -> tuple[Float[Tensor, "q h w"], Bool[Tensor, "1 h w"]]:
        """The features of one frame side by side, valid where all of them are."""
        parts = [item.of(sample, grid) for item in self.features]
        return torch.cat([part[0] for part in parts]), torch.stack([part[1] for part in parts]).all(0)

    def targets(
        self, samples: Sequence[Sample], grid: Grid
    ) -> tuple[Float[Tensor, "B q h w"], Bool[Tensor, "B 1 h w"]]:
        """Targets of a batch of frames on the grid, the control's after the features'."""
        values, valid = [], []
        for sample in samples:
            own, ok = self.target(sample, grid)
            values.append(own if self.donors is None else torch.cat([own, self.donors.of(sample)]))
            valid.append(ok)
        return torch.stack(values), torch.stack(valid)

    def with_donors(self, frames: Sequence[Sample], grid: Grid, seed: int) -> Support:
        """The same support with its control task made of the targets of `frames`, one of each of several scenes."""
        targets = [(fill_invalid(*self.target(frame, grid)), frame.scene) for frame in frames]
        return replace(
            self,
            donors=Donors(torch.stack([t for t, _ in targets]), tuple(scene for _, scene in targets), seed),
        )


def supports(features: Sequence[Feature]) -> tuple[Support, ...]:
    """Group features by their support, in order of first appearance."""
    grouped: dict[str, list[Feature]] = {}
    for item in features:
        grouped.setdefault(item.support, []).append(item)
    return tuple(Support(name, tuple(items)) for name, items in grouped.items())


@dataclass
class Reading:
    """One encoder in a run: its design, fixed by the first batch, and its moments for each support."""

    encoder: Encoder
    design: Design | None = None
    moments: dict[str, Moments] = field(default_factory=dict)

    def place(self, images: Float[Tensor, "B 3 H W"], grid: Grid) -> Placed:
        """Encode a batch and lay the maps out."""
        maps = self.encoder.encode(images)
        if self.design is None:
            self.design = Design(self.encoder.name, grid, maps)
        return self.design.place(maps)

    @property
    def layers(self) -> dict[str, slice]:
        """Columns of each probed layer, the concatenation last where there is more than one layer."""
        assert self.design is not None
        slices = {layer: self.design.slices[layer] for layer in self.encoder.layers}
        if len(slices) > 1:
            slices[ALL] = slice(0, self.design.channels)
        return slices


def images_of(samples: Sequence[Sample], device: str | torch.device) -> Float[Tensor, "B 3 H W"]:
    """Stack the images of frames of one size, float32 in [0, 1]."""
    stacked = torch.stack([sample.image for sample in samples]).to(device, non_blocking=True)
    return stacked.float().div_(255) if stacked.dtype == torch.uint8 else stacked


def _check_finite(reading: Reading, placed: Placed, samples: Sequence[Sample]) -> None:
    """Name the first frame for which the encoder gave NaN or infinity."""
    for z in placed:
        if not torch.isfinite(z.sum()):
            for index, sample in enumerate(samples):
                if not torch.isfinite(z[index]).all():
                    raise FathomError(
                        f"Encoder {reading.encoder.name} gave NaN or infinity for frame {sample.id}; "
                        "check its weights and the normalisation of its input."
                    )


def _runs(groups: Sequence[int]) -> list[tuple[int, slice]]:
    """Consecutive equal groups of a batch."""
    runs, start = [], 0
    for index in range(1, len(groups) + 1):
        if index == len(groups) or groups[index] != groups[start]:
            runs.append((groups[start], slice(start, index)))
            start = index
    return runs


def train_pass(
    batches: Iterable[Sequence[Sample]],
    readings: Sequence[Reading],
    kinds: Sequence[Support],
    grid: Grid,
    blocks: Blocks,
    device: str | torch.device,
) -> dict[str, MeanMap]:
    """Add every frame to the moments of its block, for every encoder and support; returns each support's mean map."""
    mean_maps: dict[str, MeanMap] = {}
    for samples in batches:
        images = images_of(samples, device)
        targets = {kind.name: tuple(part.to(device) for part in kind.targets(samples, grid)) for kind in kinds}
        groups = _runs([blocks.of_scene[sample.scene] for sample in samples])
        for kind in kinds:
            Y, valid = targets[kind.name]
            average = mean_maps.setdefault(kind.name, MeanMap.zeros(blocks.count, Y.shape[1], grid))
            for group, part in groups:
                average.add(group, Y[part], valid[part])
        for reading in readings:
            placed = reading.place(images, grid)
            _check_finite(reading, placed, samples)
            design = reading.design
            assert design is not None
            for kind in kinds:
                Y, valid = targets[kind.name]
                moments = reading.moments.get(kind.name)
                if moments is None:
                    cells = valid.expand_as(Y)
                    shift_y = (Y * cells).sum(dim=(0, 2, 3)) / cells.sum(dim=(0, 2, 3)).clamp(min=1)
                    moments = Moments.zeros(blocks.count, design.means(placed), shift_y)
                    reading.moments[kind.name] = moments
                centred = design.centre(placed, moments.shift_x)
                for group, part in groups:
                    design.accumulate(moments, group, [z[part] for z in centred], valid[part], Y[part])
    return mean_maps


@dataclass
class SceneErrors:
    """Sums over the test frames, by scene.

    Attributes:
        squared: Σ(y − prediction)², ``(S, layers, q)``.
        cells: valid cells, ``(S,)``.
        target: Σ(y − training mean)², ``(S, q)``: what predicting the mean would cost.
    """

    squared: Float[Tensor, "S L q"]
    cells: Float[Tensor, "S"]
    target: Float[Tensor, "S q"]


def empty_errors(scenes: int, layers: int, q: int) -> SceneErrors:
    """Zero sums for `scenes` scenes."""
    zeros = torch.zeros
    return SceneErrors(
        squared=zeros(scenes, layers, q, dtype=torch.float64),
        cells=zeros(scenes, dtype=torch.float64),
        target=zeros(scenes, q, dtype=torch.float64),
    )


def add_errors(
    errors: SceneErrors,
    predictions: Float[Tensor, "B r h w"],
    Y: Float[Tensor, "B q h w"],
    valid: Bool[Tensor, "B 1 h w"],
    mean: Float[Tensor, "q"],
    scenes: Sequence[int],
) -> None:
    """Add a batch of predictions (layers * q channels) to the sums of their scenes."""
    batch, q = Y.shape[:2]
    shaped = predictions.reshape(batch, -1, q, *Y.shape[2:])
    squared = ((shaped - Y[:, None]).square() * valid[:, None]).sum(dim=(3, 4), dtype=torch.float64).cpu()
    around = ((Y - mean.to(Y)[:, None, None]).square() * valid).sum(dim=(2, 3), dtype=torch.float64).cpu()
    cells = valid.sum(dim=(1, 2, 3), dtype=torch.float64).cpu()
    index = torch.as_tensor(list(scenes))
    errors.squared.index_add_(0, index, squared)
    errors.target.index_add_(0, index, around)
    errors.cells.index_add_(0, index, cells)


def most_blocks(channels: int, scenes: int, kinds: int, encoders: int) -> int:
    """Blocks that fit memory for a run: the budget is shared by all encoders and supports."""
    return min(scenes, block_limit(channels, (2 << 30) // max(kinds * encoders, 1)))
