"""Sweeps: every combination once, compared, resumable, and not ended by one that diverges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from fathom.errors import UsageError
from fathom.report.images.training import draw_sweep
from fathom.training.recipe import from_table
from fathom.training.search.sweep import combinations, compared, folder_name, run_sweep, sentences, table
from tests.training import painted


def test_combinations_are_the_cartesian_product_and_brackets_hold_together() -> None:
    assert combinations(["a.x=1,2", "b.y=u,v"]) == [
        ("a.x=1", "b.y=u"), ("a.x=1", "b.y=v"), ("a.x=2", "b.y=u"), ("a.x=2", "b.y=v"),
    ]  # fmt: skip
    assert combinations(["m.w=[8, 16],[16, 32]"]) == [("m.w=[8, 16]",), ("m.w=[16, 32]",)]
    for wrong in ("a.x", "a.x=", "=1", "a.x=1,,2"):
        with pytest.raises(UsageError, match="is no sweep"):
            combinations([wrong])


def test_folder_names_are_plain() -> None:
    assert folder_name(["optim.lr=1e-4", "model.widths=[8, 16]"]) == "optim.lr=1e-4,model.widths=_8,_16_"
    assert "/" not in folder_name(["first.checkpoint=../x/y"])


def test_a_sweep_compares_its_runs_and_survives_one_that_diverges(tmp_path: Path) -> None:
    base = from_table(painted.recipe(20, optim={"name": "sgd", "clip": 0.0}, schedule={"name": "constant"}))
    axes = ["optim.lr=1e-2,1e6", "augment.flip=0.0,0.5"]
    result = run_sweep(base, painted.painted(), axes, out=tmp_path, device="cpu")
    assert json.loads((tmp_path / "sweep.json").read_text()) == result
    assert draw_sweep(result, tmp_path).stat().st_size > 5000
    assert [bool(run["diverged"]) for run in result["runs"]] == [False, False, True, True]
    values = {run["folder"]: run["value"] for run in result["runs"] if run["value"] is not None}
    # Two unseen scenes give no interval, so that no setting is named best.
    assert result["compared"][0]["value"] == min(values.values()) and not result["compared"][1]["worse"]
    assert "No single best" in sentences(result)[0] and "one seed" in sentences(result)[1]
    for run in result["runs"][:2]:
        summary = json.loads((tmp_path / run["folder"] / "summary.json").read_text())
        assert summary["scores"]["unseen"]["model"]["rmse"] == run["value"]
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    console.print(table(result))
    text = console.export_text()
    assert "diverged" in text and "1e6" in text and f"{min(values.values()):.4g}" in text


def run(setting: str, scores: list[float], seed: int = 0) -> dict[str, Any]:
    by_scene = {f"room{i}": [3, score] for i, score in enumerate(scores)}
    settings = [f"optim.lr={setting}", f"train.seed={seed}"]
    return {"settings": settings, "value": float(np.mean(scores)), "by_scene": by_scene}


def test_a_setting_is_best_only_where_it_is_so_in_scene_after_scene() -> None:
    noise = np.random.default_rng(0).normal(0, 0.3, 12)
    scores = 1 + noise
    # The same difference of means: once in every scene, once in one.
    steady, single = scores + 0.05 + np.linspace(0, 0.02, 12), scores + 0.06 * 12 * (np.arange(12) == 3)
    for other, worse in ((steady, True), (single, False)):
        rows = compared([run("1", list(other)), run("2", list(scores))])
        assert rows[0]["settings"] == ["optim.lr=2"] and rows[1]["worse"] is worse
        said = sentences({"compared": rows})[0]
        assert said.startswith("Best: optim.lr=2" if worse else "No single best: optim.lr=2")


def test_seeds_that_differ_more_than_settings_tell_none_apart() -> None:
    scores = 1 + np.random.default_rng(0).normal(0, 0.3, 12)
    runs = [run("2", list(scores + offset), seed) for seed, offset in enumerate((0.0, 0.3, -0.3))]
    runs += [run("1", list(scores + 0.06 + offset), seed) for seed, offset in enumerate((0.3, 0.0, -0.3))]
    rows = compared(runs)
    assert [row["seeds"] for row in rows] == [3, 3] and not rows[1]["worse"]
    assert rows[1]["difference"] == pytest.approx(0.06)
    assert len(sentences({"compared": rows})) == 1


def test_a_resumed_sweep_takes_finished_runs_as_they_are(tmp_path: Path) -> None:
    base, axes = from_table(painted.recipe(3)), ["optim.lr=1e-2,1e-3"]
    run_sweep(base, painted.painted(), axes[:1], out=tmp_path, device="cpu")
    stamp = (tmp_path / "optim.lr=1e-2" / "summary.json").stat().st_mtime_ns
    again = run_sweep(base, painted.painted(), ["optim.lr=1e-2,1e-3,1e-4"], out=tmp_path, resume=True, device="cpu")
    assert (tmp_path / "optim.lr=1e-2" / "summary.json").stat().st_mtime_ns == stamp
    assert len(again["runs"]) == 3 and all(run["value"] for run in again["runs"])


def test_a_wrong_value_is_found_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="should be a number"):
        run_sweep(from_table(painted.recipe(3)), painted.painted(), ["optim.lr=1e-2,fast"], out=tmp_path)
    assert not list(tmp_path.iterdir())
