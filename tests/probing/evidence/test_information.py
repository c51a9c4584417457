"""Bits agree with the closed forms of Gaussians, and the online code with a code written out cell by cell."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy import stats

from fathom.errors import FathomError
from fathom.probing.evidence.information import doubling, online_code, r_squared, v_information
from fathom.probing.linear.moments import Moments


def rooms(count: int, signal: float, seed: int = 0, cells: int = 60) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs of four channels, the first of which carries `signal` of a target of unit variance."""
    generator = torch.Generator().manual_seed(seed)
    out = []
    for _ in range(count):
        X = torch.randn(cells, 4, generator=generator, dtype=torch.float64)
        noise = torch.randn(cells, 1, generator=generator, dtype=torch.float64)
        out.append((X, signal**0.5 * X[:, :1] + (1 - signal) ** 0.5 * noise + 2))
    return out


def moments_of(data: list[tuple[torch.Tensor, torch.Tensor]]) -> Moments:
    moments = Moments.zeros(len(data), torch.zeros(4), torch.full((1,), 2.0))
    for index, (X, Y) in enumerate(data):
        moments.add(index, X, Y)
    return moments


def test_v_information_of_jointly_gaussian_variables_is_their_mutual_information() -> None:
    rng = np.random.default_rng(0)
    correlation = 0.8
    x = rng.standard_normal((400, 200))
    y = correlation * x + (1 - correlation**2) ** 0.5 * rng.standard_normal(x.shape)
    found = v_information((y**2).sum(1), ((y - correlation * x) ** 2).sum(1))
    mutual = -0.5 * math.log2(1 - correlation**2)
    assert found.estimate == pytest.approx(mutual, abs=0.01)
    assert found.low < mutual < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * found.se, rel=0.15)


def test_v_information_is_the_difference_of_entropies_and_negative_where_the_probe_is_worse() -> None:
    rng = np.random.default_rng(1)
    without, errors = rng.uniform(2, 3, 30), rng.uniform(1, 2, 30)
    entropies = [stats.norm(0, (part.sum() / 600) ** 0.5).entropy() / math.log(2) for part in (without, errors)]
    expected = float(entropies[0] - entropies[1])
    assert v_information(without, errors).estimate == pytest.approx(expected)
    assert v_information(without, errors, outputs=3).estimate == pytest.approx(3 * expected)
    assert v_information(errors, without).high < 0


def test_bits_of_a_probe_without_error_are_refused() -> None:
    with pytest.raises(FathomError, match="without any error"):
        v_information(np.zeros(20), np.ones(20))


def test_r_squared_turns_the_interval_of_the_loss() -> None:
    rng = np.random.default_rng(2)
    around = rng.uniform(1, 3, 40)
    errors = around * rng.uniform(0.4, 0.8, 40)
    found = r_squared(errors, around)
    assert found.estimate == pytest.approx(1 - errors.sum() / around.sum())
    assert found.low < found.estimate < found.high < 1


def test_doubling_ends_at_all_groups() -> None:
    assert doubling(80) == (2, 3, 5, 10, 20, 40, 80)
    assert doubling(2) == (2,)
    for groups in range(2, 70):
        counts = doubling(groups)
        assert counts[0] >= 2
        assert counts[-1] == groups
        assert all(b <= 2 * a for a, b in pairwise(counts))


def test_online_code_equals_one_written_out_cell_by_cell() -> None:
    from sklearn.linear_model import Ridge

    data, penalty, resolution = rooms(8, 0.5), 0.01, 0.1
    found = online_code(moments_of(data), penalties=(penalty,), seed=3, resolution=resolution)
    order = np.random.default_rng(3).permutation(8)
    every = torch.cat([Y for _, Y in data])
    schedule = [2, 4, 8]

    def take(groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return (
            torch.cat([data[g][0] for g in groups]).numpy(),
            torch.cat([data[g][1] for g in groups]).numpy()[:, 0],
        )

    def fit_predict(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        X, y = take(train)
        mean, scale = X.mean(0), X.std(0)
        return Ridge(penalty * len(X)).fit((X - mean) / scale, y).predict((take(test)[0] - mean) / scale)

    first = order[:2]
    bits = [-stats.norm(every.mean(), every.std(correction=0)).logpdf(take(first)[1]).sum() / math.log(2)]
    inside = [((fit_predict(first[1 - k : 2 - k], first[k : k + 1]) - take(first[k : k + 1])[1]) ** 2) for k in (0, 1)]
    variance = np.concatenate(inside).mean()
    for start, end in pairwise(schedule):
        y, guess = take(order[start:end])[1], fit_predict(order[:start], order[start:end])
        bits.append(-stats.norm(guess, variance**0.5).logpdf(y).sum() / math.log(2))
        variance = ((y - guess) ** 2).mean()
    cells = [len(take(order[a:b])[1]) for a, b in ((0, 2), (2, 4), (4, 8))]
    expected = [value - n * math.log2(resolution) for value, n in zip(bits, cells, strict=True)]
    np.testing.assert_allclose(found.block_bits, expected, rtol=1e-9)
    assert found.schedule == (0, 2, 4)
    assert found.bits == pytest.approx(sum(expected))


def test_savings_approach_the_mutual_information_and_vanish_without_signal() -> None:
    many = online_code(moments_of(rooms(512, 0.6)))
    assert many.saved_per_cell == pytest.approx(-0.5 * math.log2(0.4), abs=0.02)
    none = online_code(moments_of(rooms(64, 0.0)))
    assert -0.02 < none.saved_per_cell <= 0.001


def test_savings_do_not_depend_on_the_resolution_or_the_unit() -> None:
    moments = moments_of(rooms(16, 0.5))
    fine, coarse = online_code(moments, resolution=0.001), online_code(moments, resolution=1.0)
    assert fine.saved_per_cell == pytest.approx(coarse.saved_per_cell)
    assert fine.bits_per_cell - coarse.bits_per_cell == pytest.approx(math.log2(1000))


def test_a_scene_without_a_valid_cell_sends_nothing() -> None:
    moments = moments_of(rooms(9, 0.5))
    for name in ("n", "x", "y", "xx", "xy", "yy"):
        getattr(moments, name)[4] = 0
    without = moments.take([0, 1, 2, 3, 5, 6, 7, 8])
    assert online_code(moments).bits == online_code(without).bits


def test_too_few_scenes_are_refused() -> None:
    with pytest.raises(FathomError, match="at least 4 groups"):
        online_code(moments_of(rooms(3, 0.5)))
