"""Whatever map the data bring along as a target: the feature that knows nothing of what it means."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fathom.errors import DataError, UsageError
from fathom.features.feature import Feature, Target
from fathom.grids import masked_average
from fathom.sample import Grid, Sample

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset


MASK = "target:mask"
"""Name of the feature that takes the target for a mask of one class."""


def target_feature(channels: int, unit: str = "", *, mask: bool = False) -> Feature:
    """`Sample.target` averaged over each cell: ``(channels, h, w)``, in the unit that its data state.

    A pixel counts where all channels are known (not NaN). The map is averaged from its own resolution. A `mask` is inside where
    its only channel is above 0, and the feature is the share of the cell inside.
    """

    def target(sample: Sample, grid: Grid) -> Target:
        """The averaged map; raises `UsageError` for a frame without one."""
        if sample.target is None:
            raise UsageError(
                f"Frame {sample.id} has no target; choose a source that gives some, such as a folder target/."
            )
        known = torch.isfinite(sample.target).all(0, keepdim=True)
        if mask and len(sample.target) != 1:
            raise UsageError(f"The target of frame {sample.id} has {len(sample.target)} channels; a mask has one.")
        return masked_average((sample.target > 0).float() if mask else sample.target, known, grid)

    return Feature(MASK if mask else "target", channels, target, unit, classes=mask)


def describe_target(dataset: Dataset) -> tuple[int, str]:
    """Channels of the target of the first readable frame of `dataset`, and the unit that its source states."""
    broken: DataError | None = None
    for position in range(len(dataset)):
        try:
            found = dataset[position].target
        except DataError as error:
            # The pass over the data names it, or leaves it out where that was asked for.
            broken = broken or error
            continue
        if found is None:
            break
        return int(found.shape[0]), dataset.source.facts.get("target unit", "")
    else:
        if broken is not None:
            raise broken
    raise UsageError(
        f"{dataset.source.location} has no targets; put their maps in a folder target/ (docs/features.md)."
    )
