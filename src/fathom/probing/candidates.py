"""Candidates: whatever predicts a target group on the grid and is measured in the test pass.

A candidate is the linear probes of an encoder, the mean map, a trained head, or a supervised network (the upper bound). All are
measured by the same code on the same cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import FathomError
from fathom.features.mean_map import MeanMap
from fathom.probing.linear.moments import ContradictionError, power_of_two
from fathom.probing.linear.ridge import Probe
from fathom.probing.participants import Participant, Role
from fathom.probing.reading import Batch
from fathom.probing.targets import TargetGroup

Predict = Callable[[Batch], Float[Tensor, "B _ h w"]]
"""The outputs of all layers side by side, ``(B, layers * q, h, w)``."""


@contextmanager
def named(encoder: str, layer: str) -> Iterator[None]:
    """Moments that contradict themselves are an error that names the encoder and the layer."""
    try:
        yield
    except ContradictionError as error:
        raise FathomError(
            f"Encoder {encoder}, layer {layer}: {error}. The features cannot be probed; please report this with the encoder's name."
        ) from error


@dataclass(frozen=True)
class Layer:
    """One prediction of a candidate.

    Attributes:
        name: the layer, or what stands for one.
        channels: columns it was fitted on.
        penalty: λ of each output. cv_mse, train_mse: of each output, NaN where it was not fitted here.
        bands: λ of each output for each of the layers it joins, where they have their own.
        parameters: for each feature the numbers that training changed, for heads that are not linear.
        columns, probe: of a linear probe, the columns of the participant's design and the map from them.
        left_out: penalties that lie below the rounding of its moments. limited: whether one of them might have been chosen.
    """

    name: str
    channels: int
    penalty: Float[Tensor, "q"]
    cv_mse: Float[Tensor, "q"]
    train_mse: Float[Tensor, "q"]
    bands: Mapping[str, Float[Tensor, "q"]] | None = None
    parameters: Mapping[str, int] = field(default_factory=dict)
    columns: slice | None = None
    probe: Probe | None = None
    left_out: tuple[float, ...] = ()
    limited: bool = False


@dataclass
class SceneErrors:
    """Sums over the test frames, by scene.

    Attributes:
        squared: Σ(y − prediction)², ``(S, layers, q)``.
        cells: valid cells, ``(S,)``.
        target: Σ(y − training mean)², ``(S, q)``: what predicting the mean would cost.
        clipped: valid cells where the prediction stands at an end of its range, ``(L, q)``.
    """

    squared: Float[Tensor, "S L q"]
    cells: Float[Tensor, "S"]
    target: Float[Tensor, "S q"]
    clipped: Float[Tensor, "L q"]

    @staticmethod
    def zeros(scenes: int, layers: int, q: int) -> SceneErrors:
        """Of no frame."""
        parts = ((scenes, layers, q), (scenes,), (scenes, q), (layers, q))
        return SceneErrors(*(torch.zeros(*shape, dtype=torch.float64) for shape in parts))

    def add(
        self,
        predictions: Float[Tensor, "B r h w"],
        Y: Float[Tensor, "B q h w"],
        valid: Bool[Tensor, "B 1 h w"],
        mean: Float[Tensor, "q"],
        scenes: Sequence[int],
        bounds: tuple[Float[Tensor, "r 1 1"], Float[Tensor, "r 1 1"]] | None = None,
    ) -> None:
        """Add a batch of predictions (layers * q channels) to the sums of their scenes; `bounds` are what they are clipped to."""
        batch, q = Y.shape[:2]
        shaped = predictions.reshape(batch, -1, q, *Y.shape[2:])
        squared = ((shaped - Y[:, None]).square() * valid[:, None]).sum(dim=(3, 4), dtype=torch.float64).cpu()
        around = ((Y - mean.to(Y)[:, None, None]).square() * valid).sum(dim=(2, 3), dtype=torch.float64).cpu()
        if bounds is not None:
            at_end = ((predictions <= bounds[0]) | (predictions >= bounds[1])) & valid
            self.clipped += at_end.sum(dim=(0, 2, 3), dtype=torch.float64).cpu().reshape(-1, q)
        index = torch.as_tensor(list(scenes))
        self.squared.index_add_(0, index, squared)
        self.target.index_add_(0, index, around)
        self.cells.index_add_(0, index, valid.sum(dim=(1, 2, 3), dtype=torch.float64).cpu())


@dataclass(eq=False)
class Candidate:
    """What is measured in the test pass.

    Attributes:
        encoder: the SPEC, as in the evidence rows. role: of its participant, or its own.
        group: what it predicts.
        layers: its predictions.
        predict: a batch to the outputs of all layers.
        bounds: least and largest prediction of each of its outputs, where it is clipped.
        linear: `predict` of a linear probe before the clip.
        participant: whose features it reads; None where it reads none.
        errors: filled by the test pass.
    """

    encoder: str
    role: Role
    group: TargetGroup
    layers: tuple[Layer, ...]
    predict: Predict
    participant: Participant | None = None
    bounds: tuple[Float[Tensor, "r 1 1"], Float[Tensor, "r 1 1"]] | None = None
    linear: Predict | None = None
    errors: SceneErrors | None = None

    def best(self, feature: str) -> int:
        """Index of the layer with the least cross-validated loss for `feature`."""
        outputs = self.group.outputs[feature]
        losses = [float(layer.cv_mse[outputs].sum()) for layer in self.layers]
        return min(range(len(losses)), key=losses.__getitem__)

    def best_layer(self, feature: str) -> Layer:
        """The layer with the least cross-validated loss for `feature`."""
        return self.layers[self.best(feature)]

    def channels_of(self, feature: str, layer: int) -> slice:
        """Where a layer's prediction of `feature` stands in what `predict` gives."""
        q, part = len(self.layers[0].penalty), self.group.outputs[feature]
        return slice(layer * q + part.start, layer * q + part.stop)

    @property
    def sums(self) -> SceneErrors:
        """The errors that the test pass has measured."""
        assert self.errors is not None
        return self.errors


def linear_probes(participant: Participant, group: TargetGroup, layers: Sequence[Layer], device: str) -> Candidate:
    """The candidate of an encoder's linear probes: X w + b of every layer, clipped to the range of the training targets.

    All layers are one matrix, zero outside each layer's columns: one product a batch. It acts about the moments' shift, since
    float32 products of small differences keep the digits that large offsets would cost.
    """
    design, shift = participant.columns, participant.moments[group.name].shift_x
    blocks, biases, lows, highs = [], [], [], []
    for layer in layers:
        assert layer.probe is not None and layer.columns is not None
        block = torch.zeros(design.channels, layer.probe.weight.shape[1], dtype=torch.float64)
        block[layer.columns] = layer.probe.weight
        blocks.append(block)
        biases.append(layer.probe.bias)
        lows.append(layer.probe.low)
        highs.append(layer.probe.high)
    weight = torch.cat(blocks, 1)
    bias = torch.cat(biases) + shift @ weight
    # Powers of two bring features and weights of any scale into float32's range, and round nothing.
    scale = power_of_two(participant.moments[group.name].spread()).double()
    weight, bias = (weight / scale[:, None]).float().to(device), bias.float().to(device)
    low, high = (torch.cat(ends).float().to(device)[:, None, None] for ends in (lows, highs))

    def linear(batch: Batch) -> Float[Tensor, "B _ h w"]:
        return design.predict(design.centre(batch.features(participant), shift, scale), weight, bias)

    def predict(batch: Batch) -> Float[Tensor, "B _ h w"]:
        return torch.minimum(torch.maximum(linear(batch), low), high)

    return Candidate(
        participant.encoder.name,
        participant.role,
        group,
        tuple(layers),
        predict,
        participant,
        bounds=(low, high),
        linear=linear,
    )


def bounded(candidate: Candidate, low: Float[Tensor, "q"], high: Float[Tensor, "q"], device: str) -> Candidate:
    """A head that predicts inside the range of the training targets, as the linear probes do."""
    ends = (end.float().to(device).repeat(len(candidate.layers))[:, None, None] for end in (low, high))
    low, high = ends

    def predict(batch: Batch) -> Float[Tensor, "B _ h w"]:
        return torch.minimum(torch.maximum(candidate.predict(batch), low), high)

    return replace(candidate, predict=predict, bounds=(low, high))


def mean_map_candidate(average: MeanMap, group: TargetGroup, folds: Sequence[Sequence[int]], device: str) -> Candidate:
    """The mean of the training targets in each cell: a baseline that looks at no pixel."""
    guess = average.map().float().to(device)
    cv_mse, train_mse = average.losses(folds)
    cells = guess.shape[-2] * guess.shape[-1]
    layer = Layer("mean", cells, torch.zeros_like(cv_mse), cv_mse, train_mse)
    return Candidate(
        "mean-map", Role("baseline"), group, (layer,), lambda batch: guess.expand(len(batch.samples), -1, -1, -1)
    )
