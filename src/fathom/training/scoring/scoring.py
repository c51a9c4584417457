"""Scores of a network on held-out frames, beside what needs no network: the mean map and the mean value.

All scores are averages over frames of averages over a frame's valid pixels, on the network's output grid, in
float64. They compare a run with its baselines; `fathom evaluate` measures by the field's protocols.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.features.mean_map import MeanMap
from fathom.metrics.depth import metrics_of_rows
from fathom.models.network import Network
from fathom.sample import Batch
from fathom.statistics import Interval, scene_interval
from fathom.training.scoring.targets import target_of

Scores = dict[str, float]
"""Metric name -> value."""

Sheet = tuple[str, Scores]
"""The scene of a frame and its scores."""

ByScene = dict[str, dict[str, Any]]
"""Scene -> ``frames`` that were scored, and the mean scores of ``model``, ``mean_map`` and ``constant`` over them."""

Predict = Callable[[Batch], Float[Tensor, "B C h w"]]


def frame_scores(
    prediction: Float[Tensor, "B C h w"],
    target: Float[Tensor, "B C h w"],
    valid: Bool[Tensor, "B 1 h w"],
    depth: bool,
) -> list[Scores]:
    """One score sheet a frame: MSE, RMSE, MAE; for depth `abs_rel` and `delta1` too. A frame without a valid pixel has
    none.

    The last two clamp the prediction at 1 mm, since a network with a linear output may go below zero.
    """
    sheets: list[Scores] = []
    for p, t, v in zip(prediction, target, valid, strict=True):
        p, t, v = (x.reshape(-1, x.shape[-1]) for x in (p, t, v.expand_as(t)))
        found = metrics_of_rows(p[None], t, v, ("rmse", "mae"))
        if depth:
            found |= metrics_of_rows(p[None].clamp(min=1e-3), t, v, ("abs_rel", "delta1"))
        sheet = {name: float(values[0]) for name, values in found.items()}
        sheets.append({"mse": sheet["rmse"] ** 2, **sheet} if bool(v.any()) else {})
    return sheets


def average(sheets: Iterable[Scores]) -> Scores:
    """The mean of every metric over the frames that have one."""
    kept = [sheet for sheet in sheets if sheet]
    if not kept:
        return {}
    return {name: math.fsum(sheet[name] for sheet in kept) / len(kept) for name in kept[0]}


@torch.no_grad()
def mean_map(model: Network, batches: Iterable[Batch]) -> MeanMap:
    """The mean target of `model` over `batches`, of which there is at least one."""
    mean: MeanMap | None = None
    for batch in batches:
        target, valid = target_of(model, batch.image, batch.depth, batch.valid)
        mean = mean or MeanMap.zeros(1, target.shape[1], (target.shape[2], target.shape[3]))
        mean.add(0, target, valid)
    assert mean is not None
    return mean


@torch.no_grad()
def score(
    model: Network,
    predict: Predict,
    batches: Iterable[Batch],
    baseline: MeanMap | None,
    device: torch.device,
    gather: Callable[[list[Sheet]], list[Sheet]] = lambda sheets: sheets,
) -> tuple[dict[str, Scores], ByScene]:
    """Scores of ``model`` and, with a `baseline`, of ``mean_map`` and ``constant``, averaged over the same frames: of
    all frames, and of each scene's.

    `gather` brings the sheets of all processes together, each frame once.
    """
    sheets: dict[str, list[Sheet]] = {"model": []}
    baselines: Mapping[str, Tensor] = {}
    if baseline is not None:
        baselines = {"mean_map": baseline.map().float()[None], "constant": baseline.mean().float()[None, :, None, None]}
        sheets |= {name: [] for name in baselines}
    depth = model.predicts == "depth"
    for batch in batches:
        prediction = predict(batch).float().cpu()
        target, valid = target_of(model, batch.image, batch.depth, batch.valid)
        for name, values in {"model": prediction, **baselines}.items():
            scored = frame_scores(values.expand_as(target), target, valid, depth)
            sheets[name] += list(zip(batch.scenes, scored, strict=True))
    gathered = {name: gather(rows) for name, rows in sheets.items()}
    return {name: average(scores for _, scores in rows) for name, rows in gathered.items()}, by_scene(gathered)


def by_scene(sheets: Mapping[str, Sequence[Sheet]]) -> ByScene:
    """The averages over each scene's frames."""
    found: ByScene = {}
    for name, rows in sheets.items():
        frames = defaultdict[str, list[Scores]](list)
        for scene, scores in rows:
            if scores:
                frames[scene].append(scores)
        for scene, scored in sorted(frames.items()):
            found.setdefault(scene, {"frames": len(scored)})[name] = average(scored)
    return found


def paired(scenes: ByScene, first: str, second: str, name: str) -> Interval:
    """`first` minus `second` in the score `name`, averaged over frames, with its 95 % interval over scenes."""
    rows = list(scenes.values())
    frames = np.array([row["frames"] for row in rows], dtype=np.float64)
    return scene_interval(frames * [row[first][name] - row[second][name] for row in rows], frames)


def metric(predicts: str) -> str:
    """The score that decides: early stopping, the best checkpoint, the ratio of unseen to seen."""
    return "rmse" if predicts == "depth" else "mse"


def ratio(unseen: Scores, seen: Scores, name: str) -> float | None:
    """Unseen over seen, None where either is missing or seen is 0."""
    return unseen[name] / seen[name] if name in unseen and seen.get(name) else None


def in_batches(count: int, size: int, rank: int = 0, world: int = 1) -> list[Sequence[int]]:
    """The positions that process `rank` of `world` scores, in batches; among them all each exactly once."""
    own = range(rank, count, world)
    return [own[i : i + size] for i in range(0, len(own), size)]
