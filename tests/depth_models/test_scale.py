"""Known distances fix the scale, as many as the kind of depth takes; nothing relative is ever given in metres."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fathom.data.camera import assumed
from fathom.depth_models.model import KINDS, Kind
from fathom.depth_models.prediction import Prediction
from fathom.depth_models.scale import Known, fix_scale, parse_known
from fathom.errors import UsageError

TRUTH = np.random.default_rng(0).uniform(0.5, 8, (30, 40)).astype(np.float32)


def as_kind(kind: Kind) -> np.ndarray:
    """The truth as a model of `kind` might give it."""
    values = {"metric": TRUTH * 0.8, "scale-invariant": TRUTH / 7, "affine-depth": TRUTH * 0.3 - 0.05}
    return values.get(kind, 40 / TRUTH + 3).astype(np.float32)


def points(count: int) -> list[Known]:
    return [Known(x + 0.5, y + 0.5, float(TRUTH[y, x])) for x, y in ((5, 7), (30, 20), (12, 25))[:count]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [2, 3])
def test_known_distances_give_the_truth_back(kind: Kind, count: int) -> None:
    metres, operations = fix_scale(as_kind(kind), kind, points(count))
    np.testing.assert_allclose(metres, TRUTH, rtol=2e-4)
    assert len(operations) == 1 and f"= {TRUTH[7, 5]:g} m" in operations[0]


def test_one_distance_fixes_a_factor_and_not_a_shift() -> None:
    for kind in ("metric", "scale-invariant"):
        np.testing.assert_allclose(fix_scale(as_kind(kind), kind, points(1))[0], TRUTH, rtol=1e-5)  # type: ignore[arg-type]
    for kind in ("affine-depth", "affine-disparity"):
        with pytest.raises(UsageError, match="give --known twice"):
            fix_scale(as_kind(kind), kind, points(1))  # type: ignore[arg-type]


def test_what_lies_beyond_infinity_is_unknown() -> None:
    disparity = np.array([[4.0, 2.0, 1.0]], np.float32)  # 1/d = 0.5 v − 1: nothing is as far as the third
    metres, _ = fix_scale(disparity, "affine-disparity", [Known(0.5, 0.5, 1.0), Known(1.2, 0.5, 1e6)])
    assert metres[0, 0] == pytest.approx(1) and np.isnan(metres[0, 2])


@pytest.mark.parametrize(
    ("kind", "known", "words"),
    [
        ("metric", [Known(40.0, 3.0, 1.0)], "outside the image"),
        ("metric", [Known(-1.0, 3.0, 1.0)], "outside the image"),
        ("affine-disparity", [Known(5.0, 7.0, 1.0), Known(5.0, 7.0, 2.0)], "same value"),
        (
            "affine-disparity",
            [Known(5.0, 7.0, float(1 / TRUTH[7, 5])), Known(30.0, 20.0, float(1 / TRUTH[20, 30]))],
            "contradict",
        ),
    ],
)
def test_points_that_cannot_be_used_are_explained(kind: Kind, known: list[Known], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fix_scale(as_kind(kind), kind, known)


def test_a_distance_is_written_as_x_y_metres() -> None:
    assert parse_known("320,240=1.5") == Known(320.0, 240.0, 1.5)
    for text in ("320,240", "1=2", "a,b=c", "1,2,3=4"):
        with pytest.raises(UsageError, match="X,Y=METRES"):
            parse_known(text)
    for metres in ("0", "-1", "nan", "inf"):
        with pytest.raises(UsageError, match="not above 0"):
            parse_known(f"1,2={metres}")


def prediction(kind: Kind) -> Prediction:
    return Prediction(
        np.zeros((30, 40, 3), np.uint8), as_kind(kind), kind, assumed((30, 40)), model={"name": "hf:some/model"}
    )


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "metric"])
def test_nothing_relative_is_given_in_metres(kind: Kind, tmp_path: Path) -> None:
    relative = prediction(kind)
    assert relative.unit == ""
    for attempt in (
        lambda: relative.depth,
        lambda: relative.save_png16(tmp_path / "d.png"),
        lambda: relative.pointcloud(tmp_path / "p.ply"),
        lambda: relative.save_colour(tmp_path / "c.png", near=1.0),
        lambda: relative.beyond_png(),
    ):
        with pytest.raises(UsageError, match=r"hf:some/model gives .* no unit.*--known X,Y=METRES"):
            attempt()
    assert list(tmp_path.iterdir()) == []
    record = relative.record()
    assert (record["kind"], record["unit"]) == (kind, None)
    scaled = relative.scaled(*points(2))
    np.testing.assert_allclose(scaled.depth, TRUTH, rtol=2e-4)
    scaled.save_sidecar(tmp_path / "d.json", ["d.png"])
    record = json.loads((tmp_path / "d.json").read_text())
    assert record["kind"] == "metric" and record["unit"] == "m" and len(record["scale_operations"]) == 1
    assert record["camera"]["origin"] == "assumed" and record["files"] == ["d.png"] and record["versions"]["fathom"]


def test_the_scale_of_a_colour_map_says_metres_of_metres_alone() -> None:
    from fathom.media.colour_map import LABELS

    assert set(LABELS) == set(KINDS)
    assert [kind for kind in KINDS if "metres" in LABELS[kind]] == ["metric"]


def test_near_is_bright_for_every_kind(tmp_path: Path) -> None:
    from PIL import Image

    ramp = np.linspace(1, 5, 60 * 80, dtype=np.float32).reshape(60, 80)
    for kind, values in (("metric", ramp), ("affine-disparity", 1 / ramp)):
        one = Prediction(np.zeros((60, 80, 3), np.uint8), values, kind, assumed((60, 80)))  # type: ignore[arg-type]
        picture = np.array(Image.open(one.save_colour(tmp_path / f"{kind}.png")).convert("L"), float)
        assert picture[2, 2] > picture[57, 77] + 100
