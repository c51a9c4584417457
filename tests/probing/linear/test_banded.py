"""A penalty for each layer: against the explicit solution, and where one penalty for all is a poor choice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from fathom.probing.linear.banded import banded_ridge
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import PATH, cross_validate

SCENES, CELLS = 20, 12
FOLDS = [list(range(k, SCENES, 5)) for k in range(5)]
BANDS = {"narrow": slice(0, 3), "wide": slice(3, 83)}


def world(seed: int = 0) -> tuple[Moments, torch.Tensor, torch.Tensor]:
    """Three columns that know the target, and eighty that know nothing."""
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(SCENES * CELLS, 83, generator=g, dtype=torch.float64)
    Y = X[:, :3].sum(1, keepdim=True) + 0.5 * torch.randn(len(X), 1, generator=g, dtype=torch.float64)
    moments = Moments.zeros(SCENES, X.mean(0), Y.mean(0))
    for scene in range(SCENES):
        rows = slice(scene * CELLS, (scene + 1) * CELLS)
        moments.add(scene, X[rows], Y[rows])
    return moments, X, Y


def test_ignorant_layer_is_penalised_and_the_other_is_not() -> None:
    moments, _, _ = world()
    one = cross_validate(moments, FOLDS, PATH)
    found = banded_ridge(moments, FOLDS, BANDS, one, [[0]])
    narrow, wide = found.penalties[:, 0].tolist()
    assert wide > 30 * narrow
    assert float(found.chosen.cv_mse[0]) < 0.9 * float(one.cv_mse[0])
    g = world(seed=5)
    fresh = [float(((g[1] @ p.weight + p.bias - g[2]) ** 2).mean()) for p in (one.probe, found.chosen.probe)]
    assert fresh[1] < 0.9 * fresh[0]


def test_solution_is_that_of_the_penalised_normal_equations() -> None:
    moments, X, Y = world()
    found = banded_ridge(moments, FOLDS, BANDS, cross_validate(moments, FOLDS, PATH), [[0]])
    x, y = X.numpy(), Y.numpy()
    z = (x - x.mean(0)) / x.std(0)
    lam = np.repeat(found.penalties[:, 0].numpy(), [3, 80])
    v = np.linalg.solve(z.T @ z / len(z) + np.diag(lam), z.T @ (y - y.mean()) / len(z))
    expected = z @ v + y.mean()
    got = (X @ found.chosen.probe.weight + found.chosen.probe.bias).numpy()
    np.testing.assert_allclose(got, expected, rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(float(found.chosen.train_mse[0]), ((expected - y) ** 2).mean(), rtol=1e-8)


def test_one_band_from_the_best_penalty_is_never_worse_than_it() -> None:
    moments, _, _ = world(3)
    one = cross_validate(moments, FOLDS, PATH)
    found = banded_ridge(moments, FOLDS, {"all": slice(0, 83)}, one, [[0]])
    assert float(found.chosen.cv_mse[0]) <= float(one.cv_mse[0]) * (1 + 1e-9)


def test_copies_of_a_channel_and_constant_ones_are_survived() -> None:
    moments, X, Y = world()
    X = torch.cat([X[:, :3], X[:, :1].repeat(1, 10), torch.full((len(X), 2), 7.0, dtype=torch.float64)], 1)
    moments = Moments.zeros(SCENES, X.mean(0), Y.mean(0))
    for scene in range(SCENES):
        rows = slice(scene * CELLS, (scene + 1) * CELLS)
        moments.add(scene, X[rows], Y[rows])
    found = banded_ridge(
        moments, FOLDS, {"a": slice(0, 3), "b": slice(3, 15)}, cross_validate(moments, FOLDS, PATH), [[0]]
    )
    assert torch.isfinite(found.chosen.probe.weight).all() and float(found.chosen.train_mse[0]) < 0.3


def test_penalties_stay_in_the_span_that_is_given() -> None:
    generator = torch.Generator().manual_seed(2)
    X = torch.randn(60, 6, generator=generator, dtype=torch.float64)
    Y = X[:, :1] + 0.1 * torch.randn(60, 1, generator=generator, dtype=torch.float64)
    moments = Moments.zeros(6, torch.zeros(6), torch.zeros(1))
    for group in range(6):
        moments.add(group, X[10 * group : 10 * group + 10], Y[10 * group : 10 * group + 10])
    folds, bands = [[g] for g in range(6)], {"knows": slice(0, 1), "noise": slice(1, 6)}
    free = banded_ridge(moments, folds, bands, cross_validate(moments, folds, (0.1,)), [[0]])
    held = banded_ridge(moments, folds, bands, cross_validate(moments, folds, (0.1,)), [[0]], span=(0.05, 0.2))
    assert float(free.penalties.max()) > 0.2 and float(free.penalties.min()) < 0.05
    assert float(held.penalties.max()) <= 0.2 and float(held.penalties.min()) >= 0.05


def test_a_banded_fit_after_penalties_below_rounding_has_no_path_to_be_limited_by() -> None:
    moments, _, _ = world()
    one = replace(cross_validate(moments, FOLDS, PATH), left_out=(1e-9,))
    found = banded_ridge(moments, FOLDS, BANDS, one, [[0]]).chosen
    assert found.left_out == (1e-9,) and not found.limited_by_rounding
    assert replace(one, probe=replace(one.probe, penalty=one.probe.penalty * 0)).limited_by_rounding
