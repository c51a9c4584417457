"""The mean map equals what averaging by hand gives; donors come from other rooms and do not change."""

from __future__ import annotations

import torch

from fathom.probing.targets import Donors, MeanMap, fill_invalid
from fathom.sample import Sample

GRID = (3, 4)


def frame(id_: str, scene: str) -> Sample:
    depth = torch.ones(1, 6, 8)
    return Sample(torch.zeros(3, 6, 8), depth, depth > 0, scene, id_)


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


def test_a_donor_is_from_another_scene_and_always_the_same() -> None:
    donors = Donors(torch.arange(3.0)[:, None, None, None].expand(3, 1, *GRID), ("a", "b", "c"), seed=4)
    for scene in "abc":
        for index in range(20):
            sample = frame(f"{scene}{index}", scene)
            target = donors.of(sample)
            assert donors.scenes[int(target[0, 0, 0])] != scene
            assert torch.equal(target, donors.of(sample))
    assert len({float(donors.of(frame(f"x{i}", "x"))[0, 0, 0]) for i in range(30)}) == 3


def test_invalid_cells_are_filled_with_the_mean_of_the_valid() -> None:
    Y = torch.tensor([[[1.0, 3.0], [float("nan"), 2.0]]])
    valid = torch.tensor([[[True, True], [False, True]]])
    assert fill_invalid(Y, valid)[0, 1, 0] == 2.0
