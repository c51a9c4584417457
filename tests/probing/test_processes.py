"""A probe run in two processes is that of one; a process that ends takes the others with it in one sentence; a stopped run resumes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fathom.data.sources import load
from fathom.errors import UsageError
from fathom.probing import processes
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from tests.data.files import pairs

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

CHECKPOINT_ALWAYS = """
import sys
from fathom.probing.passes import checkpoint
checkpoint.EVERY = 0.0
checkpoint.COST = 1e9
from fathom.cli.main import run
run(sys.argv[1:])
"""


@pytest.fixture
def data(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "always.py").write_text(CHECKPOINT_ALWAYS)
    return f"{pairs(tmp_path / 'pairs', scenes=16, views=2)}?depth-scale=1000"


def start(data: str, out: Path, *options: str, program: tuple[str, ...] = ("-m", "fathom"), **more: str) -> Any:
    command = [
        sys.executable, *program, "probe", data, "-e", f"module:{out.parent / 'net.py'}:net@net", "-f", "depth",
        "-f", f"module:{out.parent / 'net.py'}:bright", "-f", "colour", "--size", "24x32", "--grid", "3x4",
        "--baselines", "constant,pixels", "--controls", "1", "--batch-size", "3", "--folds", "3", "--label-curve",
        "--fraction", "0.4", "--device", "cpu", "--out", str(out), "--quiet", *options,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def job(data: str, out: Path, *options: str, **more: str) -> list[Any]:
    """Two processes, as torchrun starts them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **more}
    return [start(data, out, *options, RANK=str(rank), LOCAL_RANK=str(rank), **shared) for rank in range(2)]


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


def test_two_processes_give_every_number_of_one(data: str, tmp_path: Path) -> None:
    alone, both = start(data, tmp_path / "one", "--cues"), job(data, tmp_path / "two", "--cues")
    for process in (alone, *both):
        assert process.wait(300) == 0, process.stderr.read()
    same(numbers(tmp_path / "one"), numbers(tmp_path / "two"))
    assert both[0].stdout.read() and not both[1].stdout.read()  # the first speaks
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == sorted(
        path.name for path in (tmp_path / "one").iterdir()
    )


def test_a_process_that_ends_ends_the_run_with_one_sentence(data: str, tmp_path: Path) -> None:
    first, second = job(data, tmp_path / "run", DIES="1")
    assert second.wait(120) == 9
    assert first.wait(120) == 1
    said = first.stderr.read().strip().splitlines()
    assert len([line for line in said if line.startswith("error: ")]) == 1 and "lost contact" in said[-1]
    assert not (tmp_path / "run" / "evidence.json").exists()


def test_heads_in_several_processes_are_refused_before_the_work(data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "count", lambda: 2)
    with pytest.raises(UsageError, match="in one process"):
        probe([], "depth", load(data), heads=("mlp",))


def test_a_run_that_is_stopped_and_killed_resumes_to_the_same_digits(data: str, tmp_path: Path) -> None:
    always, kept = (str(tmp_path / "always.py"),), tmp_path / "stopped" / "training-pass.safetensors"
    straight = start(data, tmp_path / "straight")
    for number, code in ((signal.SIGINT, 130), (signal.SIGKILL, -9)):
        before = kept.stat().st_mtime_ns if kept.exists() else 0
        stopped = start(data, tmp_path / "stopped", program=always, SLEEP="0.3")
        end = time.monotonic() + 120
        while not kept.exists() or kept.stat().st_mtime_ns == before:
            assert stopped.poll() is None and time.monotonic() < end, stopped.stderr.read()
            time.sleep(0.01)
        stopped.send_signal(number)
        assert stopped.wait(60) == code
        said = stopped.stderr.read()
        assert number == signal.SIGKILL or ("training frames. Their sums are in" in said and str(kept) in said)
        assert kept.is_file() and not (tmp_path / "stopped" / "evidence.json").exists()
    resumed = start(data, tmp_path / "stopped")
    for process in (straight, resumed):
        assert process.wait(120) == 0, process.stderr.read()
    same(numbers(tmp_path / "straight"), numbers(tmp_path / "stopped"), rel=0)
    assert not kept.exists()
