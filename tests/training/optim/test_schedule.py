"""Learning rates over time, against their closed forms, PyTorch's own and their state."""

from __future__ import annotations

import math

import pytest
import torch

from fathom.training.optim.average import Average
from fathom.training.optim.schedule import Schedule
from fathom.training.recipe import ScheduleSection


def test_cosine_is_that_of_pytorch() -> None:
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, T_max=50, eta_min=0.1)
    ours = Schedule(ScheduleSection("cosine", floor=0.1), 50)
    for step in range(51):
        assert ours.factor(step) == pytest.approx(optimiser.param_groups[0]["lr"], abs=1e-6)
        optimiser.step()
        theirs.step()


def test_one_cycle_is_that_of_pytorch() -> None:
    # Theirs reaches its peak a step earlier (it counts from 1) and its floor at the last step.
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimiser = torch.optim.SGD([parameter], lr=1.0, momentum=0.9)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=1.0, total_steps=1001, pct_start=0.3, div_factor=25, final_div_factor=4, cycle_momentum=False
    )
    ours = Schedule(ScheduleSection("onecycle", floor=0.01), 1000)
    for step in range(1001):
        assert ours.factor(step) == pytest.approx(optimiser.param_groups[0]["lr"], abs=5e-3)
        optimiser.step()
        if step < 1000:
            theirs.step()


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


def test_the_average_is_the_weighted_sum_of_all_weights_so_far() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    average = Average(model, decay=0.3)
    expected = model[0].weight.detach().clone()
    for t in range(4):
        with torch.no_grad():
            model[0].weight += 1.0
        model(torch.randn(3, 2))
        average.update(model)
        decay = min(0.3, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * model[0].weight.detach()
    assert torch.allclose(average.tensors["0.weight"], expected, atol=1e-6)
    assert torch.equal(average.tensors["1.running_mean"], model[1].running_mean)
    assert int(average.tensors["1.num_batches_tracked"]) == 4
