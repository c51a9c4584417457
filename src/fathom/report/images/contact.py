"""Contact sheet: images, their depth, and the two laid over each other, so that a wrong pairing, unit or shift is seen at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from numpy import ndarray

from fathom.data.transforms import resize_image
from fathom.errors import UsageError
from fathom.media.colour import DEPTH_MAP, colourise, shared_range
from fathom.report.images.sheet import Line, Scale, Tile, draw_sheet
from fathom.sample import Sample

WIDEST = 400
"""Pixels of a picture on the sheet."""

EDGE = (0, 255, 255)
"""Colour of depth edges in the overlay: on neither photographs nor the depth scale."""

JUMP = 0.1
"""Change of log depth from one pixel of the overlay to the next that is drawn as an edge."""


def contact_sheet(samples: Sequence[Sample], path: str | Path, *, columns: int = 6, title: str = "") -> Path:
    """Write a PNG of `samples`, `columns` a line: image, depth over the image with its edges, depth in one scale; grey is invalid.

    Of samples without depth the first channel of the target is drawn instead.
    """
    if not samples:
        raise UsageError("There is no readable frame to draw.")
    truths = [_truth(sample) for sample in samples]
    low, high = shared_range(truths)
    lines = []
    for start in range(0, len(samples), columns):
        part = list(zip(samples, truths, strict=True))[start : start + columns]
        images = [_small(sample) for sample, _ in part]
        names = [shorten(sample.id, 24, placeholder="…") for sample, _ in part]
        mixed = [overlay(image, truth, low, high) for image, (_, truth) in zip(images, part, strict=True)]
        lines += [Line([*map(Tile, images, names)]), Line([*map(Tile, mixed)])]
        lines.append(Line([Tile(colourise(truth, low, high)) for _, truth in part]))
    label = "depth in metres" if any(bool(s.valid.any()) for s in samples) else "target, first channel"
    return draw_sheet(lines, [Scale(DEPTH_MAP, low, high, label)], path, title=title, dpi=130)


def _truth(sample: Sample) -> Float32[ndarray, "h w"]:
    if sample.target is not None and not bool(sample.valid.any()):
        target: Float32[ndarray, "h w"] = sample.target[0].numpy()
        return target
    return np.where(sample.valid[0].numpy(), sample.depth[0].numpy(), np.float32(np.nan))


def _small(sample: Sample) -> UInt8[ndarray, "h w 3"]:
    """No more pixels than the sheet shows."""
    image = (sample.float_image() * 255).round().byte()
    height, width = sample.image_size
    if width > WIDEST:
        image = resize_image(image, (max(1, round(height * WIDEST / width)), WIDEST))
    pixels: UInt8[ndarray, "h w 3"] = image.permute(1, 2, 0).numpy()
    return pixels


def overlay(
    image: UInt8[ndarray, "H W 3"], truth: Float32[ndarray, "h w"], low: float, high: float
) -> UInt8[ndarray, "H W 3"]:
    """The image in grey with depth in colour over it, and where depth jumps an edge line; alone where nothing is known."""
    height, width = image.shape[:2]
    values = torch.from_numpy(truth)[None, None]
    depth = torch.nn.functional.interpolate(values, (height, width), mode="nearest-exact")[0, 0].numpy()
    grey = np.repeat(image.mean(-1, keepdims=True), 3, -1)
    known = np.isfinite(depth)
    mixed = np.where(known[..., None], 0.55 * grey + 0.45 * colourise(depth, low, high), grey)
    with np.errstate(invalid="ignore", divide="ignore"):
        log = np.log(np.where(known & (depth > 0), depth, np.nan))
        jumps = np.zeros_like(known)
        jumps[:, 1:] |= np.abs(np.diff(log, axis=1)) > JUMP
        jumps[1:] |= np.abs(np.diff(log, axis=0)) > JUMP
    mixed[jumps] = EDGE
    return mixed.round().clip(0, 255).astype(np.uint8)
