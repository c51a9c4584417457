"""From every frame's metrics to means with intervals over scenes, and to paired differences: pure functions.

Frames of one room are near copies of each other, so scenes are the independent units (`fathom.statistics`). A mean over frames is
Σ sums / Σ frames over scenes; the difference of two results on the same frames is Σ (sums₁ − sums₂) / Σ frames, whose interval is
far narrower than those of the two means, since a room that is hard is hard for every model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from fathom.evaluation.frames import FrameScores
from fathom.evaluation.result import TESTED, Difference, Result, SceneSums, Score
from fathom.metrics.groups import ALL
from fathom.statistics import Interval, holm, loss_interval, scene_interval

LEVEL = 0.05
"""Of Holm's p-value below which a difference is named."""


ROUNDING = 1e-6
"""Relative difference of a scene's sum that float32 and other batches explain."""


def scene_sums(frames: Sequence[FrameScores], name: str, metric: str, scenes: Sequence[str]) -> SceneSums:
    """Sums over the frames of each scene for which `metric` of result `name` is defined."""
    place = {scene: index for index, scene in enumerate(scenes)}
    sums, counts = [0.0] * len(scenes), [0] * len(scenes)
    for frame in frames:
        value = frame.metrics.get(name, {}).get(metric, math.nan)
        if not math.isnan(value):
            sums[place[frame.scene]] += value
            counts[place[frame.scene]] += 1
    return SceneSums(tuple(sums), tuple(counts))


def mean_score(metric: str, found: SceneSums) -> Score | None:
    """The mean over frames with its interval over scenes; None where no frame has the metric.

    Of a positive quantity the interval is taken on the logarithm; that of a fraction f, of which larger is better, from
    1 − f, which is the positive quantity that gets small.
    """
    sums, frames = np.asarray(found.sums), np.asarray(found.frames, dtype=np.float64)
    if not frames.sum():
        return None
    if not ALL[metric].higher:
        return _score(loss_interval(sums, frames))
    turned = _score(loss_interval(frames - sums, frames))
    bounds = turned.interval
    return Score(1 - turned.mean, None if bounds is None else (max(0.0, 1 - bounds[1]), 1 - bounds[0]))


def pooled_rmse(frames: Sequence[FrameScores], name: str, scenes: Sequence[str]) -> Score:
    """The root of the squared error averaged over all pixels of all frames: not the mean of the frames' RMSE."""
    place = {scene: index for index, scene in enumerate(scenes)}
    errors, pixels = np.zeros(len(scenes)), np.zeros(len(scenes))
    for frame in frames:
        if frame.metrics:
            errors[place[frame.scene]] += frame.metrics[name]["rmse"] ** 2 * frame.pixels
            pixels[place[frame.scene]] += frame.pixels
    found = _score(loss_interval(errors, pixels))
    bounds = found.interval
    return Score(math.sqrt(found.mean), None if bounds is None else (math.sqrt(bounds[0]), math.sqrt(bounds[1])))


def differences(results: Sequence[Result]) -> tuple[Difference, ...]:
    """Paired differences of every two models, and of each model from the mean map, as far as they are `pairable`."""
    models = [result for result in results if result.role == "model"]
    maps = [result for result in results if result.name.startswith("mean map")]
    pairs = [(a, b) for number, b in enumerate(models) for a in models[number + 1 :]]
    pairs += [(model, other) for model in models for other in maps]
    return corrected([found for a, b in pairs if pairable(a, b) for found in paired(a, b)])


def pairable(first: Result, second: Result) -> bool:
    """Whether both know as much of the truth: an alignment fits it, and a prompt shows it."""
    return (first.alignment, first.prompted) == (second.alignment, second.prompted)


def paired(first: Result, second: Result) -> Iterable[Difference]:
    """`first` − `second` for every tested metric that both have on the same frames; p-values not yet corrected."""
    for metric in TESTED:
        a, b = first.by_scene.get(metric), second.by_scene.get(metric)
        if a is None or b is None or a.frames != b.frames or not sum(a.frames):
            continue
        found = scene_interval(np.asarray(a.sums) - np.asarray(b.sums), np.asarray(a.frames, dtype=np.float64))
        estimate = float(np.sum(a.sums) - np.sum(b.sums)) / sum(a.frames)
        interval = found.bounds
        p = None if interval is None else min(1.0, 2 * min(found.p_above, found.p_below))
        if np.allclose(a.sums, b.sums, rtol=ROUNDING, atol=0):
            p = None  # the same model twice is no comparison
        yield Difference(metric, first.name, second.name, estimate, interval, p, None)


def corrected(found: Sequence[Difference]) -> tuple[Difference, ...]:
    """With Holm's p-values over all of them, and the better one named where that is below `LEVEL`."""
    adjusted = iter(holm([item.p for item in found if item.p is not None]))
    out = []
    for item in found:
        p = None if item.p is None else next(adjusted)
        better = ""
        if p is not None and p < LEVEL:
            better = item.first if (item.estimate > 0) == ALL[item.metric].higher else item.second
        out.append(replace(item, p_holm=p, better=better))
    return tuple(out)


def _score(found: Interval) -> Score:
    return Score(found.estimate, found.bounds)
