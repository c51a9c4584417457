"""Moments add, select, move and predict losses as the data themselves would."""

from __future__ import annotations

import pytest
import torch

from fathom.probing.linear.moments import ContradictionError, Moments, power_of_two


def data(n: int = 200, p: int = 5, q: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, p, generator=g, dtype=torch.float64) + 3, torch.randn(
        n, q, generator=g, dtype=torch.float64
    ) - 2


def raw(m: Moments) -> list[torch.Tensor]:
    zero = m.about(torch.zeros_like(m.shift_x), torch.zeros_like(m.shift_y))
    return [zero.n, zero.x, zero.y, zero.xx, zero.xy, zero.yy]


def test_sums_are_the_sums_of_the_matrix() -> None:
    X, Y = data()
    expected = [torch.tensor([200.0]).double(), X.sum(0), Y.sum(0), X.T @ X, X.T @ Y, Y.square().sum(0)]
    for got, want in zip(raw(Moments.of(X, Y)), expected, strict=True):
        torch.testing.assert_close(got.squeeze(0), want.squeeze(0))


def test_moments_of_parts_about_different_shifts_add_to_the_whole() -> None:
    X, Y = data()
    both = Moments.of(X[:70], Y[:70]) + Moments.of(X[70:], Y[70:])
    for got, want in zip(raw(both), raw(Moments.of(X, Y)), strict=True):
        torch.testing.assert_close(got, want)


def test_selecting_columns_is_reading_only_those() -> None:
    X, Y = data()
    for got, want in zip(
        raw(Moments.of(X, Y).select([4, 1], [1])), raw(Moments.of(X[:, [4, 1]], Y[:, [1]])), strict=True
    ):
        torch.testing.assert_close(got, want)


def test_loss_of_any_map_is_its_squared_error() -> None:
    X, Y = data()
    weight, bias = torch.randn(5, 2, dtype=torch.float64), torch.randn(2, dtype=torch.float64)
    expected = (Y - X @ weight - bias).square().sum(0)
    torch.testing.assert_close(Moments.of(X, Y).loss(weight, bias)[0], expected)


SCALES = [1e-36, 1e-24, 1e-22, 1.0, 1e12, 1e17, 1e30]


@pytest.mark.parametrize("scale", SCALES)
def test_float32_features_of_any_size_give_the_moments_of_float64(scale: float) -> None:
    X, Y = data()
    X = (X * scale).float()
    got, want = Moments.of(X, Y.float()), Moments.of(X.double(), Y.float().double())
    for name, size in (("x", scale), ("xx", scale**2), ("xy", scale), ("yy", 1.0)):
        torch.testing.assert_close(getattr(got, name) / size, getattr(want, name) / size, rtol=1e-5, atol=1e-4)


def test_one_channel_may_grow_by_many_orders_in_a_later_batch() -> None:
    X, Y = data()
    later = X.float().clone()
    later[:, 2] *= 1e25
    both = Moments.zeros(1, X.mean(0), Y.mean(0))
    exact = Moments.zeros(1, X.mean(0), Y.mean(0))
    for part in (X.float(), later):
        both.add(0, part, Y.float())
        exact.add(0, part.double(), Y.float().double())
    size = exact.xx[0].diagonal().sqrt()
    torch.testing.assert_close(
        both.xx[0] / torch.outer(size, size), exact.xx[0] / torch.outer(size, size), rtol=1e-5, atol=1e-6
    )


def test_scales_are_powers_of_two_and_one_where_none_is_needed() -> None:
    scale = power_of_two(torch.tensor([0.0, 1.0, 300.0, 1e-3, 1e-24, 1e30, 3e38, 1e-45]))
    assert scale[:4].tolist() == [1, 1, 1, 1]
    assert (torch.frexp(scale)[0] == 0.5).all() and torch.isfinite(scale).all()
    scaled = torch.tensor([1e-24, 1e30, 3e38]) * scale[4:7]
    assert ((scaled >= 0.5) & (scaled < 4)).all()


def test_range_and_rounding_follow_the_data() -> None:
    X, Y = data()
    both = Moments.zeros(2, X.mean(0), Y.mean(0))
    both.add(0, X[:70], Y[:70])
    assert both.rounding == 2.0**-53
    both.add(1, X[70:].float(), Y[70:].float())
    assert both.rounding == 2.0**-24
    torch.testing.assert_close(both.total().low[0], Y.amin(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(both.total().high[0], Y.amax(0), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(both.take([0]).high[0], Y[:70].amax(0))
    assert both.select([0], [1]).low.shape == (2, 1)


def test_a_loss_below_zero_is_an_error_and_rounding_is_not() -> None:
    X, _ = data()
    moments = Moments.of(X, X[:, :2])
    assert (moments.loss(torch.eye(5, 2).double(), torch.zeros(2).double()) >= 0).all()
    moments.xx *= 0  # products that underflowed, while those with the target survived
    with pytest.raises(ContradictionError, match="cannot be negative"):
        moments.loss(torch.eye(5, 2).double(), torch.zeros(2).double())
