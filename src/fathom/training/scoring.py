"""Scores of a network on held-out frames, beside what needs no network: the mean map and the mean value.

All scores are averages over frames of averages over a frame's valid pixels, on the network's output grid, in
float64. They compare a run with its baselines; `fathom evaluate` measures by the field's protocols.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.models.network import Network
from fathom.sample import Batch
from fathom.training.targets import target_of

Scores = dict[str, float]
"""Metric name -> value."""

Predict = Callable[[Batch], Float[Tensor, "B C h w"]]


def frame_scores(
    prediction: Float[Tensor, "B C h w"],
    target: Float[Tensor, "B C h w"],
    valid: Bool[Tensor, "B 1 h w"],
    depth: bool,
) -> list[Scores]:
    """One score sheet a frame: MSE, RMSE, MAE; for depth AbsRel and δ1 too. A frame without a valid pixel has
    none.

    AbsRel and δ1 clamp the prediction at 1 mm, since a network with a linear output may go below zero.
    """
    sheets: list[Scores] = []
    for p, t, v in zip(prediction.double(), target.double(), valid, strict=True):
        mask = v.expand_as(t)
        if not mask.any():
            sheets.append({})
            continue
        p, t = p[mask], t[mask]
        error = p - t
        mse = float(error.square().mean())
        sheet = {"mse": mse, "rmse": math.sqrt(mse), "mae": float(error.abs().mean())}
        if depth:
            p = p.clamp(min=1e-3)
            sheet["absrel"] = float(((p - t).abs() / t).mean())
            sheet["delta1"] = float((torch.maximum(p / t, t / p) < 1.25).double().mean())
        sheets.append(sheet)
    return sheets


def average(sheets: Iterable[Scores]) -> Scores:
    """The mean of every metric over the frames that have one."""
    kept = [sheet for sheet in sheets if sheet]
    if not kept:
        return {}
    return {name: math.fsum(sheet[name] for sheet in kept) / len(kept) for name in kept[0]}


@dataclass
class MeanMap:
    """Mean of a target over frames at each place of the grid, and over all: the baselines of a report.

    A place that is never valid has the overall mean.
    """

    total: Float[Tensor, "C h w"] | None = None
    count: Float[Tensor, "1 h w"] | None = None
    frames: int = 0

    def add(self, target: Float[Tensor, "B C h w"], valid: Bool[Tensor, "B 1 h w"]) -> None:
        """Take a batch into the mean."""
        total = torch.where(valid, target, 0.0).double().sum(0).cpu()
        count = valid.double().sum(0).cpu()
        self.total = total if self.total is None else self.total + total
        self.count = count if self.count is None else self.count + count
        self.frames += int(target.shape[0])

    @property
    def pixels(self) -> float:
        """Valid pixels seen."""
        return 0.0 if self.count is None else float(self.count.sum())

    def constant(self) -> Float[Tensor, "C 1 1"]:
        """The mean over frames and places."""
        assert self.total is not None and self.count is not None
        mean: Tensor = self.total.sum((1, 2), keepdim=True) / self.count.sum().clamp(min=1)
        return mean.float()

    def map(self) -> Float[Tensor, "C h w"]:
        """The mean over frames at each place."""
        assert self.total is not None and self.count is not None
        mean = self.total / self.count.clamp(min=1)
        return torch.where(self.count > 0, mean.float(), self.constant())


@torch.no_grad()
def mean_map(model: Network, batches: Iterable[Batch]) -> MeanMap:
    """The mean target of `model` over `batches`."""
    mean = MeanMap()
    for batch in batches:
        mean.add(*target_of(model, batch.image, batch.depth, batch.valid))
    return mean


@torch.no_grad()
def score(
    model: Network,
    predict: Predict,
    batches: Iterable[Batch],
    baseline: MeanMap | None,
    device: torch.device,
    gather: Callable[[list[Scores]], list[Scores]] = lambda sheets: sheets,
) -> dict[str, Scores]:
    """Scores of ``model`` and, with a `baseline`, of ``mean_map`` and ``constant``, averaged over the same
    frames.

    `gather` brings the sheets of all processes together, each frame once.
    """
    sheets: dict[str, list[Scores]] = {"model": []}
    baselines: Mapping[str, Tensor] = {}
    if baseline is not None:
        baselines = {"mean_map": baseline.map()[None], "constant": baseline.constant()[None]}
        sheets |= {name: [] for name in baselines}
    depth = model.predicts == "depth"
    for batch in batches:
        prediction = predict(batch).float().cpu()
        target, valid = target_of(model, batch.image, batch.depth, batch.valid)
        sheets["model"] += frame_scores(prediction, target, valid, depth)
        for name, values in baselines.items():
            sheets[name] += frame_scores(values.expand_as(target), target, valid, depth)
    return {name: average(gather(rows)) for name, rows in sheets.items()}


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
