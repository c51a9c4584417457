"""The sums by scene that a cue profile is made of, and the numbers that they give; see `fathom.probing.cues.measurement`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from fathom.probing.candidates import Candidate
from fathom.probing.cues.alterations import Alteration, Altered
from fathom.probing.evidence.records import Cue, finite
from fathom.probing.reading import Batch
from fathom.progress import track
from fathom.statistics import LEAST_SCENES, scene_interval

if TYPE_CHECKING:
    from fathom.features import Feature

Array = NDArray[np.float64]

LEVEL = 0.95
"""Of each interval; those a sentence rests on are widened so that all of one sentence hold together at this level."""


MARGIN = 0.1
"""A loss of less than a tenth of what the probe knows counts as none, and as little staying in place."""


Key = tuple[int, str]
"""A measured candidate, by its position, and a feature."""

Maps = Float[Tensor, "B _ h w"]


@dataclass(frozen=True)
class View:
    """A batch as the probes see it.

    Attributes:
        predictions: of each candidate's chosen layer. targets: values and validity (0 or 1) of each feature, by target group.
    """

    predictions: Mapping[Key, Maps]
    targets: Mapping[str, tuple[Maps, Maps]]

    @staticmethod
    def of(batch: Batch, measured: Sequence[Candidate], targets: Mapping[str, tuple[Maps, Maps]] | None = None) -> View:
        """Let every candidate predict a batch, each encoder run once; targets are made unless given."""
        predictions: dict[Key, Maps] = {}
        for position, item in enumerate(measured):
            everything = item.predict(batch)
            for one in item.group.features:
                predictions[position, one.name] = everything[:, item.channels_of(one.name, item.best(one.name))]
        if targets is None:
            targets = {}
            for group in {item.group.name: item.group for item in measured}.values():
                Y, valid = batch.target(group)
                targets[group.name] = Y[:, : group.channels], valid.float()
        return View(predictions, targets)

    def at(self, index: Sequence[int]) -> View:
        """The same, of some frames of the batch."""
        return View(
            {key: maps[list(index)] for key, maps in self.predictions.items()},
            {name: (Y[list(index)], valid[list(index)]) for name, (Y, valid) in self.targets.items()},
        )

    def moved(self, alteration: Alteration) -> dict[str, tuple[Maps, Maps]]:
        """The targets, moved as the image is."""
        assert alteration.move is not None
        return {name: (alteration.move(Y), alteration.move(valid)) for name, (Y, valid) in self.targets.items()}


SUMS = ("n", "error", "mean_error", "n_after", "error_after", "shift", "in_place")
"""What is kept of each scene: before, cells and squared errors of probe and training mean; after, cells and squared error, and the
sums of shift and in_place."""

PRODUCTS = ("pp", "pq", "qq", "up", "uq")
"""Also kept, of p − μ, q − μ and u = p' − μ: what the least squares of `moves` and `stays` take."""


class Ledger:
    """Sums by scene for every candidate, feature and alteration."""

    def __init__(
        self,
        measured: Sequence[Candidate],
        alterations: Sequence[Alteration],
        means: Mapping[str, Float[Tensor, "_"]],
        scenes: int,
    ) -> None:
        self.measured, self.alterations, self.means = measured, alterations, means
        self.probes = [(position, one) for position, item in enumerate(measured) for one in item.group.features]
        self.sums = {
            (position, one.name, alteration.name): torch.zeros(len(SUMS + PRODUCTS), scenes, dtype=torch.float64)
            for position, one in self.probes
            for alteration in alterations
        }
        # On whole frames: cells, squared errors of probe and training mean.
        self.whole = {(i, one.name): torch.zeros(3, scenes, dtype=torch.float64) for i, one in self.probes}

    def add_original(self, view: View, scenes: Sequence[int]) -> None:
        """Add a batch as it is; `scenes` is the scene of each frame."""
        index = torch.as_tensor(list(scenes))
        for position, one in self.probes:
            Y, valid, mean = self._truth(position, one, view)
            errors = (valid * _squared(Y - view.predictions[position, one.name]), valid * _squared(Y - mean))
            self.whole[position, one.name].index_add_(1, index, _totals((valid, *errors)))

    def _truth(self, position: int, one: Feature, view: View) -> tuple[Maps, Maps, Float[Tensor, "_ 1 1"]]:
        """Target, validity and training mean of one feature."""
        group = self.measured[position].group
        (Y, valid), outputs = view.targets[group.name], group.outputs[one.name]
        return Y[:, outputs], valid, self.means[group.name][outputs].to(Y)[:, None, None]

    def add(
        self,
        alteration: Alteration,
        before: View,
        after: View,
        altered: Sequence[Altered],
        scenes: Sequence[int],
    ) -> None:
        """Add a batch before and after one alteration; `scenes` is the scene of each frame."""
        index = torch.as_tensor(list(scenes))
        for position, one in self.probes:
            Y, valid, mean = self._truth(position, one, before)
            Y2, valid2, _ = self._truth(position, one, after)
            weight = _weights([item.before for item in altered], valid)
            weight2 = _weights([item.after for item in altered], valid2)
            stays, now = before.predictions[position, one.name], after.predictions[position, one.name]
            moved = alteration.move(stays) if alteration.move else stays
            parts = [weight, weight * _squared(Y - stays), weight * _squared(Y - mean)]
            parts += [weight2, weight2 * _squared(Y2 - now)]
            parts += [weight2 * (now - moved).sum(1, True), weight2 * (now - stays).sum(1, True)]
            if _has_place(alteration, one):
                p, q, u = moved - mean, stays - mean, now - mean
                pairs = ((p, p), (p, q), (q, q), (u, p), (u, q))
                parts += [weight2 * (one_ * other).sum(1, True) for one_, other in pairs]
            self.sums[position, one.name, alteration.name][: len(parts)].index_add_(1, index, _totals(parts))

    def cues(self) -> Iterator[Cue]:
        """A `Cue` for each probe and alteration that met a valid cell."""
        for position, one in track(self.probes, "intervals of cues"):
            item = self.measured[position]
            made = [a for a in self.alterations if self.sums[position, one.name, a.name][3].sum() > 0]
            n, error, mean_error = self.whole[position, one.name].numpy()
            knows = scene_interval(mean_error - error, n, level=LEVEL).low > 0
            # What one sentence may say: of each deciding alteration two things, of one that moves a third; brightness and size, two each.
            said = sum(2 + (a.move is not None) for a in made if a.decides) + 4
            for alteration in made:
                sums = self.sums[position, one.name, alteration.name].numpy()
                named = dict(zip(SUMS + PRODUCTS, sums, strict=True))
                yield _cue(item, one, alteration, named, 1 - (1 - LEVEL) / said, knows)


def _has_place(alteration: Alteration, one: Feature) -> bool:
    """Whether predictions may be moved as the image is: not vectors that a mirror also turns round."""
    return alteration.move is not None and (one.channels == 1 or alteration.moves_target)


def _totals(parts: Sequence[Float[Tensor, "B 1 h w"]]) -> Float[Tensor, "P B"]:
    return torch.stack([part.sum(dim=(1, 2, 3), dtype=torch.float64).cpu() for part in parts])


def _squared(difference: Maps) -> Float[Tensor, "B 1 h w"]:
    return difference.square().sum(1, keepdim=True)


def _weights(given: Sequence[Tensor | None], valid: Maps) -> Maps:
    """Valid cells by the weight that the alteration leaves them."""
    if all(weight is None for weight in given):
        return valid
    return valid * torch.stack([torch.ones_like(valid[0]) if w is None else w.to(valid) for w in given])


def _cue(
    item: Candidate, one: Feature, alteration: Alteration, sums: Mapping[str, Array], joint: float, knows: bool
) -> Cue:
    keep = (sums["n"] > 0) & (sums["n_after"] > 0)
    s = {name: values[keep] for name, values in sums.items()}
    # Where fewer cells are measured before than after (an enlarged window), scenes weigh as they do after.
    scale = s["n_after"] / s["n"]
    base, known = s["error"] * scale, (s["mean_error"] - s["error"]) * scale
    cells, change = s["n_after"], s["error_after"] - base
    base_mse, mse = float(base.sum() / cells.sum()), float(s["error_after"].sum() / cells.sum())
    difference = scene_interval(change, cells, level=LEVEL)
    gain = scene_interval(known, cells, level=LEVEL)
    sure = scene_interval(change, cells, level=joint)
    # Whether a ratio exceeds the margin is asked without dividing (Fieller 1954): the gain of few scenes is too uncertain for that.
    over = scene_interval(change - MARGIN * known, cells, level=joint) if knows and gain.low > 0 else None
    numbers: dict[str, float | None] = {}
    if one.channels == 1:
        for name in ("shift", "in_place"):
            found = scene_interval(s[name], cells, level=joint)
            numbers |= _three(name, found.estimate, found.low, found.high)
    if _has_place(alteration, one):
        for name, (estimate, low, high) in place_of({key: s[key] for key in PRODUCTS}, joint).items():
            numbers |= _three(name, estimate, low, high)
    return Cue(
        encoder=item.encoder,
        layer=item.best_layer(one.name).name,
        feature=one.name,
        unit=one.unit,
        alteration=alteration.name,
        words=alteration.words,
        group=alteration.group,
        decides=alteration.decides,
        exact=alteration.exact,
        scenes=int(keep.sum()),
        base_mse=base_mse,
        mse=mse,
        change=difference.estimate,
        low=finite(difference.low),
        high=finite(difference.high),
        relative=difference.estimate / base_mse if base_mse > 0 else None,
        gain=gain.estimate,
        gain_low=finite(gain.low),
        lost=difference.estimate / gain.estimate if over else None,
        sure_low=finite(sure.low),
        sure_high=finite(sure.high),
        over_low=finite(over.low) if over else None,
        over_high=finite(over.high) if over else None,
        **numbers,
    )


def place_of(products: Mapping[str, Array], level: float) -> dict[str, tuple[float, float, float]]:
    """Estimate, low and high of `moves` and `stays` from the sums of products by scene; empty where p and q are the same.

    Intervals are Student's with the delete-one-scene jackknife (Efron & Stein 1981).
    """
    from scipy import stats

    sums = np.stack([products[key] for key in PRODUCTS])
    scenes, total = sums.shape[1], sums.sum(1, keepdims=True)

    def solve(sums: Array) -> Array:
        pp, pq, qq, up, uq = sums
        return np.asarray(np.stack([up * qq - uq * pq, uq * pp - up * pq]) / (pp * qq - pq * pq))

    if scenes < LEAST_SCENES or total[0] * total[2] - total[1] ** 2 <= 1e-6 * total[0] * total[2]:
        return {}
    estimate, without = solve(total)[:, 0], solve(total - sums)
    se = np.sqrt((scenes - 1) / scenes * ((without - without.mean(1, keepdims=True)) ** 2).sum(1))
    half = float(stats.t.ppf((1 + level) / 2, scenes - 1)) * se
    return {
        name: (float(estimate[i]), float(estimate[i] - half[i]), float(estimate[i] + half[i]))
        for i, name in enumerate(("moves", "stays"))
    }


def _three(name: str, estimate: float, low: float, high: float) -> dict[str, float | None]:
    return {name: finite(estimate), f"{name}_low": finite(low), f"{name}_high": finite(high)}
