"""What holds for every network."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from fathom.errors import UsageError
from fathom.models import MODELS, PlainCNN, UNet, build
from fathom.models.layers import check_output, metres

TINY: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 8},
    "residual_cnn": {"width": 8},
    "unet": {"widths": [8, 16, 32], "blocks": 1, "head_width": 8},
    "plain_cnn": {"filters": [6, 6, 6]},
    "gradient": {"filters": [6, 6, 6]},
    "edge_guided": {"filters": [6, 6, 6], "gradient_filters": [6, 6], "freeze_gradient": False},
    "pretrained_unet": {"encoder": "efficientnet_lite0", "widths": [8, 8, 8, 8], "context": 8},
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(32, 64), (35, 70)])
def test_the_prediction_has_the_announced_size_and_channels(name: str, size: tuple[int, int]) -> None:
    model = build(name, TINY[name]).eval()
    output = model(torch.rand(2, 3, *size))
    assert output.shape == (2, model.output_channels, *model.output_size(size))
    assert model.output_size(size) == tuple(-(-side // model.output_stride) for side in size)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_to_probe_gives_a_map_in_one_forward_pass(name: str) -> None:
    model = build(name, TINY[name]).eval()
    seen: dict[str, torch.Size] = {}
    for layer, module in model.layers().items():
        module.register_forward_hook(lambda _, __, output, layer=layer: seen.__setitem__(layer, output.shape))
    encode = getattr(model, "encode", model)
    encode(torch.rand(2, 3, 32, 64))
    assert list(seen) != [] and set(seen) == set(model.layers())
    for shape in seen.values():
        assert shape[0] == 2 and len(shape) == 4
        assert 32 // shape[2] == 64 // shape[3] <= model.stride


@pytest.mark.parametrize("name", MODELS)
def test_checkpointing_changes_no_gradient_and_no_buffer(name: str) -> None:
    image = torch.rand(2, 3, 32, 64)
    states = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        model = build(name, TINY[name]).train()
        model.checkpointing = checkpointing
        output = model(image)
        output.square().mean().backward()
        gradients = {key: p.grad for key, p in model.named_parameters()}
        states.append((output.detach(), gradients, dict(model.named_buffers())))
    assert all(gradient is not None for gradient in states[0][1].values())
    torch.testing.assert_close(states[0], states[1], atol=0, rtol=0)


@pytest.mark.parametrize("name", ["autoencoder", "unet"])
def test_checkpointing_keeps_less(name: str) -> None:
    kept = []
    for checkpointing in (False, True):
        model = build(name, TINY[name])
        model.checkpointing = checkpointing
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, s=sizes: s.append(t.numel()) or t, lambda t: t):
            model(torch.rand(1, 3, 32, 32))
        kept.append(sum(sizes))
    assert kept[1] < kept[0] / 2


def test_metres_start_at_the_typical_depth_and_follow_their_formula() -> None:
    raw = torch.linspace(-3, 3, 7, dtype=torch.float64)
    for output in ("linear", "softplus", "log"):
        assert float(metres(torch.zeros(1, dtype=torch.float64), output, 2.5)) == pytest.approx(2.5)
    torch.testing.assert_close(metres(raw, "linear", 2.5), raw + 2.5)
    torch.testing.assert_close(metres(raw, "log", 2.0), 2 * raw.exp())
    soft = metres(raw, "softplus", 2.5)
    torch.testing.assert_close(
        soft.expm1().log() - raw,
        torch.full_like(raw, float(torch.tensor(2.5, dtype=torch.float64).expm1().log())),
    )
    assert (metres(raw.float() - 100, "softplus", 2.5) >= 0).all()
    assert torch.isfinite(metres(raw.float() + 1e6, "log", 2.5)).all()


@pytest.mark.parametrize("name", MODELS)
def test_the_prediction_is_float32_under_autocast_and_in_either_memory_format(name: str) -> None:
    model = build(name, TINY[name]).eval()
    image = torch.rand(2, 3, 32, 64)
    expected = model(image)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(image)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, expected, atol=0.1, rtol=0.1)
    last = model.to(memory_format=torch.channels_last)(image.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, expected, atol=1e-4, rtol=1e-4)


def test_build_takes_plain_values_a_config_or_nothing() -> None:
    assert build("unet", TINY["unet"]).config == UNet.Config(widths=(8, 16, 32), blocks=1, head_width=8)
    config = PlainCNN.Config(filters=(4, 4))
    assert build("plain_cnn", config).config is config
    with torch.device("meta"):
        assert build("unet").config == UNet.Config()


@pytest.mark.parametrize(
    ("name", "config", "message"),
    [
        ("u-net", None, "did you mean 'unet'"),
        ("unet", {"width": 8}, "no setting 'width' .*did you mean 'widths'"),
        ("unet", PlainCNN.Config(), "belongs to another network"),
    ],
)
def test_what_cannot_be_built_is_refused_by_name(name: str, config: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(name, config)


def test_an_output_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="one of linear, softplus, log, not 'sigmoid'"):
        check_output("sigmoid", 2.5)


@pytest.mark.parametrize("name", ["autoencoder", "residual_cnn"])
def test_weights_without_storage_are_not_drawn(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Loading builds networks so, and PyTorch imports its compiler to draw nothing.
    monkeypatch.setattr(torch.Tensor, "normal_", lambda *given, **more: pytest.fail("weights were drawn"))
    with torch.device("meta"):
        assert all(weight.is_meta for weight in build(name, TINY[name]).parameters())
