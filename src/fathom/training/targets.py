"""What each network is compared with, on the network's own output grid."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.grids import masked_average
from fathom.models.network import Network

Target = tuple[Float[Tensor, "B C h w"], Bool[Tensor, "B 1 h w"]]


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
    if model.predicts == "image":
        values, known = image, torch.ones_like(valid)
    elif model.predicts == "depth":
        values, known = torch.where(valid, depth, 0.0), valid
    else:
        values, known = depth_edges(depth, valid, model.output_channels)
    top, left, height, width = model.output_crop((image.shape[-2], image.shape[-1]))
    values, known = (x[..., top : top + height, left : left + width] for x in (values, known))
    return on_grid(values, known, model.output_stride) if model.output_stride > 1 else (values, known)


def depth_edges(depth: Float[Tensor, "B 1 H W"], valid: Bool[Tensor, "B 1 H W"], channels: int) -> Target:
    """Sobel gradient of depth in metres a pixel: its magnitude (1 channel), or along x and y (2 channels).

    Where the 3x3 window holds an invalid pixel there is no gradient.
    """
    from fathom.sobel import sobel

    gx, gy = sobel(torch.where(valid, depth, 0.0))
    holes = F.max_pool2d((~valid).float(), 3, stride=1, padding=1) > 0
    edges = torch.cat([gx, gy], dim=1) if channels == 2 else torch.sqrt(gx.square() + gy.square())
    return torch.where(holes, 0.0, edges), ~holes


def on_grid(values: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B 1 H W"], stride: int) -> Target:
    """Average of the valid pixels of each cell; one that sticks out counts as invalid there."""
    height, width = values.shape[-2:]
    padding = (0, -width % stride, 0, -height % stride)
    values, valid = F.pad(values, padding), F.pad(valid, padding)
    return masked_average(values, valid, (values.shape[-2] // stride, values.shape[-1] // stride))
