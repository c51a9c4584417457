"""`adapt`: fit a depth model to one place or camera, in closed form, from a few frames with depth.

Which correction serves is chosen by cross-validation over groups of frames (scenes, or blocks of time of one capture), and what it
is worth is measured on groups that neither the choice nor the fit has seen (nested cross-validation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.depth_models.adapted import (
    FILE,
    LEAST_METRES,
    SCHEMA_VERSION,
    Correction,
    Method,
    head_inputs,
    of_map,
    predict_with_features,
)
from fathom.depth_models.calibration import FILE as CALIBRATION
from fathom.depth_models.calibration import LEVELS, TERMS, Calibration, calibration_of, uncertainty
from fathom.depth_models.model import DepthModel, Kind
from fathom.depth_models.opening import Openable, open_depth_model
from fathom.errors import DataError, UsageError
from fathom.files.atomic import write_json
from fathom.files.lock import output_lock
from fathom.metrics.conformal import coverage_of_left_out, highest_level, scene_quantiles
from fathom.progress import track
from fathom.sample import Sample
from fathom.statistics import scene_interval

Array = NDArray[np.float64]

PIXELS = 1500
"""Pixels of a frame that are looked at."""

BLOCKS = 10
"""Blocks of time that a capture of one scene is divided into: the fewest that can promise an interval of 0.9."""

LEAST_GROUPS = 3
PENALTIES = tuple(10.0**power for power in range(-4, 3))
"""Of the ridge head, per pixel; its inputs are standardised."""

MARGIN = 1.5
"""Corrected depth stays within the range of the frames that it was fitted on, widened by this factor."""


@dataclass(frozen=True)
class Pixels:
    """Pixels of one group: the model's values, true metres, what the head reads ``(C, N)`` or None, and u of the model's interval."""

    values: Array
    true: Array
    inputs: Array | None
    spread: Array


@dataclass(frozen=True)
class Candidate:
    """A correction to fit: its method, and the penalty of a head."""

    method: Method
    penalty: float = 0.0


@dataclass(frozen=True)
class Adaptation:
    """What `adapt` found.

    Attributes:
        correction: fitted on all frames.
        chosen: the candidate, and `errors`: the cross-validated mean |ln d'/d| of each candidate.
        grouped_by: ``scene`` or ``time``.
        before, after: metrics of frames that the fit had not seen, by group; `before` is empty for a model without metres.
        calibration: intervals of the adapted model for new groups of frames.
        coverage: of the model's own interval before, and of the adapted one's after, at `level`.
    """

    correction: Correction
    chosen: Candidate
    errors: dict[str, float]
    grouped_by: str
    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    calibration: Calibration
    coverage: dict[str, Any]

    def table(self) -> dict[str, Any]:
        """The record as plain values."""
        return {
            "chosen": asdict(self.chosen),
            "errors": self.errors,
            "grouped_by": self.grouped_by,
            "before": self.before,
            "after": self.after,
            "coverage": self.coverage,
        }


def adapt(
    model: Openable | None, data: Dataset | str, out: str | Path, *, level: float = 0.9, device: str = "auto"
) -> Adaptation:
    """Fit `model` to the place and camera of `data`, and write the adapted model to the folder `out`.

    Raises:
        DataError: no valid depth, or fewer than `LEAST_GROUPS` frames.
        UsageError: the model cannot be named again from a file.
    """
    opened = open_depth_model(model, device=device)
    frames = load(data) if isinstance(data, str) else data
    groups, grouped_by = grouped(frames)
    pixels = group_pixels(opened, frames, groups)
    found = fitted(opened, pixels, grouped_by, frames.source.location, level)
    folder = Path(out)
    base = model_text(model, opened)
    correction = found.correction
    table = {
        "schema_version": SCHEMA_VERSION,
        "base": base,
        **asdict(correction),
        "data": frames.source.location,
        **found.table(),
    }
    with output_lock(folder, "an adaptation"):
        # Until the last file stands the folder is no adapted model: never a correction with the intervals of another.
        (folder / FILE).unlink(missing_ok=True)
        found.calibration.save(folder / CALIBRATION)
        write_json(folder / FILE, table, checksum=True)
    return found


def model_text(model: Openable | None, opened: DepthModel) -> str:
    """How the model within is named in a file: a SPEC, or an absolute path."""
    if model is not None and not isinstance(model, str | Path):
        raise UsageError("Adapt a model by its name, path or SPEC: the folder has to say which model it corrects.")
    text = opened.name if model is None else str(model)
    return str(Path(text).resolve()) if Path(text).exists() else text


def grouped(data: Dataset) -> tuple[list[str], str]:
    """A group for each frame: its scene, or with fewer than `LEAST_GROUPS` scenes its block of time."""
    if len(data.scenes) >= LEAST_GROUPS:
        return list(data.frame_scenes), "scene"
    count = min(BLOCKS, len(data))
    if count < LEAST_GROUPS:
        raise DataError(
            data.source.location,
            f"holds {len(data)} frames",
            f"adapting needs {LEAST_GROUPS} or more, and ten for an interval of 0.9",
        )
    return [f"block {position * count // len(data) + 1:02d}" for position in range(len(data))], "time"


def group_pixels(model: DepthModel, data: Dataset, groups: Sequence[str]) -> dict[str, Pixels]:
    """The pixels with truth of every group, up to `PIXELS` of each frame."""
    parts: dict[str, list[Pixels]] = {}
    shape = _own_shape(model)
    for position in track(range(len(data)), f"Predicting {data.source.location}", len(data)):
        found = _frame_pixels(model, data[position], shape)
        if found is not None:
            parts.setdefault(groups[position], []).append(found)
    if len(parts) < LEAST_GROUPS:
        raise DataError(
            data.source.location,
            f"has valid depth in {len(parts)} of {len(set(groups))} groups of frames",
            f"adapting needs depth in {LEAST_GROUPS} or more; check the depth files and their unit",
        )
    return {name: _joined(frames) for name, frames in parts.items()}


def _own_shape(model: DepthModel) -> tuple[float, ...]:
    try:
        return calibration_of(model).shape
    except UsageError:
        return (0.0,) * len(TERMS)


def _frame_pixels(model: DepthModel, sample: Sample, shape: tuple[float, ...]) -> Pixels | None:
    images, size = sample.image[None], sample.depth_size
    maps, features = predict_with_features(model, images, [sample.intrinsics], size=size)
    values = maps.values[0]
    keep = (sample.valid[0] & torch.isfinite(values) & (sample.depth[0] > 0)).flatten().nonzero().flatten()
    if not len(keep):
        return None
    chosen = keep[:: max(len(keep) // PIXELS, 1)].numpy()
    camera = of_map(maps.cameras[0], images, values)
    inputs = None if features is None else head_inputs(values, features[0], camera)
    depth = values.clamp(min=LEAST_METRES).double().numpy() if model.kind == "metric" else values.double().numpy()
    spread = uncertainty(depth, camera, shape) if model.kind == "metric" else np.ones_like(depth)
    return Pixels(
        depth.reshape(-1)[chosen],
        sample.depth[0].double().numpy().reshape(-1)[chosen],
        None if inputs is None else np.asarray(inputs.reshape(len(inputs), -1)[:, chosen], np.float64),
        np.asarray(spread.reshape(-1)[chosen], np.float64),
    )


def _joined(parts: Sequence[Pixels]) -> Pixels:
    inputs = [part.inputs for part in parts if part.inputs is not None]
    return Pixels(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.true for part in parts]),
        np.concatenate(inputs, axis=1) if inputs else None,
        np.concatenate([part.spread for part in parts]),
    )


def candidates(kind: Kind, head: bool) -> list[Candidate]:
    """The corrections that make sense for a kind of depth, simplest first."""
    if kind in ("affine-depth", "affine-disparity"):
        return [Candidate("scale-shift")]
    if kind == "scale-invariant":
        return [Candidate("scale")]
    heads = [Candidate("head", penalty) for penalty in reversed(PENALTIES)] if head else []
    return [Candidate("none"), Candidate("scale"), Candidate("scale-shift"), *heads]


def fit(candidate: Candidate, groups: Sequence[Pixels], kind: Kind) -> Correction:
    """The correction of `candidate` from `groups`, each of the same weight.

    ``scale``: a is the mean of ln g − ln v. ``scale-shift``: least squares of relative errors, Σ ((s v + t) − g)² / g² (of disparity:
    Σ (g (s v + t) − 1)²). ``head``: ridge regression of ln g − ln v on the standardised inputs.
    """
    true = np.concatenate([group.true for group in groups])
    values = np.concatenate([group.values for group in groups])
    weight = np.concatenate([np.full(len(group.true), 1 / len(group.true)) for group in groups])
    weight /= weight.sum()
    bounds = (float(np.quantile(true, 0.001)) / MARGIN, float(np.quantile(true, 0.999)) * MARGIN)
    if candidate.method == "none":
        return Correction("none", (), *bounds)
    if candidate.method == "scale":
        return Correction("scale", (float(weight @ np.log(true / np.maximum(values, LEAST_METRES))),), *bounds)
    if candidate.method == "scale-shift":
        relative = true if kind == "affine-disparity" else 1 / true
        design = np.stack([values, np.ones_like(values)]) * relative * np.sqrt(weight)
        gram = design @ design.T + 1e-12 * np.eye(2)
        line = np.linalg.solve(gram, design @ np.sqrt(weight))
        return Correction("scale-shift", (float(line[0]), float(line[1])), *bounds)
    inputs = np.concatenate([group.inputs for group in groups if group.inputs is not None], axis=1)
    return Correction("head", _ridge(inputs, np.log(true / values), weight, candidate.penalty), *bounds)


def _ridge(inputs: Array, target: Array, weight: Array, penalty: float) -> tuple[float, ...]:
    """Weighted ridge regression on standardised inputs; the first one is the constant, which is not penalised."""
    mean = inputs @ weight
    centred = inputs - mean[:, None]
    spread = np.sqrt(np.maximum((centred**2) @ weight, 1e-12))
    standard = centred[1:] / spread[1:, None]
    level = float(weight @ target)
    gram = (standard * weight) @ standard.T + penalty * np.eye(len(standard))
    slopes = np.linalg.solve(gram, (standard * weight) @ (target - level)) / spread[1:]
    return (level - float(slopes @ mean[1:]), *(float(slope) for slope in slopes))


def _apply(correction: Correction, group: Pixels, kind: Kind) -> Array:
    metres = correction.metres(group.values, kind, group.inputs)
    return np.maximum(np.asarray(metres, np.float64), LEAST_METRES)


def choose(pixels: dict[str, Pixels], kind: Kind) -> tuple[Candidate, dict[str, float]]:
    """The candidate of least cross-validated error, and the error of each: mean over groups of the mean |ln d'/d|.

    A simpler candidate is kept unless a later one is better by more than a tenth of a percent.
    """
    names = list(pixels)
    folds = [names[i :: min(len(names), BLOCKS)] for i in range(min(len(names), BLOCKS))]
    errors: dict[str, float] = {}
    best: tuple[float, Candidate] | None = None
    for candidate in candidates(kind, next(iter(pixels.values())).inputs is not None):
        parts = []
        for fold in folds:
            correction = fit(candidate, [pixels[name] for name in names if name not in fold], kind)
            parts += [float(np.abs(np.log(_apply(correction, pixels[n], kind) / pixels[n].true)).mean()) for n in fold]
        value = float(np.mean(parts))
        errors[f"{candidate.method} {candidate.penalty:g}" if candidate.penalty else candidate.method] = value
        if best is None or value < best[0] * 0.999:
            best = value, candidate
    assert best is not None
    return best[1], errors


def fitted(model: DepthModel, pixels: dict[str, Pixels], grouped_by: str, location: str, level: float) -> Adaptation:
    """The chosen correction, and what it is worth on groups that neither its choice nor its fit has seen."""
    kind = model.kind
    chosen, errors = choose(pixels, kind)
    correction = fit(chosen, list(pixels.values()), kind)
    after, scores = {}, {}
    for name in pixels:
        rest = {other: group for other, group in pixels.items() if other != name}
        outer, _ = choose(rest, kind) if len(rest) >= 2 else (chosen, {})
        metres = _apply(fit(outer, list(rest.values()), kind), pixels[name], kind)
        after[name] = metrics(metres, pixels[name].true)
        scores[name] = np.abs(np.log(metres / pixels[name].true))
    before = {name: metrics(group.values, group.true) for name, group in pixels.items()} if kind == "metric" else {}
    levels = tuple(known for known in LEVELS if known <= highest_level(len(pixels)) + 1e-9)
    calibration = Calibration(
        model=f"{model.name} adapted to {location}",
        data=f"{location} (by {grouped_by})",
        scenes=len(pixels),
        levels=levels,
        quantiles=tuple(scene_quantiles(scores, levels)),
        shape=(0.0,) * len(TERMS),
        facts={
            "promise": f"a random pixel of a new {grouped_by} group like these is inside with at least the level's probability"
        },
    )
    return Adaptation(
        correction, chosen, errors, grouped_by, before, after, calibration, _coverage(model, pixels, scores, level)
    )


def _coverage(model: DepthModel, pixels: dict[str, Pixels], scores: dict[str, Array], level: float) -> dict[str, Any]:
    """Fraction of pixels inside the interval of `level`: the model's own before, the adapted one's after (each group left out)."""
    found: dict[str, Any] = {"level": level, "before": None, "after": None}
    try:
        quantile = calibration_of(model).quantile(level)
    except UsageError:
        pass
    else:
        parts = [np.abs(np.log(g.values / g.true)) <= quantile * g.spread for g in pixels.values()]
        found["before"] = float(np.mean([part.mean() for part in parts]))
        found["width_before"] = float(np.mean([2 * np.sinh(quantile * g.spread).mean() for g in pixels.values()]))
    if level <= highest_level(len(scores) - 1) + 1e-9:
        found["after"] = float(np.mean(list(coverage_of_left_out(scores, level).values())))
    if level <= highest_level(len(scores)) + 1e-9:
        (limit,) = scene_quantiles(scores, [level])
        found["width_after"] = float(2 * np.sinh(limit))
    return found


def metrics(predicted: Array, true: Array) -> dict[str, float]:
    """AbsRel, RMSE in metres and δ1 of a group's pixels."""
    ratio = np.maximum(predicted / true, true / predicted)
    return {
        "abs_rel": float((np.abs(predicted - true) / true).mean()),
        "rmse": float(np.sqrt(((predicted - true) ** 2).mean())),
        "delta1": float((ratio < 1.25).mean()),
    }


def compared(found: Adaptation, name: str) -> dict[str, float]:
    """Mean of a metric over groups before and after, and the interval of the paired difference."""
    after = np.array([group[name] for group in found.after.values()])
    result = {"after": float(after.mean())}
    if found.before:
        before = np.array([group[name] for group in found.before.values()])
        difference = scene_interval(after - before, np.ones(len(after)))
        result |= {"before": float(before.mean()), "low": difference.low, "high": difference.high}
    return result
