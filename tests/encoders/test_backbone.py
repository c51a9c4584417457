"""An encoder of any SPEC inside a trained network: its maps, its gradients, its checkpoint with and without the source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.encoders.backbone import STRIDES, chosen_levels, open_backbone, resized
from fathom.errors import CheckpointError, UsageError
from fathom.models.saved import load_model
from fathom.training.recipe import from_table
from fathom.training.train import train
from tests.training import painted

CODE = """
import torch
from torch import nn

def pyramid():
    norm = lambda c: nn.BatchNorm2d(c)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, 2, 1), norm(4), nn.ReLU(), nn.Conv2d(4, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 4, 1)
    )
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(CODE)
    return f"module:{tmp_path / 'net.py'}:pyramid"


def fit(spec: str, out: Path, freeze: list[str], steps: int = 2) -> Any:
    table = painted.recipe(
        steps, data={"size": [32, 48]}, optim={"lr": 1e-2, "freeze": freeze}, schedule={"name": "constant"}
    )
    table["model"] = {
        "name": "pretrained_unet", "encoder": spec, "widths": [8, 8, 8, 8], "context": 8, "canonical_focal": 50.0,
    }  # fmt: skip
    return train(from_table(table), painted.painted(size=(32, 48)), out=out, device="cpu")


@pytest.mark.parametrize(
    ("strides", "levels"),
    [
        ({"a": 2.0, "b": 4.0, "c": 16.0}, ["a", "b", "c", "c", "c"]),
        ({"s1": 4.0, "s2": 8.0, "s3": 16.0, "s4": 32.0}, ["", "s1", "s2", "s3", "s4"]),
        ({f"b{i}": 14.2 for i in range(8)}, ["", "b1", "b3", "b5", "b7"]),
        ({"x": 16.0, "y": 16.0}, ["", "y", "y", "y", "y"]),
    ],
)
def test_each_stride_takes_the_nearest_layer(strides: dict[str, float], levels: list[str]) -> None:
    assert chosen_levels(strides) == levels


def test_maps_have_their_strides_and_gradients_and_statistics_stand_still(spec: str) -> None:
    backbone = open_backbone(spec).train()
    before = {name: value.clone() for name, value in backbone.named_buffers()}
    maps = backbone(torch.rand(2, 3, 64, 96))
    assert [tuple(z.shape[1:]) for z in maps] == [
        (width, 64 // stride, 96 // stride) for width, stride in zip(backbone.widths, STRIDES, strict=True)
    ]
    sum(z.mean() for z in maps).backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    assert all(torch.equal(before[name], value) for name, value in backbone.named_buffers())


def test_maps_are_resized_under_autocast_too() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert resized(torch.rand(1, 2, 8, 8).bfloat16(), (4, 4)).shape == (1, 2, 4, 4)


def test_a_frozen_encoder_stays_and_a_free_one_moves(spec: str, tmp_path: Path) -> None:
    own = open_backbone(spec).state_dict()
    for freeze, moves in (([], True), (["encoder"], False)):
        trained = fit(spec, tmp_path / str(moves), freeze)
        kept = trained.model.encoder.state_dict()
        assert any(not torch.equal(kept[name], own[name]) for name in own) is moves
        origin = trained.info["encoder"]
        assert origin["spec"] == spec and len(origin["weights"]) == len(origin["code"]) == 64


def test_a_checkpoint_runs_code_that_it_names_only_where_it_is_trusted_and_the_same(spec: str, tmp_path: Path) -> None:
    trained = fit(spec, tmp_path / "run", [], steps=1)
    again = load_model(trained.path, trusted=True)
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(again.model(image), trained.model(image))
    file = Path(spec.split(":")[1])
    file.write_text(CODE.replace("nn.ReLU()", "nn.Tanh()"))
    with pytest.raises(CheckpointError, match="trained with other code of its encoder"):
        load_model(trained.path, trusted=True)
    file.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(CheckpointError, match=r"names 1 Python files or modules .* --limit code-files=1"):
        load_model(trained.path)
    assert not (tmp_path / "ran").exists()
    file.unlink()
    with pytest.raises(
        CheckpointError, match=r"needs its encoder: Encoder 'module:.* put it where its SPEC says"
    ) as caught:
        load_model(trained.path, trusted=True)
    assert "\n" not in str(caught.value)


def test_baselines_and_unknown_encoders_are_refused_in_one_sentence() -> None:
    for spec, reason in (("patch:3", "it has no network"), ("hf:/nowhere/at/all", "cannot be opened")):
        with pytest.raises(UsageError, match=reason):
            open_backbone(spec)
