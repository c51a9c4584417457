"""Learning rates over time, against their closed forms, PyTorch's own and their state."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)

from fathom.training.optim.schedule import Schedule
from fathom.training.recipe import ScheduleSection


def rates(make: Callable[[Optimizer], LRScheduler], steps: int) -> list[float]:
    """The rates of a scheduler of PyTorch for an optimiser of rate 1, at the steps 0 to `steps`."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    scheduler, found = make(optimiser), []
    for _ in range(steps + 1):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(found) <= steps:
            scheduler.step()
    return found


def test_cosine_with_warmup_is_that_of_pytorch() -> None:
    def theirs(optimiser: Optimizer) -> LRScheduler:
        rise = LinearLR(optimiser, start_factor=1 / 8, total_iters=7)
        return SequentialLR(optimiser, [rise, CosineAnnealingLR(optimiser, T_max=50, eta_min=0.1)], milestones=[8])

    schedule = Schedule(ScheduleSection("cosine", warmup=8, floor=0.1), 58)
    assert [schedule.factor(step) for step in range(59)] == pytest.approx(rates(theirs, 58), abs=1e-12)


@pytest.mark.parametrize(("steps", "floor"), [(1000, 0.01), (37, 0.1), (4, 0.0)])
def test_one_cycle_is_that_of_pytorch(steps: int, floor: float) -> None:
    # Theirs ends its rise at pct_start * total_steps - 1 and its fall at total_steps - 1.
    peak, final = max(1, round(0.3 * steps)), 1 / (25 * floor) if floor else math.inf

    def theirs(optimiser: Optimizer) -> LRScheduler:
        share = (peak + 1) / (steps + 1)
        return OneCycleLR(
            optimiser, 1.0, steps + 1, pct_start=share, div_factor=25, final_div_factor=final, cycle_momentum=False
        )

    schedule = Schedule(ScheduleSection("onecycle", floor=floor), steps)
    assert [schedule.factor(step) for step in range(steps + 1)] == pytest.approx(rates(theirs, steps), abs=1e-12)


def test_plateau_decides_as_that_of_pytorch() -> None:
    losses = [3.0, 2.0, 2.5, 2.1, 1.9, *[2.0] * 5, 1.8, *[5.0] * 4, 1.7, 1.7, 1.7]
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = ReduceLROnPlateau(optimiser, factor=0.5, patience=1, threshold=0, threshold_mode="abs", eps=0)
    ours = Schedule(ScheduleSection("plateau", patience=2, factor=0.5), 100)
    for loss in losses:
        theirs.step(loss)
        ours.observe(loss)
        assert ours.factor(0) == optimiser.param_groups[0]["lr"]


def test_warmup_rises_linearly_to_the_full_rate() -> None:
    schedule = Schedule(ScheduleSection("constant", warmup=4), 10)
    assert [schedule.factor(step) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    cosine = Schedule(ScheduleSection("cosine", warmup=4, floor=0.0), 10)
    assert cosine.factor(3) == cosine.factor(4) == 1 and cosine.factor(10) == pytest.approx(0)


def test_plateau_lowers_the_rate_when_nothing_improves_and_remembers() -> None:
    schedule = Schedule(ScheduleSection("plateau", patience=2, factor=0.5), 100)
    for loss in (3.0, 2.0, 2.5):
        schedule.observe(loss)
    assert schedule.factor(0) == 1
    again = Schedule(ScheduleSection("plateau", patience=2, factor=0.5), 100)
    again.restore(schedule.state())
    for each in (schedule, again):
        each.observe(2.1)
        assert each.factor(0) == 0.5
        each.observe(1.0)
        each.observe(math.inf)
        assert each.factor(0) == 0.5


def test_only_plateau_listens() -> None:
    schedule = Schedule(ScheduleSection("constant"), 10)
    for _ in range(20):
        schedule.observe(1.0)
    assert schedule.factor(5) == 1
