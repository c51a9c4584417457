"""Everything of a training that changes from step to step, to a checkpoint and back.

No random state is among it: the order of the frames, their augmentation and dropout are all functions of the
seed and the step (`fathom.training.frames.feed`, `State.reseed`), so that the step stands for all of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from fathom.errors import CheckpointError
from fathom.files.inputs import convert
from fathom.models.saved import CONFIG, MODEL, Content, load_weights, read_json, read_tensors, verify
from fathom.training.optim.optimiser import OptimiserScalars, join_optimiser, lay_out_as_parameters, split_optimiser
from fathom.training.optim.schedule import Schedule

RAW, OPTIMISER, STATE = "raw.safetensors", "optimiser.safetensors", "state.json"


@dataclass
class Stopping:
    """The best validation so far, and how many there were since."""

    best: float = math.inf
    best_step: int = -1
    since: int = 0

    def observe(self, value: float, step: int) -> bool:
        """Take in a validation; whether it is the best so far."""
        better = value < self.best
        if better:
            self.best, self.best_step, self.since = value, step, 0
        else:
            self.since += 1
        return better

    def state(self) -> dict[str, Any]:
        """What resuming needs, as JSON values."""
        best = None if math.isinf(self.best) else self.best
        return {"best": best, "best_step": self.best_step, "since": self.since}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up a saved `state`."""
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.best_step, self.since = int(state["best_step"]), int(state["since"])


@dataclass
class State:
    """A training in the middle.

    Attributes:
        model: the network itself, without wrappers.
        step: optimiser steps done.
        average: of the weights, or None.
        scaler: fp16's gradient scaler state, empty without one.
        sums, summed: loss and its terms added up since the last line of the journal, and over how many steps.
    """

    model: nn.Module
    optimiser: Optimizer
    schedule: Schedule
    average: AveragedModel | None
    seed: int
    step: int = 0
    stopping: Stopping = field(default_factory=Stopping)
    scaler: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, Tensor] = field(default_factory=dict)
    summed: int = 0

    def weights(self) -> Mapping[str, Tensor]:
        """The weights that are the result: the average where there is one."""
        model: nn.Module = self.model if self.average is None else self.average.module
        return model.state_dict()

    def reseed(self, rank: int) -> None:
        """Set torch's generators for the next step, for networks that draw random numbers (dropout)."""
        torch.manual_seed(((self.seed + 1) * 0x9E3779B1 + self.step * 0x85EBCA77 + rank * 0xC2B2AE3D) & 0x7FFFFFFFFFFF)

    def content(self, config: Mapping[str, Any]) -> Content:
        """The files of a checkpoint of this moment."""
        tensors, scalars = split_optimiser(self.optimiser.state_dict())
        state = {
            "step": self.step,
            "seed": self.seed,
            "schedule": self.schedule.state(),
            "stopping": self.stopping.state(),
            "averaged": int(self.average.n_averaged) if self.average is not None else 0,
            "optimiser": scalars,
            "scaler": self.scaler,
            "sums": {name: float(value) for name, value in self.sums.items()},
            "summed": self.summed,
        }
        content = {
            MODEL: self.weights(),
            CONFIG: {**config, "step": self.step},
            OPTIMISER: tensors,
            STATE: state,
        }
        return content if self.average is None else {**content, RAW: self.model.state_dict()}

    def restore(self, folder: Path) -> None:
        """Take up the checkpoint `folder`."""
        verify(folder)
        what = "the state of a training by this recipe"
        state = convert(read_json(folder / STATE), folder / STATE, _State, what=what, error=CheckpointError)
        load_weights(self.model, folder / (MODEL if self.average is None else RAW))
        try:
            self.optimiser.load_state_dict(
                join_optimiser(read_tensors(folder / OPTIMISER), state.optimiser, self.optimiser.state_dict())
            )
            lay_out_as_parameters(self.optimiser)
            self.schedule.restore(msgspec.to_builtins(state.schedule))
            self.stopping.restore(msgspec.to_builtins(state.stopping))
            self.step, self.scaler = state.step, state.scaler
            self.sums = {name: torch.tensor(value) for name, value in state.sums.items()}
            self.summed = state.summed
            if self.average is not None:
                load_weights(self.average.module, folder / MODEL)
                self.average.n_averaged.fill_(state.averaged)
        except (KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
            raise CheckpointError(folder / STATE, f"does not fit this recipe ({error})") from error


Count = Annotated[int, msgspec.Meta(ge=0, lt=2**62)]


class _Schedule(msgspec.Struct):
    reduced: Annotated[float, msgspec.Meta(ge=0, le=1)]
    best: float | None
    bad: Count


class _Stopping(msgspec.Struct):
    best: float | None
    best_step: Annotated[int, msgspec.Meta(ge=-1, lt=2**62)]
    since: Count


class _State(msgspec.Struct):
    """`state.json`."""

    step: Count
    schedule: _Schedule
    stopping: _Stopping
    averaged: Count
    optimiser: OptimiserScalars
    scaler: dict[str, float | int]
    sums: dict[str, float]
    summed: Count
