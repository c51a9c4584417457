"""Faults injected into commands that write; ``benchmarks/soak.py faults`` injects a hundred of each kind into all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("count", "kinds", "commands"),
    [
        ("4", "kill,term,int", "export,pack,split,calibrate"),
        ("1", "size limited,read-only,data changed,data cut,data deleted,clock,surroundings,twice,disk full", "export,pack,evaluate"),
    ],
)  # fmt: skip
def test_nothing_is_lost_by_faults(count: str, kinds: str, commands: str) -> None:
    done = subprocess.run(
        [sys.executable, "benchmarks/soak.py", "faults", "--count", count, "--kinds", kinds, "--commands", commands],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
