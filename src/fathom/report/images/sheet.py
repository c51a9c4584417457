"""Pictures in lines on one sheet, with words around them and colour scales at the right; written as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fathom.files.atomic import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAP, WORDS, SIDE, SCALE = 0.11, 0.16, 0.25, 0.8
"""Inches between pictures, for a line of words, for the words at the left, and for the scales at the right."""


@dataclass(frozen=True)
class Tile:
    """A picture: ``(H, W, 3)``, uint8 or in [0, 1], and the words above and below it."""

    pixels: NDArray[np.generic]
    above: str = ""
    below: str = ""


@dataclass(frozen=True)
class Scale:
    """A colour scale: name of the colour map, its ends, and what it shows."""

    colours: str
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class Line:
    """Tiles from left to right, None where the place is empty, and the words at their left."""

    tiles: Sequence[Tile | None]
    title: str = ""


def save(figure: Figure, path: str | Path, dpi: int = 110) -> Path:
    """Write the figure as PNG, whole or not at all."""
    target = Path(path)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=dpi, facecolor="white")
    return target


def draw_sheet(
    lines: Sequence[Line],
    scales: Sequence[Scale],
    path: str | Path,
    *,
    width: float = 1.65,
    title: str = "",
    dpi: int = 110,
) -> Path:
    """Write a sheet of `lines`; a tile is `width` inches wide, the scales stand one above the other.

    All tiles are in one set of axes: with one for each, matplotlib takes ten times as long.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    columns = max(len(line.tiles) for line in lines)
    tiles = [[tile for tile in line.tiles if tile is not None] for line in lines]
    tall = [max((tile.pixels.shape[0] / tile.pixels.shape[1] for tile in line), default=0.0) * width for line in tiles]
    above, below = (
        [WORDS * any(getattr(tile, side) for tile in line) for line in tiles] for side in ("above", "below")
    )
    left, top = GAP + SIDE * any(line.title for line in lines), GAP + 1.5 * WORDS * bool(title)
    across = left + columns * (width + GAP) + SCALE * bool(scales)
    down = top + sum(tall) + sum(above) + sum(below) + GAP * len(lines)
    figure = Figure(figsize=(across, down))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, across), ylim=(down, 0), autoscale_on=False)
    axes.text(across / 2, GAP, title, fontsize=9, ha="center", va="top")
    at = top
    for line, height, over, under in zip(lines, tall, above, below, strict=True):
        at += over
        axes.text(GAP, at + height / 2, line.title, fontsize=6.5, rotation=90, ha="left", va="center")
        for column, tile in enumerate(line.tiles):
            if tile is None:
                continue
            x, own = left + column * (width + GAP), width * tile.pixels.shape[0] / tile.pixels.shape[1]
            axes.imshow(tile.pixels, extent=(x, x + width, at + own, at), aspect="auto")
            size = 8 if len(tile.above) <= 24 else 6
            axes.text(x + width / 2, at - 0.04, tile.above, fontsize=size, ha="center", va="bottom")
            axes.text(x + width / 2, at + own + 0.03, tile.below, fontsize=7, ha="center", va="top")
        at += height + under + GAP
    for index, scale in enumerate(scales):
        tallest = (down - top) / len(scales)
        middle = top + (index + 0.5) * tallest
        box = figure.add_axes(
            (1 - SCALE / across, 1 - (middle + 0.4 * tallest) / down, 0.16 / across, 0.8 * tallest / down)
        )
        figure.colorbar(ScalarMappable(Normalize(scale.low, scale.high), scale.colours), cax=box, label=scale.label)
    return save(figure, path, dpi)
