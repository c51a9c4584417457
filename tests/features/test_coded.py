"""Features that a function in a file gives: averaged like any other, and one sentence for what goes wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.data.sources import load
from fathom.errors import DataError, FathomError, UsageError
from fathom.features import Feature, feature
from fathom.grids import masked_average
from fathom.probing.probe import probe

CODE = """
import torch
import scale


def height(sample):
    \"\"\"Metres above the camera, unknown beyond 2 m.\"\"\"
    k = sample.intrinsics
    rows = torch.arange(sample.depth.shape[-2]) + 0.5
    up = -(rows - k.cy)[:, None] / k.fy * sample.depth[0] * scale.FACTOR
    return torch.where(sample.depth[0] < 2, up, torch.nan)


def two(sample):
    return torch.cat([sample.depth, sample.depth * 2])


def text(sample):
    return "no map"


def broken(sample):
    raise KeyError("weights")
"""


@pytest.fixture
def named(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(CODE)
    (tmp_path / "scale.py").write_text("FACTOR = 1.0\n")
    return f"module:{tmp_path / 'mine.py'}:"


def test_a_map_is_averaged_over_the_cells_where_it_is_known(named: str) -> None:
    rooms = load("rooms")
    made, sample = feature(named + "height", rooms), rooms[3]
    assert (made.name, made.channels) == ("height", 1)
    assert made.spec == named + "height" and made.code is not None and len(made.code) == 64
    values, valid = made.of(sample, (12, 16))
    k = sample.intrinsics
    assert k is not None
    up = -((torch.arange(96) + 0.5 - k.cy) / k.fy)[:, None] * sample.depth[0]
    expected, known = masked_average(up[None], sample.depth < 2, (12, 16))
    assert torch.equal(valid, known) and 0 < int(known.sum()) < 192
    torch.testing.assert_close(values[valid], expected[known])
    assert feature(named + "two", rooms).channels == 2


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("text", r"gives str; wanted a tensor \(C, H, W\) or \(H, W\)"),
        ("broken", r"fails on frame room_0000/0 \(KeyError: 'weights'\)"),
        ("missing", "has no function 'missing'"),
    ],
)
def test_a_function_that_cannot_be_used_is_one_sentence(function: str, problem: str, named: str) -> None:
    with pytest.raises(FathomError, match=problem):
        feature(named + function, load("rooms"))


def test_half_a_name_and_a_missing_file_are_named() -> None:
    with pytest.raises(UsageError, match=r"is not module:package\.module:function or module:file\.py:function"):
        feature("module:mine", load("rooms"))
    with pytest.raises(DataError, match=r"none\.py: does not exist"):
        feature("module:none.py:height", load("rooms"))
    with pytest.raises(UsageError, match="needs data to tell its number of channels"):
        feature("module:math:sin")


def test_the_evidence_names_it_by_its_file_so_that_the_run_can_be_repeated(named: str) -> None:
    train, test = load("rooms").official_split()
    train, test = train.subset(range(0, 336, 24)), test.subset(range(0, 112, 16))
    small: dict[str, Any] = {"baselines": ("constant", "position"), "size": (24, 32), "grid": (3, 4), "pictures": 0}
    evidence = probe([], ["depth", named + "height"], train, test, **small)
    assert evidence.features == ("depth", "height") and evidence.feature_specs() == ["depth", named + "height"]
    assert [item.code is None for item in evidence.targets] == [True, False]
    in_memory = Feature.from_function("mine", feature("depth").target)
    with pytest.raises(UsageError, match="Feature mine was given in memory; name it with --feature"):
        probe([], in_memory, train, test, **small).feature_specs()
