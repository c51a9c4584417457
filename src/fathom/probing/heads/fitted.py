"""A trained head as a candidate of a probe run: what it predicts, how large it is, and how it was stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.probing.candidates import Candidate, Layer
from fathom.probing.heads.heads import Head, parameter_count
from fathom.probing.linear.design import Design, Placed
from fathom.probing.participants import ALL, Participant, Role
from fathom.probing.reading import Batch
from fathom.probing.targets import TargetGroup

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


@dataclass(frozen=True)
class FittedHead:
    """The heads of one encoder and one target group, and the candidate that measures them.

    Attributes:
        candidate: of role ``head``, with one layer, ``mlp:all`` or ``bins:all``: all layers side by side on the probe's grid.
        networks: one of each feature, then one of each feature's control task, where there is one.
        validation_mse: of each output on the held-out training scenes. It is no cross-validation, so the layer's `cv_mse` is NaN.
        validation_scenes: the scenes that were held out.
        seconds: that training took, reading the frames not included.
    """

    candidate: Candidate
    networks: tuple[Trained, ...]
    validation_scenes: tuple[str, ...]
    seconds: float

    @property
    def validation_mse(self) -> Float[Tensor, "q"]:
        return torch.cat([trained.validation_mse for trained in self.networks])

    @property
    def parameters(self) -> int:
        """Numbers that training changed in the largest network; they differ only where features differ in channels."""
        return max(self.candidate.layers[0].parameters.values())


def head_candidate(
    participant: Participant, group: TargetGroup, name: str, trained: Sequence[Trained], inputs: Inputs
) -> Candidate:
    """The candidate of trained heads: the features' outputs, then the control's."""
    design, networks = participant.columns, [item.network for item in trained]
    own = zip(group.features, networks[: len(group.features)], strict=True)
    train_mse = torch.cat([item.train_mse for item in trained])
    layer = Layer(
        f"{name}:{ALL}",
        design.channels,
        penalty=torch.zeros_like(train_mse),
        cv_mse=torch.full_like(train_mse, torch.nan),
        train_mse=train_mse,
        parameters={one.name: parameter_count(network) for one, network in own},
    )

    @torch.no_grad()
    def predict(batch: Batch) -> Float[Tensor, "B q h w"]:
        placed = batch.features(participant)
        parts = [
            predict_maps(design, [z[start : start + CHUNK] for z in placed], networks, inputs)
            for start in range(0, len(batch.samples), CHUNK)
        ]
        return torch.cat(parts)

    role = Role("head", of=participant.encoder.name, seed=participant.role.seed)
    return Candidate(participant.encoder.name, role, group, (layer,), predict, participant)
