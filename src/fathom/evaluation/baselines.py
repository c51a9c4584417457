"""What needs no image: the mean map and the constant, in the same table as the models.

Both are made of frames of *other scenes* than the one they are measured on. Where the source holds frames that are not measured
(its training part, or scenes that a model was trained on), these are the ones. Else each scene has the mean of all other measured
scenes (leave one scene out). Nothing is chosen: there is nothing to choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import readable
from fathom.features.mean_map import MeanMap
from fathom.grids import masked_average
from fathom.metrics.protocols import Protocol
from fathom.progress import count, track
from fathom.sample import Sample

GRID = (48, 64)
"""Cells of the mean map: it is smooth, and frames of any size fit it."""
MOST_FRAMES = 1000
"""Evenly spaced frames that it is made of; more change it by less than its own error."""


@dataclass(frozen=True)
class Baselines:
    """Mean maps for each measured scene.

    Attributes:
        mean: of all frames read, by scene. group: number of each scene in it.
        said: what they were made of, a sentence.
    """

    mean: MeanMap
    group: dict[str, int]
    said: str

    def maps(self, scene: str) -> dict[str, Float[Tensor, "h w"]] | None:
        """``mean map`` and ``constant`` in metres for a frame of `scene`; None where no other scene has a valid pixel."""
        others = [group for group in self.group.values() if group != self.group.get(scene)]
        if not float(self.mean.counts[others].sum()):
            return None
        constant = self.mean.sums[others].sum() / self.mean.counts[others].sum()
        return {"mean map": self.mean.map(others)[0].float(), "constant": constant.float().expand(GRID)}


def prepare(part: Dataset, everything: Dataset, protocol: Protocol, skip_bad: bool) -> Baselines:
    """Read the frames that the baselines are made of.

    Args:
        part: the frames that are measured. everything: all frames of the source.
        protocol: whose range the depth must lie in. skip_bad: leave out frames that cannot be read.
    """
    scenes = set(part.scenes)
    others = [scene for scene in everything.scenes if scene not in scenes]
    source = everything.of_scenes(others) if others else part
    positions = _spaced(len(source))
    group = {scene: index for index, scene in enumerate(source.scenes)}
    mean, read = MeanMap.zeros(len(group), 1, GRID), 0
    for sample in track(readable(source, positions, skip_bad), "Mean map", len(positions)):
        mean.add(group[sample.scene], *_on_grid(sample, protocol))
        read += 1
    frames = count(read, "frame") if read == len(source) else f"{read} of {len(source)} frames"
    if others:
        return Baselines(mean, group, f"made of {frames} of {count(len(others), 'other scene')} of this source")
    return Baselines(mean, group, f"made of {frames} of the measured scenes, for each scene of all the others")


def _on_grid(sample: Sample, protocol: Protocol) -> tuple[Float[Tensor, "1 1 h w"], Tensor]:
    """Depth that counts under the protocol's range, averaged over cells; the protocol's crop does not matter here."""
    counted = protocol.counted(sample.depth[0], sample.valid[0])[None]
    depth, valid = masked_average(
        torch.where(counted, sample.depth, 0.0), counted, GRID, 0.01
    )  # lidar knows few pixels of a cell
    return depth[None], valid[None]


def _spaced(count: int) -> list[int]:
    used = min(count, MOST_FRAMES)
    return [index * count // used for index in range(used)]


def align_names(alignments: Iterable[str]) -> dict[str, str]:
    """Suffix of a baseline's name for each alignment in use: baselines are aligned as the models are."""
    used = list(dict.fromkeys(alignments))
    return {name: "" if name == "none" else f", {name}" for name in used}
