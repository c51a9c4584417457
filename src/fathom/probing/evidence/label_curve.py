"""Few labels: test loss against the number of labelled training scenes.

No image is read again: a probe on some scenes is a function of their moments, solved in closed form, and every further probe is a
column of the matrix that the test frames are multiplied by. Draws of training scenes are nested (the first m of one seeded
order) and the same for every encoder, so curves may be compared in pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fathom.errors import FathomError
from fathom.probing import processes
from fathom.probing.candidates import Candidate, Layer, linear_probes, named
from fathom.probing.evidence.information import WIDE, doubling
from fathom.probing.evidence.records import LabelCurveRecord, finite
from fathom.probing.linear.banded import BANDED
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import Probe, cross_validate
from fathom.probing.participants import ALL
from fathom.probing.settings import ProbeSettings
from fathom.seeding import order
from fathom.statistics import RESAMPLES, Interval, scene_interval

Array = NDArray[np.float64]

DRAWS = 3
"""Seeded orders of the training scenes, the same for all encoders."""

FOLDS = 3
"""Of the cross-validation that chooses λ among the scenes drawn."""


@dataclass(frozen=True)
class Draws:
    """Which blocks of training scenes the probes of a label curve are fitted on.

    Attributes:
        orders: of the blocks with a valid cell; a probe is fitted on the first few of one order.
        counts: how many, ascending.
        scenes: scenes in them, mean over orders.
    """

    orders: tuple[tuple[int, ...], ...]
    counts: tuple[int, ...]
    scenes: tuple[float, ...]


def draw_scenes(moments: Moments, scenes_of_block: Sequence[int], seed: int) -> Draws:
    """`DRAWS` seeded orders of the blocks with a valid cell, and counts that double up to all of them."""
    usable = [block for block in range(moments.groups) if float(moments.n[block])]
    orders = [[usable[i] for i in order(len(usable), seed, draw)] for draw in range(DRAWS)]
    counts = doubling(len(usable))
    sizes = np.asarray(scenes_of_block, dtype=np.float64)
    scenes = tuple(float(np.mean([sizes[chosen[:count]].sum() for chosen in orders])) for count in counts)
    return Draws(tuple(map(tuple, orders)), counts, scenes)


def probes_on(
    moments: Moments, draws: Draws, penalties: Sequence[float], ties: Sequence[Sequence[int]] | None, full: Probe
) -> list[Probe]:
    """A probe for each count and draw, in this order; on all scenes, where every order is the same set, it is `full`."""
    probes = []
    for count in draws.counts:
        for chosen in draws.orders:
            if count == len(chosen):
                probes.append(full)
                continue
            folds = [list(range(k, count, FOLDS)) for k in range(min(FOLDS, count))]
            probes.append(cross_validate(moments.take(chosen[:count]), folds, penalties, ties).probe)
    return probes


@dataclass(frozen=True)
class FewLabels:
    """The probes of one encoder and target group at one layer, on few training scenes.

    Attributes:
        features: whose chosen layer this is. layer: its name.
        draws: what they were fitted on.
        candidate: measures them, a layer for each count and draw.
    """

    features: tuple[str, ...]
    layer: str
    draws: Draws
    candidate: Candidate

    def curve(self, feature: str) -> LabelCurve:
        """The errors of the test pass as a curve."""
        sums = self.candidate.sums
        errors = sums.squared[:, :, self.candidate.group.outputs[feature]].sum(2).T.numpy()
        shaped = errors.reshape(len(self.draws.counts), DRAWS, -1)
        return LabelCurve(self.draws.counts, self.draws.scenes, shaped, sums.cells.numpy())


def few_labels(fitted: Sequence[Candidate], settings: ProbeSettings, notes: list[str]) -> list[FewLabels]:
    """Of every baseline and encoder (controls need none) at its chosen layers; none of wide layers unless asked for."""
    if settings.label_curve is False:
        return []
    wanted: list[tuple[Candidate, Layer, tuple[str, ...]]] = []
    for item in fitted:
        if item.role.name not in ("baseline", "encoder"):
            continue
        chosen = {one.name: _plain(item, one.name) for one in item.group.features}
        for name in sorted(set(chosen.values())):
            layer = next(layer for layer in item.layers if layer.name == name)
            if layer.channels > WIDE and not settings.label_curve:
                notes.append(
                    f"No label curve of {item.encoder} at {name} ({layer.channels} channels) unless asked for."
                )
                continue
            wanted.append((item, layer, tuple(feature for feature, where in chosen.items() if where == name)))
    solved = processes.divided(lambda one: _solve(one[0], one[1], settings), wanted, "solving label curves")
    return [
        FewLabels(features, layer.name, draws, linear_probes(participant, item.group, layers, settings.device))
        for (item, layer, features), (draws, layers) in zip(wanted, solved, strict=True)
        if (participant := item.participant) is not None
    ]


def _plain(item: Candidate, feature: str) -> str:
    """The chosen layer; the plain concatenation for the banded one, whose penalties few scenes cannot settle."""
    name = item.best_layer(feature).name
    return ALL if name == BANDED else name


def _solve(item: Candidate, layer: Layer, settings: ProbeSettings) -> tuple[Draws, list[Layer]]:
    """The training scenes drawn, and a probe for each count and draw."""
    participant = item.participant
    assert participant is not None and layer.columns is not None and layer.probe is not None
    moments, blocks = participant.moments[item.group.name].select(layer.columns), participant.blocks
    scenes = np.bincount(list(blocks.of_scene.values()), minlength=blocks.count).tolist()
    draws = draw_scenes(moments, scenes, settings.seed)
    with named(item.encoder, f"{layer.name} on few scenes"):
        probes = probes_on(moments, draws, settings.penalties, item.group.ties, layer.probe)
    names = [f"{count}/{draw}" for count in draws.counts for draw in range(DRAWS)]
    layers = [
        Layer(name, layer.channels, probe.penalty, layer.cv_mse, layer.train_mse, columns=layer.columns, probe=probe)
        for name, probe in zip(names, probes, strict=True)
    ]
    return draws, layers


@dataclass(frozen=True)
class LabelCurve:
    """Losses of one encoder and feature.

    Attributes:
        counts: blocks of training scenes, ascending, ``(M,)``.
        scenes: scenes in them, mean over draws; the counts themselves where a block is a scene.
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


def gains(curve: LabelCurve, baseline: LabelCurve, *, resamples: int = RESAMPLES) -> list[Interval]:
    """L_baseline − L_encoder at each count, paired over test scenes and draws."""
    if curve.counts != baseline.counts or curve.errors.shape != baseline.errors.shape:
        raise FathomError("Label curves can be compared only on the same training counts, draws and test scenes.")
    difference = baseline.errors - curve.errors
    return [_over_draws(errors, curve.cells, log=False, resamples=resamples) for errors in difference]


def scenes_to_beat(
    curve: LabelCurve, baselines: Sequence[LabelCurve], *, level: float = 0.05, resamples: int = RESAMPLES
) -> float | None:
    """The least number of training scenes from which on the encoder beats every baseline, or None if it never does.

    Beats: the gain over each baseline is above zero, one-sided at `level`, at this count and at every larger one measured.
    """
    if not baselines:
        raise FathomError("There is no baseline to beat.")
    beaten = np.ones(len(curve.counts), dtype=bool)
    for baseline in baselines:
        beaten &= [gain.p_above <= level for gain in gains(curve, baseline, resamples=resamples)]
    steady = np.logical_and.accumulate(beaten[::-1])[::-1]
    return curve.scenes[int(steady.argmax())] if steady.any() else None


def label_curves(measured: Sequence[FewLabels]) -> tuple[LabelCurveRecord, ...]:
    """The curves of the evidence, one for each encoder, baseline and feature."""
    curves = {(item.candidate.encoder, name): (item, item.curve(name)) for item in measured for name in item.features}
    return tuple(_record(item, feature, curve, curves) for (_, feature), (item, curve) in curves.items())


def _record(
    item: FewLabels, feature: str, curve: LabelCurve, curves: Mapping[tuple[str, str], tuple[FewLabels, LabelCurve]]
) -> LabelCurveRecord:
    intervals, candidate = curve.intervals(), item.candidate
    baselines = [
        other
        for (_, name), (peer, other) in curves.items()
        if name == feature and peer.candidate.role.name == "baseline" and other.counts == curve.counts
    ]
    return LabelCurveRecord(
        encoder=candidate.encoder,
        feature=feature,
        layer=item.layer,
        role=candidate.role.name,
        scenes=curve.scenes,
        mse=tuple(finite(interval.estimate) for interval in intervals),
        low=tuple(finite(interval.low) for interval in intervals),
        high=tuple(finite(interval.high) for interval in intervals),
        draws=DRAWS,
        scenes_to_beat_baselines=scenes_to_beat(curve, baselines)
        if candidate.role.name == "encoder" and baselines
        else None,
    )
