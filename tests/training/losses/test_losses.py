"""Losses against plain NumPy, and the rules that all of them keep."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.errors import UsageError
from fathom.training.losses import DENSE_DEPTH, LOSSES, WeightedSum

Maps = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def maps(seed: int, batch: int = 2, channels: int = 1, size: tuple[int, int] = (13, 17), share: float = 0.7) -> Maps:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(batch, channels, *size, generator=generator) * 6 + 0.5
    prediction = (target + torch.randn(target.shape, generator=generator)).clamp(min=0.05)
    valid = torch.rand(batch, 1, *size, generator=generator) < share
    return prediction, target, valid


def value_and_gradient(loss: Callable[..., torch.Tensor], maps: Maps) -> tuple[torch.Tensor, torch.Tensor]:
    prediction = maps[0].clone().requires_grad_()
    value = loss(prediction, *maps[1:])
    value.backward()
    assert prediction.grad is not None
    return value.detach(), prediction.grad


def numpy_loss(name: str, prediction: np.ndarray, target: np.ndarray, valid: np.ndarray, c: float) -> float:
    """One image, `(H, W)` arrays, in float64, by loops or plain formulas."""
    d, v = prediction - target, valid
    if name == "mae":
        return float(np.abs(d[v]).mean())
    if name == "mse":
        return float((d[v] ** 2).mean())
    if name == "gradient":
        terms = []
        for axis in (0, 1):
            step = np.diff(prediction, axis=axis) - np.diff(target, axis=axis)
            both = np.minimum(np.delete(v, 0, axis), np.delete(v, -1, axis))
            terms.append(np.abs(step[both]).mean())
        return float(sum(terms))
    if name == "silog":
        e = np.log(prediction[v]) - np.log(target[v])
        return float(10 * np.sqrt((e**2).mean() - 0.85 * e.mean() ** 2))
    a = np.abs(d[v])
    return float(np.where(a <= c, a, (a**2 + c**2) / (2 * c)).mean())


@pytest.mark.parametrize("name", ["mae", "mse", "gradient", "silog", "berhu"])
def test_equals_the_formula_in_numpy(name: str) -> None:
    prediction, target, valid = maps(0)
    p, t, v = prediction.double().numpy(), target.double().numpy(), valid.numpy()
    c = 0.2 * np.abs((p - t)[v]).max()
    expected = np.mean([numpy_loss(name, p[i, 0], t[i, 0], v[i, 0], c) for i in range(len(p))])
    assert float(LOSSES[name](prediction, target, valid)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    garbage=st.sampled_from([float("nan"), float("inf"), -float("inf"), 1e30, -5.0]),
    in_target=st.booleans(),
    in_prediction=st.booleans(),
)
def test_an_invalid_pixel_has_no_influence_on_value_or_gradient(
    name: str, seed: int, garbage: float, in_target: bool, in_prediction: bool
) -> None:
    prediction, target, valid = maps(seed)
    clean = value_and_gradient(LOSSES[name], (prediction, target, valid))
    if in_target:
        target = torch.where(valid, target, garbage)
    if in_prediction:
        prediction = torch.where(valid, prediction, garbage)
    value, gradient = value_and_gradient(LOSSES[name], (prediction, target, valid))
    assert torch.equal(value, clean[0])
    assert torch.equal(gradient, clean[1])
    assert torch.isfinite(gradient).all()
    assert (gradient[~valid] == 0).all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", LOSSES)
def test_without_a_valid_pixel_loss_and_gradient_are_zero(name: str) -> None:
    prediction, target, valid = maps(1, share=0.0)
    value, gradient = value_and_gradient(LOSSES[name], (prediction * float("nan"), target, valid))
    assert float(value) == 0
    assert (gradient == 0).all()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"berhu"}))
def test_a_batch_is_the_mean_of_its_images_however_many_pixels_each_has(name: str) -> None:
    prediction, target, valid = maps(2, batch=4)
    valid[1] &= torch.rand(valid[1].shape) < 0.1
    valid[3] = False
    whole = LOSSES[name](prediction, target, valid)
    halves = [LOSSES[name](prediction[i], target[i], valid[i]) for i in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, torch.stack(halves).mean(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_prediction_costs_nothing(name: str) -> None:
    _, target, valid = maps(3)
    assert float(LOSSES[name](target, target, valid)) == pytest.approx(0, abs=2e-3 if name == "silog" else 1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_that_of_the_value(name: str) -> None:
    prediction, target, valid = maps(4, batch=1, size=(6, 7))
    # The threshold of berHu moves with the largest error, but is no part of the gradient: hold that error still.
    prediction[0, 0, 0, 0], target[0, 0, 0, 0], valid[0, 0, 0, 0] = 9.0, 1.0, name == "berhu"
    held = torch.zeros_like(valid)
    held[0, 0, 0, 0] = True
    still, wild = prediction.double(), prediction.double().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: LOSSES[name](torch.where(held, still, x), target.double(), valid), (wild,), atol=1e-5
    )


@pytest.mark.parametrize("name", LOSSES)
def test_is_computed_in_float32_under_autocast_and_from_bfloat16(name: str) -> None:
    prediction, target, valid = maps(5)
    rounded = prediction.bfloat16()
    expected = LOSSES[name](rounded.float(), target, valid)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = LOSSES[name](rounded, target, valid)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_ssim_loss_of_opposites_exceeds_a_half() -> None:
    # With SSIM clipped at 0 it could not.
    _, target, valid = maps(6, share=1.1)
    mean = target.mean()
    assert float(LOSSES["ssim"](2 * mean - target, target, valid)) > 0.6


def test_silog_ignores_most_of_a_common_factor() -> None:
    _, target, valid = maps(7)
    value = float(LOSSES["silog"](2 * target, target, valid))
    assert value == pytest.approx(10 * np.sqrt(0.15) * np.log(2), rel=1e-4)


def test_the_weighted_sum_adds_its_terms_and_reads_each() -> None:
    prediction, target, valid = maps(8)
    total, terms = WeightedSum({"mae": 0.5, "ssim": 2.0}, data_range=7.0)(prediction, target, valid)
    assert set(terms) == {"mae", "ssim"}
    torch.testing.assert_close(terms["mae"], LOSSES["mae"](prediction, target, valid))
    torch.testing.assert_close(terms["ssim"], LOSSES["ssim"](prediction, target, valid, data_range=7.0))
    torch.testing.assert_close(total, 0.5 * terms["mae"] + 2 * terms["ssim"])
    assert not torch.equal(terms["ssim"], LOSSES["ssim"](prediction, target, valid))


def test_the_default_weights_are_those_of_dense_depth() -> None:
    assert dict(WeightedSum().weights) == DENSE_DEPTH == {"ssim": 1.0, "gradient": 1.0, "mae": 0.1}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"gradeint": 1.0}, "did you mean 'gradient'"),
        ({}, "at least one"),
        ({"mae": -1.0}, "'mae' must be 0 or more"),
        ({"mae": float("nan")}, "'mae' must be 0 or more"),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        WeightedSum(weights)


def test_maps_of_different_shape_are_refused() -> None:
    prediction, target, valid = maps(9)
    with pytest.raises(ValueError, match="shape"):
        LOSSES["mae"](prediction[..., :-1], target, valid)
