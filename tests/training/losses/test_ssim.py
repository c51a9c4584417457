"""SSIM against scikit-image, its range, its factors, and its masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import structural_similarity

from fathom.training.losses.ssim import gaussian_window, ssim_components, ssim_map


def pair(seed: int, size: tuple[int, int] = (40, 52), channels: int = 1, scale: float = 10.0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(1, channels, *size, generator=generator) * scale
    y = (x + torch.randn(x.shape, generator=generator) * 0.2 * scale).clamp(0, scale)
    return x, y, torch.ones(1, 1, *size, dtype=torch.bool)


def reference(x: torch.Tensor, y: torch.Tensor, data_range: float) -> np.ndarray:
    _, full = structural_similarity(
        x[0, 0].double().numpy(), y[0, 0].double().numpy(), gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=data_range, full=True,
    )  # fmt: skip
    return full


@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
def test_agrees_with_scikit_image_inside_the_border(scale: float) -> None:
    x, y, valid = pair(0, scale=scale)
    ours = ssim_map(x, y, valid, scale)[0, 0].numpy()
    assert np.abs(ours - reference(x, y, scale))[5:-5, 5:-5].max() < 1e-5


def test_agrees_with_scikit_image_on_a_large_offset_with_little_contrast() -> None:
    x, y, valid = pair(1, scale=0.05)
    x, y = x + 9.0, y + 9.0
    ours = ssim_map(x, y, valid, 10.0)[0, 0].numpy()
    assert np.abs(ours - reference(x, y, 10.0))[5:-5, 5:-5].max() < 1e-5


def test_the_window_is_that_of_wang_et_al() -> None:
    window = gaussian_window()
    assert window.numel() == 11
    assert float(window.sum()) == pytest.approx(1, abs=1e-12)
    assert float(window[5] / window[6]) == pytest.approx(np.exp(1 / (2 * 1.5**2)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), kind=st.sampled_from(["noise", "opposite", "constant", "equal"]))
def test_lies_within_minus_one_and_one(seed: int, kind: str) -> None:
    x, y, valid = pair(seed, (16, 17))
    y = {"noise": y, "opposite": 10 - x, "constant": torch.full_like(x, 3.0), "equal": x}[kind]
    value = ssim_map(x, y, valid, 10.0)
    assert value.min() >= -1 - 1e-5
    assert value.max() <= 1 + 1e-5
    if kind == "equal":
        assert torch.allclose(value, torch.ones_like(value), atol=1e-5)
    if kind == "opposite":
        assert value.min() < -0.5


def test_product_of_luminance_contrast_and_structure_is_ssim() -> None:
    x, y, valid = pair(2)
    valid[..., 10:20, 10:20] = False
    factors = ssim_components(x, y, valid, 10.0)
    product = factors.luminance * factors.contrast * factors.structure
    torch.testing.assert_close(product, ssim_map(x, y, valid, 10.0), atol=1e-5, rtol=0)


def test_each_factor_answers_to_its_own_change() -> None:
    x, _, valid = pair(3)
    x = x / 2 + 2
    brighter = ssim_components(x, x + 2, valid, 10.0)
    stretched = ssim_components(x, (x - x.mean()) * 0.3 + x.mean(), valid, 10.0)
    turned = ssim_components(x, 2 * x.mean() - x, valid, 10.0)
    one = torch.tensor(1.0)
    torch.testing.assert_close(brighter.contrast.mean(), one, atol=1e-4, rtol=0)
    torch.testing.assert_close(brighter.structure.mean(), one, atol=1e-4, rtol=0)
    assert brighter.luminance.mean() < 0.97
    assert stretched.contrast.mean() < 0.8
    assert turned.structure.mean() < -0.5
    torch.testing.assert_close(turned.contrast.mean(), one, atol=1e-4, rtol=0)


def test_masked_windows_equal_moments_taken_pixel_by_pixel() -> None:
    x, y, valid = pair(4, (14, 15))
    valid[0, 0] = torch.rand(14, 15, generator=torch.Generator().manual_seed(9)) > 0.4
    ours = ssim_map(x, y, valid, 10.0)
    window = gaussian_window().numpy()
    for row, column in [(0, 0), (7, 7), (13, 2), (5, 14)]:
        weights, xs, ys = [], [], []
        for i in range(max(row - 5, 0), min(row + 6, 14)):
            for j in range(max(column - 5, 0), min(column + 6, 15)):
                if valid[0, 0, i, j]:
                    weights.append(window[i - row + 5] * window[j - column + 5])
                    xs.append(float(x[0, 0, i, j]))
                    ys.append(float(y[0, 0, i, j]))
        w = np.array(weights) / np.sum(weights)
        mx, my = np.dot(w, xs), np.dot(w, ys)
        vx, vy = np.dot(w, (xs - mx) ** 2), np.dot(w, (ys - my) ** 2)
        cov = np.dot(w, (xs - mx) * (ys - my))
        c1, c2 = 0.1**2, 0.3**2
        expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
        assert float(ours[0, 0, row, column]) == pytest.approx(expected, abs=1e-5)


def test_a_map_smaller_than_the_window_is_one_window() -> None:
    x, y, valid = pair(5, (3, 4))
    assert torch.isfinite(ssim_map(x, y, valid, 10.0)).all()
    assert torch.allclose(ssim_map(x, x, valid, 10.0), torch.ones(1, 1, 3, 4), atol=1e-6)
