"""Intervals cover what they should, agree with textbook formulas, and know their limits."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fathom.statistics import (
    LEAST_SCENES,
    Contrast,
    freedom,
    holm,
    linearised,
    loss_interval,
    mean_over_seeds,
    scene_interval,
    scene_intervals,
)


def worlds(scenes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Skewed scene losses of unequal sizes; the true ratio is 1."""
    counts = rng.integers(1, 13, scenes) * 100.0
    return counts * rng.lognormal(-0.18, 0.6, scenes), counts


def coverage(scenes: int, repeats: int = 400) -> float:
    rng = np.random.default_rng(scenes)
    hits = 0
    for _ in range(repeats):
        errors, counts = worlds(scenes, rng)
        found = loss_interval(errors, counts, resamples=1000)
        hits += found.low <= 1.0 <= found.high
    return hits / repeats


@pytest.mark.parametrize(("scenes", "most"), [(10, 0.999), (40, 0.985)])
def test_intervals_of_skewed_unequal_scenes_cover(scenes: int, most: float) -> None:
    # 400 worlds: three standard errors around 95 % are 91.7 .. 98.3 %. With 10 scenes tails are narrowed for worlds harder than these.
    assert 0.915 <= coverage(scenes) <= most


def test_pixels_taken_as_independent_would_not_cover() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        errors, counts = worlds(20, rng)
        loss = errors.sum() / counts.sum()
        per_pixel = np.repeat(errors / counts, counts.astype(int))
        half = 1.96 * per_pixel.std() / np.sqrt(len(per_pixel))
        hits += abs(loss - 1) <= half
    assert hits / 200 < 0.5


def test_standard_error_equals_the_jackknife_for_many_scenes() -> None:
    errors, counts = worlds(400, np.random.default_rng(1))
    ratio, se = linearised(errors, counts)
    left_out = np.array([(errors.sum() - e) / (counts.sum() - c) for e, c in zip(errors, counts, strict=True)])
    jackknife = np.sqrt(399 / 400 * ((left_out - left_out.mean()) ** 2).sum())
    assert ratio == pytest.approx(errors.sum() / counts.sum())
    assert se == pytest.approx(jackknife, rel=0.02)


def test_of_normal_values_of_equal_weight_it_is_students_interval() -> None:
    values = np.random.default_rng(2).normal(3.0, 1.0, 60)
    found = scene_interval(values, np.ones(60))
    half = stats.t.ppf(0.975, 59) * values.std(ddof=1) / np.sqrt(60)
    assert found.low == pytest.approx(values.mean() - half, abs=0.06)
    assert found.high == pytest.approx(values.mean() + half, abs=0.06)
    assert found.p_above < 1e-3


def test_pairing_removes_what_rooms_share() -> None:
    rng = np.random.default_rng(3)
    errors, counts = worlds(40, rng)
    better = errors * 0.95 + counts * rng.normal(0, 0.005, 40)
    paired = scene_interval(errors - better, counts)
    assert paired.low > 0
    alone = loss_interval(errors, counts)
    assert paired.high - paired.low < (alone.high - alone.low) / 5


def test_share_of_the_gap() -> None:
    rng = np.random.default_rng(4)
    baseline, _ = worlds(60, rng)
    upper_bound = baseline * 0.4
    encoder = baseline - 0.25 * (baseline - upper_bound) * rng.normal(1, 0.1, 60)
    found = scene_interval(baseline - encoder, baseline - upper_bound)
    assert found.low < 0.25 < found.high
    assert found.high - found.low < 0.1


def test_too_few_scenes_give_no_interval_and_one_scene_does_not_crash() -> None:
    for scenes in (1, LEAST_SCENES - 1):
        found = loss_interval(np.ones(scenes), np.ones(scenes))
        assert np.isnan(found.low)
        assert found.estimate == 1


def test_identical_scenes_give_a_point() -> None:
    found = scene_interval(np.zeros(10), np.ones(10))
    assert (found.low, found.high) == (0, 0)
    assert found.p_above == 1


def test_a_scene_without_cells_does_not_count() -> None:
    errors, counts = worlds(20, np.random.default_rng(5))
    padded = loss_interval(np.append(errors, 0.0), np.append(counts, 0.0))
    plain = loss_interval(errors, counts)
    assert (padded.low, padded.high, padded.se) == (plain.low, plain.high, plain.se)


def test_spread_over_seeds_widens_the_interval() -> None:
    rng = np.random.default_rng(6)
    errors, counts = worlds(60, rng)
    randoms = [errors * factor for factor in (1.0, 1.1, 0.9, 1.05, 0.95)]
    mean, variance, df = mean_over_seeds(randoms, counts)
    np.testing.assert_allclose(mean, errors)
    losses = [r.sum() / counts.sum() for r in randoms]
    assert variance == pytest.approx(np.var(losses, ddof=1) / 5)
    narrow = scene_interval(mean - errors * 0.9, counts)
    wide = scene_interval(mean - errors * 0.9, counts, seed_variance=variance, seed_df=df)
    assert wide.low < narrow.low
    assert wide.high > narrow.high
    assert wide.p_above > narrow.p_above


def test_holm_equals_the_definition() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]


def test_degrees_of_freedom_lie_between_the_scenes_and_their_effective_number() -> None:
    weights = np.array([[4.0, 1], [1, 1], [1, 1], [2, 1]])
    effective = 1 / (0.5**2 + 2 * 0.125**2 + 0.25**2)
    np.testing.assert_allclose(freedom(weights), [np.sqrt(3 * (effective - 1)), 3])


def test_variance_over_seeds_is_relative_under_a_logarithm() -> None:
    counts = np.array([1.0, 2, 3, 4, 5, 6])
    found = scene_interval(3 * counts, counts, log=True, seed_variance=0.04, seed_df=4)
    half = stats.t.ppf(0.975, 4) * np.sqrt(0.04) / 3  # no spread over scenes
    np.testing.assert_allclose([found.low, found.high], [3 * np.exp(-half), 3 * np.exp(half)], rtol=1e-9)


def test_intervals_follow_the_unit_and_the_sign_of_what_they_are_of() -> None:
    errors, counts = worlds(8, np.random.default_rng(3))
    found = scene_interval(errors, counts, resamples=500)
    larger = scene_interval(1000 * errors, counts, resamples=500)
    turned = scene_interval(-errors, counts, resamples=500)
    np.testing.assert_allclose([larger.low, larger.high], [1000 * found.low, 1000 * found.high], rtol=1e-9)
    np.testing.assert_allclose([turned.low, turned.high], [-found.high, -found.low], rtol=1e-9)
    assert found.high - found.estimate > 1.1 * (found.estimate - found.low), "losses are skewed, and so is the interval"


def test_degrees_of_freedom_are_at_most_those_of_the_scenes_where_weights_cancel() -> None:
    assert freedom(np.array([[0.1], [-0.1], [0.1], [-0.1]])) == 3
    assert freedom(np.array([[5.0], [0], [0], [0], [0]])) == 2, "one scene alone counts as two"


@pytest.mark.parametrize("scenes", [2, 4])
def test_an_estimate_without_an_interval_is_the_ratio_all_the_same(scenes: int) -> None:
    a, b = np.arange(1.0, scenes + 1), np.arange(2.0, 2 * scenes + 2, 2)
    b[-1] += 1
    assert scene_interval(a, b).estimate == pytest.approx(a.sum() / b.sum())
    assert scene_interval(a, b, log=True).estimate == pytest.approx(a.sum() / b.sum())
    (contrast,) = scene_intervals([Contrast((a,), (b,))])
    assert contrast.estimate == pytest.approx(np.log(a.sum() / b.sum())) and np.isnan(contrast.low)
    assert np.isnan(scene_intervals([Contrast((np.zeros(3),), (np.zeros(3),))])[0].estimate)


def test_an_interval_begins_at_the_least_number_of_scenes() -> None:
    errors, counts = worlds(LEAST_SCENES, np.random.default_rng(8))
    assert LEAST_SCENES == 5 and np.isfinite(loss_interval(errors, counts, resamples=500).low)


def test_p_values_with_spread_over_seeds_pool_the_degrees_of_freedom() -> None:
    errors, counts = worlds(30, np.random.default_rng(9))
    for sign in (1, -1):
        a = sign * (errors - 0.6 * counts)
        plain = scene_interval(a, counts)
        variance = 2 * plain.se**2
        found = scene_interval(a, counts, seed_variance=variance, seed_df=3)
        both = plain.se**2 + variance
        pooled = both**2 / (plain.se**4 / freedom(counts[:, None])[0] + variance**2 / 3)
        expected = stats.t.sf(abs(plain.estimate) / np.sqrt(both), pooled)  # Welch and Satterthwaite
        tested, before = (found.p_above, plain.p_above) if sign == 1 else (found.p_below, plain.p_below)
        assert tested == pytest.approx(expected) and expected > before
        assert found.se == pytest.approx(np.sqrt(both))
