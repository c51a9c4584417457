"""Candidates: whatever predicts a feature on the grid and is measured in the test pass.

A candidate is a fitted probe of an encoder, the mean map, or a supervised network (the upper bound). All are measured by the same
code on the same cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.probing.linear.design import Placed
from fathom.probing.linear.ridge import Chosen
from fathom.probing.passes import Reading, Support
from fathom.probing.targets import MeanMap
from fathom.sample import Sample


@dataclass(frozen=True)
class ReadBatch:
    """What candidates predict from.

    Attributes:
        samples: frames at the input size. originals: the same frames at their own.
        placed: feature maps of every reading, by `id`.
        targets: of every support: values and validity on the grid.
    """

    samples: Sequence[Sample]
    originals: Sequence[Sample]
    placed: Mapping[int, Placed]
    targets: Mapping[str, tuple[Float[Tensor, "B _ h w"], Bool[Tensor, "B 1 h w"]]]


@dataclass(frozen=True)
class Layer:
    """One prediction of a candidate.

    Attributes:
        name: the layer, or what stands for one.
        channels: columns it was fitted on.
        penalty: λ of each output. cv_mse, train_mse: of each output, NaN where it was not fitted here.
        bands: λ of each output for each of the layers it joins, where they have their own.
    """

    name: str
    channels: int
    penalty: Float[Tensor, "q"]
    cv_mse: Float[Tensor, "q"]
    train_mse: Float[Tensor, "q"]
    bands: Mapping[str, Float[Tensor, "q"]] | None = None


@dataclass(frozen=True)
class Role:
    """What a candidate is in the comparison.

    Attributes:
        name: ``encoder``, ``baseline``, ``random``, ``permuted`` or ``upper_bound``.
        of: the SPEC of the encoder it is a control of, if of one.
        seed: of its weights, if they are random.
    """

    name: str
    of: str | None = None
    seed: int | None = None


@runtime_checkable
class Candidate(Protocol):
    """Attributes are as in the evidence rows; `predict` gives all layers' outputs side by side."""

    encoder: str
    role: Role
    kind: Support

    @property
    def layers(self) -> Sequence[Layer]: ...

    def predict(self, batch: ReadBatch) -> Float[Tensor, "B _ h w"]:
        """``(B, layers * outputs, h, w)``."""
        ...


def best_layer(candidate: Candidate, feature: str) -> int:
    """Index of the layer with the least cross-validated loss for `feature`."""
    outputs = candidate.kind.outputs[feature]
    losses = [float(layer.cv_mse[outputs].sum()) for layer in candidate.layers]
    return min(range(len(losses)), key=losses.__getitem__)


def output_columns(candidate: Candidate, feature: str, layer: int) -> slice:
    """Where a layer's prediction of `feature` stands in what `predict` gives."""
    q = len(candidate.layers[0].penalty)
    part = candidate.kind.outputs[feature]
    return slice(layer * q + part.start, layer * q + part.stop)


class FittedProbe:
    """All probes of one encoder and one support."""

    def __init__(
        self,
        reading: Reading,
        kind: Support,
        role: Role,
        chosen: Mapping[str, Chosen],
        device: str,
        columns: Mapping[str, slice] | None = None,
        bands: Mapping[str, Mapping[str, Float[Tensor, "q"]]] | None = None,
    ) -> None:
        """`chosen` by name; `columns` says what each was fitted on, by default the layer of that name; `bands` the penalties
        of those that have several."""
        self.encoder, self.role, self.kind = reading.encoder.name, role, kind
        self.reading, self.chosen = reading, dict(chosen)
        self.columns = columns = dict(reading.layers if columns is None else columns)
        self.layers = tuple(
            Layer(
                name,
                columns[name].stop - columns[name].start,
                fit.probe.penalty,
                fit.cv_mse,
                fit.train_mse,
                (bands or {}).get(name),
            )
            for name, fit in chosen.items()
        )
        assert reading.design is not None
        self._design = reading.design
        blocks = []
        for name, fit in chosen.items():
            block = torch.zeros(self._design.channels, fit.probe.weight.shape[1], dtype=torch.float64)
            block[columns[name]] = fit.probe.weight
            blocks.append(block)
        # One matrix for all layers, zero outside each layer's columns: one product a batch.
        weight = torch.cat(blocks, 1)
        # About the moments' shift: float32 products of small differences keep the digits that large offsets would cost.
        self._shift = reading.moments[kind.name].shift_x
        bias = torch.cat([fit.probe.bias for fit in chosen.values()]) + self._shift @ weight
        self._weight, self._bias = weight.float().to(device), bias.float().to(device)

    def predict(self, batch: ReadBatch) -> Float[Tensor, "B _ h w"]:
        """X w + b of every layer."""
        centred = self._design.centre(batch.placed[id(self.reading)], self._shift)
        return self._design.predict(centred, self._weight, self._bias)


class MeanMapGuess:
    """The mean of the training targets in each cell: a baseline that looks at no pixel."""

    encoder = "mean-map"
    role = Role("baseline")

    def __init__(self, average: MeanMap, kind: Support, folds: Sequence[Sequence[int]], device: str) -> None:
        self.kind = kind
        self._map = average.map().float().to(device)
        cv_mse, train_mse = average.losses(folds)
        cells = self._map.shape[-2] * self._map.shape[-1]
        self.mean_target = average.mean()
        self.layers = (Layer("mean", cells, torch.zeros_like(cv_mse), cv_mse, train_mse),)

    def predict(self, batch: ReadBatch) -> Float[Tensor, "B _ h w"]:
        """The same map for every frame."""
        return self._map.expand(len(batch.samples), -1, -1, -1)
