"""Angles between planes in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fathom.metrics.normals import angle_scores, angles, normal_scores
from fathom.sample import Intrinsics

CAMERA = Intrinsics(60.0, 62.0, 40.0, 30.0)
SIZE = (60, 80)


def plane(normal: tuple[float, float, float], distance: float = 3.0) -> torch.Tensor:
    """Depth of the plane n·X = −distance, n facing the camera."""
    v = (torch.arange(SIZE[0]) + 0.5 - CAMERA.cy) / CAMERA.fy
    u = (torch.arange(SIZE[1]) + 0.5 - CAMERA.cx) / CAMERA.fx
    n = np.array(normal) / np.linalg.norm(normal)
    return -distance / (n[0] * u[None] + n[1] * v[:, None] + n[2])


def test_the_angle_between_two_planes_is_that_of_their_normals() -> None:
    every = torch.ones(SIZE, dtype=torch.bool)
    for first, second in (((0, 0, -1), (0, 0.3, -1)), ((0.2, 0, -1), (-0.1, 0.1, -1))):
        a, b = (np.array(n) / np.linalg.norm(n) for n in (first, second))
        expected = math.degrees(math.acos(a @ b))
        found = normal_scores(plane(first), plane(second), every, CAMERA)
        assert found["normal_mean"] == pytest.approx(expected, abs=0.02)
        assert found["normal_median"] == pytest.approx(expected, abs=0.02)
        for name, limit in (("normal_11", 11.25), ("normal_22", 22.5), ("normal_30", 30)):
            assert found[name] == float(expected < limit)


def test_normals_of_the_data_take_the_place_of_fitted_ones() -> None:
    every = torch.ones(SIZE, dtype=torch.bool)
    stored = torch.zeros(3, *SIZE)
    stored[2] = -1
    stored[:, :, :40] = 0  # unknown there
    tilted = plane((0.3, 0, -1))
    found = normal_scores(tilted, tilted, every, CAMERA, stored)
    assert found["normal_mean"] == pytest.approx(math.degrees(math.atan(0.3)), abs=0.02)
    assert normal_scores(tilted, tilted, every, CAMERA)["normal_mean"] == pytest.approx(0, abs=0.02)


def test_a_rough_prediction_is_not_left_out() -> None:
    every, wall = torch.ones(SIZE, dtype=torch.bool), plane((0, 0, -1))
    noise = 0.5 * torch.randn(SIZE, generator=torch.Generator().manual_seed(0))
    rough = normal_scores(wall + noise, wall, every, CAMERA)
    assert rough["normal_mean"] > 10
    assert all(math.isnan(v) for v in normal_scores(wall, wall, every & False, CAMERA).values())


def test_angle_scores_equal_numpy_and_small_angles_are_exact() -> None:
    degrees = torch.rand(1001, dtype=torch.float64) * 60
    found = angle_scores(degrees)
    assert found["normal_median"] == pytest.approx(np.median(degrees.numpy()))
    assert found["normal_22"] == pytest.approx(np.mean(degrees.numpy() < 22.5))
    tiny = 1e-5
    a = torch.tensor([0.0, 0.0, 1.0]).double()[:, None, None]
    b = torch.tensor([math.sin(tiny), 0.0, math.cos(tiny)]).double()[:, None, None]
    assert float(angles(a, b)) == pytest.approx(math.degrees(tiny), rel=1e-6)
