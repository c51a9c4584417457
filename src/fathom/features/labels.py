"""Segmentation labels as a dense target: least squares on one-hot classes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from fathom.errors import DataError, UsageError
from fathom.features.feature import Feature, Target
from fathom.grids import masked_average
from fathom.sample import Grid, Sample

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset


def labels_feature(classes: int) -> Feature:
    """One-hot labels 0..classes−1 averaged over the cell: ``(classes, h, w)``, the share of each class among its labelled
    pixels, no unit.

    Least squares on one-hot targets estimates the class probabilities (Hastie, Tibshirani & Friedman 2009, sec. 4.2); the
    class of a cell is the largest output, which accuracy and mIoU are taken of. Labels below 0 or from `classes` on count
    as unlabelled.
    """
    if classes < 2:
        raise UsageError(f"The feature 'labels' with {classes} classes tells nothing apart; write labels:2 or more.")

    def target(sample: Sample, grid: Grid) -> Target:
        """The share of each class; raises `UsageError` for a frame without labels."""
        if sample.labels is None:
            raise UsageError(f"Frame {sample.id} has no labels; choose a source that gives some.")
        known = (sample.labels >= 0) & (sample.labels < classes)
        one_hot = torch.zeros(classes, *sample.labels.shape[-2:])
        one_hot.scatter_(0, sample.labels.clamp(0, classes - 1), 1.0)
        return masked_average(one_hot, known, grid)

    return Feature("labels", classes, target, classes=True)


def count_classes(dataset: Dataset, frames: int = 200) -> int:
    """One more than the largest label in up to `frames` frames spread evenly over `dataset`."""
    positions = sorted({round(i * (len(dataset) - 1) / max(frames - 1, 1)) for i in range(frames)})
    largest = -1
    for position in positions:
        try:
            labels = dataset[position].labels
        except DataError:
            continue  # the pass over the data names it, or leaves it out where that was asked for
        if labels is not None and labels.numel():
            largest = max(largest, int(labels.max()))
    if largest < 1:
        raise UsageError(f"{dataset.source.location} has no labels of at least two classes to probe for.")
    return largest + 1
