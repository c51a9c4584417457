"""Calibration: intervals that cover new scenes, and what cannot be calibrated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.depth_models.calibration import FILE, TERMS, calibration_of, read_calibration, tangents, terms, uncertainty
from fathom.errors import CheckpointError, DataError, UsageError
from fathom.evaluation.calibrate import calibrate, coverage, errors_by_scene, fitted_shape
from fathom.sample import Intrinsics
from tests.evaluation.captures import Painter, capture

CAMERA = Intrinsics(14.0, 14.0, 8.0, 6.0)


def test_scenes_like_those_of_the_calibration_are_covered() -> None:
    found = calibrate(Painter(), capture(scenes=40))
    new = coverage(Painter(), capture(scenes=60, views=1), found, 0.8)
    assert 0.74 < new["coverage"] < 0.88
    assert found.scenes == 40 and max(found.levels) == 0.97
    assert found.facts["left_out"]["0.8"]["coverage"] == pytest.approx(new["coverage"], abs=0.1)


def test_scenes_it_was_trained_on_give_no_quantile() -> None:
    trained = [f"room{i}" for i in range(6)]
    all_scenes = calibrate(Painter(train_scenes=trained), capture(scenes=12))
    assert all_scenes.scenes == 6
    with pytest.raises(DataError, match="has 1 scene that 'painter' was not trained on"):
        calibrate(Painter(train_scenes=trained), capture(scenes=7))


def test_the_interval_is_the_factor_around_each_depth() -> None:
    found = calibrate(Painter(), capture(scenes=20))
    depth = np.full((4, 5), 2.0, np.float32)
    lower, upper = found.interval(depth, CAMERA, 0.9)
    factor = np.exp(found.quantile(0.9))
    np.testing.assert_allclose(lower, 2 / factor, rtol=1e-5)
    np.testing.assert_allclose(upper, 2 * factor, rtol=1e-5)
    assert found.quantile(0.895) == found.quantile(0.9) >= found.quantile(0.5)


def test_the_shape_of_the_uncertainty_finds_where_errors_are_large() -> None:
    scenes = errors_by_scene(Painter(), capture(scenes=6, noise=0.0))
    for scene in scenes.values():
        scene.error[:] = 0.3 * np.exp(0.5 * scene.terms[3])  # grows downwards
    shape = fitted_shape(list(scenes.values()))
    assert shape[3] == pytest.approx(0.5, abs=0.1)
    assert len(shape) == len(TERMS)
    low, high = uncertainty(np.full((9, 9), 3.0), Intrinsics(5, 5, 4.5, 4.5), shape)[[0, -1], 4]
    assert high > low


def test_terms_are_functions_of_depth_and_ray() -> None:
    depth = np.full((2, 3), np.e)
    x, y = tangents(2, 3, Intrinsics(2.0, 4.0, 1.5, 1.0))
    found = terms(depth, Intrinsics(2.0, 4.0, 1.5, 1.0))
    np.testing.assert_allclose(found[:3, 0, 0], [1, 1, 1])
    np.testing.assert_allclose(found[3, :, 0], y)
    np.testing.assert_allclose(found[5, 0], x**2)
    np.testing.assert_allclose(x, [-0.5, 0, 0.5])


def test_a_model_without_metres_is_refused() -> None:
    with pytest.raises(UsageError, match="affine-disparity values, which have no unit"):
        calibrate(Painter("affine-disparity"), capture())
    with pytest.raises(UsageError, match="affine-disparity values, which have no unit"):
        calibration_of(Painter("affine-disparity"))


@pytest.mark.parametrize(
    ("options", "message"), [({"scenes": 1}, "has 1 scene "), ({"blind": True}, "no pixel of valid")]
)
def test_data_that_cannot_calibrate_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        calibrate(Painter(), capture(**options))


def test_too_high_a_level_names_what_the_scenes_promise() -> None:
    found = calibrate(Painter(), capture(scenes=5))
    with pytest.raises(UsageError, match=r"the 5 of painted promise at most 0\.83"):
        found.quantile(0.9)
    with pytest.raises(UsageError, match="not a probability"):
        found.quantile(90.0)


def test_it_survives_its_file_and_a_foreign_file_is_refused(tmp_path: Path) -> None:
    found = calibrate(Painter(), capture(scenes=5))
    assert read_calibration(found.save(tmp_path / FILE)) == found
    (tmp_path / FILE).write_text("{}")
    with pytest.raises(CheckpointError, match="checksum"):
        read_calibration(tmp_path / FILE)
    with pytest.raises(UsageError, match="'painter' has no calibration"):
        calibration_of(Painter())
