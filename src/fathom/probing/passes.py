"""The two passes over the data: training frames into moments, test frames into errors.

Each image is encoded once. The training pass gives moments, from them every probe in closed form; the test pass then
meets the finished probes, so that losses by scene and full-resolution metrics come out of the same forward pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.encoders.base import Encoder
from fathom.errors import FathomError
from fathom.features import Feature
from fathom.probing.design import Design, Placed
from fathom.probing.moments import Moments
from fathom.probing.plan import Blocks, block_limit
from fathom.probing.ridge import Chosen
from fathom.sample import Grid, Sample

ALL = "all"
"""Name of the concatenation of an encoder's layers."""


@dataclass(frozen=True)
class Support:
    """Features that are valid in the same cells, their outputs side by side."""

    name: str
    features: tuple[Feature, ...]

    @property
    def outputs(self) -> dict[str, slice]:
        """The output columns of each feature."""
        slices, start = {}, 0
        for item in self.features:
            slices[item.name] = slice(start, start + item.channels)
            start += item.channels
        return slices

    def targets(self, samples: Sequence[Sample], grid: Grid) -> tuple[Float[Tensor, "B q h w"], Bool[Tensor, "B 1 h w"]]:
        """Targets of a batch of frames on the grid."""
        values, valid = [], []
        for sample in samples:
            parts = [item.of(sample, grid) for item in self.features]
            values.append(torch.cat([part[0] for part in parts]))
            valid.append(torch.stack([part[1] for part in parts]).all(0))
        return torch.stack(values), torch.stack(valid)


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
) -> None:
    """Add every frame to the moments of its block, for every encoder and support."""
    for samples in batches:
        images = images_of(samples, device)
        targets = {kind.name: tuple(part.to(device) for part in kind.targets(samples, grid)) for kind in kinds}
        groups = _runs([blocks.of_scene[sample.scene] for sample in samples])
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


@dataclass(frozen=True)
class FittedLayer:
    """The probes of one layer for all features of one support."""

    layer: str
    columns: slice
    chosen: Chosen


@dataclass
class Fitted:
    """All probes of one encoder and one support, side by side, ready to predict."""

    reading: Reading
    kind: Support
    layers: list[FittedLayer]

    def best_layer(self, feature: str) -> str:
        """The layer with the least cross-validated loss for `feature`."""
        outputs = self.kind.outputs[feature]
        return min(self.layers, key=lambda item: float(item.chosen.cv_mse[outputs].sum())).layer

    def outputs_of(self, feature: str, layer: str) -> slice:
        """Where the predictions of `feature` from `layer` stand among the columns of `weights`."""
        position = [item.layer for item in self.layers].index(layer)
        q = sum(item.channels for item in self.kind.features)
        part = self.kind.outputs[feature]
        return slice(position * q + part.start, position * q + part.stop)

    def weights(self) -> tuple[Float[Tensor, "p r"], Float[Tensor, "r"]]:
        """One matrix for all layers and outputs, zero outside each layer's columns: (p, layers * q) and its bias."""
        assert self.reading.design is not None
        p = self.reading.design.channels
        blocks = []
        for item in self.layers:
            block = torch.zeros(p, item.chosen.probe.weight.shape[1], dtype=torch.float64)
            block[item.columns] = item.chosen.probe.weight
            blocks.append(block)
        return torch.cat(blocks, 1), torch.cat([item.chosen.probe.bias for item in self.layers])


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


def empty_errors(fitted: Fitted, scenes: int) -> SceneErrors:
    """Zero sums for `scenes` scenes."""
    q = fitted.layers[0].chosen.probe.weight.shape[1]
    zeros = torch.zeros
    return SceneErrors(
        squared=zeros(scenes, len(fitted.layers), q, dtype=torch.float64),
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
