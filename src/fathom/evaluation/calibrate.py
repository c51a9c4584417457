"""`calibrate`: how far a metric depth model is off in scenes that it was not trained on, as intervals for new scenes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.depth_models.calibration import LEVELS, TERMS, Calibration, tangents, terms_at
from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import Openable, open_depth_model
from fathom.errors import DataError, UsageError
from fathom.metrics.conformal import coverage_of_left_out, highest_level, scene_quantiles, sparsification_error
from fathom.progress import track
from fathom.sample import Sample
from fathom.statistics import Interval, scene_interval

Array = NDArray[np.float64]

PIXELS = 4000
"""Pixels of a frame that are looked at: neighbours say the same."""

LEAST_ERROR = 0.02
"""Relative errors below it are all small: keeps the logarithm of an error from deciding the shape of the uncertainty."""

SHAPE_FRAMES = 2
"""Frames of each scene of the training data that are looked at."""

STRENGTHS = (0.0, 0.5, 1.0)
"""Factors of the shape that are tried; 0 is a constant uncertainty. A choice among three costs the promise next to nothing."""

LEAST_SHAPE_SCENES = 10
"""Scenes of the training data from which on the shape of the uncertainty is fitted."""


@dataclass(frozen=True)
class Errors:
    """Pixels of one scene: |ln d̂ − ln d|, the `terms` ``(6, N)`` there, predicted and true metres, and which frame it is."""

    error: Array
    terms: Array
    predicted: Array
    true: Array
    frame: Array

    def joined(self, other: Errors) -> Errors:
        """The pixels of both."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        return Errors(*(np.concatenate(pair, axis=-1) for pair in pairs))


def calibrate(model: Openable | None, data: Dataset | str, *, device: str = "auto") -> Calibration:
    """Intervals for new scenes like those of `data`.

    Scenes that the model was trained on give the shape of the uncertainty (where it errs); the others the quantiles (by how
    much), and which of `STRENGTHS` of the shape gives the narrowest intervals. Without enough of the former the uncertainty is
    constant.

    Raises:
        UsageError: the model gives no metres.
        DataError: fewer than two scenes that it was not trained on, or no valid depth.
    """
    opened = open_depth_model(model, device=device)
    if opened.kind != "metric":
        raise UsageError(
            f"'{opened.name}' gives {opened.kind} values, which have no unit, so there is no interval in metres; use a metric model "
            "or fathom adapt, which makes a metric one of it."
        )
    frames = load(data) if isinstance(data, str) else data
    known = set(opened.train_scenes)
    found = errors_by_scene(opened, _thinned(frames, known))
    seen = {scene: errors for scene, errors in found.items() if scene in known}
    unseen = {scene: errors for scene, errors in found.items() if scene not in known}
    if len(unseen) < 2:
        raise DataError(
            frames.source.location,
            f"has {len(unseen)} scene{'' if len(unseen) == 1 else 's'} that '{opened.name}' was not trained on",
            "an interval for new scenes needs two or more (ten for an interval of 0.9): name scenes by folder, or use more data",
        )
    whole = fitted_shape(list(seen.values())) if len(seen) >= LEAST_SHAPE_SCENES else (0.0,) * len(TERMS)
    shape = min((tuple(part * value for value in whole) for part in STRENGTHS), key=lambda own: _width(unseen, own))
    scores = scores_of(unseen, shape)
    levels = tuple(level for level in LEVELS if level <= highest_level(len(unseen)) + 1e-9)
    made = Calibration(
        model=opened.name,
        data=frames.source.location,
        scenes=len(unseen),
        levels=levels,
        quantiles=tuple(scene_quantiles(scores, levels)),
        shape=shape,
        facts={},
    )
    return replace(made, facts=_facts(unseen, scores, levels, shape))


def _thinned(data: Dataset, known: set[str]) -> Dataset:
    """`data` with at most `SHAPE_FRAMES` frames of each known scene: the shape needs no more."""
    taken: dict[str, int] = {}
    kept = []
    for position, scene in enumerate(data.frame_scenes):
        taken[scene] = taken.get(scene, 0) + 1
        if scene not in known or taken[scene] <= SHAPE_FRAMES:
            kept.append(position)
    return data.subset(kept)


def errors_by_scene(model: DepthModel, data: Dataset) -> dict[str, Errors]:
    """The pixels with truth of every scene of `data`, up to `PIXELS` of each frame."""
    found: dict[str, Errors] = {}
    for position in track(range(len(data)), f"Predicting {data.source.location}", len(data)):
        errors = frame_errors(model, data[position], position)
        if errors is None:
            continue
        scene = data.frame_scenes[position]
        found[scene] = found[scene].joined(errors) if scene in found else errors
    if not found:
        raise DataError(data.source.location, "has no pixel of valid depth", "check the depth files and their unit")
    return found


def frame_errors(model: DepthModel, sample: Sample, number: int) -> Errors | None:
    """The pixels of one frame, at the resolution of its truth; None without a valid one."""
    size = sample.depth_size
    maps = model.predict(sample.image[None], [sample.intrinsics], size=size)
    predicted = maps.values[0].clamp(min=1e-3)
    keep = (sample.valid[0] & torch.isfinite(maps.values[0]) & (sample.depth[0] > 0)).flatten().nonzero().flatten()
    if not len(keep):
        return None
    chosen = keep[:: max(len(keep) // PIXELS, 1)]
    height, width = sample.image_size
    camera = maps.cameras[0].scaled(size[0] / height, size[1] / width)
    p, t = (values.flatten()[chosen].double().numpy() for values in (predicted, sample.depth[0]))
    x, y = tangents(*size, camera)
    rows, columns = (chosen // size[1]).numpy(), (chosen % size[1]).numpy()
    seen = terms_at(p, x[columns], y[rows])
    return Errors(np.abs(np.log(p / t)), np.asarray(seen, np.float64), p, t, np.full(len(p), float(number)))


def fitted_shape(scenes: list[Errors]) -> tuple[float, ...]:
    """Least squares of ln(error + `LEAST_ERROR`) on the terms, every scene of the same weight, with ln u averaging 0."""
    gram, right = np.zeros((len(TERMS), len(TERMS))), np.zeros(len(TERMS))
    for scene in scenes:
        weight = 1 / len(scene.error)
        gram += weight * scene.terms @ scene.terms.T
        right += weight * scene.terms @ np.log(scene.error + LEAST_ERROR)
    coefficients = np.linalg.solve(gram + 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram)), right)
    coefficients[0] -= float(coefficients @ gram[:, 0]) / float(gram[0, 0])
    return tuple(float(value) for value in coefficients)


def _width(scenes: dict[str, Errors], shape: tuple[float, ...], level: float = 0.8) -> float:
    """Mean width over depth of the interval of `level`, or of the highest that the scenes promise."""
    (limit,) = scene_quantiles(scores_of(scenes, shape), [min(level, highest_level(len(scenes)))])
    return float(np.mean([np.sinh(limit * _uncertainty(scene, shape)).mean() * 2 for scene in scenes.values()]))


def scores_of(scenes: dict[str, Errors], shape: tuple[float, ...]) -> dict[str, Array]:
    """Errors in units of the uncertainty."""
    return {name: scene.error / _uncertainty(scene, shape) for name, scene in scenes.items()}


def _uncertainty(scene: Errors, shape: tuple[float, ...]) -> Array:
    exponent = np.asarray(shape) @ scene.terms
    return np.asarray(np.exp(np.clip(exponent, -np.log(4), np.log(4))))


def coverage(
    model: Openable | None, data: Dataset | str, found: Calibration, level: float, *, device: str = "auto"
) -> dict[str, Any]:
    """Measured coverage of an interval on other data: fraction of pixels inside, by scene, and its interval over scenes."""
    frames = load(data) if isinstance(data, str) else data
    scenes = errors_by_scene(open_depth_model(model, device=device), frames)
    limit = found.quantile(level)
    inside = {name: float((score <= limit).mean()) for name, score in scores_of(scenes, found.shape).items()}
    widths = [float((2 * np.sinh(limit * _uncertainty(scene, found.shape))).mean()) for scene in scenes.values()]
    return {"level": level, **_mean(list(inside.values())), "scenes": inside, "relative_width": float(np.mean(widths))}


def _mean(values: list[float]) -> dict[str, float]:
    found: Interval = scene_interval(np.array(values), np.ones(len(values)))
    return {"coverage": found.estimate, "low": found.low, "high": found.high}


def _facts(
    scenes: dict[str, Errors], scores: dict[str, Array], levels: tuple[float, ...], shape: tuple[float, ...]
) -> dict[str, Any]:
    """Measured with each scene left out of its own calibration: coverage, width; and how well u orders the errors."""
    flat = (0.0,) * len(TERMS)
    facts: dict[str, Any] = {
        "promise": "a random pixel of a random new scene like these is inside with at least the level's probability",
        "frames": len({frame for scene in scenes.values() for frame in scene.frame.tolist()}),
        "ause": float(np.mean([_ause(scene, shape) for scene in scenes.values()])),
        "ause_constant": float(np.mean([_ause(scene, flat) for scene in scenes.values()])),
        "left_out": {},
    }
    constant = scores_of(scenes, flat)
    for level in (0.5, 0.8, 0.9):
        if not levels or level > highest_level(len(scenes) - 1) + 1e-9:
            continue
        inside = coverage_of_left_out(scores, level)
        (limit,), (plain,) = scene_quantiles(scores, [level]), scene_quantiles(constant, [level])
        width = np.mean([np.sinh(limit * _uncertainty(scene, shape)).mean() * 2 for scene in scenes.values()])
        facts["left_out"][str(level)] = {
            **_mean(list(inside.values())),
            "scenes": inside,
            "relative_width": float(width),
            "relative_width_constant": float(2 * np.sinh(plain)),
        }
    return facts


def _ause(scene: Errors, shape: tuple[float, ...]) -> float:
    """Normalised AUSE of relative errors, averaged over the frames of a scene."""
    spread = _uncertainty(scene, shape)
    frames = (scene.frame == frame for frame in np.unique(scene.frame))
    return float(np.mean([sparsification_error(scene.error[mine], spread[mine]) for mine in frames]))
