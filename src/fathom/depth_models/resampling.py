"""From an image's pixels to the cells of a network's grids and back, at pixel centres."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.models.network import Box
from fathom.sample import Grid


def working_size(original: Grid, trained: Grid, stride: int) -> Grid:
    """The size at which a network sees an image unless told otherwise.

    It has the area of the training size and the shape of the image, in multiples of `stride`: nothing looks stretched
    that did not in training. An image of the training shape is seen at exactly the training size.
    """
    height, width = original
    scale = (trained[0] * trained[1] / (height * width)) ** 0.5
    if max(abs(height * scale - trained[0]), abs(width * scale - trained[1])) < stride / 2:
        return trained
    rows, columns = (max(round(length * scale / stride), 1) * stride for length in original)
    return rows, columns


def to_image_size(
    values: Float[Tensor, "... h w"], *, working: Grid, box: Box, stride: int, original: Grid
) -> Float[Tensor, "... H W"]:
    """Bilinear interpolation of a network's output at the pixel centres of the original image.

    Output cell ``(i, j)`` covers `stride` x `stride` pixels of the network's input, of size `working`, from
    ``(box.top + i * stride, box.left + j * stride)``. Pixels outside `box`, of which the network says nothing, are NaN.
    """
    top, left, height, width = box
    rows = _between(original[0], working[0], top, height, stride, values.shape[-2])
    columns = _between(original[1], working[1], left, width, stride, values.shape[-1])
    values = torch.lerp(values[..., rows.low, :], values[..., rows.high, :], rows.weight[:, None])
    values = torch.lerp(values[..., columns.low], values[..., columns.high], columns.weight)
    values[..., ~rows.inside, :] = torch.nan
    values[..., ~columns.inside] = torch.nan
    return values


@dataclass(frozen=True)
class _Between:
    """Where the pixels of one axis lie between the cells of the output: two neighbours and the weight of the second."""

    low: Tensor
    high: Tensor
    weight: Tensor
    inside: Tensor


def _between(pixels: int, working: int, start: int, extent: int, stride: int, cells: int) -> _Between:
    centres = (torch.arange(pixels, dtype=torch.float64) + 0.5) * (working / pixels) - start
    at = (centres / stride - 0.5).clamp(0, cells - 1)
    low = at.floor().long()
    return _Between(low, (low + 1).clamp(max=cells - 1), (at - low).float(), (centres >= 0) & (centres <= extent))
