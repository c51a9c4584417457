"""Protocols against their published crops."""

from __future__ import annotations

import numpy as np
import torch

from fathom.metrics.protocols import PROTOCOLS
from fathom.sample import Sample


def frame(height: int, width: int) -> Sample:
    depth = 1 + torch.arange(height * width, dtype=torch.float32).reshape(1, height, width) / (height * width)
    return Sample(torch.zeros(3, height, width), depth, torch.ones(1, height, width, dtype=torch.bool), "s", "f")


def test_the_garg_crop_is_that_of_the_kitti_scripts() -> None:
    for height, width in ((375, 1242), (352, 1216), (370, 1226)):
        h, w = height, width
        crop = np.array([0.40810811 * h, 0.99189189 * h, 0.03594771 * w, 0.96405229 * w]).astype(np.int32)
        mask = np.zeros((h, w), bool)
        mask[crop[0] : crop[1], crop[2] : crop[3]] = True
        sample = frame(h, w)
        region = PROTOCOLS["kitti-eigen"].apply(sample.depth[0], sample)
        assert region.target.shape == (crop[1] - crop[0], crop[3] - crop[2])
        np.testing.assert_array_equal(region.target.numpy().ravel(), sample.depth[0].numpy()[mask])


def test_ranges_of_the_presets() -> None:
    found = {name: (p.least, p.most) for name, p in PROTOCOLS.items()}
    assert found["kitti-eigen"] == (1e-3, 80.0)
    assert found["ibims"] == (1e-3, 50.0)
    assert found["seven-scenes"] == found["nyu-eigen"] == found["nyu-full"] == (1e-3, 10.0)
    assert set(found) == {
        "nyu-eigen", "nyu-full", "probe3d", "kitti-eigen", "diode", "diode-indoor", "diode-outdoor", "ibims",
        "seven-scenes", "native",
    }  # fmt: skip
    assert "edges" in PROTOCOLS["ibims"].groups


def test_nan_predictions_become_the_least_depth_and_the_rest_stays() -> None:
    sample = frame(20, 30)
    guess = torch.rand(20, 30) * 12
    guess[3, 4], guess[5, 6] = float("nan"), float("inf")
    for name in ("native", "seven-scenes"):
        protocol = PROTOCOLS[name]
        found = protocol.apply(guess, sample).predictions[0]
        expected = np.clip(np.nan_to_num(guess.numpy(), nan=protocol.least, posinf=protocol.most), protocol.least, protocol.most)  # fmt: skip
        np.testing.assert_array_equal(found.numpy(), expected)
