"""The autoencoder has the published size and shape, and reconstructs in [0, 1]."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fathom.errors import UsageError
from fathom.models import Autoencoder
from fathom.models.layers import ResidualBlock


def parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def tiny(**settings: int) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(Autoencoder.Config(width=8, **settings))


def test_full_size_has_the_published_parameter_counts() -> None:
    with torch.device("meta"):
        model = Autoencoder(Autoencoder.Config(k=8192))
    encoder, decoder = parameters(model.encoder, model.code), parameters(model.decoder)
    assert round(encoder / 1e6, 1) == 53.8
    assert round(decoder / 1e6, 1) == 43.8


def test_the_code_of_a_256_pixel_image_is_ten_channels_of_32() -> None:
    with torch.device("meta"):
        code = Autoencoder().encode(torch.empty(1, 3, 256, 256))
    assert code.shape == (1, 10, 32, 32)


@pytest.mark.parametrize("kernels", [(3, 3, 3, 1), (1, 3, 3, 3)])
@pytest.mark.parametrize("outputs", [16, 8])
def test_a_block_is_skip_plus_gained_branch(kernels: tuple[int, ...], outputs: int) -> None:
    block = ResidualBlock(8, outputs, kernels, gain=1 / 64)
    x = torch.randn(2, 8, 5, 6)
    branch = x
    convolutions = [layer for layer in block.branch if isinstance(layer, nn.Conv2d)]
    assert [layer.kernel_size[0] for layer in convolutions] == list(kernels)
    assert [layer.out_channels for layer in convolutions] == [outputs // 4] * 3 + [outputs]
    for layer in convolutions:
        branch = F.conv2d(branch.relu(), layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)
    skip = x if outputs == 8 else F.conv2d(x, block.skip.weight, block.skip.bias)
    torch.testing.assert_close(block(x), skip + branch / 64)


def test_the_gain_is_one_over_the_square_of_the_number_of_blocks() -> None:
    model = tiny()
    gains = {block.gain for block in model.modules() if isinstance(block, ResidualBlock)}
    assert gains == {1 / 64}


def test_weights_start_normal_by_fan_in_and_biases_at_zero() -> None:
    torch.manual_seed(0)
    model = Autoencoder(Autoencoder.Config(width=64))
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is not None and (layer.bias == 0).all()
            if layer.weight.numel() > 4000:
                fan_in = layer.weight[0].numel()
                assert float(layer.weight.detach().std()) == pytest.approx(1 / math.sqrt(fan_in), rel=0.05)


def test_reconstruction_has_the_size_of_the_image_and_lies_in_range() -> None:
    model = tiny()
    for size in ((16, 24), (17, 30)):
        image = torch.rand(2, 3, *size)
        assert model.eval()(image).shape == image.shape
        assert model.encode(image).shape == (2, 10, math.ceil(size[0] / 8), math.ceil(size[1] / 8))
    nn.init.constant_(model.decoder["output"][1].bias, 50.0)
    assert float(model(image).detach().max()) == 1.0
    # A clamped pixel would have no gradient in training.
    assert float(model.train()(image).detach().max()) > 1.1


def test_groups_set_the_stride() -> None:
    model = tiny(groups=3)
    assert model.stride == 4
    assert model.encode(torch.rand(1, 3, 12, 8)).shape[-2:] == (3, 2)


def test_learns_to_reconstruct_a_picture() -> None:
    torch.manual_seed(0)
    model = Autoencoder(Autoencoder.Config(width=16, groups=2, blocks=1, bottleneck=16))
    ramp = torch.linspace(0, 1, 16)
    image = torch.stack([ramp.expand(16, 16), ramp[:, None].expand(16, 16), torch.full((16, 16), 0.3)])[None]
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(120):
        loss = (model(image) - image).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    flat = (image - image.mean((2, 3), keepdim=True)).abs().mean()
    assert float(loss.detach()) < 0.25 * float(flat)


def test_an_image_smaller_than_the_stride_is_refused() -> None:
    with pytest.raises(UsageError, match="7x40 pixels is smaller than the network's stride of 8"):
        tiny()(torch.rand(1, 3, 7, 40))


@pytest.mark.parametrize("settings", [{"k": 0}, {"groups": 0}, {"blocks": 0}])
def test_settings_that_cannot_be_built_are_refused(settings: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        Autoencoder.Config(**settings)
    with pytest.raises(UsageError, match="multiple of 4"):
        Autoencoder.Config(width=30)
