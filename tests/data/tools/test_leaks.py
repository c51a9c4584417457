"""Near-duplicates across a split are found; different rooms are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageEnhance

from fathom.data.sources import load
from fathom.data.tools.leaks import describe, difference_hash, find_leaks


def rooms_image(index: int) -> Image.Image:
    return Image.fromarray(load("rooms")[index].image.permute(1, 2, 0).numpy())


def write(root: Path, name: str, image: Image.Image) -> None:
    (root / "rgb").mkdir(parents=True, exist_ok=True)
    (root / "depth").mkdir(exist_ok=True)
    image.save(root / "rgb" / f"{name}.png")
    Image.fromarray(np.full((12, 16), 1000, np.uint16)).save(root / "depth" / f"{name}.png")


def test_altered_copies_are_found_and_only_they(tmp_path: Path) -> None:
    for index in range(0, 40, 4):
        write(tmp_path / "train", f"t{index}", rooms_image(index))
    source = rooms_image(8)
    smaller = source.resize((64, 48))
    write(tmp_path / "test", "smaller", smaller)
    write(tmp_path / "test", "darker", ImageEnhance.Brightness(source).enhance(0.7))
    write(tmp_path / "test", "mirrored", source.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    write(tmp_path / "test", "other", rooms_image(60))
    train, test = (load(f"{tmp_path / part}?depth-scale=1000") for part in ("train", "test"))
    leaks = find_leaks(train, test)
    assert {(leak.test, leak.train, leak.mirrored) for leak in leaks} == {
        ("smaller", "t8", False),
        ("darker", "t8", False),
        ("mirrored", "t8", True),
    }
    assert "mirrored (mirrored) is a mirror of t8 (t8)" in describe(leaks)


def test_rooms_split_has_no_near_duplicate() -> None:
    train, test = load("rooms").official_split()
    assert find_leaks(train, test) == []


def test_the_hash_is_that_of_pillows_grey_image() -> None:
    pixels = torch.randint(0, 256, (3, 67, 90), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey = Image.fromarray(pixels.permute(1, 2, 0).numpy()).convert("L")
    across, down = (np.asarray(grey.resize(cells, Image.Resampling.BOX)).astype(int) for cells in ((17, 16), (16, 17)))
    expected = np.concatenate([np.diff(across, axis=1).ravel() > 0, np.diff(down, axis=0).ravel() > 0])
    np.testing.assert_array_equal(difference_hash(pixels), expected)
