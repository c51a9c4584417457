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

from fathom.errors import FathomError
from fathom.probing.linear.moments import ContradictionError, Moments
from fathom.probing.linear.ridge import cross_validate, decompose, path_losses


def planted(n: int = 600, p: int = 12, q: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(n, p, generator=g, dtype=torch.float64) @ torch.randn(p, p, generator=g, dtype=torch.float64)
    X = X * torch.logspace(-3, 3, p, dtype=torch.float64) + torch.randn(p, generator=g, dtype=torch.float64)
    Y = X @ torch.randn(p, q, generator=g, dtype=torch.float64) / 100 + torch.randn(
        n, q, generator=g, dtype=torch.float64
    )
    return X, Y


@pytest.mark.parametrize("cells", [24_576, 200_000])
@pytest.mark.parametrize("offset", [1.3e-7, 0.1, 0.3371])
def test_a_channel_that_is_dead_in_some_scenes_is_left_out_of_their_fit(cells: int, offset: float) -> None:
    """Sums of one value over and over carry rounding that grows with the cells: up to 35 times TOLERANCE here."""
    g = torch.Generator().manual_seed(0)
    X = torch.rand(cells, 3, generator=g, dtype=torch.float64)
    X[:, 0] = 0
    Y = torch.rand(cells, 1, generator=g, dtype=torch.float64)
    moments = Moments.zeros(1, torch.full((3,), offset), torch.tensor([0.5]))
    moments.add(0, X, Y)
    assert (decompose(moments).scale > 0).tolist() == [False, True, True]


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
    Z = StandardScaler().fit_transform(X.numpy())  # by all scenes: the penalty means the same in every fold
    scene = torch.arange(len(X)) // 30
    moments = Moments.zeros(20, X.mean(0), Y.mean(0))
    for s in range(20):
        moments.add(s, X[scene == s], Y[scene == s])
    penalties = [1e-4, 1e-2, 1.0, 10.0]
    folds, expected = [], np.zeros(len(penalties))
    for train, test in GroupKFold(5).split(X.numpy(), groups=scene.numpy()):
        folds.append(sorted(set(scene[test].tolist())))
        for i, lam in enumerate(penalties):
            ridge = Ridge(alpha=lam * len(train), solver="svd").fit(Z[train], Y[train].numpy())
            residual = ridge.predict(Z[test]).reshape(-1, 1) - Y[test].numpy()
            expected[i] += (residual**2).sum()
    chosen = cross_validate(moments, folds, penalties)
    np.testing.assert_allclose(chosen.path_mse[:, 0].numpy(), expected / len(X), rtol=1e-6)
    assert chosen.probe.penalty[0] == penalties[int(expected.argmin())]


def test_a_channel_that_fires_in_one_scene_does_not_choose_the_penalty() -> None:
    g = torch.Generator().manual_seed(0)
    X = torch.randn(600, 6, generator=g, dtype=torch.float64)
    Y = X[:, :1] + torch.randn(600, 1, generator=g, dtype=torch.float64)
    faint = 1e-3 * torch.randn(600, 1, generator=g, dtype=torch.float64)
    faint[570:] *= 1e6  # the last scene
    found = []
    for matrix in (X, torch.cat([X, faint], 1)):
        moments = Moments.zeros(20, matrix.mean(0), Y.mean(0))
        for s in range(20):
            moments.add(s, matrix[30 * s : 30 * s + 30], Y[30 * s : 30 * s + 30])
        found.append(cross_validate(moments, [[f, f + 5, f + 10, f + 15] for f in range(5)]))
    without, with_it = found
    assert max(float(item.probe.penalty[0]) for item in found) < 0.1
    assert float(with_it.cv_mse[0]) < 1.05 * float(without.cv_mse[0])


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


def nearly_collinear(dtype: torch.dtype, apart: float = 1e-3) -> tuple[Moments, list[list[int]]]:
    """Columns that differ by a thousandth (`apart`) of their spread, and a target that lies in that difference alone."""
    g = torch.Generator().manual_seed(0)
    common = torch.randn(4000, 12, generator=g, dtype=torch.float64)
    own = torch.randn(4000, 60, generator=g, dtype=torch.float64)
    X = (common @ torch.randn(12, 60, generator=g, dtype=torch.float64) + apart * own).float().to(dtype)
    Y = (own[:, :1] + 0.02 * torch.randn(4000, 1, generator=g, dtype=torch.float64)).to(dtype)
    moments = Moments.zeros(20, X.mean(0), Y.mean(0))
    for s in range(20):
        moments.add(s, X[200 * s : 200 * s + 200], Y[200 * s : 200 * s + 200])
    return moments, [[f, f + 5, f + 10, f + 15] for f in range(5)]


def test_penalties_below_the_rounding_are_left_out_and_said_to_be() -> None:
    chosen = cross_validate(*nearly_collinear(torch.float32))
    assert chosen.left_out and max(chosen.left_out) < min(chosen.path)
    with pytest.raises(FathomError, match="below"):
        decompose(nearly_collinear(torch.float32)[0].total()).solve(1e-8)
    exact = cross_validate(*nearly_collinear(torch.float64))
    assert not exact.left_out and not exact.limited_by_rounding
    assert float(exact.cv_mse[0]) < 0.25 < 0.5 < float(chosen.cv_mse[0])  # 12 of 60 directions hide the target


def test_the_best_penalty_at_the_edge_of_rounding_is_noticed() -> None:
    assert cross_validate(*nearly_collinear(torch.float32)).limited_by_rounding
    assert not cross_validate(*nearly_collinear(torch.float64, 0.03)).limited_by_rounding
    assert not cross_validate(*nearly_collinear(torch.float32, 0.3)).limited_by_rounding


def test_rounding_in_float32_products_is_never_fitted() -> None:
    g = torch.Generator().manual_seed(0)
    common = torch.randn(4000, 3, generator=g)
    X = common @ torch.randn(3, 60, generator=g) + 1e-4 * torch.randn(4000, 60, generator=g)
    Y = common[:, :1] + 0.5 * torch.randn(4000, 1, generator=g)
    moments = Moments.zeros(20, X.mean(0), Y.mean(0))
    for s in range(20):
        moments.add(s, X[200 * s : 200 * s + 200], Y[200 * s : 200 * s + 200])
    chosen = cross_validate(moments, [[f, f + 5, f + 10, f + 15] for f in range(5)])
    # 0.25 is the noise of the target: nothing honest is below it.
    assert 0.2 < float(chosen.cv_mse[0]) < 0.3
    assert 0.2 < float(chosen.train_mse[0]) < 0.3


@pytest.mark.parametrize("size", [1e6, 1e7])
def test_a_channel_of_huge_scale_costs_the_others_nothing(size: float) -> None:
    X, Y = planted(p=40)
    X = ((X - X.mean(0)) / X.std(0)).float()
    one = X.clone()
    one[:, 0] *= size
    plain, probe = (decompose(Moments.of(M, Y.float())).solve(1e-3) for M in (X, one))
    assert (probe.weight.abs().amax(1) > 0).all()
    a, b = X @ plain.weight.float() + plain.bias, one.double() @ probe.weight + probe.bias
    assert (a - b).abs().max() < 1e-4 * Y.std()


@pytest.mark.parametrize("scale", [1e-36, 1e-24, 1e17, 1e30])
def test_features_of_any_scale_give_the_probe_of_float64(scale: float) -> None:
    X, Y = planted(p=5)
    X = (((X - X.mean(0)) / X.std(0)) * scale).float()
    scene = torch.arange(len(X)) // 30
    fits = []
    for dtype in (torch.float32, torch.float64):
        moments = Moments.zeros(20, X.double().mean(0), Y.mean(0))
        for s in range(20):
            moments.add(s, X[scene == s].to(dtype), Y[scene == s].to(dtype))
        fits.append(cross_validate(moments, [list(range(k, 20, 5)) for k in range(5)]))
    torch.testing.assert_close(fits[0].cv_mse, fits[1].cv_mse, rtol=1e-4, atol=0)
    torch.testing.assert_close(fits[0].train_mse, fits[1].train_mse, rtol=1e-4, atol=0)


def test_moments_that_contradict_each_other_are_refused() -> None:
    X, Y = planted()
    underflown = Moments.of(X, Y)
    underflown.xx[0, 3] = underflown.xx[0, :, 3] = 0
    underflown.x[0, 3] = 0
    with pytest.raises(ContradictionError, match="channel 3 covaries"):
        decompose(underflown)
    negative = Moments.of(X, Y)
    negative.xx[0, 2, 2] *= -1
    with pytest.raises(ContradictionError, match="negative variance"):
        decompose(negative)


def test_a_probe_predicts_inside_the_range_of_its_training_targets() -> None:
    X, Y = planted()
    probe = decompose(Moments.of(X, Y)).solve(1e-3)
    X[7] *= 51_000  # a nearly dead channel that fires in one frame
    predicted = probe.predict(X)
    assert (predicted >= Y.amin(0)).all() and (predicted <= Y.amax(0)).all()
    assert (X @ probe.weight + probe.bias).abs().max() > 100 * Y.abs().max()


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
