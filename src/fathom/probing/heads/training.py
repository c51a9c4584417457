"""Training heads (`fathom.probing.heads.heads`) on cached features; they become candidates of a probe run.

Of the training part whole scenes are held out; a head is trained on the others, and the weights with the least mean squared
error on the held-out scenes are kept. No test frame is looked at. One network is trained for each feature, and one for its
control task, since a head that can learn anything can also learn the targets of other rooms (Hewitt & Liang 2019).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from fathom.data.dataset import Dataset
from fathom.encoders.spec import short_name
from fathom.errors import UsageError, nearest
from fathom.probing.candidates import Candidate
from fathom.probing.heads.data import Material, Targets
from fathom.probing.heads.feature_cache import CachedFeatures, cache_features
from fathom.probing.heads.fitted import Epoch, FittedHead, Inputs, Trained, head_candidate, predict_maps
from fathom.probing.heads.heads import Architecture, Head, build_head, check_head
from fathom.probing.heads.holdout import hold_out
from fathom.probing.participants import Participant
from fathom.probing.reading import Batch
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.progress import track
from fathom.seeding import number

RATE_DROP = 5.0
"""What the learning rate is divided by when the validation loss no longer falls."""

RowLoss = Callable[[Float[Tensor, "n q"], Float[Tensor, "n q"], float], Float[Tensor, ""]]


def mse_loss(prediction: Float[Tensor, "n q"], target: Float[Tensor, "n q"], variance: float) -> Float[Tensor, ""]:
    """Squared error summed over outputs, mean over cells, as a share of the target's variance: what the table measures."""
    return (prediction - target).square().sum(1).mean() / variance


def silog_loss(prediction: Float[Tensor, "n q"], target: Float[Tensor, "n q"], variance: float) -> Float[Tensor, ""]:
    """``sqrt(var e + 0.15 mean² e)``, e = ln p − ln t over the cells of the batch (DINOv2's form of Eigen et al. 2014).

    Predictions below a thousandth count as that and have no gradient.
    """
    error = prediction.clamp(min=1e-3).log() - target.log()
    return (error.var() + 0.15 * error.mean().square()).clamp(min=1e-8).sqrt()


LOSSES: dict[str, RowLoss] = {"mse": mse_loss, "silog": silog_loss}


@dataclass(frozen=True)
class HeadSettings:
    """What head is trained, and how.

    Attributes:
        kind: ``mlp`` or ``bins``.
        loss: ``mse``, as the linear probe and the table have it, or ``silog``. Weights are kept by validation MSE with either.
        sizes: hidden units, bins.
        validation: share of the training frames that is held out, as whole scenes.
        epochs: at most.
        patience: epochs without a gain of 0.1 % after which the best weights are taken up again at a fifth of the learning rate.
        drops: how often that is done before training ends.
        rate, decay: learning rate and weight decay of AdamW.
        frames, cells: of a step: so many frames, the same randomly chosen cells of each. Cells of one frame resemble each
            other, so few of many frames teach more than many of few.
    """

    kind: str = "mlp"
    loss: str = "mse"
    sizes: Architecture = field(default_factory=Architecture)
    validation: float = 0.2
    epochs: int = 60
    patience: int = 3
    drops: int = 2
    rate: float = 1e-3
    decay: float = 1e-2
    frames: int = 16
    cells: int = 128

    def __post_init__(self) -> None:
        check_head(self.kind)
        if self.loss not in LOSSES:
            raise UsageError(f"There is no loss '{self.loss}' for heads{nearest(self.loss, LOSSES)}.")
        if not 0 < self.validation < 1:
            raise UsageError(f"A validation share of {self.validation} is not between 0 and 1.")
        for name in ("epochs", "patience", "frames", "cells"):
            if getattr(self, name) < 1:
                raise UsageError(f"'{name}' of a head must be at least 1, not {getattr(self, name)}.")


def train_heads(
    participants: Sequence[Participant], groups: Sequence[TargetGroup], train: Dataset, settings: ProbeSettings
) -> list[Candidate]:
    """The candidates of the heads that `settings.heads` asks for, of every participant and target group."""
    heads = [HeadSettings(kind=kind) for kind in settings.heads]
    return [fitted.candidate for fitted in fit_heads(participants, groups, train, heads, settings)]


def fit_heads(
    participants: Sequence[Participant],
    groups: Sequence[TargetGroup],
    train: Dataset,
    heads: Sequence[HeadSettings],
    settings: ProbeSettings,
) -> list[FittedHead]:
    """Train heads on the training part of a run: one pass to store features, then training on those.

    Args:
        participants: whose features the heads read.
        groups: of the run, with their control tasks if it has some.
        train: training frames, at least two scenes; some are held out to stop by.
        heads: what to train.
        settings: of the run. The seed draws the held-out scenes, the first weights, and the order of frames and cells: on a CPU
            with the same number of threads equal seeds give equal weights. Without a cache features stand in a temporary folder.

    Returns:
        The heads, group by group and encoder by encoder.

    Raises:
        FathomError: features are not finite, or fewer than two scenes have a valid cell.
        UsageError: fewer than two scenes; a loss that does not suit the feature.
    """
    chosen = [participant for participant in participants if participant.encoder.layers]
    if not chosen or not heads:
        return []
    with tempfile.TemporaryDirectory(prefix="fathom-features-", ignore_cleanup_errors=True) as temporary:
        work = Path(temporary)
        ids: list[str] = []
        with ExitStack() as files:
            targets = {group.name: Targets(work, group, len(train), settings.cells, files) for group in groups}

            def visit(batch: Batch) -> None:
                ids.extend(sample.id for sample in batch.samples)
                for group in groups:
                    values, valid = batch.target(group)
                    targets[group.name].add(values.cpu(), valid.cpu())

            folder = Path(settings.cache) if settings.cache is not None else work
            features = cache_features(chosen, train, folder, settings, visit)
        fitted = []
        for head in heads:
            for group in groups:
                stored = targets[group.name]
                label = f"{head.kind} head for {group.name}"
                held_out, fit, kept_out = hold_out(train, ids, stored, head.validation, settings.seed, label)
                for participant, cached in zip(chosen, features, strict=True):
                    if not participant.columns.channels:
                        continue
                    start = time.monotonic()
                    material = Material(participant.columns, cached, stored)
                    # The seed is of the task alone, so that what else is trained changes nothing.
                    task = f"{settings.seed}:{head.kind}:{group.name}"
                    run = _Training(material, group, head, fit, kept_out, task, settings.device)
                    networks = run.train(f"training the {label} on {short_name(participant.encoder.name)}")
                    inputs = in_units(run.inputs, cached).to(settings.device)
                    candidate = head_candidate(participant, group, head.kind, networks, inputs)
                    fitted.append(FittedHead(candidate, tuple(networks), held_out, time.monotonic() - start))
        return fitted


def in_units(inputs: Inputs, cached: CachedFeatures) -> Inputs:
    """Inputs made of stored columns, as inputs made of the encoder's own."""
    return Inputs(cached.shift + cached.scale * inputs.mean, inputs.gain / cached.scale)


@dataclass
class _Trainee:
    """A network in training."""

    network: Head
    outputs: slice
    variance: float
    rate: float
    optimiser: torch.optim.Optimizer
    best_state: dict[str, Tensor]
    best_mse: float = float("inf")
    best: int = -1
    waited: int = 0
    dropped: int = 0
    done: bool = False
    loss: float = 0.0
    history: list[Epoch] = field(default_factory=list)


class _Training:
    """Training of all networks of one encoder and one target group, over the same batches."""

    def __init__(
        self,
        material: Material,
        group: TargetGroup,
        settings: HeadSettings,
        fit: Int[Tensor, "n"],
        held_out: Int[Tensor, "m"],
        seed: str,
        device: str,
    ) -> None:
        self.material, self.group, self.settings, self.device = material, group, settings, device
        self.fit, self.held_out = fit, held_out
        self._seed = seed
        self._order = torch.Generator().manual_seed(number(seed, bits=56))
        self.spread = material.spread(fit)
        self.inputs = material.standardise(fit, settings.frames, settings.cells, self._order)

    def train(self, description: str) -> list[Trained]:
        """Train until every network has stopped; best weights."""
        trainees = [self._trainee(name, outputs) for name, outputs in self._tasks()]
        for epoch in track(range(self.settings.epochs), description):
            active = [trainee for trainee in trainees if not trainee.done]
            if not active:
                break
            self._epoch(active)
            for trainee, mse in zip(active, self._mse(active, self.held_out), strict=True):
                self._judge(trainee, epoch, float(mse.sum()))
        for trainee in trainees:
            trainee.network.load_state_dict(trainee.best_state)
        losses = zip(self._mse(trainees, self.held_out), self._mse(trainees, self.fit), strict=True)
        return [
            Trained(trainee.network.eval(), held_out, fit, tuple(trainee.history), trainee.best)
            for trainee, (held_out, fit) in zip(trainees, losses, strict=True)
        ]

    def _tasks(self) -> list[tuple[str, slice]]:
        """Name and outputs of each network, in the order of the group's columns."""
        tasks = [(one.name, self.group.outputs[one.name]) for one in self.group.features]
        if self.group.control_targets is not None:
            tasks += [(f"control of {one.name}", self.group.control(one.name)) for one in self.group.features]
        return tasks

    def _trainee(self, name: str, outputs: slice) -> _Trainee:
        spread = self.spread.take(outputs)
        if self.settings.loss == "silog" and float(spread.low.min()) <= 0:
            raise UsageError(
                f"The loss silog takes logarithms, and {name} has values down to {float(spread.low.min()):.3g}; use mse."
            )
        seed = number(self._seed, name, bits=56)
        network = build_head(self.settings.kind, self.material.design.channels, spread, self.settings.sizes, seed)
        network = network.to(self.device)
        variance = max(float(spread.deviation.square().sum()), 1e-12)
        optimiser = self._optimiser(network, self.settings.rate)
        state = _copy(network)
        return _Trainee(network, outputs, variance, self.settings.rate, optimiser, state)

    def _optimiser(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=self.settings.decay)

    def _epoch(self, trainees: Sequence[_Trainee]) -> None:
        """Every fitted frame once, in a fresh order, with other cells in each step."""
        loss_of = LOSSES[self.settings.loss]
        sums, steps = [0.0] * len(trainees), 0
        for trainee in trainees:
            trainee.network.train()
        shuffled = self.fit[torch.randperm(len(self.fit), generator=self._order)]
        for frames in torch.split(shuffled, self.settings.frames):
            stored, Y = self.material.draw(frames, self.settings.cells, self._order)
            if len(Y) < 2:  # no batch statistics
                continue
            X = ((stored - self.inputs.mean) * self.inputs.gain).to(self.device)
            Y, steps = Y.to(self.device), steps + 1
            for index, trainee in enumerate(trainees):
                trainee.optimiser.zero_grad(set_to_none=True)
                loss = loss_of(trainee.network(X), Y[:, trainee.outputs], trainee.variance)
                loss.backward()  # type: ignore[no-untyped-call]
                trainee.optimiser.step()
                sums[index] += float(loss.detach())
        for trainee, total in zip(trainees, sums, strict=True):
            trainee.loss = total / max(steps, 1)

    def _judge(self, trainee: _Trainee, epoch: int, mse: float) -> None:
        """Keep the best weights; where they have not improved for a while, return to them with a smaller step, or stop."""
        trainee.history.append(Epoch(trainee.loss, mse, trainee.rate))
        gained = mse < trainee.best_mse * 0.999
        if mse < trainee.best_mse:
            trainee.best_mse, trainee.best, trainee.best_state = mse, epoch, _copy(trainee.network)
        trainee.waited = 0 if gained else trainee.waited + 1
        if trainee.waited >= self.settings.patience:
            trainee.network.load_state_dict(trainee.best_state)
            trainee.rate, trainee.waited, trainee.dropped = trainee.rate / RATE_DROP, 0, trainee.dropped + 1
            trainee.optimiser = self._optimiser(trainee.network, trainee.rate)
            trainee.done = trainee.dropped > self.settings.drops

    @torch.no_grad()
    def _mse(self, trainees: Sequence[_Trainee], part: Int[Tensor, "n"]) -> list[Float[Tensor, "q"]]:
        """Mean squared error of each network's outputs over all valid cells of `part`."""
        networks = [trainee.network.eval() for trainee in trainees]
        columns = [index for trainee in trainees for index in range(trainee.outputs.start, trainee.outputs.stop)]
        total, cells, inputs = torch.zeros(len(columns), dtype=torch.float64), 0, self.inputs.to(self.device)
        for stored, Y, valid in self.material.grids(part):
            placed = [z.to(self.device) for z in stored]
            predicted = predict_maps(self.material.design, placed, networks, inputs).cpu()
            error = torch.where(valid, predicted - Y[:, columns], 0.0)
            total += error.square().sum(dim=(0, 2, 3), dtype=torch.float64)
            cells += int(valid.sum())
        widths = [trainee.outputs.stop - trainee.outputs.start for trainee in trainees]
        return list(torch.split(total / max(cells, 1), widths))


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
