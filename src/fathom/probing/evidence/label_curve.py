"""Test loss against the number of labelled training scenes, from `Moments` alone.

A probe on m scenes is a function of those scenes' moments, and its loss on a test scene of that scene's. Draws of training
scenes are nested (the first m of one seeded order) and the same for every encoder, so curves may be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fathom.errors import FathomError
from fathom.probing.evidence.information import doubling
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import PATH, Probe, cross_validate, decompose
from fathom.statistics import RESAMPLES, Interval, scene_interval

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LabelCurve:
    """Losses of one encoder and feature.

    Attributes:
        counts: groups of training scenes, ascending, ``(M,)``.
        scenes: scenes in them, mean over draws; the counts themselves where a group is a scene.
        errors: Σ of squared errors, ``(M, draws, S)``.
        cells: valid cells of each test scene, ``(S,)``.
    """

    counts: tuple[int, ...]
    scenes: tuple[float, ...]
    errors: Array
    cells: Array

    @property
    def losses(self) -> Array:
        """Mean squared error of each count and draw, ``(M, draws)``."""
        return np.asarray(self.errors.sum(-1) / self.cells.sum())

    def intervals(self, *, resamples: int = RESAMPLES) -> list[Interval]:
        """95 % interval of the mean over draws at each count: test scenes and draws of training scenes both vary.

        Draws overlap more the larger the count, so their share of the spread is understated near the full training set.
        """
        return [_over_draws(errors, self.cells, log=True, resamples=resamples) for errors in self.errors]


def label_curve(
    train: Moments,
    test: Moments,
    *,
    counts: Sequence[int] | None = None,
    draws: int = 5,
    folds: int = 3,
    penalties: Sequence[float] = PATH,
    group_scenes: Sequence[int] | None = None,
    seed: int = 0,
) -> LabelCurve:
    """Fit on the first `count` groups of `draws` seeded orders, measure on every group of `test`.

    Where no moments of test scenes are at hand, groups of the training set that are kept apart will do:
    ``label_curve(moments.take(rest), moments.take(held_out))``.

    Args:
        train: of one feature's outputs (`Moments.select`), one group a scene or block of scenes; groups without a valid cell are
            left out.
        test: of the same inputs and outputs; its groups are the units of the interval.
        counts: numbers of groups, at least 2 each; doubling up to all by default.
        draws: orders.
        folds: of the cross-validation that chooses λ among the drawn groups; none if there is one penalty.
        penalties: values of λ to choose from.
        group_scenes: scenes in each training group, if they are blocks.
        seed: of the orders; curves to be compared must share it.
    """
    usable = torch.nonzero(train.n)[:, 0].tolist()  # a group without a valid cell teaches nothing
    sizes = np.asarray(group_scenes if group_scenes is not None else [1] * train.groups, dtype=np.float64)[usable]
    train = train.take(usable)
    ascending = tuple(sorted(set(counts or doubling(max(train.groups, 2)))))
    if ascending[0] < 2 or ascending[-1] > train.groups or draws < 1:
        raise FathomError(
            f"A label curve over {train.groups} groups of training scenes takes 2 to {train.groups} of them, not "
            f"{ascending[0]} to {ascending[-1]}, and at least one draw."
        )
    orders = [np.random.default_rng([seed, draw]).permutation(train.groups).tolist() for draw in range(draws)]
    errors = np.empty((len(ascending), draws, test.groups))
    scenes = []
    for row, count in enumerate(ascending):
        scenes.append(float(np.mean([sizes[order[:count]].sum() for order in orders])))
        for draw, order in enumerate(orders):
            if count == train.groups and draw:  # all groups: every order is the same set
                errors[row, draw] = errors[row, 0]
                continue
            probe = _fit(train, order[:count], folds, penalties)
            errors[row, draw] = test.loss(probe.weight, probe.bias).sum(1).numpy()
    return LabelCurve(ascending, tuple(scenes), errors, test.n.numpy().copy())


def _fit(train: Moments, groups: Sequence[int], folds: int, penalties: Sequence[float]) -> Probe:
    """The probe on some groups; λ by cross-validation among them, one for all outputs."""
    if len(penalties) == 1:
        return decompose(train.total(groups)).solve(penalties[0])
    taken = train.take(groups)
    parts = [list(range(k, len(groups), min(folds, len(groups)))) for k in range(min(folds, len(groups)))]
    return cross_validate(taken, parts, penalties, tie=[list(range(train.y.shape[1]))]).probe


def _over_draws(errors: Array, cells: Array, *, log: bool, resamples: int) -> Interval:
    """Interval of the mean loss of ``(draws, S)`` errors; draws add s²/k, the variance of a mean of k."""
    losses = errors.sum(1) / cells.sum()
    draws = len(losses)
    variance = float(losses.var(ddof=1) / draws) if draws > 1 else 0.0
    mean = errors.mean(0)
    return scene_interval(
        mean,
        cells,
        log=log and bool(mean.sum() > 0),
        resamples=resamples,
        seed_variance=variance,
        seed_df=max(draws - 1, 0),
    )


def gains(curve: LabelCurve, baseline: LabelCurve, *, full: bool = False, resamples: int = RESAMPLES) -> list[Interval]:
    """L_baseline − L_encoder at each count, paired over test scenes and draws.

    With `full` the baseline has all training scenes throughout, else as many as the encoder.
    """
    if curve.counts != baseline.counts or curve.errors.shape != baseline.errors.shape:
        raise FathomError("Label curves can be compared only on the same training counts, draws and test scenes.")
    against = np.broadcast_to(baseline.errors[-1], baseline.errors.shape) if full else baseline.errors
    difference = against - curve.errors
    return [_over_draws(errors, curve.cells, log=False, resamples=resamples) for errors in difference]


def scenes_to_beat(
    curve: LabelCurve,
    baselines: Sequence[LabelCurve],
    *,
    full: bool = False,
    level: float = 0.05,
    resamples: int = RESAMPLES,
) -> float | None:
    """The least number of training scenes from which on the encoder beats every baseline, or None if it never does.

    Beats: the gain over each baseline is above zero, one-sided at `level`, at this count and at every larger one measured.
    """
    if not baselines:
        raise FathomError("There is no baseline to beat.")
    beaten = np.ones(len(curve.counts), dtype=bool)
    for baseline in baselines:
        beaten &= [gain.p_above <= level for gain in gains(curve, baseline, full=full, resamples=resamples)]
    steady = np.logical_and.accumulate(beaten[::-1])[::-1]
    return curve.scenes[int(steady.argmax())] if steady.any() else None
