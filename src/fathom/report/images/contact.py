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
from fathom.media.colour import DEPTH_MAP, UNKNOWN, colourise, shared_range
from fathom.report.images.frames import save
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
    from matplotlib.figure import Figure

    if not samples:
        raise UsageError("There is no readable frame to draw.")
    columns = min(columns, len(samples))
    lines = -(-len(samples) // columns)
    truths = [_truth(sample) for sample in samples]
    low, high = shared_range(truths)
    tallest = max(s.image_size[0] / s.image_size[1] for s in samples)
    height = 1.7 * tallest * 3 * lines + 0.3 * lines + 0.3
    figure = Figure(figsize=(1.7 * columns + 0.8, height), layout="constrained")
    grid = figure.subplots(3 * lines, columns, squeeze=False)
    for axes in grid.ravel():
        axes.axis("off")
    drawn = None
    for index, (sample, truth) in enumerate(zip(samples, truths, strict=True)):
        line, column = divmod(index, columns)
        above, between, below = (grid[3 * line + row, column] for row in range(3))
        image = _small(sample)
        above.imshow(image)
        above.set_title(shorten(sample.id, 24, placeholder="…"), fontsize=6)
        between.imshow(overlay(image, truth, low, high))
        below.axis("on")
        below.set_xticks([])
        below.set_yticks([])
        below.set_facecolor(UNKNOWN)
        drawn = below.imshow(truth, cmap=DEPTH_MAP, vmin=low, vmax=high)
    if drawn is not None:
        label = "depth in metres" if any(bool(s.valid.any()) for s in samples) else "target, first channel"
        figure.colorbar(drawn, ax=grid, location="right", shrink=0.6, label=label, pad=0.01)
    if title:
        figure.suptitle(title, fontsize=8)
    return save(figure, path, dpi=130)


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
