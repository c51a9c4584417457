"""Two processes train and score as one does; a dead one ends the job."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fathom.models import saved as checkpoint
from fathom.models.saved import read_json
from fathom.probing.linear.moments import Moments
from fathom.training.frames.feed import Portion
from fathom.training.frames.order import Order
from fathom.training.run import journal
from fathom.training.scoring.scoring import in_batches
from tests.processes import context, ranks
from tests.training import painted


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("accumulate", [1, 2, 5])
def test_processes_and_parts_share_every_step_without_loss_or_double(world: int, accumulate: int) -> None:
    batch, frames = 7, 23
    for step in range(10):
        drawn = Order(frames, seed=3).draws(step, batch)
        shares = [Portion(batch, accumulate, rank, world).parts(drawn) for rank in range(world)]
        together = [draw for share in shares for part in share for draw in part]
        assert sorted(together) == sorted(drawn)
        assert all(part for share in shares for part in share)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_score_every_frame_once(world: int) -> None:
    scored = [p for rank in range(world) for batch in in_batches(11, 4, rank, world) for p in batch]
    assert sorted(scored) == list(range(11))


def test_two_processes_give_the_gradients_and_scores_of_one(tmp_path: Path, start: Any) -> None:
    # Plain SGD: the weights after a step are the gradient. Five images do not divide evenly by two processes.
    table = painted.recipe(
        3,
        optim={"name": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 0.1, "clip": 0.0},
        train={"batch": 5},
        schedule={"name": "constant"},
    )
    children = [start(table, tmp_path / "two", environment, holes=True) for environment in ranks(2)]
    children.append(start(table, tmp_path / "one", holes=True))
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    one, two = (load_file(tmp_path / kind / "checkpoints/3/model.safetensors") for kind in ("one", "two"))
    for name, tensor in one.items():
        assert (tensor - two[name]).abs().max() < 1e-5, name
    scores = [read_json(tmp_path / kind / "summary.json") for kind in ("one", "two")]
    assert [s["processes"] for s in scores] == [1, 2]
    for part in ("seen", "unseen"):
        for row in ("model", "mean_map", "constant"):
            expected = scores[0]["scores"][part][row]
            assert scores[1]["scores"][part][row] == pytest.approx(expected, rel=1e-5)
    losses = [[line["loss"] for line in journal.read(tmp_path / kind) if "loss" in line] for kind in ("one", "two")]
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


def test_running_statistics_are_those_that_are_scored_and_saved(tmp_path: Path, start: Any) -> None:
    model = {"name": "plain_cnn", "filters": [4, 4]}
    table = painted.recipe(3, train={"ema": 0.5}) | {"model": model}
    children = [start(table, tmp_path, environment) for environment in ranks(2)]
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    there = read_json(tmp_path / "summary.json")["scores"]
    # A finished run that is resumed scores its checkpoint again, here in one process.
    alone = start(table, tmp_path, resume=True)
    alone.join(60)
    assert alone.exitcode == 0
    here = read_json(tmp_path / "summary.json")["scores"]
    for part in ("seen", "unseen"):
        assert there[part]["model"] == pytest.approx(here[part]["model"], rel=1e-6)


def add_moments(environment: dict[str, str], path: str) -> None:
    """What each of two processes does: its half of the batches, in two scenes, and the sum over both."""
    os.environ.update(environment)
    rank = int(environment["RANK"])
    torch.distributed.init_process_group("gloo")
    moments = Moments.zeros(2, torch.full((3,), 5.0), torch.zeros(2))
    for number in range(rank, 6, 2):
        moments.add(number % 2, *pixels(number))
    torch.save(vars(moments.all_reduce()), f"{path}.{rank}")
    torch.distributed.destroy_process_group()


def pixels(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(number)
    x = 5 + torch.randn(50 + number, 3, generator=generator, dtype=torch.float64)
    return x, torch.randn(50 + number, 2, generator=generator, dtype=torch.float64)


def test_moments_over_two_processes_are_those_of_one(tmp_path: Path) -> None:
    children = [context().Process(target=add_moments, args=(e, str(tmp_path / "sums"))) for e in ranks(2)]
    for child in children:
        child.start()
    alone = Moments.zeros(2, torch.full((3,), 5.0), torch.zeros(2))
    for number in range(6):
        alone.add(number % 2, *pixels(number))
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    for rank in range(2):
        summed = torch.load(tmp_path / f"sums.{rank}", weights_only=True)
        for name, tensor in vars(alone).items():
            assert torch.allclose(torch.as_tensor(summed[name]), torch.as_tensor(tensor), rtol=1e-12, atol=1e-12), name
    assert alone.n.tolist() == [156, 159]


def test_a_dead_process_ends_the_job_with_a_message_and_not_a_hang(tmp_path: Path, start: Any) -> None:
    table = painted.recipe(100_000, train={"save_every": 5, "timeout": 30}, validation={"every": 0})
    first, second = (start(table, tmp_path, environment) for environment in ranks(2))
    end = time.monotonic() + 60
    while not checkpoint.saved_steps(tmp_path):
        assert first.is_alive() and time.monotonic() < end
        time.sleep(0.01)
    os.kill(second.pid, signal.SIGKILL)
    first.join(20)
    assert first.exitcode == 1
    said = (tmp_path / "error-0.txt").read_text()
    assert "lost contact with the others" in said and "--resume" in said
