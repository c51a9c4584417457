"""Curves equal probes fitted on the drawn scenes; the count at which a baseline is beaten is where the world puts it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.errors import FathomError
from fathom.probing.evidence.label_curve import LabelCurve, gains, label_curve, scenes_to_beat
from fathom.probing.linear.moments import Moments

CHANNELS = 6


def rooms(count: int, seed: int, cells: int = 8) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    return [(X := draw(cells, CHANNELS), X[:, :1] + 0.5 * draw(cells, 1) + 0.3 * draw(1, 1)) for _ in range(count)]


def moments_of(data: list[tuple[torch.Tensor, torch.Tensor]]) -> Moments:
    moments = Moments.zeros(len(data), torch.zeros(CHANNELS), torch.zeros(1))
    for index, (X, Y) in enumerate(data):
        moments.add(index, X, Y)
    return moments


TRAIN, TEST = rooms(32, 0), rooms(40, 1)


def test_each_point_is_ridge_on_the_first_scenes_of_a_seeded_order() -> None:
    from sklearn.linear_model import Ridge

    penalty = 0.03
    curve = label_curve(moments_of(TRAIN), moments_of(TEST), counts=(3, 32), draws=2, penalties=(penalty,), seed=5)
    for draw in range(2):
        order = np.random.default_rng([5, draw]).permutation(32)[:3]
        X = torch.cat([TRAIN[g][0] for g in order]).numpy()
        y = torch.cat([TRAIN[g][1] for g in order]).numpy()[:, 0]
        mean, scale = X.mean(0), X.std(0)
        ridge = Ridge(penalty * len(X)).fit((X - mean) / scale, y)
        expected = [((Y.numpy()[:, 0] - ridge.predict((Z.numpy() - mean) / scale)) ** 2).sum() for Z, Y in TEST]
        np.testing.assert_allclose(curve.errors[0, draw], expected, rtol=1e-8)
    np.testing.assert_array_equal(curve.errors[1, 0], curve.errors[1, 1])
    np.testing.assert_array_equal(curve.cells, 8)


def test_loss_falls_with_scenes_and_the_interval_holds_the_mean() -> None:
    curve = label_curve(moments_of(TRAIN), moments_of(TEST))
    assert curve.counts == (2, 4, 8, 16, 32)
    losses = curve.losses.mean(1)
    assert losses[0] > losses[2] > losses[-1] - 1e-3
    for interval, loss in zip(curve.intervals(), losses, strict=True):
        assert interval.low < loss < interval.high
        assert interval.estimate == pytest.approx(loss)


def test_draws_of_training_scenes_widen_the_interval() -> None:
    curve = label_curve(moments_of(TRAIN), moments_of(TEST), counts=(2, 8), draws=5)
    alone = LabelCurve(curve.counts, curve.scenes, curve.errors.mean(1, keepdims=True), curve.cells)
    for both, scenes_only in zip(curve.intervals(), alone.intervals(), strict=True):
        assert both.high - both.low > scenes_only.high - scenes_only.low


def test_more_labels_are_needed_where_more_must_be_learnt() -> None:
    train, test = moments_of(TRAIN), moments_of(TEST)
    settings = {"penalties": (1e-6,), "draws": 4, "seed": 0}
    constant = label_curve(train.select(slice(0, 0)), test.select(slice(0, 0)), **settings)
    one = label_curve(train.select([0]), test.select([0]), **settings)
    blind = label_curve(train.select([3]), test.select([3]), **settings)
    assert scenes_to_beat(one, [constant]) == 2
    assert scenes_to_beat(blind, [constant]) is None
    assert scenes_to_beat(one, [constant, one]) is None


def test_it_must_stay_ahead_at_every_larger_count() -> None:
    rng = np.random.default_rng(0)
    cells = np.ones(30)
    baseline = LabelCurve((2, 4, 8), (2.0, 4.0, 8.0), np.ones((3, 2, 30)), cells)
    levels = np.array([0.5, 1.2, 0.5])[:, None, None]
    curve = LabelCurve((2, 4, 8), (2.0, 4.0, 8.0), levels * rng.uniform(0.9, 1.1, (3, 2, 30)), cells)
    assert scenes_to_beat(curve, [baseline]) == 8


def test_the_baseline_may_have_all_scenes_throughout() -> None:
    cells, wobble = np.ones(30), np.random.default_rng(0).uniform(0.95, 1.05, (3, 2, 30))
    baseline = LabelCurve(
        (2, 4, 8), (2.0, 4.0, 8.0), np.array([3.0, 2.0, 1.0])[:, None, None] * np.ones((3, 2, 30)), cells
    )
    curve = LabelCurve((2, 4, 8), (2.0, 4.0, 8.0), np.array([1.5, 1.2, 0.6])[:, None, None] * wobble, cells)
    assert scenes_to_beat(curve, [baseline]) == 2
    assert scenes_to_beat(curve, [baseline], full=True) == 8
    assert gains(curve, baseline, full=True)[0].estimate == pytest.approx(1 - 1.5 * wobble[0].mean())


def test_blocks_of_scenes_count_as_their_scenes_and_empty_ones_are_left_out() -> None:
    moments = moments_of(TRAIN)
    for name in ("n", "x", "y", "xx", "xy", "yy"):
        getattr(moments, name)[7] = 0
    curve = label_curve(moments, moments_of(TEST), counts=(2, 31), draws=1, penalties=(1e-3,), group_scenes=[3] * 32)
    assert curve.scenes == (6, 93)


def test_counts_out_of_range_and_unlike_curves_are_refused() -> None:
    train, test = moments_of(TRAIN), moments_of(TEST)
    with pytest.raises(FathomError, match="takes 2 to 32"):
        label_curve(train, test, counts=(1, 8))
    with pytest.raises(FathomError, match="takes 2 to 32"):
        label_curve(train, test, counts=(2, 64))
    a = label_curve(train, test, counts=(2, 4), draws=1, penalties=(0.1,))
    b = label_curve(train, test, counts=(2, 8), draws=1, penalties=(0.1,))
    with pytest.raises(FathomError, match="same training counts"):
        gains(a, b)
