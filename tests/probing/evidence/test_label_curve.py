"""Curves equal probes fitted on the drawn scenes; the count at which a baseline is beaten is where the world puts it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.errors import FathomError
from fathom.probing.evidence.label_curve import DRAWS, Draws, LabelCurve, draw_scenes, gains, probes_on, scenes_to_beat
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import PATH, cross_validate

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


def curve_of(
    train: Moments,
    test: Moments,
    penalties: tuple[float, ...] = PATH,
    seed: int = 0,
    scenes: list[int] | None = None,
    counts: tuple[int, ...] | None = None,
) -> LabelCurve:
    """The probes of a run, measured on the moments of the test scenes."""
    draws = draw_scenes(train, scenes or [1] * train.groups, seed)
    if counts is not None:
        draws = Draws(draws.orders, counts, tuple(map(float, counts)))
    folds = [[block] for block in range(train.groups) if float(train.n[block])]
    probes = probes_on(train, draws, penalties, None, cross_validate(train, folds, penalties).probe)
    errors = np.stack([test.loss(probe.weight, probe.bias).sum(1).numpy() for probe in probes])
    return LabelCurve(draws.counts, draws.scenes, errors.reshape(len(draws.counts), DRAWS, -1), test.n.numpy())


def test_each_point_is_ridge_on_the_first_scenes_of_a_seeded_order() -> None:
    from sklearn.linear_model import Ridge

    penalty = 0.03
    curve = curve_of(moments_of(TRAIN), moments_of(TEST), (penalty,), seed=5)
    assert curve.counts == (2, 4, 8, 16, 32)
    for draw in range(DRAWS):
        order = np.random.default_rng([5, draw]).permutation(32)[:4]
        X = torch.cat([TRAIN[g][0] for g in order]).numpy()
        y = torch.cat([TRAIN[g][1] for g in order]).numpy()[:, 0]
        mean, scale = X.mean(0), X.std(0)
        ridge = Ridge(penalty * len(X)).fit((X - mean) / scale, y)
        expected = [((Y.numpy()[:, 0] - ridge.predict((Z.numpy() - mean) / scale)) ** 2).sum() for Z, Y in TEST]
        np.testing.assert_allclose(curve.errors[1, draw], expected, rtol=1e-8)
    np.testing.assert_array_equal(curve.errors[-1, 0], curve.errors[-1, 1])
    np.testing.assert_array_equal(curve.cells, 8)


def test_loss_falls_with_scenes_and_the_interval_holds_the_mean() -> None:
    curve = curve_of(moments_of(TRAIN), moments_of(TEST))
    losses = curve.losses.mean(1)
    assert losses[0] > losses[2] > losses[-1] - 1e-3
    for interval, loss in zip(curve.intervals(), losses, strict=True):
        assert interval.low < loss < interval.high
        assert interval.estimate == pytest.approx(loss)


def test_draws_of_training_scenes_widen_the_interval() -> None:
    curve = curve_of(moments_of(TRAIN), moments_of(TEST), counts=(2, 8))
    alone = LabelCurve(curve.counts, curve.scenes, curve.errors.mean(1, keepdims=True), curve.cells)
    for both, scenes_only in zip(curve.intervals(), alone.intervals(), strict=True):
        assert both.high - both.low > scenes_only.high - scenes_only.low


def test_more_labels_are_needed_where_more_must_be_learnt() -> None:
    train, test = moments_of(TRAIN), moments_of(TEST)
    constant, one, blind = (
        curve_of(train.select(part), test.select(part), (1e-6,)) for part in (slice(0, 0), [0], [3])
    )
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


def test_blocks_of_scenes_count_as_their_scenes_and_empty_ones_are_left_out() -> None:
    moments = moments_of(TRAIN)
    for name in ("n", "x", "y", "xx", "xy", "yy"):
        getattr(moments, name)[7] = 0
    draws = draw_scenes(moments, [3] * 32, seed=0)
    assert draws.counts[0] == 2 and draws.counts[-1] == 31 and all(7 not in chosen for chosen in draws.orders)
    assert draws.scenes == tuple(3.0 * count for count in draws.counts)


def test_unlike_curves_are_refused() -> None:
    train, test = moments_of(TRAIN), moments_of(TEST)
    a, b = (curve_of(train, test, (0.1,), counts=counts) for counts in ((2, 4), (2, 8)))
    with pytest.raises(FathomError, match="same training counts"):
        gains(a, b)
