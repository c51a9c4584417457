"""Which training scenes a head is stopped by.

Depth differs more between rooms than within them, so a few rooms drawn blindly may be all near or all far, and a head stopped
by those is stopped at the wrong moment. Several draws of whole scenes are therefore made, and the one is taken whose targets are
spread most like those of the scenes that remain. Training targets alone decide; no feature and no test frame is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.errors import FathomError
from fathom.probing.heads.data import Targets

DRAWS = 32
"""Draws of scenes to choose from."""


def hold_out(
    train: Dataset, ids: Sequence[str], targets: Targets, share: float, seed: int, label: str
) -> tuple[tuple[str, ...], Int[Tensor, "n"], Int[Tensor, "m"]]:
    """The scenes held out, about `share` of the frames; rows of the frames that are fitted, and of those held out.

    Args:
        train: training frames. ids: of those that could be read, in the order of the rows of `targets`.
        seed: of the draws. label: of messages.

    Raises:
        UsageError: there is one scene.
        FathomError: fewer than two scenes have a valid cell.
    """
    scene_of = dict(zip(train.ids, train.frame_scenes, strict=True))
    names = {scene: index for index, scene in enumerate(train.scenes)}
    scene = torch.tensor([names[scene_of[id_]] for id_ in ids])
    sums = targets.sums_of_features(len(ids))
    by_scene = sums.new_zeros(len(names), sums.shape[1]).index_add_(0, scene, sums)
    best: tuple[str, ...] = ()
    least = float("inf")
    for draw in range(DRAWS):
        held_out = train.split(share, (seed + 1) * DRAWS + draw)[1].scenes
        inside = torch.zeros(len(names), dtype=torch.bool)
        inside[[names[name] for name in held_out]] = True
        distance = _distance(by_scene[inside].sum(0), by_scene[~inside].sum(0))
        if distance < least:
            best, least = held_out, distance
    if not best:
        raise FathomError(
            f"The {label} needs valid cells in at least two training scenes, in one to train on and in one to stop by."
        )
    inside = torch.isin(scene, torch.tensor([names[name] for name in best]))
    return best, (~inside).nonzero()[:, 0], inside.nonzero()[:, 0]


def _distance(one: Float[Tensor, "k"], other: Float[Tensor, "k"]) -> float:
    """Between two sets of cells: differences of means, in deviations, and of log deviations, squared and summed over outputs."""
    if not float(one[0]) or not float(other[0]):
        return float("inf")
    (mean, deviation), (mean_other, deviation_other) = _moments(one), _moments(other)
    scale = (deviation.square() + deviation_other.square()).sqrt()
    return float(((mean - mean_other) / scale).square().sum() + (deviation / deviation_other).log().square().sum())


def _moments(sums: Float[Tensor, "k"]) -> tuple[Float[Tensor, "q"], Float[Tensor, "q"]]:
    q = (len(sums) - 1) // 2
    mean = sums[1 : 1 + q] / sums[0]
    variance = (sums[1 + q :] / sums[0] - mean.square()).clamp(min=1e-12 + 1e-12 * float(mean.square().max()))
    return mean, variance.sqrt()
