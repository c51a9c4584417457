"""The residual CNN is the autoencoder's encoder with another last layer."""

from __future__ import annotations

import pytest
import torch

from fathom.models import Autoencoder, ResidualCNN


def test_its_trunk_takes_the_weights_of_the_autoencoders_encoder() -> None:
    autoencoder = Autoencoder(Autoencoder.Config(width=8))
    model = ResidualCNN(ResidualCNN.Config(width=8))
    model.encoder.load_state_dict(autoencoder.encoder.state_dict())
    image, seen = torch.rand(1, 3, 16, 24), []
    for trunk in (autoencoder.encoder, model.encoder):
        trunk["group_4"].register_forward_hook(lambda _, __, output: seen.append(output))
    autoencoder.encode(image)
    model(image)
    assert torch.equal(*seen)


def test_predicts_on_the_grid_of_the_code() -> None:
    model = ResidualCNN(ResidualCNN.Config(width=8))
    assert model.output_stride == model.stride == 8
    assert model(torch.rand(1, 3, 24, 33)).shape == (1, 1, 3, 5)


@pytest.mark.parametrize("output", ["softplus", "log"])
def test_depth_is_positive(output: str) -> None:
    torch.manual_seed(0)
    model = ResidualCNN(ResidualCNN.Config(width=8, output=output))
    torch.nn.init.constant_(model.output[1].bias, -20.0)
    assert (model(torch.rand(2, 3, 16, 16)) > 0).all()
