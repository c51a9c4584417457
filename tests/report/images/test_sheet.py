"""Tiles stand where their line and column say, in their own shape; the colour scale stands at the right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from fathom.report.images.sheet import GAP, SCALE, SIDE, WORDS, Line, Scale, Tile, draw_sheet

RED, GREEN = (np.tile(np.uint8(colour), (6, 8, 1)) for colour in ((255, 0, 0), (0, 255, 0)))


def test_tiles_stand_in_lines_and_empty_places_stay_white(tmp_path: Path) -> None:
    wide = np.tile(np.uint8((0, 0, 0)), (2, 8, 1))
    lines = [Line([Tile(RED, "a heading"), Tile(GREEN)], "at the left"), Line([None, Tile(wide, below="words")])]
    path = draw_sheet(lines, [Scale("gray", 0.0, 1.0, "metres")], tmp_path / "folder" / "s.png", width=1.0, dpi=100)
    left, first = GAP + SIDE, GAP + WORDS
    second = first + 0.75 + GAP
    with Image.open(path) as drawn:
        picture = drawn.convert("RGB")
        assert picture.width == int(100 * (left + 2 * (1 + GAP) + SCALE))
        seen = {
            (x, y): picture.getpixel((round(100 * (left + x * (1 + GAP) + 0.5)), round(100 * y)))
            for x, y in (
                (0, first + 0.4),
                (1, first + 0.4),
                (0, second + 0.1),
                (1, second + 0.1),
                (1, second + 0.25 + WORDS),
            )
        }
        scale = picture.crop((round(100 * (left + 2 * (1 + GAP))), 0, *picture.size)).convert("L")
    assert list(seen.values()) == [(255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0), (255, 255, 255)]
    assert len(set(scale.get_flattened_data())) > 50
