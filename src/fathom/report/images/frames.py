"""Figures: frames next to their predictions in one scale, written as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fathom.encoders.spec import short_names
from fathom.files.atomic import atomic_path
from fathom.media.colour import DEPTH_MAP, ERROR_MAP, UNKNOWN, shared_range

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Map = NDArray[np.floating]


@dataclass(frozen=True)
class FrameRow:
    """One frame of a figure.

    Attributes:
        title: of the row. image: ``(H, W, 3)`` in [0, 1]. truth: metres, NaN where unknown, ``(H, W)``.
        predictions: metres, by name, ``(h, w)`` each of its own size.
    """

    title: str
    image: Map
    truth: Map
    predictions: dict[str, Map]


def save(figure: Figure, path: str | Path, dpi: int = 110) -> Path:
    """Write the figure as PNG, whole or not at all."""
    target = Path(path)
    with atomic_path(target) as temporary:
        figure.savefig(temporary, dpi=dpi, facecolor="white")
    return target


def _bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _enlarged(values: Map, size: tuple[int, int]) -> Map:
    from torch import as_tensor
    from torch.nn.functional import interpolate

    tensor = as_tensor(np.ascontiguousarray(values))[None, None].float()
    return interpolate(tensor, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def frame_grid(rows: Sequence[FrameRow], path: str | Path, *, errors: bool = True, title: str = "") -> Path:
    """Image, truth and each prediction in one colour scale, and below each prediction its error in metres.

    Columns are image, truth, predictions; a frame takes one line, two with `errors`.
    """
    from matplotlib.figure import Figure

    names = list(rows[0].predictions)
    low, high = shared_range([row.truth for row in rows])
    gaps = [_enlarged(row.predictions[name], row.truth.shape) - row.truth for row in rows for name in names]
    most = max(shared_range([np.abs(gap) for gap in gaps])[1], 1e-3) if gaps else 1.0
    lines = 2 if errors and names else 1
    aspect = rows[0].truth.shape[0] / rows[0].truth.shape[1]
    width = 1.75
    figure = Figure(
        figsize=(width * (2 + len(names)) + 1.0, width * aspect * lines * len(rows) + 0.75), layout="constrained"
    )
    grid = figure.subplots(lines * len(rows), 2 + len(names), squeeze=False)
    depth_image = error_image = None
    for index, row in enumerate(rows):
        top = grid[index * lines]
        top[0].imshow(np.clip(row.image, 0, 1))
        top[0].set_ylabel(shorten(row.title, 26, placeholder="…"), fontsize=7)
        for axes, values in zip(top[1:], [row.truth, *(row.predictions[name] for name in names)], strict=True):
            axes.set_facecolor(UNKNOWN)
            depth_image = axes.imshow(
                _enlarged(values, row.truth.shape) if values is not row.truth else values,
                cmap=DEPTH_MAP,
                vmin=low,
                vmax=high,
            )
        if lines == 2:
            below = grid[index * lines + 1]
            for column in range(len(names)):
                gap = gaps[index * len(names) + column]
                below[2 + column].set_facecolor(UNKNOWN)
                error_image = below[2 + column].imshow(gap, cmap=ERROR_MAP, vmin=-most, vmax=most)
                below[2 + column].set_xlabel(f"RMSE {np.sqrt(np.nanmean(gap**2)):.2f} m", fontsize=7)
            below[1].axis("off")
            below[0].axis("off")
    for axes in grid.ravel():
        _bare(axes)
    short = short_names(names)
    for axes, title_above in zip(grid[0], ["image", "truth", *(short[name] for name in names)], strict=True):
        axes.set_title(title_above, fontsize=8 if len(title_above) <= 24 else 6.5)
    # Both scales stand in one column at the right: depth beside the upper half of the frames, errors beside the lower.
    half = max(1, len(grid) // 2)
    for drawn, beside, label in (
        (depth_image, grid[:half] if error_image is not None else grid, "depth in metres"),
        (error_image, grid[half:] if len(grid) > half else grid, "prediction − truth, metres"),
    ):
        if drawn is not None:
            figure.colorbar(drawn, ax=beside, location="right", shrink=0.8, label=label, pad=0.01)
    if title:
        figure.suptitle(title, fontsize=9)
    return save(figure, path)
