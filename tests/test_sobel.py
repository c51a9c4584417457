"""The Sobel operator against SciPy, and its mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from fathom.sobel import sobel, sobel_edges, sobel_xy


def test_equals_scipy_divided_by_eight() -> None:
    depth = torch.rand(2, 1, 9, 11, dtype=torch.float64)
    gx, gy = sobel(depth)
    for image in range(2):
        for ours, axis in ((gx, 1), (gy, 0)):
            expected = ndimage.sobel(depth[image, 0].numpy(), axis=axis, mode="nearest") / 8
            np.testing.assert_allclose(ours[image, 0].numpy(), expected, atol=1e-12)


def test_a_ramp_has_its_slope_in_metres_per_pixel() -> None:
    y, x = torch.meshgrid(torch.arange(6.0), torch.arange(7.0), indexing="ij")
    depth = (0.3 * x - 0.4 * y)[None]
    edges, known = sobel_edges(depth, torch.ones(1, 6, 7, dtype=torch.bool))
    torch.testing.assert_close(edges[known], torch.full((20,), 0.5))
    both, _ = sobel_xy(depth, torch.ones(1, 6, 7, dtype=torch.bool))
    assert both.shape == (2, 6, 7)
    torch.testing.assert_close(both[:, 3, 3], torch.tensor([0.3, -0.4]))


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), 1e9])
def test_an_invalid_pixel_makes_its_neighbours_unknown_and_touches_nothing_else(garbage: float) -> None:
    depth = torch.rand(1, 8, 9)
    valid = torch.ones(1, 8, 9, dtype=torch.bool)
    whole, _ = sobel_edges(depth, valid)
    valid[0, 3, 4] = False
    depth[0, 3, 4] = garbage
    edges, known = sobel_edges(depth, valid)
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[1:-1, 1:-1] = True
    expected[2:5, 3:6] = False
    assert torch.equal(known[0], expected)
    assert torch.equal(edges[known], whole[known])
    assert (edges[~known] == 0).all()
