"""The closed form against scikit-learn, and its conduct on matrices that break a careless solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import cross_validate, decompose, path_losses


def planted(n: int = 600, p: int = 12, q: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, p, generator=g, dtype=torch.float64) @ torch.randn(p, p, generator=g, dtype=torch.float64)
    X = X * torch.logspace(-3, 3, p, dtype=torch.float64) + torch.randn(p, generator=g, dtype=torch.float64)
    Y = X @ torch.randn(p, q, generator=g, dtype=torch.float64) / 100 + torch.randn(
        n, q, generator=g, dtype=torch.float64
    )
    return X, Y


def sklearn_ridge(X: torch.Tensor, Y: torch.Tensor, lam: float):
    return make_pipeline(StandardScaler(), Ridge(alpha=lam * len(X), solver="svd")).fit(X.numpy(), Y.numpy())


@pytest.mark.parametrize("lam", [1e-6, 1e-3, 1.0, 30.0])
def test_equals_scikit_learn_ridge_on_the_same_matrix(lam: float) -> None:
    X, Y = planted()
    probe = decompose(Moments.of(X, Y)).solve(lam)
    expected = sklearn_ridge(X, Y, lam).predict(X.numpy())
    got = (X @ probe.weight + probe.bias).numpy()
    assert np.abs(got - expected).max() <= 1e-6 * np.abs(expected).max()


def test_cross_validation_equals_scikit_learn_fold_by_fold() -> None:
    X, Y = planted(q=1)
    scene = torch.arange(len(X)) // 30
    moments = Moments.zeros(20, X.mean(0), Y.mean(0))
    for s in range(20):
        moments.add(s, X[scene == s], Y[scene == s])
    penalties = [1e-4, 1e-2, 1.0, 10.0]
    folds, expected = [], np.zeros(len(penalties))
    for train, test in GroupKFold(5).split(X.numpy(), groups=scene.numpy()):
        folds.append(sorted(set(scene[test].tolist())))
        for i, lam in enumerate(penalties):
            residual = sklearn_ridge(X[train], Y[train], lam).predict(X[test].numpy()).reshape(-1, 1) - Y[test].numpy()
            expected[i] += (residual**2).sum()
    chosen = cross_validate(moments, folds, penalties)
    np.testing.assert_allclose(chosen.path_mse[:, 0].numpy(), expected / len(X), rtol=1e-6)
    assert chosen.probe.penalty[0] == penalties[int(expected.argmin())]


def test_path_losses_equal_the_losses_of_the_probes() -> None:
    X, Y = planted()
    fitted, held_out = decompose(Moments.of(X[:400], Y[:400])), Moments.of(X[400:], Y[400:])
    for lam, loss in zip((1e-5, 0.1, 10.0), path_losses(fitted, held_out, (1e-5, 0.1, 10.0)), strict=True):
        probe = fitted.solve(lam)
        direct = (Y[400:] - X[400:] @ probe.weight - probe.bias).square().sum(0)
        torch.testing.assert_close(loss, direct, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(held_out.loss(probe.weight, probe.bias)[0], direct, rtol=1e-8, atol=1e-8)


def test_ten_copies_of_a_channel_predict_as_one_does() -> None:
    X, Y = planted(p=3)
    copies = torch.cat([X, X[:, :1].expand(-1, 9)], 1)
    once, often = (decompose(Moments.of(M, Y)).solve(1e-8) for M in (X, copies))
    a, b = X @ once.weight + once.bias, copies @ often.weight + often.bias
    assert (a - b).abs().max() < 1e-5 * Y.abs().max()


def test_a_constant_channel_gets_no_weight_and_changes_nothing() -> None:
    X, Y = planted()
    with_constant = torch.cat([X, torch.full((len(X), 1), 7.0, dtype=torch.float64)], 1)
    plain, probe = (decompose(Moments.of(M, Y)).solve(0.01) for M in (X, with_constant))
    assert probe.weight[-1].abs().max() == 0
    torch.testing.assert_close(probe.weight[:-1], plain.weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_huge_offset_costs_no_digits(dtype: torch.dtype) -> None:
    X, Y = planted(p=4)
    X = ((X - X.mean(0)) / X.std(0)).to(dtype)
    # 2**17 is exact in float32 and leaves six bits of fraction: rounded first, so both matrices hold the same data.
    X = (X * 64).round() / 64
    near, far = (decompose(Moments.of(M, Y.to(dtype))).solve(1e-6) for M in (X, X + 2.0**17))
    # Unit-variance inputs: a weight's scale is the target's. float32 products leave about 1e-6 of it.
    tolerance = (1e-5 if dtype == torch.float32 else 1e-9) * float(Y.std())
    torch.testing.assert_close(near.weight, far.weight, rtol=0, atol=tolerance)


def test_more_channels_than_pixels_is_a_finite_probe() -> None:
    X, Y = planted(n=10, p=40)
    probe = decompose(Moments.of(X, Y)).solve(1e-3)
    assert torch.isfinite(probe.weight).all()
    expected = sklearn_ridge(X, Y, 1e-3).predict(X.numpy())
    np.testing.assert_allclose((X @ probe.weight + probe.bias).numpy(), expected, rtol=1e-6, atol=1e-6)


def test_nan_features_are_refused_with_a_sentence() -> None:
    X, Y = planted(p=3)
    X[5, 1] = float("nan")
    with pytest.raises(Exception, match="not finite"):
        decompose(Moments.of(X, Y))


def test_rounding_in_float32_products_is_never_fitted() -> None:
    """Columns that differ by a ten-thousandth of their spread: float32 moments have negative eigenvalues."""
    g = torch.Generator().manual_seed(0)
    common = torch.randn(4000, 3, generator=g)
    X = common @ torch.randn(3, 60, generator=g) + 1e-4 * torch.randn(4000, 60, generator=g)
    Y = common[:, :1] + 0.5 * torch.randn(4000, 1, generator=g)
    scene = torch.arange(4000) // 200
    moments = Moments.zeros(20, X.mean(0), Y.mean(0))
    for s in range(20):
        moments.add(s, X[scene == s], Y[scene == s])
    folds = [[f, f + 5, f + 10, f + 15] for f in range(5)]
    chosen = cross_validate(moments, folds)
    assert decompose(moments.total()).noise > 0
    # 0.25 is the noise of the target: nothing honest is below it.
    assert 0.2 < float(chosen.cv_mse[0]) < 0.3
    assert 0.2 < float(chosen.train_mse[0]) < 0.3


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(1, 12))
def test_neither_order_nor_batch_size_changes_the_probe(order: list[int], batch: int) -> None:
    X, Y = planted(n=240)
    pieces_x, pieces_y = X.float().split(20), Y.float().split(20)
    reference = decompose(Moments.of(X.float(), Y.float())).solve(0.01)
    moments = Moments.zeros(1, X[:20].mean(0), Y[:20].mean(0))
    for start in range(0, 12, batch):
        part = order[start : start + batch]
        moments.add(0, torch.cat([pieces_x[i] for i in part]), torch.cat([pieces_y[i] for i in part]))
    probe = decompose(moments).solve(0.01)
    a, b = X @ probe.weight + probe.bias, X @ reference.weight + reference.bias
    assert (a - b).abs().max() < 1e-5 * b.abs().max()
