"""The mean map equals what averaging by hand gives."""

from __future__ import annotations

import torch

from fathom.features.mean_map import MeanMap

GRID = (3, 4)


def test_mean_map_and_its_losses_equal_direct_averages() -> None:
    g = torch.Generator().manual_seed(0)
    Y = torch.randn(6, 2, *GRID, generator=g)
    valid = torch.rand(6, 1, *GRID, generator=g) > 0.3
    blocks = [0, 0, 1, 1, 2, 2]
    average = MeanMap.zeros(3, 2, GRID)
    for i, block in enumerate(blocks):
        average.add(block, Y[i : i + 1], valid[i : i + 1])
    masked = torch.where(valid, Y, torch.nan)
    expected = torch.nanmean(masked, 0)
    seen = valid.any(0).expand_as(expected)
    torch.testing.assert_close(average.map()[seen].float(), expected[seen])
    cv, train = average.losses([[0], [1], [2]])
    direct = torch.stack([torch.nansum((masked - average.map().float()).square(), dim=(0, 2, 3))])[0] / valid.sum()
    torch.testing.assert_close(train.float(), direct)
    held_out = torch.zeros(2, dtype=torch.float64)
    for block in range(3):
        guess = average.map([b for b in range(3) if b != block])
        part = masked[2 * block : 2 * block + 2]
        held_out += torch.nansum((part - guess).square(), dim=(0, 2, 3))
    torch.testing.assert_close(cv, held_out / valid.sum())
    assert (cv > train).all()
