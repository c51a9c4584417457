"""The negative controls on a user's own data: what is planted, what is counted, and the limits of the counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats

from fathom.errors import UsageError
from fathom.probing.evidence.verdict.cases import Baseline, Case, Control
from fathom.probing.self_check import PositionAndNoise, binomial, check, scaled, take


def case(scenes: int = 24) -> Case:
    rng = np.random.default_rng(0)
    cells = rng.integers(1, 9, scenes) * 100.0
    base = cells * rng.lognormal(0, 0.5, scenes)

    def times(level: float) -> np.ndarray:
        return base * level * rng.lognormal(0, 0.1, scenes)

    return Case(
        "net",
        "depth",
        cells,
        times(0.6),
        (Baseline("position", (times(1.0),), 1.0, base), Baseline("pixels", (times(1.2),), 1.2, base)),
        Control(errors=base, around=times(1.4), control_around=base),
    )


@pytest.mark.parametrize("gain", [0.0, 0.05])
def test_a_scaled_encoder_removes_exactly_that_of_its_best_baseline(gain: float) -> None:
    made = scaled(case(), gain)
    best = min(item.mean.sum() for item in made.baselines)
    assert 1 - made.errors.sum() / best == pytest.approx(gain)


def test_scenes_are_drawn_together_for_everyone() -> None:
    given, scenes = case(), np.array([3, 3, 0, 7])
    drawn = take(given, scenes)
    assert drawn.control is not None and given.control is not None
    for found, whole in [
        (drawn.cells, given.cells),
        (drawn.errors, given.errors),
        (drawn.baselines[1].errors[0], given.baselines[1].errors[0]),
        (drawn.baselines[1].control, given.baselines[1].control),
        (drawn.control.around, given.control.around),
    ]:
        np.testing.assert_array_equal(found, whole[scenes])


def test_an_encoder_far_better_is_found_and_one_as_good_is_not() -> None:
    found = check("the encoder", "", lambda rng: case(), 24, 60, 0)
    assert found.implicit > 0.9 and found.rate is None
    tie = check("tie", "implicit", lambda rng: scaled(case(), 0.0), 24, 100, 0)
    assert tie.rate == tie.implicit <= 0.12
    assert tie.low is not None and tie.high is not None and tie.low <= tie.implicit <= tie.high
    assert tie.gain >= 0.85 and tie.loss >= 0.8
    with pytest.raises(UsageError, match="10 test scenes or more, not 9"):
        check("tie", "implicit", lambda rng: case(), 9, 5, 0)


@pytest.mark.parametrize(("count", "of"), [(0, 50), (3, 50), (50, 50)])
def test_binomial_interval_is_that_of_clopper_and_pearson(count: int, of: int) -> None:
    low, high = binomial(count, of)
    found = stats.binomtest(count, of).proportion_ci(0.95, method="exact")
    assert (low, high) == pytest.approx((found.low, found.high))


def test_noise_is_of_the_picture_and_the_same_in_every_pass() -> None:
    images = torch.rand(2, 3, 16, 16)
    encoder = PositionAndNoise().on_grid((2, 2))
    one, other = encoder.encode(images)["columns"], encoder.encode(images.flip(0))["columns"]
    assert one.shape == (2, 10, 2, 2)
    assert torch.equal(one, other.flip(0))
    assert not torch.equal(one[0, 6:], one[1, 6:])
    assert torch.equal(one[0, :6], one[1, :6])


def test_a_case_without_a_control_task_is_taken() -> None:
    assert take(replace(case(), control=None), np.arange(5)).control is None
