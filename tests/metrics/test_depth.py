"""Metrics against a plain NumPy loop in float64, alignments against lstsq, protocols against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.errors import UsageError
from fathom.metrics.alignment import median, scale, scale_shift
from fathom.metrics.depth import METRICS, depth_metrics, metrics_of_rows, squared_error
from fathom.metrics.protocols import PROTOCOLS
from fathom.sample import Sample


def maps(rows: int = 3, size: tuple[int, int] = (40, 50)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    predictions = torch.rand(rows, *size, generator=g) * 9 + 0.1
    target = torch.rand(*size, generator=g) * 9 + 0.1
    return predictions, target, torch.rand(*size, generator=g) > 0.3


def reference(p: torch.Tensor, g: torch.Tensor, valid: torch.Tensor) -> dict[str, float]:
    pairs = [(float(a), float(b)) for a, b, ok in zip(p.flatten(), g.flatten(), valid.flatten(), strict=True) if ok]
    p, g = np.array([a for a, _ in pairs]), np.array([b for _, b in pairs])
    e = np.log(p) - np.log(g)
    ratio = np.maximum(p / g, g / p)
    return {
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(e**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.sqrt(np.mean(e**2) - np.mean(e) ** 2),
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


def test_batched_frames_equal_frames_one_by_one() -> None:
    predictions, target, valid = maps()
    batch = depth_metrics(predictions, target.expand(3, -1, -1), valid.expand(3, -1, -1))
    torch.testing.assert_close(batch["rmse"], metrics_of_rows(predictions, target, valid)["rmse"])


def test_pooled_sums_give_the_pooled_rmse() -> None:
    predictions, target, valid = maps()
    total, count = squared_error(predictions[0], target, valid)
    assert (total / count) ** 0.5 == pytest.approx(reference(predictions[0], target, valid)["rmse"], rel=1e-6)


def test_alignments_equal_lstsq() -> None:
    predictions, target, valid = maps()
    p, g = predictions[0][valid].double().numpy(), target[valid].double().numpy()
    (s,), *_ = np.linalg.lstsq(p[:, None], g, rcond=None)
    np.testing.assert_allclose(scale(predictions[0], target, valid).numpy(), predictions[0].numpy() * s, rtol=1e-5)
    (a, b), *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), g, rcond=None)
    np.testing.assert_allclose(
        scale_shift(predictions[0], target, valid).numpy(), predictions[0].numpy() * a + b, rtol=1e-4
    )
    aligned = median(predictions[0], target, valid)
    assert float(aligned[valid].median()) == pytest.approx(float(target[valid].median()), rel=1e-5)


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
