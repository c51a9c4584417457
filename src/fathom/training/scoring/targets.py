"""What each network is compared with, on the network's own output grid."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import UsageError, nearest
from fathom.grids import masked_average
from fathom.models.network import Network
from fathom.sobel import sobel_edges, sobel_xy

Target = tuple[Float[Tensor, "B C h w"], Bool[Tensor, "B 1 h w"]]


@dataclass(frozen=True)
class Predicted:
    """What a network may predict.

    Attributes:
        truth: image, depth, its validity, and the network's output channels, to the truth at the size of the image.
        unit: of its values.
        from_depth: whether a frame without depth has no truth.
    """

    truth: Callable[[Float[Tensor, "B 3 H W"], Float[Tensor, "B 1 H W"], Bool[Tensor, "B 1 H W"], int], Target]
    unit: str
    from_depth: bool = True


def depth_edges(
    image: Float[Tensor, "B 3 H W"], depth: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"], channels: int
) -> Target:
    """Sobel gradient of depth in metres a pixel: its magnitude (1 channel), or along x and y (2 channels).

    The one of the feature ``depth_edges``: known where the whole 3x3 window is valid and inside the map.
    """
    return sobel_xy(depth, valid) if channels == 2 else sobel_edges(depth, valid)


TARGETS: dict[str, Predicted] = {
    "image": Predicted(lambda image, depth, valid, channels: (image, torch.ones_like(valid)), "", from_depth=False),
    "depth": Predicted(lambda image, depth, valid, channels: (torch.where(valid, depth, 0.0), valid), "m"),
    "depth_edges": Predicted(depth_edges, "m/px"),
}
"""By the name that `Network.predicts` gives."""


def predicted(model: Network) -> Predicted:
    """What `model` predicts.

    Raises:
        UsageError: `TARGETS` has no such name.
    """
    if model.predicts not in TARGETS:
        raise UsageError(
            f"{type(model).__name__} predicts '{model.predicts}', which has no entry in "
            f"fathom.training.scoring.targets.TARGETS{nearest(model.predicts, TARGETS)}."
        )
    return TARGETS[model.predicts]


def target_of(
    model: Network,
    image: Float[Tensor, "B 3 H W"],
    depth: Float[Tensor, "B 1 H W"],
    valid: Bool[Tensor, "B 1 H W"],
) -> Target:
    """The truth of what `model` predicts, and where there is one.

    An image needs no depth. Depth on a coarser grid is the average of each cell's valid pixels; a network
    that loses borders is compared with the part that it predicts.
    """
    values, known = predicted(model).truth(image, depth, valid, model.output_channels)
    top, left, height, width = model.output_crop((image.shape[-2], image.shape[-1]))
    values, known = (x[..., top : top + height, left : left + width] for x in (values, known))
    return on_grid(values, known, model.output_stride) if model.output_stride > 1 else (values, known)


def on_grid(values: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B 1 H W"], stride: int) -> Target:
    """Average of the valid pixels of each cell; one that sticks out counts as invalid there."""
    height, width = values.shape[-2:]
    padding = (0, -width % stride, 0, -height % stride)
    values, valid = F.pad(values, padding), F.pad(valid, padding)
    return masked_average(values, valid, (values.shape[-2] // stride, values.shape[-1] // stride))
