"""F-scores against distances between all pairs of points."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.metrics.points import back_projected, point_scores
from fathom.sample import Intrinsics

CAMERA = Intrinsics(40.0, 42.0, 14.5, 11.0)


def maps(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    truth = 1 + torch.rand(1, 1, 4, 5, generator=g)
    truth = torch.nn.functional.interpolate(truth, (22, 29), mode="bilinear")[0, 0]
    return truth + 0.1 * torch.randn(22, 29, generator=g), truth, torch.rand(22, 29, generator=g) > 0.2


def cloud(depth: torch.Tensor, valid: torch.Tensor) -> np.ndarray:
    points = []
    for row in range(depth.shape[0]):
        for column in range(depth.shape[1]):
            if valid[row, column]:
                z = float(depth[row, column])
                points.append([(column + 0.5 - 14.5) / 40 * z, (row + 0.5 - 11) / 42 * z, z])
    return np.array(points)


def test_f_scores_equal_all_pairs_of_points() -> None:
    prediction, target, valid = maps()
    a, b = cloud(prediction, valid), cloud(target, valid)
    np.testing.assert_allclose(back_projected(prediction, valid, CAMERA), a, rtol=1e-6)
    distances = np.linalg.norm(a[:, None] - b[None], axis=2)
    found = point_scores(prediction, target, valid, CAMERA)
    for name, tau in (("points_f5cm", 0.05), ("points_f10cm", 0.10)):
        precision, recall = (distances.min(1) < tau).mean(), (distances.min(0) < tau).mean()
        assert found[name] == pytest.approx(2 * precision * recall / (precision + recall))
        assert 0.1 < found[name] < 0.99


def test_extremes() -> None:
    prediction, target, valid = maps()
    assert set(point_scores(target, target, valid, CAMERA).values()) == {1.0}
    assert set(point_scores(target + 5, target, valid, CAMERA).values()) == {0.0}
    assert all(np.isnan(v) for v in point_scores(prediction, target, valid & False, CAMERA).values())
    one = torch.zeros_like(valid)
    one[3, 4] = True
    near = torch.where(one, target + 0.07, target)
    assert list(point_scores(near, target, one, CAMERA).values()) == [0.0, 1.0]


def test_points_are_thinned_without_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    g = torch.Generator().manual_seed(1)
    target = torch.full((120, 160), 2.0)
    prediction = torch.where(torch.rand(120, 160, generator=g) < 0.7, target, target + 1)
    every = torch.ones(120, 160, dtype=torch.bool)
    camera = Intrinsics(20.0, 20.0, 80.0, 60.0)  # pixels are 10 cm apart
    full = point_scores(prediction, target, every, camera)
    monkeypatch.setattr("fathom.metrics.points.MOST_QUERIES", 2000)
    assert point_scores(prediction, target, every, camera) == pytest.approx(full, abs=0.03)
