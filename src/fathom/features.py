"""Features: dense targets with ground truth that a probe is asked for, made from a `Sample` on a grid.

A feature is a name, a number of output channels and a function ``(sample, grid) -> (values (C,h,w), valid (1,h,w))``.
Nothing else in the framework knows what it means; depth is one feature among others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import FathomError, UsageError, nearest
from fathom.masked import masked_average
from fathom.sample import Grid, Sample

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset

Target = tuple[Float[Tensor, "C h w"], Bool[Tensor, "1 h w"]]
TargetFunction = Callable[[Sample, Grid], Target]
ToDepth = Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]


def _shipped(sample: Sample, grid: Grid) -> Target:
    """Stands for "the shipped feature of this name" until `Feature` has looked it up."""
    raise AssertionError("a Feature replaces this at construction")


@dataclass(frozen=True)
class Feature:
    """What is probed for. ``Feature("depth")`` is the shipped feature of that name.

    Attributes:
        name: as in tables and on the command line.
        channels: outputs C of the target.
        target: makes the target of a sample on a grid: values ``(C, h, w)`` and validity ``(1, h, w)``.
        unit: of the values, for tables; empty if they have none.
        to_depth: turns predicted values into metres, where that makes sense; full-resolution depth metrics need it.
        classes: whether the channels are shares of classes, so that accuracy and mIoU are meaningful.
        support: features of equal support are valid in the same cells of every frame, and share their moments; empty
            for a support of its own.
    """

    name: str
    channels: int = 1
    target: TargetFunction = _shipped
    unit: str = ""
    to_depth: ToDepth | None = None
    classes: bool = False
    support: str = ""

    def __post_init__(self) -> None:
        if self.target is _shipped:
            shipped = feature(self.name)
            for field in fields(self):
                object.__setattr__(self, field.name, getattr(shipped, field.name))
        if not self.support:
            object.__setattr__(self, "support", self.name)

    @staticmethod
    def from_function(name: str, function: TargetFunction, channels: int = 1, unit: str = "") -> Feature:
        """A feature of the user's own: any function from a sample and a grid to values and validity."""
        return Feature(name, channels, function, unit)

    def of(self, sample: Sample, grid: Grid) -> Target:
        """The target of `sample`, checked: right shape, and finite wherever it claims to be valid."""
        values, valid = self.target(sample, grid)
        if tuple(values.shape) != (self.channels, *grid) or tuple(valid.shape) != (1, *grid):
            raise FathomError(
                f"Feature '{self.name}' of frame {sample.id} has shape {tuple(values.shape)} and validity "
                f"{tuple(valid.shape)}; wanted {(self.channels, *grid)} and {(1, *grid)}."
            )
        if not torch.isfinite(torch.where(valid, values, 0.0)).all():
            raise FathomError(f"Feature '{self.name}' of frame {sample.id} is NaN or infinite in a valid cell.")
        return torch.where(valid, values, 0.0), valid


def _depth(sample: Sample, grid: Grid) -> Target:
    return masked_average(sample.depth, sample.valid, grid)


def _log_depth(sample: Sample, grid: Grid) -> Target:
    return masked_average(sample.depth.clamp(min=1e-3).log(), sample.valid, grid)


def _disparity(sample: Sample, grid: Grid) -> Target:
    return masked_average(sample.depth.clamp(min=1e-3).reciprocal(), sample.valid, grid)


def _luminance(sample: Sample, grid: Grid) -> Target:
    """Rec. 601 luma, linear in R, G, B: the averaged pixels hold it exactly."""
    weights = torch.tensor([0.299, 0.587, 0.114])
    luma = (weights[:, None, None] * sample.float_image()).sum(0, keepdim=True)
    return masked_average(luma, torch.ones_like(luma, dtype=torch.bool), grid)


def _colour(sample: Sample, grid: Grid) -> Target:
    image = sample.float_image()
    return masked_average(image, torch.ones_like(image[:1], dtype=torch.bool), grid)


def _position(sample: Sample, grid: Grid) -> Target:
    height, width = grid
    y = ((torch.arange(height) + 0.5) / height * 2 - 1)[:, None].expand(grid)
    x = ((torch.arange(width) + 0.5) / width * 2 - 1)[None].expand(grid)
    return torch.stack([y, x]), torch.ones(1, *grid, dtype=torch.bool)


def _relative_depth(sample: Sample, grid: Grid) -> Target:
    """log depth less its mean over the frame, over its standard deviation: what scale and camera do not change."""
    values, valid = _log_depth(sample, grid)
    inside = values[valid]
    if inside.numel() < 2:
        return torch.zeros_like(values), torch.zeros_like(valid)
    spread = inside.std(unbiased=False)
    if spread < 1e-6:
        return torch.zeros_like(values), valid
    return (values - inside.mean()) / spread, valid


def _depth_edges(sample: Sample, grid: Grid) -> Target:
    """Magnitude of the Sobel gradient of depth, metres a pixel of the depth map, averaged over the cell."""
    from fathom.sobel import sobel

    gx, gy = sobel(sample.depth[None])
    # A gradient that touches an invalid pixel is none.
    touched = torch.nn.functional.max_pool2d((~sample.valid).float()[None], 3, stride=1, padding=1) > 0
    magnitude = torch.sqrt(gx.square() + gy.square())[0]
    return masked_average(torch.nan_to_num(magnitude), sample.valid & ~touched[0], grid)


def normals_from_depth(
    depth: Float[Tensor, "1 h w"], valid: Bool[Tensor, "1 h w"], fx: float, fy: float, cx: float, cy: float
) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    """Unit normals, towards the camera, by the cross product of central differences of the back-projected points.

    Camera coordinates: x right, y down, z forward; a wall that faces the camera has normal (0, 0, −1).
    """
    height, width = depth.shape[-2:]
    v = (torch.arange(height) + 0.5 - cy)[:, None] / fy
    u = (torch.arange(width) + 0.5 - cx)[None] / fx
    z = depth[0]
    points = torch.stack([u * z, v * z, z])
    across = points[:, 1:-1, 2:] - points[:, 1:-1, :-2]
    down = points[:, 2:, 1:-1] - points[:, :-2, 1:-1]
    normal = torch.linalg.cross(down, across, dim=0)
    length = normal.norm(dim=0, keepdim=True)
    inner = (normal / length.clamp(min=1e-12)) * (length > 1e-12)
    ok = valid[:, 1:-1, 2:] & valid[:, 1:-1, :-2] & valid[:, 2:, 1:-1] & valid[:, :-2, 1:-1] & (length > 1e-12)
    pad = (1, 1, 1, 1)
    return torch.nn.functional.pad(inner, pad), torch.nn.functional.pad(ok, pad)


def _full_normals(sample: Sample) -> tuple[Float[Tensor, "3 h w"], Bool[Tensor, "1 h w"]]:
    if sample.normals is not None:
        return sample.normals, sample.normals.square().sum(0, keepdim=True) > 0.25
    if sample.intrinsics is None:
        raise UsageError(
            f"Normals of frame {sample.id} need either stored normals or camera intrinsics, and its source gives neither."
        )
    camera = sample.intrinsics.scaled(
        sample.depth_size[0] / sample.image_size[0], sample.depth_size[1] / sample.image_size[1]
    )
    return normals_from_depth(sample.depth, sample.valid, camera.fx, camera.fy, camera.cx, camera.cy)


def _normals(sample: Sample, grid: Grid) -> Target:
    values, valid = masked_average(*_full_normals(sample), grid)
    length = values.norm(dim=0, keepdim=True)
    valid = valid & (length > 1e-3)
    return torch.where(valid, values / length.clamp(min=1e-3), 0.0), valid


def _plane_offset(sample: Sample, grid: Grid) -> Target:
    """Distance in metres of the surface's tangent plane from the camera: −n·P, constant over a flat wall or floor."""
    if sample.intrinsics is None:
        raise UsageError(f"The plane offset of frame {sample.id} needs camera intrinsics, and its source gives none.")
    normals, valid = _full_normals(sample)
    height, width = sample.depth_size
    camera = sample.intrinsics.scaled(height / sample.image_size[0], width / sample.image_size[1])
    v = ((torch.arange(height) + 0.5 - camera.cy) / camera.fy)[:, None].expand(height, width)
    u = ((torch.arange(width) + 0.5 - camera.cx) / camera.fx)[None].expand(height, width)
    points = torch.stack([u, v, torch.ones_like(u)]) * sample.depth
    offset = -(normals * points).sum(0, keepdim=True)
    return masked_average(offset, valid & sample.valid, grid)


def _curvature(sample: Sample, grid: Grid) -> Target:
    """How fast the normal turns: magnitude of its change from pixel to pixel, in radians a pixel, averaged."""
    normals, valid = _full_normals(sample)
    across = (normals[:, 1:, 1:] - normals[:, 1:, :-1]).square().sum(0, keepdim=True)
    down = (normals[:, 1:, 1:] - normals[:, :-1, 1:]).square().sum(0, keepdim=True)
    ok = valid[:, 1:, 1:] & valid[:, 1:, :-1] & valid[:, :-1, 1:]
    pad = (1, 0, 1, 0)
    turn = torch.nn.functional.pad((across + down).sqrt(), pad)
    return masked_average(turn, torch.nn.functional.pad(ok, pad), grid)


def labels_feature(classes: int) -> Feature:
    """One-hot labels 0..classes−1 averaged over the cell: the share of each class among its labelled pixels."""

    def target(sample: Sample, grid: Grid) -> Target:
        if sample.labels is None:
            raise UsageError(f"Frame {sample.id} has no labels; choose a source that gives some.")
        known = (sample.labels >= 0) & (sample.labels < classes)
        one_hot = torch.nn.functional.one_hot(sample.labels[0].clamp(0, classes - 1), classes)
        return masked_average(one_hot.permute(2, 0, 1).float(), known, grid)

    return Feature("labels", classes, target, classes=True)


def _identity(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return values


def _from_disparity(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    # A linear probe may go below zero; 1 mm⁻¹ .. 1 km⁻¹ keeps the inverse a depth.
    return values.clamp(1e-3, 1e3).reciprocal()


FEATURES: dict[str, Feature] = {
    made.name: made
    for made in (
        Feature("depth", 1, _depth, "m", _identity, support="depth"),
        Feature("log_depth", 1, _log_depth, "log m", torch.exp, support="depth"),
        Feature("disparity", 1, _disparity, "1/m", _from_disparity, support="depth"),
        Feature("relative_depth", 1, _relative_depth),
        Feature("normals", 3, _normals),
        Feature("depth_edges", 1, _depth_edges, "m/px"),
        Feature("curvature", 1, _curvature, "rad/px"),
        Feature("plane_offset", 1, _plane_offset, "m"),
        Feature("luminance", 1, _luminance, support="all"),
        Feature("colour", 3, _colour, support="all"),
        Feature("position", 2, _position, support="all"),
    )
}
"""The shipped features. ``labels`` is made by `labels_feature`, since the data decide how many classes there are."""


def feature(name: str, dataset: Dataset | None = None) -> Feature:
    """The shipped feature called `name`; ``labels`` (or ``labels:N``) counts its classes on `dataset`."""
    base, _, count = name.partition(":")
    if base == "labels":
        if count.isdigit() and int(count) > 1:
            return labels_feature(int(count))
        if dataset is None:
            raise UsageError("The feature 'labels' needs its number of classes; write labels:40.")
        return labels_feature(count_classes(dataset))
    if name not in FEATURES:
        raise UsageError(f"There is no feature '{name}'{nearest(name, [*FEATURES, 'labels'])}.")
    return FEATURES[name]


def count_classes(dataset: Dataset, frames: int = 200) -> int:
    """One more than the largest label in up to `frames` frames spread evenly over `dataset`."""
    positions: Sequence[int] = sorted({round(i * (len(dataset) - 1) / max(frames - 1, 1)) for i in range(frames)})
    largest = -1
    for position in positions:
        labels = dataset[position].labels
        if labels is not None and labels.numel():
            largest = max(largest, int(labels.max()))
    if largest < 1:
        raise UsageError(f"{dataset.source.location} has no labels of at least two classes to probe for.")
    return largest + 1
