"""The description counts what is there."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from fathom.models import MODELS, build
from fathom.models.describe import describe

TINY: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 8},
    "residual_cnn": {"width": 8},
    "unet": {"widths": (8, 16, 32), "blocks": 1, "attention_levels": 0},
    "plain_cnn": {"filters": (6, 6, 6)},
    "gradient": {"filters": (6, 6, 6)},
    "edge_guided": {"filters": (6, 6, 6), "gradient_filters": (6, 6)},
    "pretrained_unet": {"encoder": "efficientnet_lite0", "widths": (8, 8, 8, 8), "context": 8},
}


@pytest.mark.parametrize("name", MODELS)
def test_rows_add_up_to_the_network(name: str) -> None:
    model = build(name, TINY[name])
    description = describe(model, (32, 64))
    parameters = sum(p.numel() for p in model.parameters())
    for rows in (description.rows, description.grouped(1), description.grouped(2)):
        assert sum(row.parameters for row in rows) == description.parameters == parameters
    assert description.output == (model.output_channels, *model.output_size((32, 64)))
    frozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)
    assert description.trained == parameters - frozen
    assert description.state_bytes == 16 * (parameters - frozen) + 4 * frozen


@pytest.mark.parametrize("name", MODELS)
def test_multiplications_are_those_of_each_convolution_by_its_definition(name: str) -> None:
    model = build(name, TINY[name])
    counted = 0

    def count(layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal counted
        # Every output value of a convolution is a sum over a window of all input channels; a transposed one spreads each input.
        cells = inputs[0] if isinstance(layer, torch.nn.ConvTranspose2d) else output
        counted += cells[0, 0].numel() * layer.weight.numel()

    kinds = (torch.nn.Conv2d, torch.nn.ConvTranspose2d)
    assert not any(isinstance(layer, torch.nn.Linear) for layer in model.modules())
    hooks = [layer.register_forward_hook(count) for layer in model.modules() if isinstance(layer, kinds)]
    with torch.no_grad():
        model(torch.rand(1, 3, 32, 64))
    for hook in hooks:
        hook.remove()
    described = describe(model, (32, 64), batch=3)
    assert described.multiplications == counted == sum(row.multiplications for row in described.rows)


def test_attention_is_counted() -> None:
    plain, attending = (
        describe(build("unet", {**TINY["unet"], "attention_levels": levels}), (32, 32)) for levels in (0, 1)
    )
    beyond_layers = attending.multiplications - sum(row.multiplications for row in attending.rows)
    assert plain.multiplications == sum(row.multiplications for row in plain.rows)
    # Queries with keys, and weights with values: 2 * tokens^2 * channels on the coarsest grid of 8x8 with 32 channels.
    assert beyond_layers == 2 * 64**2 * 32


@pytest.mark.parametrize("name", ["autoencoder", "unet", "edge_guided"])
def test_activation_memory_is_what_a_real_pass_keeps(name: str) -> None:
    model = build(name, TINY[name])
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(torch.rand(2, 3, 32, 64))
    real = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    assert describe(model, (32, 64), batch=2).activation_bytes == pytest.approx(real, rel=0.05)


def test_activation_memory_grows_with_the_batch_and_falls_with_checkpointing() -> None:
    model = build("unet", TINY["unet"])
    one, four = (describe(model, (32, 32), batch).activation_bytes for batch in (1, 4))
    assert four == pytest.approx(4 * one, rel=0.05)
    model.checkpointing = True
    assert describe(model, (32, 32), 4).activation_bytes < four / 2


def test_the_full_size_is_described_without_its_weights() -> None:
    with torch.device("meta"):
        model = build("autoencoder")
    description = describe(model, (256, 256), batch=64)
    assert description.output == (3, 256, 256)
    assert description.activation_bytes > 2**34


def test_the_table_names_layers_and_totals_and_json_holds_all() -> None:
    description = describe(build("edge_guided", TINY["edge_guided"]), (32, 64), batch=2)
    text = description.table()
    for expected in (
        "stack.0",
        "gradient.stack",
        "receptive field  ",
        f"{description.parameters:,}",
        "frozen",
    ):
        assert expected in text
    assert json.loads(json.dumps(description.to_json()))["rows"][0]["kind"] == "Conv2d"


def test_the_model_described_is_left_alone() -> None:
    model = build("plain_cnn", TINY["plain_cnn"]).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    describe(model, (32, 64))
    assert not model.training
    assert not any(module._forward_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
