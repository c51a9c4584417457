"""The loop: batches in, optimiser steps, and between them validation, checkpoints and the reasons to stop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor

from fathom.errors import FathomError
from fathom.models.network import Network
from fathom.models.saved import latest, prune, write_checkpoint
from fathom.progress import track
from fathom.sample import Batch
from fathom.training.losses import Objective, objective
from fathom.training.recipe import Recipe
from fathom.training.run.journal import Journal
from fathom.training.run.state import State
from fathom.training.scoring.scoring import Scores
from fathom.training.scoring.targets import target_of
from fathom.training.signals import Request, StoppedError

Validate = Callable[[], Mapping[str, Scores]]
"""Scores of the network as it stands on each held-out part, by the part's name."""

AGREE_EVERY = 10
"""Steps between questions to the other processes whether one of them was asked to stop."""


class DivergedError(FathomError):
    """The loss or its gradient became NaN or infinite."""


def batch_gradient(
    fabric: Fabric,
    model: torch.nn.Module,
    network: Network,
    loss: Objective,
    parts: list[Batch],
    batch: int,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of the loss of a whole batch, of which `parts` are this process's share; returns the
    loss.

    Every loss is a mean over images (the recipe's `berhu` alone looks at a part as a whole), so a part counts
    by its share of the batch's images, and the result is that of the undivided batch. Processes average their
    gradients, hence the factor of their number.
    """
    total, terms = torch.zeros((), device=fabric.device), dict[str, Tensor]()
    for i, part in enumerate(parts):
        image = part.image.to(fabric.device, non_blocking=True, memory_format=memory_format)
        depth, valid = (x.to(fabric.device, non_blocking=True) for x in (part.depth, part.valid))
        share = len(part.ids) / batch
        with fabric.no_backward_sync(model, enabled=i + 1 < len(parts)):
            prediction = model(image, part.camera) if network.takes_camera else model(image)
            value, by_term = loss(prediction, *target_of(network, image, depth, valid))
            fabric.backward(value * (share * fabric.world_size))
        total += value.detach() * share
        for name, term in by_term.items():
            terms[name] = terms.get(name, 0) + term * share
    return total, terms


def lies_channels_last(recipe: Recipe, network: Network) -> bool:
    """Whether images and weights lie channels last: as the recipe says, unless parameters are frozen before a group normalisation.

    PyTorch's group normalisation crashes the process in its backward pass for a channels-last input that needs no gradient
    (seen with 2.13 on CPUs), which is what stands behind a frozen first layer.
    """
    grouped = any(isinstance(module, torch.nn.GroupNorm) for module in network.modules())
    return recipe.memory.channels_last and not (recipe.optim.freeze and grouped)


@dataclass
class Loop:
    """One training, from its state at hand to the last step.

    Attributes:
        model: the network as Fabric wrapped it; `state.model` is the network itself.
        config: what `config.json` says beside the step.
        validate: scores the held-out parts.
        decides: the metric of the unseen part that the best checkpoint has least of.
    """

    fabric: Fabric
    model: torch.nn.Module
    optimiser: Any
    state: State
    recipe: Recipe
    run: Path
    journal: Journal | None
    config: Mapping[str, Any]
    validate: Validate
    decides: str
    request: Request
    _pending: list[tuple[int, tuple[str, ...], Tensor, Tensor]] = field(default_factory=list)
    _clock: float = field(default_factory=time.monotonic)
    _told: dict[str, str] = field(default_factory=dict)

    def fit(self, batches: Iterable[list[Batch]]) -> bool:
        """Train on `batches`, one list of parts a step, to the last step; False where it stopped early.

        Raises:
            DivergedError: the loss or its gradient is NaN or infinite; the last checkpoint is from before.
            StoppedError: SIGTERM or Ctrl-C; the state is saved.
        """
        network: Any = self.state.model
        loss = objective(self.recipe.loss)
        train, left = self.recipe.train, self.recipe.train.steps - self.state.step
        layout = torch.channels_last if lies_channels_last(self.recipe, network) else torch.contiguous_format
        self._clock = time.monotonic()
        for parts in track(batches, f"Training {self.recipe.name}", left, tell=lambda: ", ".join(self._told.values())):
            self._set_rate()
            self.state.reseed(self.fabric.global_rank)
            self.optimiser.zero_grad(set_to_none=True)
            total, terms = batch_gradient(self.fabric, self.model, network, loss, parts, train.batch, layout)
            norm = self._clip()
            self.optimiser.step()
            if self.state.average is not None:
                self.state.average.update_parameters(network)
            self.state.step += 1
            self._note(parts, total, terms, norm)
            if self._between_steps():
                return False
        return True

    def _between_steps(self) -> bool:
        """What is due after a step; whether training should stop early."""
        step, train, validation = self.state.step, self.recipe.train, self.recipe.validation
        last = step == train.steps
        if step % train.log_every == 0 or last:
            self._log()
        improved = False
        if (validation.every and step % validation.every == 0) or last:
            improved = self._validate()
        early = bool(validation.patience) and self.state.stopping.since >= validation.patience
        signal = self._agreed_request()
        if step % train.save_every == 0 or last or early or (improved and validation.patience) or signal:
            self.save()
        if signal:
            raise StoppedError(signal, step, str(self.run))
        return early

    def _set_rate(self) -> None:
        rate = self.recipe.optim.lr * self.state.schedule.factor(self.state.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]

    def _clip(self) -> Tensor:
        norm: Tensor = self.fabric.clip_gradients(
            self.model, self.optimiser, max_norm=self.recipe.optim.clip or math.inf, error_if_nonfinite=False
        )
        return norm

    def _note(self, parts: list[Batch], total: Tensor, terms: Mapping[str, Tensor], norm: Tensor) -> None:
        """Remember a step's numbers on the device; reading them would make the processor wait for it."""
        ids = tuple(name for part in parts for name in part.ids)
        self._pending.append((self.state.step, ids, total, norm.detach()))
        for name, value in {"loss": total, **{f"loss/{name}": term for name, term in terms.items()}}.items():
            sums = self.state.sums
            sums[name] = sums.get(name, torch.zeros_like(value)).to(value) + value
        self.state.summed += 1
        if self.fabric.device.type == "cpu":
            self._check_finite()

    def _check_finite(self) -> None:
        """Raise at the first remembered step whose loss is not finite, or whose gradient is not.

        fp16 skips a step with an infinite gradient and lowers its scale; there the loss alone decides.
        """
        if not self._pending:
            return
        values = torch.stack([torch.stack([loss, norm.to(loss)]) for _, _, loss, norm in self._pending])
        if self.recipe.precision.compute == "fp16":
            values = values[:, :1]
        fine = values.isfinite().all(1)
        pending, self._pending = self._pending, []
        if bool(fine.all()):
            return
        step, ids, loss, norm = pending[int((~fine).nonzero()[0])]
        good, _ = latest(self.run)
        raise DivergedError(
            f"{self.run}: training diverged at step {step}: loss {float(loss):g}, gradient norm "
            f"{float(norm):g}, on the frames {', '.join(ids)}; last good checkpoint: {good or 'none yet'}; "
            f"try a lower rate (--set optim.lr={self.recipe.optim.lr / 10:g})."
        )

    def _log(self) -> None:
        self._check_finite()
        names = list(self.state.sums)
        sums = torch.stack([self.state.sums[name].float() for name in names])
        if self.fabric.world_size > 1:  # each process has summed its shares of the batches
            sums = self.fabric.all_reduce(sums, reduce_op="sum")
        now = time.monotonic()
        values = dict(zip(names, (sums / self.state.summed).tolist(), strict=True))
        seconds, self._clock = now - self._clock, now
        values["lr"] = max(float(group["lr"]) for group in self.optimiser.param_groups)
        values["images_per_second"] = self.state.summed * self.recipe.train.batch / max(seconds, 1e-9)
        self.state.sums, self.state.summed = {}, 0
        self._told["loss"] = f"loss {values['loss']:.3g}"
        if self.journal is not None:
            self.journal.write(self.state.step, values)

    def _validate(self) -> bool:
        """Score the held-out parts; whether the unseen one is the best so far."""
        self._check_finite()
        scores = self.validate()
        self.model.train()
        if self.journal is not None:
            self.journal.write(self.state.step, {"validation": dict(scores)})
        value = scores["unseen"].get(self.decides, math.inf)
        self._told["unseen"] = f"unseen {self.decides.upper()} {value:.3g}"
        self.state.schedule.observe(value)
        self._clock = time.monotonic()
        return self.state.stopping.observe(value, self.state.step)

    def _agreed_request(self) -> int:
        """The signal that asked for a stop; all processes agree, since they leave at the same step."""
        if self.fabric.world_size == 1:
            return self.request.number
        if self.state.step % AGREE_EVERY:
            return 0
        asked = torch.tensor(self.request.number, device=self.fabric.device)
        return int(self.fabric.all_reduce(asked, reduce_op="max"))

    def save(self) -> None:
        """Write a checkpoint of this moment and remove those that are no longer kept."""
        self._check_finite()
        if not self.fabric.is_global_zero:
            return
        self.state.scaler = self.fabric.strategy.precision.state_dict()
        folder = self.run / "checkpoints" / str(self.state.step)
        write_checkpoint(folder, self.state.content(self.config), self.state.step)
        best = self.state.stopping.best_step if self.recipe.validation.every else None
        prune(self.run, self.recipe.train.keep, best)
