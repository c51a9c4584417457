"""A trained head as a candidate of a probe run: what it predicts, how large it is, and how it was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.probing.candidates import Layer, ReadBatch, Role
from fathom.probing.heads.heads import Head, parameter_count
from fathom.probing.linear.design import Design, Placed
from fathom.probing.passes import ALL, Reading, Support

CHUNK = 4
"""Frames predicted at once: whole grids of hidden units are wide."""


@dataclass(frozen=True)
class Inputs:
    """What turns a column of the design into an input of the networks: (x − mean) · gain.

    Attributes:
        mean, gain: ``(p,)``; the gain of a constant column is 0.
    """

    mean: Float[Tensor, "p"]
    gain: Float[Tensor, "p"]

    def to(self, device: str) -> Inputs:
        return Inputs(self.mean.to(device), self.gain.to(device))


@dataclass(frozen=True)
class Epoch:
    """One epoch of one network: mean training loss, validation MSE (in the square of the feature's unit), learning rate."""

    loss: float
    validation_mse: float
    rate: float


@dataclass(frozen=True)
class Trained:
    """A network with its best weights.

    Attributes:
        network: in evaluation mode.
        validation_mse, train_mse: of each output, on the held-out and on the other training scenes.
        history: epoch by epoch. best: index of the epoch whose weights were kept.
    """

    network: Head
    validation_mse: Float[Tensor, "q"]
    train_mse: Float[Tensor, "q"]
    history: tuple[Epoch, ...]
    best: int


def predict_maps(design: Design, placed: Placed, networks: Sequence[Head], inputs: Inputs) -> Float[Tensor, "B q h w"]:
    """Outputs of several networks side by side; the wide products run on each layer's own grid."""
    centred = design.centre(placed, inputs.mean)
    outputs = []
    for network in networks:
        weight, bias = network.columns()
        hidden = design.predict(centred, inputs.gain[:, None] * weight, bias)
        outputs.append(network.finish(hidden.permute(0, 2, 3, 1)))
    return torch.cat(outputs, 3).permute(0, 3, 1, 2)


class FittedHead:
    """The heads of one encoder and one support (a `fathom.probing.candidates.Candidate`).

    Attributes:
        encoder: the SPEC. role: ``head``, of that encoder. kind: the support.
        layers: one, ``mlp:all`` or ``bins:all``: all layers side by side on the probe's grid.
        networks: one of each feature, then one of each feature's control task, where there is one.
        parameters_of: numbers that training changed in the network of each feature; its control's has as many.
        parameters: the largest of these. They differ only where features of one support have unequal numbers of channels.
        validation_mse: of each output on the held-out training scenes. It is no cross-validation, so `cv_mse` is NaN.
        validation_scenes: the scenes that were held out.
        seconds: that training took, reading the frames not included.
    """

    def __init__(
        self,
        reading: Reading,
        role: Role,
        kind: Support,
        name: str,
        networks: Sequence[Trained],
        inputs: Inputs,
        validation_scenes: Sequence[str],
        seconds: float,
    ) -> None:
        assert reading.design is not None
        self.encoder, self.kind, self.reading = reading.encoder.name, kind, reading
        self.role = Role("head", of=reading.encoder.name, seed=role.seed)
        self.networks, self.validation_scenes, self.seconds = tuple(networks), tuple(validation_scenes), seconds
        own = self.networks[: len(kind.features)]
        self.parameters_of: Mapping[str, int] = {
            one.name: parameter_count(trained.network) for one, trained in zip(kind.features, own, strict=True)
        }
        self.parameters = max(self.parameters_of.values())
        self.validation_mse = torch.cat([trained.validation_mse for trained in networks])
        train_mse = torch.cat([trained.train_mse for trained in networks])
        unknown = torch.full_like(train_mse, torch.nan)
        channels = reading.design.channels
        self.layers = (Layer(f"{name}:{ALL}", channels, torch.zeros_like(train_mse), unknown, train_mse),)
        self._design, self._inputs = reading.design, inputs

    @torch.no_grad()
    def predict(self, batch: ReadBatch) -> Float[Tensor, "B q h w"]:
        """The features' outputs, then the control's."""
        placed, networks = batch.placed[id(self.reading)], [trained.network for trained in self.networks]
        parts = [
            predict_maps(self._design, [z[start : start + CHUNK] for z in placed], networks, self._inputs)
            for start in range(0, len(batch.samples), CHUNK)
        ]
        return torch.cat(parts)
