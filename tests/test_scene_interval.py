"""Intervals over few scenes: at least as wide as each textbook interval, and honest about unequal scenes and seeds."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from fathom.statistics import (
    LEAST_SCENES,
    Contrast,
    Ratio,
    bootstrap_t,
    freedom,
    jackknife,
    linearised,
    log_bootstrap_t,
    log_jackknife,
    resampling_weights,
    scene_interval,
    scene_intervals,
    tail_share,
)


def losses(scenes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    cells = rng.integers(1, 13, scenes) * 24.0
    return cells * rng.lognormal(0, 0.6, scenes), cells


def test_jackknife_leaves_out_one_scene_at_a_time() -> None:
    a, b = losses(15, 0)
    ratio, se = jackknife(a, b)
    left_out = np.array([(a.sum() - x) / (b.sum() - y) for x, y in zip(a, b, strict=True)])
    assert ratio == pytest.approx(a.sum() / b.sum())
    assert se == pytest.approx(np.sqrt(14 / 15 * ((left_out - ratio) ** 2).sum()))


def test_jackknife_of_a_contrast_leaves_out_one_scene_at_a_time() -> None:
    terms = [losses(15, seed)[0] for seed in range(4)]

    def value(keep: np.ndarray) -> float:
        return float(sum(sign * np.log(item[keep].sum()) for sign, item in zip((1, -1, 1, -1), terms, strict=True)))

    found, se = log_jackknife(terms)
    whole = value(np.ones(15, dtype=bool))
    left_out = np.array([value(np.arange(15) != s) for s in range(15)])
    assert found == pytest.approx(whole)
    assert se == pytest.approx(np.sqrt(14 / 15 * ((left_out - whole) ** 2).sum()))


def test_unequal_scenes_leave_fewer_degrees_of_freedom() -> None:
    assert freedom(np.ones(10)) == pytest.approx(9)
    assert freedom(np.array([3.0] + [1.0] * 9)) == pytest.approx((9 * (12**2 / 18 - 1)) ** 0.5)
    assert freedom(np.array([1000.0] + [1.0] * 20)) == pytest.approx(20**0.5)


def test_one_scene_of_half_the_cells_does_not_break_the_test() -> None:
    rng = np.random.default_rng(0)
    false, held, worlds = 0, 0, 400
    for _ in range(worlds):
        cells = np.concatenate([[1900.0], rng.integers(50, 150, 19)])
        found = scene_interval(cells * rng.lognormal(0, 0.5, 20) * rng.standard_normal(20), cells, resamples=500)
        held += found.low <= 0 <= found.high
        false += found.p_above <= 0.05
    assert false / worlds <= 0.05 + 2.6 * (0.05 * 0.95 / worlds) ** 0.5
    assert held / worlds >= 0.925


def test_equal_scenes_never_give_less_than_students_interval() -> None:
    values = np.random.default_rng(1).exponential(1, 12)
    found = scene_interval(values, np.ones(12))
    half = stats.t.ppf(1 - 0.025 * tail_share(12), 11) * values.std(ddof=1) / np.sqrt(12)
    assert found.low <= values.mean() - half + 1e-12
    assert found.high >= values.mean() + half - 1e-12
    # The tail of an exponential lies above: the bootstrap-t stretches that end alone.
    assert found.high - values.mean() > 1.1 * half


def test_tails_are_narrowed_where_scenes_are_few() -> None:
    assert tail_share(15) == 0.5
    assert tail_share(10) == pytest.approx(4 / 13 * 4 / 9)
    assert tail_share(20) == 16 / 25
    assert tail_share(500) > 0.999
    assert tail_share(5) == tail_share(9) == 0.1
    assert all(tail_share(n) < tail_share(n + 1) for n in range(9, 200))


def test_bootstrap_t_equals_a_loop_over_resamples() -> None:
    a, b = losses(12, 2)
    t = bootstrap_t(a, b, resamples=50, seed=0)
    expected = []
    for weights in resampling_weights(12, 50, 0):
        index = np.repeat(np.arange(12), weights.astype(int))
        ratio, se = linearised(a[index], b[index])
        expected.append((ratio - a.sum() / b.sum()) / se)
    np.testing.assert_allclose(t, expected, atol=1e-12)


@pytest.mark.parametrize("pairs", [1, 2])
def test_bootstrap_t_of_a_contrast_equals_a_loop_over_resamples(pairs: int) -> None:
    terms = [losses(12, seed)[0] for seed in range(2 * pairs)]
    signs = [1, -1] * pairs
    t = log_bootstrap_t(terms, resamples=50, seed=0)

    def value(index: np.ndarray) -> float:
        return float(sum(sign * np.log(item[index].sum()) for sign, item in zip(signs, terms, strict=True)))

    expected = []
    for weights in resampling_weights(12, 50, 0):
        index = np.repeat(np.arange(12), weights.astype(int))
        influence = sum(sign * item[index] / item[index].sum() for sign, item in zip(signs, terms, strict=True))
        se = np.sqrt(12 / 11 * (influence**2).sum())
        expected.append((value(index) - value(np.arange(12))) / se)
    np.testing.assert_allclose(t, expected, atol=1e-12)


@pytest.mark.parametrize("log", [False, True])
def test_interval_moves_with_the_unit(log: bool) -> None:
    a, b = losses(20, 3)
    one, other = scene_interval(a, b, log=log), scene_interval(1000 * a, b, log=log)
    np.testing.assert_allclose([other.low, other.high], [1000 * one.low, 1000 * one.high])


def test_p_values_agree_with_the_interval() -> None:
    a, b = losses(20, 4)
    found = scene_interval(a, b)
    at_low = scene_interval(a - found.low * b, b)
    assert at_low.p_above == pytest.approx(0.025, abs=2e-3)
    assert at_low.p_below > 0.9
    flipped = scene_interval(found.low * b - a, b)
    assert flipped.p_below == pytest.approx(at_low.p_above, abs=1e-9)


@pytest.mark.parametrize("scenes", [10, 20, 60])
def test_a_contrast_is_tested_at_a_margin_by_the_test_that_its_interval_inverts(scenes: int) -> None:
    (e, _), (f, _) = losses(scenes, 4), losses(scenes, 5)
    found = scene_intervals([Contrast((e,), (f,))])[0]
    at_high = scene_intervals([Contrast((e,), (f,), margin=found.high)])[0]
    assert at_high.p_margin == pytest.approx(0.025, abs=2e-3)
    assert (at_high.low, at_high.high, at_high.p_above) == (found.low, found.high, found.p_above)
    shifted = scene_intervals([Contrast((e,), (f * np.exp(found.high),))])[0]
    assert shifted.p_below == pytest.approx(at_high.p_margin, rel=1e-6)


def test_a_contrast_of_a_loss_that_is_zero_is_decided() -> None:
    e, _ = losses(12, 1)
    nothing = scene_intervals([Contrast((e,), (np.zeros(12),)), Contrast((np.zeros(12),), (e,))])
    assert (nothing[0].estimate, nothing[0].p_above, nothing[0].p_below) == (np.inf, 0, 1)
    assert (nothing[1].estimate, nothing[1].p_above, nothing[1].p_below) == (-np.inf, 1, 0)
    both = scene_intervals([Contrast((np.zeros(12),), (np.zeros(12),))])[0]
    assert np.isnan([both.estimate, both.p_above]).all()


def test_log_interval_stays_positive() -> None:
    rng = np.random.default_rng(5)
    found = scene_interval(rng.lognormal(0, 2, 10), np.ones(10), log=True)
    assert 0 < found.low < found.estimate < found.high


def test_seeds_add_their_variance() -> None:
    a, b = losses(30, 6)
    plain = scene_interval(a, b)
    wide = scene_interval(a, b, seed_variance=plain.se**2, seed_df=4)
    half = stats.t.ppf(0.975, 4) * plain.se
    assert wide.high - wide.estimate == pytest.approx(np.hypot(plain.high - plain.estimate, half))
    assert wide.se == pytest.approx(plain.se * 2**0.5)
    near = scene_interval(a - plain.low * b, b)
    further = scene_interval(a - plain.low * b, b, seed_variance=plain.se**2, seed_df=4)
    assert further.p_above > 2 * near.p_above


def test_limits() -> None:
    few = scene_interval(np.ones(LEAST_SCENES - 1), np.ones(LEAST_SCENES - 1))
    assert few.estimate == 1
    assert np.isnan([few.low, few.high, few.p_above]).all()
    same = scene_interval(np.full(10, 2.0), np.ones(10))
    assert (same.low, same.high, same.p_above, same.p_below) == (2, 2, 0, 1)
    zero = scene_interval(np.zeros(10), np.ones(10))
    assert (zero.low, zero.high, zero.p_above, zero.p_below) == (0, 0, 1, 1)
    a, b = losses(20, 7)
    padded = scene_interval(np.append(a, 0.0), np.append(b, 0.0))
    np.testing.assert_equal(dataclasses.astuple(padded), dataclasses.astuple(scene_interval(a, b)))


def test_many_ratios_at_once_are_each_alone() -> None:
    ratios = [
        Ratio(*losses(20, 8)),
        Contrast(losses(20, 9)[:1], losses(20, 12)[:1]),
        Contrast(losses(20, 9), losses(20, 12)),
        Contrast(losses(12, 9)[:1], losses(12, 13)[:1], seed_variance=0.1, seed_df=4, margin=0.05),
        Ratio(*losses(12, 10), seed_variance=0.3, seed_df=4),
        Ratio(np.zeros(20), np.ones(20)),
        Ratio(np.ones(2), np.ones(2)),
        Ratio(np.append(losses(20, 11)[0], 0.0), np.append(losses(20, 11)[1], 0.0)),
    ]
    alone = [scene_intervals([item], resamples=500)[0] for item in ratios]
    for one, other in zip(scene_intervals(ratios, resamples=500), alone, strict=True):
        np.testing.assert_allclose(dataclasses.astuple(one), dataclasses.astuple(other), rtol=1e-9)
