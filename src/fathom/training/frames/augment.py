"""Augmentation of a frame: image, depth, mask, camera, labels and normals together.

Depth is moved by nearest neighbour and never interpolated: no pixel takes a value between two surfaces, or
between a surface and a hole. Every step is a pure function of the sample and of its generator, so that a frame
becomes the same whatever the workers and batches, and whatever ran before a resume.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from fathom.sample import Grid, Intrinsics, Sample
from fathom.training.recipe import AugmentSection

Box = tuple[int, int, int, int]
"""Top, left, height, width, in pixels of the image."""

Keep = Literal["depth", "focal"]
MaybeTensor = TypeVar("MaybeTensor", Tensor, Tensor | None)


def augment(sample: Sample, generator: torch.Generator, config: AugmentSection, size: Grid | None = None) -> Sample:
    """`sample` flipped, zoomed and recoloured as drawn, at `size` or its own; the image becomes float32 in [0, 1]."""
    # All numbers are drawn whatever the configuration: switching one step on leaves the others as they were.
    draw = torch.rand(15, generator=generator, dtype=torch.float64).tolist()
    if draw[0] < config.flip:
        sample = flip(sample)
    if config.zoom > 1 or size is not None:
        sample = zoom(sample, zoom_box(sample, config.zoom, draw[1:4]), config.keep, size)
    if config.turn > 0:
        sample = turn(sample, *(config.turn * (2 * u - 1) for u in draw[9:12]))
    brightness, contrast, saturation = (
        1 + limit * (2 * u - 1)
        for limit, u in zip((config.brightness, config.contrast, config.saturation), draw[4:7], strict=True)
    )
    image = sample.float_image()
    image = adjust_light(image, brightness, contrast, (1 + config.gamma) ** (2 * draw[8] - 1))
    image = adjust_colour(image, saturation, config.hue * (2 * draw[7] - 1))
    sample = replace(sample, image=image)
    return cut_depth(sample, *draw[13:15]) if draw[12] < config.cut_depth else sample


def flip(sample: Sample) -> Sample:
    """Left and right exchanged. The pose, which no rigid camera has any more, is dropped, and so is a target of unknown meaning."""
    normals = sample.normals
    if normals is not None:
        normals = normals.flip(-1) * torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    camera = sample.intrinsics
    return replace(
        sample,
        image=sample.image.flip(-1),
        depth=sample.depth.flip(-1),
        valid=sample.valid.flip(-1),
        labels=None if sample.labels is None else sample.labels.flip(-1),
        normals=normals,
        intrinsics=None if camera is None else camera.flipped(sample.image_size[1]),
        pose=None,
        target=None,
    )


def zoom_box(sample: Sample, largest: float, draw: list[float]) -> Box:
    """A window of the frame's shape; the magnification is from 1 to `largest`, evenly in its logarithm."""
    height, width = sample.image_size
    scale = largest ** -draw[0]
    h, w = max(round(height * scale), 1), max(round(width * scale), 1)
    return int(draw[1] * (height - h + 1)), int(draw[2] * (width - w + 1)), h, w


def zoom(sample: Sample, box: Box, keep: Keep = "depth", size: Grid | None = None) -> Sample:
    """Crop `box` and bring it to `size`, the frame's own unless given, with camera, depth and normals to match (`keep`), without target."""
    whole_height, whole_width = sample.image_size
    height, width = size or sample.image_size
    top, left, h, w = box
    sy, sx = height / h, width / w
    image = sample.float_image()[None, :, top : top + h, left : left + w]
    image = F.interpolate(image, (height, width), mode="bilinear", align_corners=False, antialias=min(sy, sx) < 1)[0]
    camera = sample.intrinsics
    zoomed = replace(
        sample,
        image=image,
        depth=_taken(sample.depth, box, sample.image_size, size),
        valid=_taken(sample.valid, box, sample.image_size, size),
        labels=_taken(sample.labels, box, sample.image_size, size),
        normals=_taken(sample.normals, box, sample.image_size, size),
        target=None,
        intrinsics=None if camera is None else camera.cropped(top, left).scaled(sy, sx),
    )
    return zoomed if keep == "depth" else _nearer(zoomed, math.sqrt(whole_height / h * whole_width / w))


def _nearer(sample: Sample, scale: float) -> Sample:
    """The same picture as a scene `scale` times nearer, seen with a focal length `scale` times shorter.

    A point (X, Y, Z) becomes (X, Y, Z/scale), so that the normal (nx, ny, nz) becomes (nx, ny, scale · nz),
    made a unit again. This is no rigid motion: the pose is dropped.
    """
    camera, normals = sample.intrinsics, sample.normals
    if camera is not None:
        camera = Intrinsics(camera.fx / scale, camera.fy / scale, camera.cx, camera.cy)
    if normals is not None:
        normals = F.normalize(normals * torch.tensor([1.0, 1.0, scale]).view(3, 1, 1), dim=0)
    return replace(sample, depth=sample.depth / scale, intrinsics=camera, normals=normals, pose=None)


def turn(sample: Sample, pitch: float, yaw: float, roll: float) -> Sample:
    """What the camera sees after turning in place by these degrees about its x, y and z axes; for a frame whose camera is known.

    With R the turn, the pixel of the ray r' = (x', y', 1) shows what the ray r = Rᵀ r' showed before, and a point at depth z
    before is at depth z / r_z now. What was outside of the image is its mirror image, without valid depth.
    """
    if sample.intrinsics is None:
        return sample
    rotation, camera = _rotation(pitch, yaw, roll), sample.intrinsics
    height, width = sample.image_size

    def grid(map_: Tensor) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w"]]:
        h, w = map_.shape[-2:]
        return _turned_grid(camera.scaled(h / height, w / width), (h, w), rotation)

    def moved(map_: MaybeTensor) -> MaybeTensor:
        if map_ is None:
            return map_
        taken = F.grid_sample(map_[None].float(), grid(map_)[0][None], "nearest", "zeros", align_corners=False)[0]
        return taken.to(map_.dtype)

    image, normals = sample.float_image(), moved(sample.normals)
    image = F.grid_sample(image[None], grid(image)[0][None], "bilinear", "reflection", align_corners=False)[0]
    return replace(
        sample,
        image=image.clamp(0, 1),
        depth=moved(sample.depth) / grid(sample.depth)[1],
        valid=moved(sample.valid),
        labels=moved(sample.labels),
        normals=None if normals is None else torch.einsum("ij,jhw->ihw", rotation.float(), normals),
        pose=None,
        target=None,
    )


def _rotation(pitch: float, yaw: float, roll: float) -> Float[Tensor, "3 3"]:
    """The turn about x, then y, then z, in degrees."""
    (a, b), (c, d), (e, f) = ((math.cos(math.radians(v)), math.sin(math.radians(v))) for v in (pitch, yaw, roll))
    about_x = torch.tensor([[1, 0, 0], [0, a, -b], [0, b, a]], dtype=torch.float64)
    about_y = torch.tensor([[c, 0, d], [0, 1, 0], [-d, 0, c]], dtype=torch.float64)
    about_z = torch.tensor([[e, -f, 0], [f, e, 0], [0, 0, 1]], dtype=torch.float64)
    return about_z @ about_y @ about_x


def _turned_grid(
    camera: Intrinsics, size: Grid, rotation: Float[Tensor, "3 3"]
) -> tuple[Float[Tensor, "h w 2"], Float[Tensor, "h w"]]:
    """Where each pixel's ray was before the turn, in [-1, 1] of the image, and the third coordinate of that ray."""
    height, width = size
    x = ((torch.arange(width, dtype=torch.float64) + 0.5) - camera.cx) / camera.fx
    y = ((torch.arange(height, dtype=torch.float64) + 0.5) - camera.cy) / camera.fy
    rays = torch.stack([x.expand(height, -1), y[:, None].expand(-1, width), torch.ones(height, width).double()], -1)
    before = rays @ rotation  # rows times R are Rᵀ times columns
    along = before[..., 2].clamp(min=1e-3)
    u = (before[..., 0] / along * camera.fx + camera.cx) * (2 / width) - 1
    v = (before[..., 1] / along * camera.fy + camera.cy) * (2 / height) - 1
    return torch.stack([u, v], -1).float(), along.float()


def cut_depth(sample: Sample, start: float, share: float) -> Sample:
    """The image with a strip, of 3/4 · `share` of its width, of its own depth as grey (10 m is white); holes keep the image."""
    width = sample.image_size[1]
    strip = round(width * 0.75 * share)
    left = int(start * (width - strip + 1))
    depth, valid = (F.interpolate(x[None].float(), sample.image_size)[0] for x in (sample.depth, sample.valid))
    image = sample.float_image().clone()
    own = image[..., left : left + strip]
    grey = (depth / 10).clamp(0, 1)[..., left : left + strip].expand_as(own)
    image[..., left : left + strip] = torch.where(valid[..., left : left + strip] > 0.5, grey, own)
    return replace(sample, image=image)


def nearest_index(start: float, length: float, count: int, limit: int) -> Int[Tensor, " count"]:
    """The pixels, of `limit`, that hold the centres of `count` equal cells of the interval from `start`."""
    centres = start + (torch.arange(count, dtype=torch.float64) + 0.5) * (length / count)
    return centres.floor().long().clamp(0, limit - 1)


def _taken(map_: MaybeTensor, box: Box, image_size: Grid, size: Grid | None) -> MaybeTensor:
    """`map_`, whose size may differ from the image's, within `box` of the image, by nearest neighbour, at `size` or its own."""
    if map_ is None:
        return map_
    h, w = map_.shape[-2:]
    (top, left, height, width), ry, rx = box, h / image_size[0], w / image_size[1]
    out = size or (h, w)
    rows = nearest_index(top * ry, height * ry, out[0], h)
    columns = nearest_index(left * rx, width * rx, out[1], w)
    return map_[..., rows[:, None], columns]


def luma(image: Float[Tensor, "3 H W"]) -> Float[Tensor, "1 H W"]:
    """Brightness by the weights of ITU-R BT.601."""
    return (image * image.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(0, keepdim=True)


def adjust_light(
    image: Float[Tensor, "3 H W"], brightness: float, contrast: float, gamma: float
) -> Float[Tensor, "3 H W"]:
    """The image to the power `gamma`, times `brightness`, then its contrast about the mean luma."""
    if (brightness, contrast, gamma) == (1, 1, 1):
        return image
    image = (image.clamp(0, 1) ** gamma * brightness).clamp(0, 1)
    mean = luma(image).mean()
    return (mean + (image - mean) * contrast).clamp(0, 1)


def adjust_colour(image: Float[Tensor, "3 H W"], saturation: float, turn: float) -> Float[Tensor, "3 H W"]:
    """The distance to grey times `saturation`, and the colours turned by `turn` of a circle, in [0, 1].

    The hue turns about the grey axis of the RGB cube (Rodrigues' rotation), which leaves R + G + B as it is.
    """
    if (saturation, turn) == (1, 0):
        return image
    angle = 2 * math.pi * turn
    cosine, sine = math.cos(angle), math.sin(angle) / math.sqrt(3)
    even = (1 - cosine) / 3
    first = [cosine + even, even - sine, even + sine]
    rotation = image.new_tensor([first, [first[2], *first[:2]], [*first[1:], first[0]]])
    image = torch.einsum("ij,jhw->ihw", rotation, image)
    grey = luma(image)
    return (grey + (image - grey) * saturation).clamp(0, 1)
