"""Baselines, each against an independent computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fathom.encoders import open_encoder
from fathom.encoders.base import Encoder
from fathom.encoders.baselines import BASELINES, Baseline, open_baseline
from fathom.errors import UsageError

IMAGES = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0))
GRID = (6, 8)


def read(spec: str, images: torch.Tensor = IMAGES, grid: tuple[int, int] = GRID) -> torch.Tensor:
    baseline = open_baseline(spec)
    assert baseline is not None
    return baseline.on_grid(grid).encode(images)["baseline"]


def test_constant_has_no_column() -> None:
    assert read("constant").shape == (2, 0, *GRID)


def test_position_knows_the_cell_and_nothing_of_the_image() -> None:
    found = read("position")
    assert torch.equal(found[0], found[1])
    y, x = np.meshgrid((np.arange(6) + 0.5) / 3 - 1, (np.arange(8) + 0.5) / 4 - 1, indexing="ij")
    np.testing.assert_allclose(found[0].numpy(), [y, x, y**2, x**2, x * y, y**3], atol=1e-6)


def test_pixels_are_the_image_averaged_down() -> None:
    torch.testing.assert_close(read("pixels"), F.avg_pool2d(IMAGES, 4))


def test_pixels_weigh_those_on_a_border_by_their_share() -> None:
    """An area average onto 5 x 7 cells equals plain pooling of the image repeated until the cells are whole pixels."""
    repeated = IMAGES.repeat_interleave(5, -2).repeat_interleave(7, -1)
    torch.testing.assert_close(read("pixels", grid=(5, 7)), F.avg_pool2d(repeated, (24, 32)), rtol=1e-5, atol=1e-6)


def test_both_stand_side_by_side() -> None:
    assert torch.equal(read("pixels+position"), torch.cat([read("pixels"), read("position")], 1))


@pytest.mark.parametrize(("spec", "side"), [("patch", 7), ("patch:3", 3), ("patch:1", 1)])
def test_patch_holds_the_colours_of_the_cells_around(spec: str, side: int) -> None:
    cells, found, half = read("pixels").numpy(), read(spec), side // 2
    assert found.shape == (2, 3 * side * side, *GRID)
    for row, column in [(0, 0), (2, 5), (5, 7)]:
        rows = np.clip(np.arange(row - half, row + half + 1), 0, 5)
        columns = np.clip(np.arange(column - half, column + half + 1), 0, 7)
        expected = cells[:, :, rows][:, :, :, columns].reshape(2, -1)
        np.testing.assert_array_equal(found[:, :, row, column].numpy(), expected)


@pytest.mark.parametrize("spec", ["patch:4", "patch:0", "patch:33", "patch:x", "patch:"])
def test_a_patch_without_a_middle_is_refused(spec: str) -> None:
    with pytest.raises(UsageError, match="odd number of cells"):
        open_baseline(spec)


@pytest.mark.parametrize("spec", [*BASELINES, "patch:5"])
def test_baselines_are_encoders_that_say_they_are_baselines(spec: str) -> None:
    baseline = open_encoder(spec)
    assert isinstance(baseline, Encoder) and isinstance(baseline, Baseline)
    assert baseline.baseline and baseline.name == spec and baseline.to("cpu") is baseline
    with pytest.raises(UsageError, match="has no grid of its own"):
        baseline.encode(IMAGES)


def test_other_names_are_no_baselines() -> None:
    assert open_baseline("hf:org/name") is None
