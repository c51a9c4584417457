"""The short form of benchmarks/calibration.py, and that the published rates keep the goals. Bounds are the goal and 2.6 standard
errors of the count of worlds."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def calibration() -> Iterator[ModuleType]:
    name = "fathom_benchmark_calibration"
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / "calibration.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]


@pytest.mark.parametrize(("name", "key"), [("exact tie", "implicit"), ("removes the margin, nested", "absent alone")])
def test_false_verdicts_are_rare_at_the_boundary(calibration: ModuleType, name: str, key: str) -> None:
    world = next(item for item in calibration.WORLDS if item.name == name)
    found = calibration.measure(world, 12, 200, seed=3)
    assert found[key] <= 0.05 + calibration.slack(0.05, 200)
    assert found["coverage gain"] >= 0.92 - calibration.slack(0.92, 200)


def test_planted_scenes_have_the_skewness_measured(calibration: ModuleType) -> None:
    rng = np.random.default_rng(0)
    world = next(item for item in calibration.WORLDS if item.name == "exact tie")
    case = calibration.plant(world, 200_000, 1, rng)[0].case
    losses = case.errors / case.cells
    z = (losses - losses.mean()) / losses.std()
    assert 2.5 < (z**3).mean() < 5  # of a log-normal with skewness 3.3; the third moment scatters much
    assert losses.mean() == pytest.approx(0.85, rel=0.02)


def test_planted_copies_have_the_spread_and_the_heavy_tail_measured(calibration: ModuleType) -> None:
    world = next(item for item in calibration.WORLDS if item.name == "one more random draw")
    losses = np.array([item.encoder for item in calibration.plant(world, 2, 8000, np.random.default_rng(0))])
    z = (losses - losses.mean()) / losses.std()
    assert losses.std() == pytest.approx(calibration.SEED_SPREAD, rel=0.15)
    assert 3 < (z**3).mean() < 8  # 5 of the log-normal; the third moment scatters much


def test_a_skewed_encoder_keeps_its_expected_loss(calibration: ModuleType) -> None:
    rng = np.random.default_rng(1)
    world = next(item for item in calibration.WORLDS if item.name == "exact tie, skewed")
    case = calibration.plant(world, 300_000, 1, rng)[0].case
    assert case.errors.sum() / case.cells.sum() == pytest.approx(0.85, rel=0.02)


def test_the_clip_keeps_an_exploding_copy_from_deciding(calibration: ModuleType) -> None:
    name = "removes 20 %, exploding copies"
    with_clip, without = (calibration.exploding(name + clip, 50, 12, seed=0) for clip in ("", ", no clip"))
    assert with_clip["implicit"] == 1.0
    assert without["implicit"] < 1.0


def test_a_named_building_is_one_scene(calibration: ModuleType) -> None:
    world = next(item for item in calibration.WORLDS if item.name == "exact tie, one building named")
    for planted in calibration.plant(world, 60, 5, np.random.default_rng(2)):
        assert planted.case.cells.shape == (60,)
        assert 0.2 < planted.case.cells[0] / planted.case.cells.sum() < 0.6


@pytest.mark.parametrize(
    ("world", "false", "scenes", "key", "worst"),
    [
        ("exact tie", "implicit", 50, "implicit", 0.067),
        ("removes the margin, nested", "absent", 50, "absent alone", 0.067),
        ("removes 20 %", "", 50, "implicit", 0.933),
        ("exact tie", "implicit", 50, "coverage gain", 0.910),
        ("exact tie", "implicit", 10, "coverage loss", 0.898),
    ],
)
def test_a_rate_that_misses_its_goal_is_named(
    calibration: ModuleType, world: str, false: str, scenes: int, key: str, worst: float
) -> None:
    sound = {
        "implicit": 0.97 if not false else 0.04,
        "absent alone": 0.04,
        "coverage loss": 0.95,
        "coverage gain": 0.95,
    }
    item = {"world": world, "false": false, "scenes": scenes, "worlds": 1000, **sound}
    low = key != "absent alone" and (not false or "coverage" in key)
    assert calibration.broken_goals([item, item | {key: worst + (0.002 if low else -0.002)}]) == []
    (broken,) = calibration.broken_goals([item, item | {key: worst + (-0.002 if low else 0.002)}])
    assert world in broken and key in broken
    outside = item | {"world": f"{world}, one building {calibration.OUTSIDE}", key: worst + (-0.1 if low else 0.1)}
    assert calibration.broken_goals([outside]) == []


def test_the_rates_on_the_page_are_of_a_thousand_worlds_and_keep_the_goals(calibration: ModuleType) -> None:
    record = json.loads((ROOT / "docs" / "calibration.json").read_text(encoding="utf-8"))
    assert {item["worlds"] for item in record["records"]} == {record["settings"]["worlds"]}
    assert record["settings"]["worlds"] >= 1000 and calibration.broken_goals(record["records"]) == []


def test_the_page_has_the_tables_of_the_record(calibration: ModuleType) -> None:
    record = json.loads((ROOT / "docs" / "calibration.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    assert calibration.tables(record["records"]).strip() in page
