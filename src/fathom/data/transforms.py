"""Geometry of a `Sample`: crops and resizes that keep image, depth, mask, normals, labels and camera together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from fathom.errors import UsageError
from fathom.grids import masked_average
from fathom.sample import Grid, Sample


def resize_image(image: Tensor, size: Grid) -> Tensor:
    """Antialiased bilinear resize of ``(3, H, W)``; uint8 stays uint8."""
    if tuple(image.shape[-2:]) == size:
        return image
    if image.dtype == torch.uint8:
        # Pillow's resampling of uint8 is several times faster than going through float.
        from PIL import Image

        picture = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
        return torch.from_numpy(np.array(picture.resize((size[1], size[0]), Image.Resampling.BILINEAR))).permute(
            2, 0, 1
        )
    return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0].clamp_(0, 1)


def _nearest(values: Tensor, size: Grid) -> Tensor:
    return F.interpolate(values[None].float(), size, mode="nearest-exact")[0]


def resize_depth(
    depth: Float[Tensor, "C H W"], valid: Bool[Tensor, "1 H W"], size: Grid
) -> tuple[Float[Tensor, "C h w"], Bool[Tensor, "1 h w"]]:
    """Shrink by the area average of valid pixels, enlarge by the nearest pixel; an invalid pixel never bleeds in."""
    height, width = depth.shape[-2:]
    if (height, width) == size:
        return depth, valid
    if size[0] <= height and size[1] <= width:
        return masked_average(depth, valid, size)
    return _nearest(torch.where(valid, depth, 0.0), size), _nearest(valid, size) > 0.5


def fit(sample: Sample, size: Grid) -> Sample:
    """Image and ground truth brought to `size` (height, width), the camera scaled with the image."""
    depth, valid = resize_depth(sample.depth, sample.valid, size)
    normals = sample.normals
    if normals is not None and tuple(normals.shape[-2:]) != size:
        known = normals.square().sum(0, keepdim=True) > 0.25
        averaged, known = resize_depth(normals, known, size)
        length = averaged.norm(dim=0, keepdim=True)
        normals = torch.where(known & (length > 1e-3), averaged / length.clamp(min=1e-3), 0.0)
    labels: Int[Tensor, "1 h w"] | None = sample.labels
    if labels is not None and tuple(labels.shape[-2:]) != size:
        labels = _nearest(labels, size).long()
    camera = sample.intrinsics
    if camera is not None:
        camera = camera.scaled(size[0] / sample.image_size[0], size[1] / sample.image_size[1])
    return replace(
        sample,
        image=resize_image(sample.image, size),
        depth=depth,
        valid=valid,
        normals=normals,
        labels=labels,
        intrinsics=camera,
    )


def crop(sample: Sample, top: int, left: int, height: int, width: int) -> Sample:
    """The window of the image at (top, left), and the same window of the ground truth, whatever its resolution."""
    rows, columns = sample.image_size
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > rows or left + width > columns:
        raise UsageError(
            f"Frame {sample.id}: a {height}x{width} window at ({top}, {left}) leaves the {rows}x{columns} image."
        )

    def cut(values: Tensor) -> Tensor:
        y0, y1 = (round(v * values.shape[-2] / rows) for v in (top, top + height))
        x0, x1 = (round(v * values.shape[-1] / columns) for v in (left, left + width))
        return values[..., y0:y1, x0:x1]

    def cut_if_there(values: Tensor | None) -> Tensor | None:
        return None if values is None else cut(values)

    return replace(
        sample,
        image=sample.image[..., top : top + height, left : left + width],
        depth=cut(sample.depth),
        valid=cut(sample.valid),
        normals=cut_if_there(sample.normals),
        labels=cut_if_there(sample.labels),
        target=cut_if_there(sample.target),
        intrinsics=None if sample.intrinsics is None else sample.intrinsics.cropped(top, left),
    )


def crop_border(sample: Sample, pixels: int) -> Sample:
    """Without `pixels` rows and columns on every side of the image."""
    if pixels == 0:
        return sample
    height, width = sample.image_size
    return crop(sample, pixels, pixels, height - 2 * pixels, width - 2 * pixels)
