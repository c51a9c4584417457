"""Scores that are not quadratic, taken in the test pass: depth metrics at full resolution, accuracy of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import UsageError
from fathom.metrics.depth import metrics_of_rows
from fathom.metrics.protocols import Protocol
from fathom.probing.candidates import Candidate
from fathom.sample import Sample

METRICS = ("abs_rel", "delta1", "rmse")
"""What a probe reports at full resolution; `fathom evaluate` has the rest."""


class DepthScores:
    """Full-resolution metrics of each candidate's chosen layer, for every feature that can be turned into depth.

    The prediction on the grid is enlarged bilinearly to the frame's own depth map and scored under the protocol, image by
    image; the score is the mean over images.
    """

    def __init__(self, candidates: Sequence[Candidate], protocol: Protocol) -> None:
        self.protocol = protocol
        self.refused = ""
        self._scored = [
            (item, one, item.channels_of(one.name, item.best(one.name)).start)
            for item in candidates
            for one in item.group.features
            if one.to_depth is not None
        ]
        self._sums = {name: torch.zeros(len(self._scored), dtype=torch.float64) for name in METRICS}
        self._images = 0

    def add(self, predicted: Mapping[Candidate, Float[Tensor, "B _ h w"]], originals: Sequence[Sample]) -> None:
        """Score a batch; a protocol that does not fit the data is noted once and scores nothing."""
        if not self._scored or self.refused:
            return
        for position, original in enumerate(originals):
            maps = []
            for item, one, channel in self._scored:
                assert one.to_depth is not None
                maps.append(one.to_depth(predicted[item][position, channel]).cpu())
            try:
                region = self.protocol.apply_rows(torch.stack(maps), original)
            except UsageError as error:
                self.refused = f"No full-resolution metrics: {error}"
                return
            if not bool(region.valid.any()):
                continue
            scores = metrics_of_rows(region.predictions, region.target, region.valid)
            for name in METRICS:
                self._sums[name] += scores[name].double()
            self._images += 1

    def of(self, item: Candidate, feature: str) -> dict[str, float | None]:
        """The metrics of one candidate and feature; empty where there are none."""
        for position, (scored, one, _) in enumerate(self._scored):
            if scored is item and one.name == feature and self._images:
                return {metric: float(self._sums[metric][position]) / self._images for metric in METRICS}
        return {}


class ClassScores:
    """Accuracy and mean intersection over union of the largest output, cell by cell, for class features."""

    def __init__(self) -> None:
        self._confusion: dict[tuple[Candidate, str, int], Float[Tensor, "C C"]] = {}

    def add(
        self,
        item: Candidate,
        predicted: Float[Tensor, "B r h w"],
        Y: Float[Tensor, "B q h w"],
        valid: Bool[Tensor, "B 1 h w"],
    ) -> None:
        """Count a batch: the class of a cell is the one with the largest output."""
        inside = valid[:, 0]
        for one in item.group.features:
            if not one.classes:
                continue
            truth = Y[:, item.group.outputs[one.name]].argmax(1)[inside]
            for position in range(len(item.layers)):
                guess = predicted[:, item.channels_of(one.name, position)].argmax(1)[inside]
                counts = torch.bincount(truth * one.channels + guess, minlength=one.channels**2)
                table = counts.reshape(one.channels, one.channels).double().cpu()
                key = (item, one.name, position)
                self._confusion[key] = self._confusion.get(key, torch.zeros_like(table)) + table

    def of(self, item: Candidate, feature: str, position: int) -> dict[str, float | None]:
        """Accuracy, and mIoU over the classes that occur in truth or prediction."""
        table = self._confusion.get((item, feature, position))
        if table is None or not float(table.sum()):
            return {}
        hits = table.diagonal()
        union = table.sum(0) + table.sum(1) - hits
        return {"accuracy": float(hits.sum() / table.sum()), "miou": float((hits / union)[union > 0].mean())}
