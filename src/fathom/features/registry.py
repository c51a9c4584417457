"""The shipped features by name, and looking one up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fathom.errors import UsageError, nearest
from fathom.features.coded import CODE, coded_feature
from fathom.features.depth import depth, depth_edges, disparity, from_disparity, log_depth, relative_depth, unchanged
from fathom.features.feature import Feature
from fathom.features.labels import count_classes, labels_feature
from fathom.features.sanity import colour, luminance, position
from fathom.features.surface import curvature, normals, plane_offset
from fathom.features.target import MASK, describe_target, target_feature

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset

FEATURES: dict[str, Feature] = {
    made.name: made
    for made in (
        Feature("depth", 1, depth, "m", unchanged, support="depth", from_depth=True),
        Feature("log_depth", 1, log_depth, "log m", torch.exp, support="depth", from_depth=True),
        Feature("disparity", 1, disparity, "1/m", from_disparity, support="depth", from_depth=True),
        Feature("relative_depth", 1, relative_depth, from_depth=True),
        Feature("depth_edges", 1, depth_edges, "m/px", from_depth=True),
        Feature("normals", 3, normals, from_depth=True, directions=True),
        Feature("plane_offset", 1, plane_offset, "m", from_depth=True),
        Feature("curvature", 1, curvature, "1/m", from_depth=True),
        Feature("luminance", 1, luminance, support="all"),
        Feature("colour", 3, colour, support="all"),
        Feature("position", 2, position, support="all"),
    )
}
"""The features whose channels are the same for all data."""

COUNTED = ("labels", "target")
"""Features whose channels the data decide; ``labels:40`` and ``target:3`` say how many, ``target:mask`` that it is a mask."""


def feature(name: str, dataset: Dataset | None = None) -> Feature:
    """The shipped feature called `name`; ``labels`` and ``target`` count their channels on `dataset`.

    ``module:file.py:function`` is one of your own; see `fathom.features.coded`.

    Raises:
        UsageError: for an unknown name, for labels or a target that `dataset` has not, and for a count that nothing tells.
    """
    if name.startswith(CODE):
        return coded_feature(name, dataset)
    if name == MASK:
        return target_feature(1, mask=True)
    base, colon, count = name.partition(":")
    if base not in COUNTED:
        if name not in FEATURES:
            raise UsageError(f"There is no feature '{name}'{nearest(name, [*FEATURES, *COUNTED])}.")
        return FEATURES[name]
    if colon and not (count.isdecimal() and int(count)):
        raise UsageError(
            f"'{name}': a number of {'classes' if base == 'labels' else 'channels'} belongs behind the colon."
        )
    if base == "labels":
        if colon:
            return labels_feature(int(count))
        if dataset is None:
            raise UsageError("The feature 'labels' needs its number of classes; write labels:40.")
        return labels_feature(count_classes(dataset))
    if dataset is None:
        if not colon:
            raise UsageError("The feature 'target' needs its number of channels; write target:3.")
        return target_feature(int(count))
    channels, unit = describe_target(dataset)
    return target_feature(int(count) if colon else channels, unit)
