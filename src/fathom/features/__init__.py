"""Features: dense targets with ground truth that a probe is asked for, made from a `Sample` on a grid.

A feature is a name, a number of output channels and a function ``(sample, grid) -> (values (C,h,w), valid (1,h,w))``.
Nothing else in the framework knows what it means; depth is one feature among others. docs/features.md lists them all.
"""

from fathom.features.feature import Feature, Target, TargetFunction, ToDepth
from fathom.features.labels import count_classes, labels_feature
from fathom.features.registry import FEATURES, feature
from fathom.features.surface import normals_from_depth
from fathom.features.target import target_feature

__all__ = [
    "FEATURES",
    "Feature",
    "Target",
    "TargetFunction",
    "ToDepth",
    "count_classes",
    "feature",
    "labels_feature",
    "normals_from_depth",
    "target_feature",
]
