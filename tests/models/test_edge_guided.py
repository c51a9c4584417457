"""The edge-guided networks: shapes with and without padding, guidance, and freezing."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fathom.errors import UsageError
from fathom.models import EdgeGuidedNetwork, GradientNetwork, Network, PlainCNN, build
from fathom.models.edge_guided import check_plain

FILTERS = (6, 8, 8, 6)
SETTINGS = {
    "plain_cnn": {"filters": FILTERS},
    "gradient": {"filters": FILTERS},
    "edge_guided": {"filters": FILTERS, "gradient_filters": FILTERS},
}


def tiny(name: str, **settings: object) -> Network:
    torch.manual_seed(0)
    return build(name, {**SETTINGS[name], **settings})


def test_eight_layers_with_one_transposed_convolution() -> None:
    model = PlainCNN()
    kinds = [type(layer).__name__ for layer in model.modules() if "Conv" in type(layer).__name__]
    assert kinds == ["Conv2d"] * 6 + ["ConvTranspose2d", "Conv2d"]
    assert model.receptive_field == 17


@pytest.mark.parametrize("name", SETTINGS)
def test_padding_same_keeps_the_size_and_none_loses_the_borders(name: str) -> None:
    image = torch.rand(1, 3, 20, 26)
    assert tiny(name)(image).shape[-2:] == (20, 26)
    model = tiny(name, padding="none", **({"gradient_padding": "none"} if name == "edge_guided" else {}))
    assert model(image).shape[-2:] == model.output_size((20, 26)) == model.output_crop((20, 26))[2:]
    # Five layers: four convolutions lose a pixel on each side, one transposed gives one back. The edge-guided network
    # loses those of the gradient network, then all of its own but the first layer's.
    assert model.output_crop((20, 26))[:2] == ((5, 5) if name == "edge_guided" else (3, 3))


@pytest.mark.parametrize("name", SETTINGS)
def test_without_padding_the_output_is_that_of_its_crop(name: str) -> None:
    padded = tiny(name).eval()
    bare = tiny(name, padding="none", **({"gradient_padding": "none"} if name == "edge_guided" else {})).eval()
    bare.load_state_dict(padded.state_dict())
    image = torch.rand(1, 3, 40, 44)
    top, left, height, width = bare.output_crop((40, 44))
    # Beyond half the receptive field no padding is seen.
    deep = padded.receptive_field // 2
    ours = padded(image)[..., top : top + height, left : left + width]
    inner = (..., slice(deep, -deep), slice(deep, -deep))
    torch.testing.assert_close(bare(image)[inner], ours[inner], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(bare(image), ours, atol=1e-5)


def test_a_padded_network_can_be_guided_by_one_without_padding() -> None:
    model = tiny("edge_guided", gradient_padding="none")
    image = torch.rand(1, 3, 20, 26)
    assert model(image).shape[-2:] == model.output_size((20, 26)) == (14, 20)


def test_an_image_of_which_nothing_would_remain_is_refused() -> None:
    with pytest.raises(UsageError, match="5x30 pixels is too small"):
        tiny("plain_cnn", padding="none")(torch.rand(1, 3, 5, 30))


@pytest.mark.parametrize(("edges", "channels"), [("magnitude", 1), ("xy", 2)])
def test_the_gradient_network_predicts_one_channel_or_two(edges: str, channels: int) -> None:
    model = tiny("gradient", edges=edges)
    assert model.output_channels == channels
    assert model(torch.rand(2, 3, 10, 12)).shape == (2, channels, 10, 12)
    guided = tiny("edge_guided", gradient_edges=edges)
    assert guided.stack[1][0].in_channels == FILTERS[0] + channels
    assert guided(torch.rand(2, 3, 10, 12)).shape == (2, 1, 10, 12)


def test_depth_depends_on_the_predicted_edges() -> None:
    model = tiny("edge_guided").eval()
    image = torch.rand(1, 3, 16, 16)
    before = model(image)
    torch.nn.init.constant_(model.gradient.stack[-1].bias, 3.0)
    assert not torch.allclose(before, model(image), atol=1e-3)


@pytest.mark.parametrize("freeze", [True, False])
def test_a_frozen_gradient_network_does_not_move_and_a_trainable_one_does(freeze: bool) -> None:
    model = tiny("edge_guided", freeze_gradient=freeze).train()
    before = {name: value.clone() for name, value in model.gradient.state_dict().items()}
    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    model(torch.rand(2, 3, 12, 12)).square().mean().backward()
    optimiser.step()
    moved = [name for name, value in model.gradient.state_dict().items() if not torch.equal(value, before[name])]
    assert (moved == []) == freeze
    assert model.training and model.gradient.training != freeze


def test_takes_the_weights_and_configuration_of_a_trained_gradient_network() -> None:
    gradient = GradientNetwork(GradientNetwork.Config(filters=(4, 4), activation="tanh", edges="xy"))
    config = EdgeGuidedNetwork.Config(
        filters=FILTERS, gradient_filters=(4, 4), gradient_activation="tanh", gradient_edges="xy"
    )
    model = EdgeGuidedNetwork(config)
    model.gradient.load_state_dict(gradient.state_dict())
    image = torch.rand(1, 3, 9, 9)
    torch.testing.assert_close(model.eval().gradient(image), gradient.eval()(image))
    assert config.gradient() == gradient.config
    assert replace(config, gradient_activation="relu").gradient() != gradient.config


def test_the_activation_is_a_parameter() -> None:
    image = torch.rand(1, 3, 9, 9)
    outputs = [tiny("plain_cnn", activation=activation)(image) for activation in ("relu", "tanh")]
    assert not torch.allclose(*outputs)


def test_settings_that_cannot_be_built_are_refused() -> None:
    with pytest.raises(UsageError, match="'gelu' is not one of relu, tanh"):
        check_plain((4, 4), "gelu", "same")
    with pytest.raises(UsageError, match="'valid' is not one of same, none"):
        check_plain((4, 4), "relu", "valid")
    for filters in ((4,), (4, 0)):
        with pytest.raises(UsageError, match="two or more positive filters"):
            PlainCNN.Config(filters=filters)
        with pytest.raises(UsageError, match="two or more positive filters"):
            EdgeGuidedNetwork.Config(gradient_filters=filters)
