"""Metrics against a plain NumPy loop in float64, alignments against lstsq, protocols against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.errors import UsageError
from fathom.metrics.depth import METRICS, _workspace, metrics_of_rows
from fathom.metrics.protocols import PROTOCOLS
from fathom.sample import Sample


def maps(rows: int = 3, size: tuple[int, int] = (40, 50)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    predictions = torch.rand(rows, *size, generator=g) * 9 + 0.1
    target = torch.rand(*size, generator=g) * 9 + 0.1
    return predictions, target, torch.rand(*size, generator=g) > 0.3


def reference(p: torch.Tensor, g: torch.Tensor, valid: torch.Tensor) -> dict[str, float]:
    keep = valid.numpy()
    p, g = (x.double().numpy()[keep] for x in (p, g))
    e = np.log(p) - np.log(g)
    ratio = np.maximum(p / g, g / p)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "sq_rel_kitti": np.mean(((p - g) / g) ** 2),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.std(e),
        "silog_half": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2 / 2),
        "mae": np.mean(np.abs(p - g)),
        "delta1": np.mean(ratio < 1.25),
        "delta2": np.mean(ratio < 1.25**2),
        "delta3": np.mean(ratio < 1.25**3),
    }


def test_every_metric_equals_a_numpy_loop() -> None:
    predictions, target, valid = maps()
    got = metrics_of_rows(predictions, target, valid)
    for row in range(3):
        expected = reference(predictions[row], target, valid)
        for name in METRICS:
            assert float(got[name][row]) == pytest.approx(expected[name], rel=1e-6), name


def test_an_invalid_pixel_has_no_influence() -> None:
    predictions, target, valid = maps()
    before = metrics_of_rows(predictions, target, valid)
    target[~valid], predictions[:, ~valid] = float("nan"), float("inf")
    after = metrics_of_rows(predictions, target, valid)
    for name in METRICS:
        torch.testing.assert_close(before[name], after[name], rtol=0, atol=0)


def test_no_valid_pixel_is_nan_and_a_perfect_prediction_perfect() -> None:
    predictions, target, valid = maps()
    assert all(torch.isnan(v).all() for v in metrics_of_rows(predictions, target, valid & False).values())
    perfect = metrics_of_rows(target[None], target, valid)
    assert float(perfect["delta1"]) == 1
    assert float(perfect["rmse"]) == 0


def test_one_pixel_and_a_constant_prediction_have_finite_metrics() -> None:
    predictions, target, valid = maps()
    one = torch.zeros_like(valid)
    one[3, 4] = True
    found = metrics_of_rows(predictions, target, one)
    expected = reference(predictions[1], target, one)
    for name in METRICS:
        assert float(found[name][1]) == pytest.approx(expected[name], rel=1e-5, abs=1e-4), name
    assert float(found["silog"][0]) == pytest.approx(0, abs=1e-4)  # one logarithm has no variance
    constant = metrics_of_rows(torch.full_like(target, 3.0)[None], target, valid)
    for name, value in reference(torch.full_like(target, 3.0), target, valid).items():
        assert float(constant[name]) == pytest.approx(value, rel=1e-6), name


def test_bands_without_a_valid_pixel_and_wide_maps_change_nothing() -> None:
    predictions, target, valid = maps(size=(700, 400))  # several pieces
    valid[100:400] = False  # some of which hold no valid pixel
    for name, values in metrics_of_rows(predictions, target, valid).items():
        assert float(values[2]) == pytest.approx(reference(predictions[2], target, valid)[name], rel=1e-6), name
    wide = metrics_of_rows(predictions.reshape(3, 1, -1), target.reshape(1, -1), valid.reshape(1, -1))
    torch.testing.assert_close(wide["silog"], metrics_of_rows(predictions, target, valid)["silog"], rtol=1e-6, atol=0)


def frame(height: int, width: int) -> Sample:
    rows = torch.arange(height, dtype=torch.float32)[:, None].expand(height, width) / 100 + 0.5
    return Sample(
        torch.zeros(3, height, width), rows[None].clone(), torch.ones(1, height, width, dtype=torch.bool), "s", "f"
    )


def test_the_eigen_crop_is_the_same_pixels_with_and_without_a_border() -> None:
    protocol, whole = PROTOCOLS["nyu-eigen"], frame(480, 640)
    full = protocol.apply(whole.depth[0], whole)
    assert full.target.shape == (426, 560)
    cut = Sample(whole.image[:, 8:-8, 8:-8], whole.depth[:, 8:-8, 8:-8], whole.valid[:, 8:-8, 8:-8], "s", "f")
    torch.testing.assert_close(protocol.apply(cut.depth[0], cut).target, full.target)


def test_a_crop_that_does_not_belong_to_the_frame_is_refused() -> None:
    for size in ((120, 160), (480, 480)):
        with pytest.raises(UsageError, match="nyu-eigen"):
            PROTOCOLS["nyu-eigen"].apply(torch.ones(size), frame(*size))
    # The 480x480 crop reaches the frame's edge, so a cut border takes pixels that count.
    with pytest.raises(UsageError, match="probe3d"):
        PROTOCOLS["probe3d"].apply(torch.ones(464, 624), frame(464, 624))


def test_predictions_are_enlarged_clamped_and_made_finite() -> None:
    sample = frame(48, 64)
    guess = torch.full((6, 8), 99.0)
    guess[0, 0], guess[-1, -1], guess[0, -1] = float("nan"), float("-inf"), float("inf")
    region = PROTOCOLS["nyu-full"].apply(guess, sample)
    assert region.predictions.shape == (1, 48, 64)
    assert float(region.predictions.min()) == pytest.approx(1e-3)
    assert float(region.predictions.max()) == 10


def test_depth_beyond_the_range_does_not_count() -> None:
    sample = frame(48, 64)
    sample.depth[0, 0], sample.depth[0, 1] = 10.0, 0.0
    assert PROTOCOLS["nyu-full"].apply(sample.depth[0], sample).valid.sum() == 46 * 64


def test_silog_is_exact_where_a_prediction_is_off_by_a_large_factor() -> None:
    _, target, valid = maps(size=(300, 400))
    prediction = 20 * target * (1 + 0.01 * torch.rand(target.shape, generator=torch.Generator().manual_seed(2)))
    got = metrics_of_rows(prediction[None], target, valid)
    assert float(got["silog"]) == pytest.approx(reference(prediction, target, valid)["silog"], rel=1e-5)


def test_a_ratio_of_exactly_the_threshold_does_not_count_and_large_maps_agree() -> None:
    target = torch.ones(300, 300)
    prediction = torch.stack([target * 1.25**k for k in (1, 2, 3)] + [target / 1.25])
    got = metrics_of_rows(prediction, target, target > 0)
    assert got["delta1"].tolist() == [0, 0, 0, 0]
    assert got["delta2"].tolist() == [1, 0, 0, 1]
    assert got["delta3"].tolist() == [1, 1, 0, 1]
    predictions, target, valid = maps(size=(300, 400))
    for names in (("silog",), ("delta2", "rmse"), ("sq_rel",)):
        for name, values in metrics_of_rows(predictions, target, valid, names).items():
            assert float(values[1]) == pytest.approx(reference(predictions[1], target, valid)[name], rel=1e-6)


def test_the_last_digits_do_not_depend_on_where_memory_was_given() -> None:
    generator = torch.Generator().manual_seed(3)
    prediction, target = (torch.rand(40, 1001, generator=generator) + 0.5 for _ in range(2))
    valid = torch.rand(40, 1001, generator=generator) < 0.9
    found = set()
    for offset in range(1, 40, 3):
        held = [np.empty(offset * 257, dtype=np.uint8) for _ in range(offset)]  # moves what the allocator gives next
        numbers = metrics_of_rows(prediction[None], target, valid)
        found.add(tuple(float(value) for value in numbers.values()))
        del held
    assert len(found) == 1
    assert all(_workspace(pixels)[row].ctypes.data % 64 == 0 for pixels in (7, 1001, 32768) for row in range(3))
