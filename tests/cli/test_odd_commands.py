"""Command lines that nobody means end with one sentence; ``benchmarks/soak.py commands`` tries four hundred of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.commands import Lines


@pytest.mark.usefixtures("unchecked")
def test_odd_command_lines_are_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lines = Lines(tmp_path)
    for number in range(60):
        words, code, wrong = lines.case(random.Random(number))
        assert not wrong, f"{number}: {words} ({code}): {wrong}"
