"""Control targets come from other rooms and do not change."""

from __future__ import annotations

import torch

from fathom.probing.targets import ControlTargets, fill_invalid
from fathom.sample import Sample

GRID = (3, 4)


def frame(id_: str, scene: str) -> Sample:
    depth = torch.ones(1, 6, 8)
    return Sample(torch.zeros(3, 6, 8), depth, depth > 0, scene, id_)


def test_a_control_target_is_from_another_scene_and_always_the_same() -> None:
    control = ControlTargets(torch.arange(3.0)[:, None, None, None].expand(3, 1, *GRID), ("a", "b", "c"), seed=4)
    for scene in "abc":
        for index in range(20):
            sample = frame(f"{scene}{index}", scene)
            target = control.of(sample)
            assert control.scenes[int(target[0, 0, 0])] != scene
            assert torch.equal(target, control.of(sample))
    assert len({float(control.of(frame(f"x{i}", "x"))[0, 0, 0]) for i in range(30)}) == 3


def test_invalid_cells_are_filled_with_the_mean_of_the_valid() -> None:
    Y = torch.tensor([[[1.0, 3.0], [float("nan"), 2.0]]])
    valid = torch.tensor([[[True, True], [False, True]]])
    assert fill_invalid(Y, valid)[0, 1, 0] == 2.0
