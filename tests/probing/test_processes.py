"""A probe run in two processes is that of one; a process that ends takes the others with it in one sentence; a stopped run resumes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fathom.data.sources import load
from fathom.errors import UsageError
from fathom.probing import processes
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.passes import checkpoint
from fathom.probing.probe import probe
from tests.data.files import pairs
from tests.processes import Command, ranks

NET = """
import os, time
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Conv2d(3, 6, 8, 8)

    def forward(self, x):
        if len(x) > 1:  # the frames of a pass, not the one that tells the layers
            time.sleep(float(os.environ.get("SLEEP", 0)))
            if os.environ.get("RANK") == os.environ.get("DIES", "none"):
                os._exit(9)
        return self.net(x)

def net():
    return Net()

def bright(sample):
    return sample.float_image().mean(0) > 0.5
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and the network and feature of the runs."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "net.py").write_text(NET)
    pairs(folder / "pairs", scenes=16, views=2)
    return folder


def arguments(folder: Path, out: Path) -> list[str]:
    return [
        "probe", f"{folder / 'pairs'}?depth-scale=1000", "-e", f"module:{folder / 'net.py'}:net@net", "-f", "depth",
        "-f", f"module:{folder / 'net.py'}:bright", "-f", "colour", "--size", "24x32", "--grid", "3x4",
        "--baselines", "constant,pixels", "--controls", "1", "--batch-size", "3", "--folds", "3", "--label-curve", "--cues",
        "--fraction", "0.4", "--pictures", "1", "--device", "cpu", "--out", str(out), "--quiet",
    ]  # fmt: skip


def start(folder: Path, out: Path, before: Callable[[], None] | None = None, **environment: str) -> Command:
    return Command(arguments(folder, out), out.parent / f"said of {out.name}", environment, before)


def job(folder: Path, out: Path, **environment: str) -> list[Command]:
    """Two processes, as torchrun starts them."""
    return [start(folder, out, **rank, **environment) for rank in ranks(2)]


def checkpoint_always() -> None:
    """Keep the sums after every batch."""
    checkpoint.EVERY, checkpoint.COST = 0.0, 1e9


@pytest.fixture(scope="module")
def alone(folder: Path) -> Path:
    """The run of one process, undisturbed."""
    process = start(folder, folder / "alone")
    assert process.wait(300) == 0, process.said
    return folder / "alone"


def same(first: Any, second: Any, where: str = "", rel: float = 1e-5) -> None:
    """Assert that two values as JSON has them agree to rounding."""
    if isinstance(first, dict):
        assert first.keys() == second.keys(), where
        for key in first:
            same(first[key], second[key], f"{where}.{key}", rel)
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), where
        for position, (one, other) in enumerate(zip(first, second, strict=True)):
            same(one, other, f"{where}[{position}]", rel)
    elif isinstance(first, float) and isinstance(second, float):
        assert second == pytest.approx(first, rel=rel, abs=1e-9), where
    else:
        assert first == second, where


def numbers(out: Path) -> dict[str, Any]:
    evidence = Evidence.load(out).to_json()
    evidence["training_loss_check"].pop("largest_difference")  # of rounding itself
    return {key: value for key, value in evidence.items() if key != "command"}


def test_two_processes_give_every_number_of_one(folder: Path, alone: Path, tmp_path: Path) -> None:
    both = job(folder, tmp_path / "two")
    for process in both:
        assert process.wait(300) == 0, process.said
    same(numbers(alone), numbers(tmp_path / "two"))
    assert both[0].printed and not both[1].printed  # the first speaks
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(path.name for path in alone.iterdir())


def test_a_process_that_ends_ends_the_run_with_one_sentence(folder: Path, tmp_path: Path) -> None:
    first, second = job(folder, tmp_path / "run", DIES="1")
    assert second.wait(120) == 9
    assert first.wait(120) == 1
    said = first.said.strip().splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1 and "lost contact" in said[-1]
    assert not list((tmp_path / "run").rglob(".*"))  # what was half written is removed


def test_heads_in_several_processes_are_refused_before_the_work(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UsageError, match="in one process"):
        probe([], "depth", load(f"{folder / 'pairs'}?depth-scale=1000"), heads=("mlp",))


def test_a_run_that_is_stopped_and_killed_resumes_to_the_same_digits(folder: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"
    kept = out / "training-pass.safetensors"
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = kept.stat().st_mtime_ns if kept.exists() else 0
        stopped = start(folder, out, checkpoint_always, SLEEP="0.3")
        end = time.monotonic() + 120
        while not kept.exists() or kept.stat().st_mtime_ns == before:
            assert stopped.running and time.monotonic() < end, stopped.said
            time.sleep(0.01)
        stopped.send(number)
        assert stopped.wait(60) == code
        said = stopped.said
        assert number == signal.SIGKILL or ("training frames. Their sums are in" in said and str(kept) in said)
        assert kept.is_file()
    resumed = start(folder, out)
    assert resumed.wait(120) == 0, resumed.said
    same(numbers(alone), numbers(out), rel=0)
    assert not kept.exists()
