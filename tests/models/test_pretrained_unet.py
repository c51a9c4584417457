"""The pretrained U-Net: metres that follow the focal length, and rays that follow the camera."""

from __future__ import annotations

import math

import pytest
import torch

from fathom.errors import UsageError
from fathom.models import PretrainedUNet
from fathom.models.pretrained_unet import rays

CONFIG = PretrainedUNet.Config(encoder="efficientnet_lite0", widths=(8, 8, 8, 8), context=8)


@pytest.fixture(scope="module")
def model() -> PretrainedUNet:
    torch.manual_seed(0)
    network = PretrainedUNet(CONFIG).eval()
    torch.nn.init.normal_(network.output.weight, std=0.3)
    return network


def test_the_full_network_fits_the_wheel() -> None:
    with torch.device("meta"):
        network = PretrainedUNet()
    assert 5e6 < sum(p.numel() for p in network.parameters()) < 7e6  # 15 MB are 7.5 million of two bytes


def test_no_camera_is_the_canonical_camera(model: PretrainedUNet) -> None:
    image = torch.rand(2, 3, 64, 96)
    focal = CONFIG.canonical_focal
    camera = torch.tensor([focal, focal, 48.0, 32.0]).expand(2, 4)
    torch.testing.assert_close(model(image), model(image, camera))
    partly = camera.clone()
    partly[1] = torch.nan
    torch.testing.assert_close(model(image), model(image, partly))


def test_metres_are_canonical_depth_times_the_relative_focal_length(model: PretrainedUNet) -> None:
    image = torch.rand(1, 3, 64, 96)
    camera = torch.tensor([[70.0, 80.0, 50.0, 30.0]])
    canonical = CONFIG.typical_depth * model.log_canonical(image, camera).exp()
    relative = math.sqrt(70 * 80) / CONFIG.canonical_focal
    torch.testing.assert_close(model(image, camera), canonical * relative)


def test_rays_go_through_the_centres_of_the_cells() -> None:
    camera = torch.tensor([[10.0, 20.0, 16.0, 8.0], [5.0, 5.0, 0.0, 0.0]])
    found = rays(camera, (16, 32), 8)
    assert found.shape == (2, 2, 2, 4)
    torch.testing.assert_close(found[0, 0, 0], (torch.tensor([4.0, 12, 20, 28]) - 16) / 10)
    torch.testing.assert_close(found[0, 1, :, 0], (torch.tensor([4.0, 12]) - 8) / 20)
    torch.testing.assert_close(found[1, 0, 0], torch.tensor([4.0, 12, 20, 28]) / 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": "efficientnet_lite1"}, "no encoder 'efficientnet_lite1'.*did you mean"),
        ({"widths": (8, 8)}, "four widths"),
        ({"drop_path": 1.0}, "probability below 1"),
        ({"canonical_focal": 0.936}, "in pixels of the network's input"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PretrainedUNet.Config(**values)  # type: ignore[arg-type]
