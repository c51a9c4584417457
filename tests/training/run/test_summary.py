"""What a finished run says of itself: beside the mean map with an interval over scenes, or that none can be given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fathom.training.run.summary import _minus_mean_map, sentences
from fathom.training.scoring.scoring import average, by_scene, paired


def scenes(network: list[float], mean_map: list[float]) -> dict[str, Any]:
    return {
        f"room{i}": {
            "frames": 2 + i % 3,
            "model": {"rmse": a, "mse": a * a},
            "mean_map": {"rmse": b, "mse": b * b},
        }
        for i, (a, b) in enumerate(zip(network, mean_map, strict=True))
    }


def said(found: dict[str, Any]) -> list[str]:
    return sentences({"minus_mean_map": {"unseen": found}, "unit": "m", "leak": {"value": None}, "notes": ["a note"]})


def test_scores_of_scenes_average_to_those_of_the_frames() -> None:
    sheets = [("a", {"rmse": 1.0}), ("b", {"rmse": 4.0}), ("a", {"rmse": 2.0}), ("b", {})]
    found = by_scene({"model": sheets, "mean_map": sheets})
    assert found["a"] == {"frames": 2, "model": {"rmse": 1.5}, "mean_map": {"rmse": 1.5}}
    assert found["b"]["frames"] == 1
    whole = average(scores for _, scores in sheets)["rmse"]
    assert sum(row["frames"] * row["model"]["rmse"] for row in found.values()) / 3 == pytest.approx(whole)


def test_a_network_beats_the_mean_map_only_where_the_interval_leaves_out_0() -> None:
    levels = np.random.default_rng(0).uniform(0.6, 1.6, 14)
    better, mixed = levels - np.linspace(0.1, 0.2, 14), levels - 0.15 * np.resize([1, -0.8], 14)
    found = _minus_mean_map(scenes(list(better), list(levels)), "rmse")
    assert found["rmse"]["high"] < 0
    assert said(found)[0].endswith("paired over 14 scenes): it beats the mean map.")
    assert " m (95 %" in said(found)[0] and " m² (95 %" in said(found)[1] and said(found)[2] == "a note"
    worse = _minus_mean_map(scenes(list(levels), list(better)), "rmse")
    assert said(worse)[0].endswith("it is worse than the mean map.")
    apart = _minus_mean_map(scenes(list(mixed), list(levels)), "rmse")
    assert all(line.endswith("it cannot be told apart from the mean map.") for line in said(apart)[:2])


def test_the_difference_is_that_of_the_scores_over_frames() -> None:
    rows = scenes([1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 2.0, 2.0, 2.0, 2.0])
    frames = np.array([row["frames"] for row in rows.values()])
    assert paired(rows, "model", "mean_map", "rmse").estimate == pytest.approx(
        (frames * [-1, 0, 1, 2, 3]).sum() / frames.sum()
    )


def test_few_scenes_give_no_interval() -> None:
    found = _minus_mean_map(scenes([1.0, 1.0], [2.0, 2.0]), "rmse")
    assert found["rmse"]["low"] is None
    assert "an interval needs 5 scenes, not 2, so it cannot be told apart" in said(found)[0]
