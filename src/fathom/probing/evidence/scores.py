"""Scores that are not quadratic, taken in the test pass: depth metrics at full resolution, accuracy of classes, angles of normals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from fathom.errors import UsageError
from fathom.metrics.depth import metrics_of_rows
from fathom.metrics.normals import angles
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
        self._images = torch.zeros(1, dtype=torch.float64)

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

    def sums(self) -> list[Tensor]:
        """What adds over processes."""
        return [*self._sums.values(), self._images]

    def of(self, item: Candidate, feature: str) -> dict[str, float | None]:
        """The metrics of one candidate and feature; empty where there are none."""
        for position, (scored, one, _) in enumerate(self._scored):
            if scored is item and one.name == feature and self._images:
                return {metric: float(self._sums[metric][position] / self._images) for metric in METRICS}
        return {}


ANGLES = {"angle_11": 11.25, "angle_22": 22.5, "angle_30": 30.0}
"""Degrees under which a cell counts (Fouhey et al. 2013)."""

BINS = 18_000
"""Of the histogram that the median angle is taken from: 0.01 degrees each."""


class CellScores:
    """Scores cell by cell on the grid: of class features the largest output, of directions the angle to the truth.

    Args:
        candidates: of the test pass.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        scored = [
            ((item, one.name, position), one)
            for item in candidates
            for one in item.group.features
            for position in range(len(item.layers))
        ]
        self._confusion = {
            key: torch.zeros(max(one.channels, 2), max(one.channels, 2), dtype=torch.float64)
            for key, one in scored
            if one.classes
        }
        self._angles = {key: AngleScores() for key, one in scored if one.directions and not one.classes}

    def add(
        self,
        item: Candidate,
        predicted: Float[Tensor, "B r h w"],
        Y: Float[Tensor, "B q h w"],
        valid: Bool[Tensor, "B 1 h w"],
    ) -> None:
        """Count a batch."""
        inside = valid[:, 0]
        for one in item.group.features:
            if not (one.classes or one.directions):
                continue
            truth = Y[:, item.group.outputs[one.name]].movedim(1, -1)[inside]
            for position in range(len(item.layers)):
                guess = predicted[:, item.channels_of(one.name, position)].movedim(1, -1)[inside]
                key = (item, one.name, position)
                if one.classes:
                    self._confusion[key] += confusion(guess, truth)
                else:
                    self._angles[key].add(guess, truth)

    def sums(self) -> list[Tensor]:
        """What adds over processes."""
        angles = (part for item in self._angles.values() for part in (item.sums, item.histogram))
        return [*self._confusion.values(), *angles]

    def of(self, item: Candidate, feature: str, position: int) -> dict[str, float | None]:
        """Accuracy, with the mean IoU over the classes that occur in truth or prediction, or the IoU of a single class; of
        directions mean and median angle and the fractions."""
        key = (item, feature, position)
        if key in self._angles:
            return self._angles[key].scores()
        table = self._confusion.get(key)
        if table is None or not float(table.sum()):
            return {}
        hits = table.diagonal()
        union = table.sum(0) + table.sum(1) - hits
        single = next(one for one in item.group.features if one.name == feature).channels == 1
        overlap = (
            {"iou": float(hits[1] / union[1]) if union[1] else None}
            if single
            else {"miou": float((hits / union)[union > 0].mean())}
        )
        return {"accuracy": float(hits.sum() / table.sum()), **overlap}


def confusion(guess: Float[Tensor, "N C"], truth: Float[Tensor, "N C"]) -> Float[Tensor, "K K"]:
    """Cells of each true class (rows) by predicted class: the ones with the largest output.

    A single class is a mask: a cell belongs to it where its share is above one half, else to what is outside (class 0).
    """
    if truth.shape[1] == 1:
        guess, truth = (torch.cat([torch.full_like(part, 0.5), part], 1) for part in (guess, truth))
    classes = truth.shape[1]
    counts = torch.bincount(truth.argmax(1) * classes + guess.argmax(1), minlength=classes**2)
    return counts.reshape(classes, classes).double().cpu()


class AngleScores:
    """Angles between predicted and true directions: their mean, their median to 0.01 degrees, fractions below `ANGLES`.

    Attributes:
        sums: cells, Σ of angles, cells below each of `ANGLES`. histogram: cells by angle.
    """

    def __init__(self) -> None:
        self.sums = torch.zeros(2 + len(ANGLES), dtype=torch.float64)
        self.histogram = torch.zeros(BINS, dtype=torch.int64)

    def add(self, guess: Float[Tensor, "N 3"], truth: Float[Tensor, "N 3"]) -> None:
        """Count some cells. Both are scaled to unit length: a mean of unit vectors is shorter, and so is a probe's output."""
        degrees = angles(
            F.normalize(guess.double(), dim=1).T[:, :, None], F.normalize(truth.double(), dim=1).T[:, :, None]
        )
        degrees = degrees.flatten().cpu()
        below = [(degrees < limit).sum() for limit in ANGLES.values()]
        self.sums += torch.stack([torch.tensor(len(degrees)), degrees.sum(), *below]).double()
        places = (degrees * (BINS / 180)).long().clamp(max=BINS - 1)
        self.histogram += torch.bincount(places, minlength=BINS)

    def scores(self) -> dict[str, float | None]:
        """Empty without a cell."""
        total, degrees, *below = self.sums.tolist()
        if not total:
            return {}
        middle = int((self.histogram.cumsum(0) * 2 >= total).nonzero()[0])
        fractions: dict[str, float | None] = {name: hits / total for name, hits in zip(ANGLES, below, strict=True)}
        return {"angle_mean": degrees / total, "angle_median": (middle + 0.5) * 180 / BINS, **fractions}
