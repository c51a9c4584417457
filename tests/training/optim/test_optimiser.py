"""Learning rates by group, freezing by name, starting weights, a loss in log depth, frames kept larger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.errors import CheckpointError, UsageError
from fathom.models import MODELS
from fathom.models.saved import load_model
from fathom.sample import Batch, Intrinsics, Sample
from fathom.training.frames.augment import augment
from fathom.training.losses import objective
from fathom.training.optim.optimiser import make_optimiser, rate_factor
from fathom.training.recipe import AugmentSection, LossSection, OptimSection, from_table
from fathom.training.train import train
from tests.training import painted


def fit(out: Path, steps: int = 3, **sections: Any) -> Any:
    return train(from_table(painted.recipe(steps, **sections)), painted.painted(), out=out, device="cpu")


def test_the_longest_matching_name_gives_the_rate() -> None:
    rates = {"down": 0.1, "down.1": 0.5}
    assert [rate_factor(name, rates) for name in ("down.0.w", "down.1.w", "up.0.w")] == [0.1, 0.5, 1.0]


def test_groups_have_their_factor_and_frozen_parameters_are_in_none() -> None:
    network = MODELS["unet"](MODELS["unet"].Config(widths=(8, 16), blocks=1, attention_levels=0))
    section = OptimSection(rates={"down": 0.1}, freeze=("stem", "up.0"))
    groups = make_optimiser(network, section, fused=False).param_groups
    factors = {id(p): group["factor"] for group in groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        if name.startswith(("stem", "up.0")):
            assert id(parameter) not in factors and not parameter.requires_grad
        else:
            assert factors[id(parameter)] == (0.1 if name.startswith("down") else 1.0)


def test_a_name_that_nothing_begins_with_is_refused() -> None:
    network = MODELS["residual_cnn"](MODELS["residual_cnn"].Config(width=8))
    with pytest.raises(UsageError, match=r"optim\.freeze names 'encodr'"):
        make_optimiser(network, OptimSection(freeze=("encodr",)), fused=False)


def test_a_frozen_part_does_not_move_and_a_slow_one_moves_less(tmp_path: Path) -> None:
    before = {k: v.clone() for k, v in load_model(fit(tmp_path / "a", steps=1).path).model.state_dict().items()}
    sections = {"start": {"checkpoint": str(tmp_path / "a")}, "schedule": {"name": "constant"}}
    optim = {"lr": 1e-2, "freeze": ["stem"], "rates": {"down": 0.01}}
    after = fit(tmp_path / "b", optim=optim, **sections).model.state_dict()
    moved = {name: float((after[name] - before[name]).abs().max()) for name in before}
    assert all(moved[name] == 0 for name in moved if name.startswith("stem"))
    slow = max(moved[name] for name in moved if name.startswith("down"))
    assert 0 < slow < 0.1 * max(moved[name] for name in moved if name.startswith("up"))


def test_the_checkpoint_of_another_network_is_refused_in_one_sentence(tmp_path: Path) -> None:
    fit(tmp_path / "a", steps=1)
    table = {**painted.recipe(1), "model": {"name": "residual_cnn", "width": 8}}
    table["start"] = {"checkpoint": str(tmp_path / "a")}
    with pytest.raises(CheckpointError, match="weights of another model than ResidualCNN"):
        train(from_table(table), painted.painted(), out=tmp_path / "b", device="cpu")


def test_a_loss_in_log_depth_compares_ratios() -> None:
    loss = objective(LossSection(mae=1.0, space="log"))
    target = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    value, _ = loss(target * 1.5, target, torch.ones_like(target, dtype=torch.bool))
    assert float(value) == pytest.approx(0.405465, abs=1e-5)


def test_frames_kept_larger_come_out_at_the_size_with_their_camera() -> None:
    camera = Intrinsics(60.0, 60.0, 36.0, 24.0)
    sample = Sample(
        torch.rand(3, 48, 72), torch.rand(1, 48, 72) + 1, torch.ones(1, 48, 72, dtype=torch.bool), "s", "i", camera
    )
    seen = augment(sample, torch.Generator().manual_seed(0), AugmentSection(flip=0, zoom=1.0), (32, 48))
    assert seen.image.shape == (3, 32, 48) and seen.depth.shape == seen.valid.shape == (1, 32, 48)
    assert seen.intrinsics == Intrinsics(40.0, 40.0, 24.0, 16.0)
    assert set(seen.depth.flatten().tolist()) <= set(sample.depth.flatten().tolist())


def test_a_batch_holds_its_cameras_and_nan_where_there_is_none() -> None:
    frame = painted.painted()[0]
    batch = Batch.of([frame, Sample(frame.image, frame.depth, frame.valid, "s", "i", Intrinsics(1, 2, 3, 4))])
    assert batch.camera is not None
    assert batch.camera[0].isnan().all() and batch.camera[1].tolist() == [1, 2, 3, 4]


def test_the_seed_of_a_training_does_not_change_what_is_held_out(tmp_path: Path) -> None:
    scenes = [fit(tmp_path / str(seed), steps=1, train={"seed": seed}).info["unseen_scenes"] for seed in (0, 1)]
    other = fit(tmp_path / "v", steps=1, validation={"seed": 3}).info["unseen_scenes"]
    assert scenes[0] == scenes[1] != other
