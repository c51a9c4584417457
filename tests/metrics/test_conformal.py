"""Conformal quantiles over scenes: their definition, their promise, and how uncertainty is judged."""

from __future__ import annotations

import numpy as np
import pytest

from fathom.metrics.conformal import coverage_of_left_out, highest_level, scene_quantiles, sparsification_error


def test_the_quantile_is_the_smallest_score_that_meets_the_definition() -> None:
    generator = np.random.default_rng(0)
    scores = {f"s{k}": generator.gamma(1 + k % 3, size=3 + 5 * k) for k in range(12)}
    level = 0.8
    (found,) = scene_quantiles(scores, [level])
    reached = {t: sum((scene <= t).mean() for scene in scores.values()) for t in np.concatenate(list(scores.values()))}
    assert found == min(t for t, total in reached.items() if total >= level * 13)


def test_one_score_a_scene_is_ordinary_split_conformal_prediction() -> None:
    scores = {str(i): np.array([float(i)]) for i in range(1, 20)}
    assert scene_quantiles(scores, [0.9, 0.5]) == [18.0, 10.0]  # the ⌈level · 20⌉-th of 19


def test_few_scenes_promise_no_high_level() -> None:
    scores = {str(i): np.arange(5.0) for i in range(4)}
    assert highest_level(4) == 0.8
    assert scene_quantiles(scores, [0.8, 0.81]) == [4.0, float("inf")]


def test_a_new_scene_is_covered_as_often_as_promised_although_scenes_differ() -> None:
    generator = np.random.default_rng(1)

    def scene() -> np.ndarray:
        return np.exp(generator.normal()) * np.abs(generator.normal(size=generator.integers(20, 200)))

    covered = []
    for _ in range(400):
        (limit,) = scene_quantiles({str(k): scene() for k in range(20)}, [0.9])
        covered.append(float((scene() <= limit).mean()))
    assert np.mean(covered) > 0.9 - 2 * np.std(covered) / 20
    assert np.mean(covered) < 0.97


def test_each_left_out_scene_is_compared_with_the_others_alone() -> None:
    scores = {str(k): np.full(4, float(k)) for k in range(1, 11)}
    covered = coverage_of_left_out(scores, 0.8)
    assert covered["10"] == 0.0 and covered["1"] == 1.0


def test_perfect_order_has_no_sparsification_error_and_a_constant_has_that_of_no_order() -> None:
    errors = np.random.default_rng(2).gamma(1, size=1000)
    assert sparsification_error(errors, errors) == pytest.approx(0)
    constant = sparsification_error(errors, np.ones(1000))
    shuffled = np.mean([sparsification_error(errors, np.random.default_rng(i).random(1000)) for i in range(20)])
    assert constant == pytest.approx(shuffled, rel=0.05)
    assert sparsification_error(errors, -errors) > constant


def test_no_error_at_all_is_perfect_order_and_a_mean_error_of_one_is_nothing_special() -> None:
    assert sparsification_error(np.zeros(6), np.arange(6.0)) == 0
    errors = np.array([0.0, 0.0, 1.0, 1.0, 2.0, 2.0])
    assert sparsification_error(errors, errors) == pytest.approx(0)
    assert sparsification_error(errors, -errors) == pytest.approx(sparsification_error(2 * errors, -errors)) != 0
