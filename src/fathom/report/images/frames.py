"""Figures: frames next to their predictions in one scale, written as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

import numpy as np
from numpy.typing import NDArray

from fathom.encoders.spec import short_names
from fathom.media.colour import DEPTH_MAP, ERROR_MAP, colourise, shared_range
from fathom.report.images.sheet import Line, Scale, Tile, draw_sheet

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


def _enlarged(values: Map, size: tuple[int, int]) -> Map:
    from torch import as_tensor
    from torch.nn.functional import interpolate

    tensor = as_tensor(np.ascontiguousarray(values))[None, None].float()
    return interpolate(tensor, size, mode="bilinear", align_corners=False)[0, 0].numpy()


def frame_grid(rows: Sequence[FrameRow], path: str | Path, *, title: str = "") -> Path:
    """Image, truth and each prediction in one colour scale, and below each prediction its error in metres."""
    names = list(rows[0].predictions)
    short = short_names(names)
    maps = [[_enlarged(row.predictions[name], row.truth.shape) for name in names] for row in rows]
    gaps = [[values - row.truth for values in found] for row, found in zip(rows, maps, strict=True)]
    low, high = shared_range([row.truth for row in rows])
    most = max(shared_range([np.abs(gap) for found in gaps for gap in found])[1], 1e-3)
    lines = []
    for index, row in enumerate(rows):
        above = ["image", "truth", *short.values()] if index == 0 else [""] * (2 + len(names))
        depth = [colourise(values, low, high) for values in (row.truth, *maps[index])]
        tiles = [np.clip(row.image, 0, 1), *depth]
        lines.append(Line([*map(Tile, tiles, above)], shorten(row.title, 26, placeholder="…")))
        words = [f"RMSE {np.sqrt(np.nanmean(gap**2)):.2f} m" for gap in gaps[index]]
        errors = [
            Tile(colourise(gap, -most, most, ERROR_MAP), "", text) for gap, text in zip(gaps[index], words, strict=True)
        ]
        lines += [Line([None, None, *errors])] * bool(names)
    scales = [
        Scale(DEPTH_MAP, low, high, "depth in metres"),
        Scale(ERROR_MAP, -most, most, "prediction − truth, metres"),
    ]
    return draw_sheet(lines, scales, path, title=title)
