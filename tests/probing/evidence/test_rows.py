"""Notes that rows give rise to."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fathom.probing.evidence.records import Row
from fathom.probing.evidence.rows import lone_scene_notes
from fathom.statistics import loss_interval
from tests.report.material import evidence

SCENES = [f"room {index}" for index in range(64)]


def row(hardest: float, role: str = "encoder") -> Row:
    """64 scenes, one of which holds the share `hardest` of the squared error."""
    errors = np.random.default_rng(0).lognormal(0, 0.4, 64)
    errors[7] = 0
    errors[7] = hardest / (1 - hardest) * errors.sum()
    cells = np.ones(64)
    found = loss_interval(errors, cells)
    chosen = next(item for item in evidence().rows if item.role == "encoder" and item.chosen)
    return replace(
        chosen, role=role, errors=tuple(errors), cells=tuple(cells), test_mse=errors.mean(), interval=(found.low, found.high)
    )  # fmt: skip


def test_a_scene_that_holds_a_quarter_of_the_squared_error_is_named() -> None:
    (note,) = lone_scene_notes([row(0.24)], SCENES)
    assert note.startswith("Test scene room 7 holds 24 % of the squared error of depth from ")
    assert "the interval of this loss is not reliable" in note


@pytest.mark.parametrize(("hardest", "role"), [(0.05, "encoder"), (0.24, "baseline"), (0.24, "random")])
def test_a_scene_like_the_others_or_a_baseline_gets_no_note(hardest: float, role: str) -> None:
    assert lone_scene_notes([row(hardest, role)], SCENES) == []
