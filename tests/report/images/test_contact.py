"""The contact sheet: image, overlay and depth of each frame."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fathom.data.sources import load
from fathom.report.images.contact import EDGE, contact_sheet, overlay


def test_the_sheet_has_three_rows_a_line(tmp_path: Path) -> None:
    data = load("rooms")
    samples = [data[i] for i in range(0, 40, 10)]
    path = contact_sheet(samples, tmp_path / "a.png", columns=4)
    flat = contact_sheet([replace(s, valid=s.valid & False) for s in samples], tmp_path / "b.png", columns=4)
    with Image.open(path) as whole, Image.open(flat) as grey:
        assert whole.size == grey.size and whole.height > 400
        assert len(set(whole.convert("RGB").get_flattened_data())) > len(set(grey.convert("RGB").get_flattened_data()))


def test_a_target_is_drawn_where_there_is_no_depth(tmp_path: Path) -> None:
    sample = load("rooms")[0]
    bare = replace(sample, valid=sample.valid & False, target=torch.rand(2, 24, 32))
    with Image.open(contact_sheet([bare], tmp_path / "a.png")) as drawn:
        assert len(set(drawn.convert("RGB").get_flattened_data())) > 500


def test_overlay_draws_jumps_and_leaves_unknown_pixels_grey() -> None:
    image = np.zeros((20, 40, 3), np.uint8) + np.uint8([200, 100, 0])
    truth = np.full((10, 20), 1.0, np.float32)
    truth[:, 10:] = 2.0
    truth[0] = np.nan
    drawn = overlay(image, truth, 1.0, 2.0)
    assert (drawn[2:, 20] == EDGE).all() and not (drawn[:, :19] == EDGE).all(-1).any()
    assert (drawn[0, 0] == 100).all() and (drawn[5, 5] != drawn[5, 30]).any()
