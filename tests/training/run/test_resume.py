"""Interrupted trainings end as uninterrupted ones do."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.errors import CheckpointError, UsageError
from fathom.models import saved as checkpoint
from fathom.training.recipe import from_table
from fathom.training.run import journal
from fathom.training.train import train
from tests.training import painted


def wait_for(condition: Any, child: Any, seconds: float = 60) -> None:
    """Until `condition` holds; the child must not have ended before."""
    end = time.monotonic() + seconds
    while not condition():
        assert child.is_alive() or condition(), f"the process ended with {child.exitcode} before it was stopped"
        assert time.monotonic() < end, "the process did not get there in time"
        time.sleep(0.001)


def untimed(run: Path) -> list[dict[str, Any]]:
    lines = journal.read(run)
    return [{key: value for key, value in line.items() if key != "images_per_second"} for line in lines]


def test_killed_at_three_random_moments_training_ends_bit_identical(tmp_path: Path, start: Any) -> None:
    steps = 60
    table = painted.recipe(steps, train={"ema": 0.9, "keep": 3}, schedule={"name": "plateau", "patience": 1})
    whole = start(table, tmp_path / "whole")
    run, seed = tmp_path / "killed", int(time.time())
    print("random moments from seed", seed)
    moments = random.Random(seed)

    def writing() -> bool:
        return any((run / "checkpoints").glob(".*.tmp"))

    for kill in range(3):
        child = start(table, run, resume=True)
        least = moments.randrange(1 + 15 * kill, 15 * (kill + 1))
        wait_for(lambda least=least: max(checkpoint.saved_steps(run), default=0) >= least, child)
        if kill == 1:  # in the middle of writing a checkpoint
            wait_for(writing, child)
        else:
            time.sleep(moments.random() * 0.05)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert checkpoint.latest(run)[0] is not None
    last = start(table, run, resume=True)
    for child in (last, whole):
        child.join(60)
        assert child.exitcode == 0
    for name in ("model.safetensors", "raw.safetensors", "optimiser.safetensors", "state.json"):
        files = [tmp_path / kind / "checkpoints" / str(steps) / name for kind in ("whole", "killed")]
        assert files[0].read_bytes() == files[1].read_bytes(), name
    assert untimed(run) == untimed(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_asked_to_stop_it_saves_and_exits_with_a_code_of_its_own(
    tmp_path: Path, start: Any, number: int, code: int
) -> None:
    table = painted.recipe(2000, train={"save_every": 1000}, validation={"every": 0})
    child = start(table, tmp_path)
    wait_for(lambda: len(journal.read(tmp_path)) > 2, child)
    os.kill(child.pid, number)
    child.join(60)
    assert child.exitcode == code
    (step,) = checkpoint.saved_steps(tmp_path)
    assert 0 < step < 1000
    assert f"after step {step}" in (tmp_path / "error-0.txt").read_text()


def test_metrics_after_the_checkpoint_are_dropped_on_resume(tmp_path: Path) -> None:
    table = painted.recipe(6)
    train(from_table(table), painted.painted(), out=tmp_path, device="cpu")
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "loss": 0}\n{"step": 8, "lo')
    train(from_table(painted.recipe(9)), painted.painted(), out=tmp_path, resume=True, device="cpu")
    lines = journal.read(tmp_path)
    assert [line["step"] for line in lines if "loss" in line] == [2, 4, 6, 8, 9]
    assert all(line["loss"] > 0 for line in lines if "loss" in line)


def test_a_torn_last_checkpoint_falls_back_to_the_one_before_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(from_table(painted.recipe(6)), painted.painted(), out=tmp_path, device="cpu")
    weights = tmp_path / "checkpoints" / "6" / "model.safetensors"
    expected = weights.read_bytes()
    damaged = bytearray(expected)
    damaged[-3] ^= 1  # one bit: the size is right, the content is not
    weights.write_bytes(damaged)
    train(from_table(painted.recipe(6)), painted.painted(), out=tmp_path, resume=True, device="cpu")
    said = capsys.readouterr().err
    assert "Checkpoint 6 is torn" in said
    assert "Resuming after step 3" in said
    assert weights.read_bytes() == expected


def test_where_every_checkpoint_is_torn_resume_refuses(tmp_path: Path) -> None:
    train(from_table(painted.recipe(3)), painted.painted(), out=tmp_path, device="cpu")
    (tmp_path / "checkpoints" / "3" / "state.json").unlink()
    with pytest.raises(CheckpointError, match="no whole checkpoint"):
        train(from_table(painted.recipe(3)), painted.painted(), out=tmp_path, resume=True, device="cpu")


def test_a_run_is_not_written_over_nor_continued_by_another_recipe_or_on_other_frames(tmp_path: Path) -> None:
    train(from_table(painted.recipe(3)), painted.painted(), out=tmp_path, device="cpu")
    with pytest.raises(UsageError, match="already holds a run"):
        train(from_table(painted.recipe(3)), painted.painted(), out=tmp_path, device="cpu")
    other = from_table(painted.recipe(6, optim={"lr": 0.5}))
    with pytest.raises(UsageError, match=r"optim\.lr \(0\.01 there, 0\.5 here\)"):
        train(other, painted.painted(), out=tmp_path, resume=True, device="cpu")
    much = painted.recipe(6, optim={"lr": 0.5, "clip": 2.0, "weight_decay": 0.5}, loss={"mae": 2.0, "mse": 1.0})
    with pytest.raises(UsageError, match=r"; loss\.mse \(0\.0 there, 1\.0 here\).* and 1 more; choose another --out"):
        train(from_table(much), painted.painted(), out=tmp_path, resume=True, device="cpu")
    model = from_table(painted.recipe(6) | {"model": {"name": "plain_cnn", "filters": [4, 4]}})
    with pytest.raises(UsageError, match=r"holds a training of 'unet', not of 'plain_cnn'; choose another --out"):
        train(model, painted.painted(), out=tmp_path, resume=True, device="cpu")
    with pytest.raises(CheckpointError, match="other frames"):
        train(from_table(painted.recipe(6)), painted.painted(views=3), out=tmp_path, resume=True, device="cpu")


def test_resume_of_nothing_starts_and_of_a_finished_run_gives_it_back(tmp_path: Path) -> None:
    table = from_table(painted.recipe(3))
    first = train(table, painted.painted(), out=tmp_path, resume=True, device="cpu")
    again = train(table, painted.painted(), out=tmp_path, resume=True, device="cpu")
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 3
