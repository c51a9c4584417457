"""Moments add, select, move and predict losses as the data themselves would."""

from __future__ import annotations

import torch

from fathom.probing.linear.moments import Moments


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


def test_minus_undoes_plus() -> None:
    X, Y = data()
    whole = Moments.zeros(2, X.mean(0), Y.mean(0))
    whole.add(0, X[:50], Y[:50])
    whole.add(1, X[50:], Y[50:])
    left = whole.total().minus(whole.total([0]))
    for got, want in zip(raw(left), raw(Moments.of(X[50:], Y[50:])), strict=True):
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
