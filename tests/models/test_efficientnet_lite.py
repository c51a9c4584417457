"""EfficientNet-Lite: its architecture by counted parameters, its padding, and batch normalisation folded exactly."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fathom.models.efficientnet_lite import (
    BN_EPSILON,
    EfficientNetLite,
    InvertedResidual,
    SameConv,
    fold,
    stochastic_depth,
)


@pytest.mark.parametrize(
    ("name", "widths", "blocks"),
    [("efficientnet_lite0", (16, 24, 40, 112, 320), 16), ("efficientnet_lite2", (16, 24, 48, 120, 352), 21)],
)
def test_widths_strides_and_blocks_are_those_of_the_published_network(
    name: str, widths: tuple[int, ...], blocks: int
) -> None:
    with torch.device("meta"):
        encoder = EfficientNetLite(name)
        maps = encoder(torch.empty(1, 3, 64, 96))
    assert encoder.widths == widths
    assert [tuple(m.shape[1:]) for m in maps] == [(w, 64 >> i, 96 >> i) for i, w in enumerate(widths, start=1)]
    assert sum(isinstance(module, InvertedResidual) for module in encoder.modules()) == blocks


@pytest.mark.parametrize("size", [(8, 8), (9, 7)])
@pytest.mark.parametrize("kernel", [3, 5])
def test_a_strided_window_reaches_further_down_and_right(kernel: int, size: tuple[int, int]) -> None:
    # TensorFlow: the output has ceil(n / 2) cells and the odd pixel of padding stands at the end.
    layer = SameConv(1, 1, kernel, stride=2)
    image = torch.rand(1, 1, *size)
    before = [((-(-n // 2) - 1) * 2 + kernel - n) // 2 for n in size]
    padded = F.pad(image, (before[1], kernel, before[0], kernel))
    expected = F.conv2d(padded, layer.weight, layer.bias, stride=2)[..., : -(-size[0] // 2), : -(-size[1] // 2)]
    torch.testing.assert_close(layer(image), expected)


def imagenet_tensors(encoder: EfficientNetLite) -> tuple[dict[str, torch.Tensor], dict[str, nn.BatchNorm2d]]:
    """Random weights in the published names, and the batch normalisations by their names."""
    tensors, norms = {}, {}

    def add(convolution: nn.Conv2d, name: str, norm: str) -> None:
        tensors[f"{name}.weight"] = torch.randn_like(convolution.weight) * 0.2
        layer = nn.BatchNorm2d(convolution.out_channels, eps=BN_EPSILON).eval()
        for key in ("weight", "bias", "running_mean", "running_var"):
            values = torch.rand(convolution.out_channels) + 0.5
            getattr(layer, key).data.copy_(values)
            tensors[f"{norm}.{key}"] = values
        norms[norm] = layer

    add(encoder.stem, "_conv_stem", "_bn0")
    for i, block in enumerate(b for stage in encoder.stages for b in stage):
        if block.expand is not None:
            add(block.expand, f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        add(block.depthwise, f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        add(block.project, f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    return tensors, norms


def test_every_published_tensor_is_read_and_the_first_map_equals_the_unfolded_layers() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetLite("efficientnet_lite0")
    tensors, norms = imagenet_tensors(encoder)
    read: set[str] = set()

    class Recorded(dict[str, torch.Tensor]):
        def __getitem__(self, key: str) -> torch.Tensor:
            read.add(key)
            return super().__getitem__(key)

    encoder.load_imagenet(Recorded(tensors))
    assert read == tensors.keys()
    image = torch.rand(1, 3, 32, 64)
    x = F.pad((image * 255 - 127) / 128, (0, 1, 0, 1))
    x = F.relu6(norms["_bn0"](F.conv2d(x, tensors["_conv_stem.weight"], stride=2)))
    depthwise = F.conv2d(x, tensors["_blocks.0._depthwise_conv.weight"], padding=1, groups=32)
    x = F.relu6(norms["_blocks.0._bn1"](depthwise))
    x = norms["_blocks.0._bn2"](F.conv2d(x, tensors["_blocks.0._project_conv.weight"]))
    torch.testing.assert_close(encoder(image)[0], x, atol=1e-4, rtol=1e-4)


def test_a_folded_convolution_is_the_convolution_and_its_normalisation() -> None:
    torch.manual_seed(0)
    plain, norm = nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5, eps=BN_EPSILON).eval()
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    norm.running_mean = torch.randn(5)
    norm.running_var = torch.rand(5) + 0.1
    tensors = {"c.weight": plain.weight, **{f"n.{key}": value for key, value in norm.state_dict().items()}}
    folded = nn.Conv2d(3, 5, 3)
    fold(folded, tensors, "c", "n")
    image = torch.rand(2, 3, 8, 8)
    torch.testing.assert_close(folded(image), norm(plain(image)), atol=1e-5, rtol=1e-5)


def test_stochastic_depth_leaves_branches_out_and_keeps_their_mean() -> None:
    torch.manual_seed(0)
    out = stochastic_depth(torch.ones(4000, 1, 1, 1), 0.25)
    assert out.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(out.mean()) == pytest.approx(1, abs=0.03)


def test_stochastic_depth_grows_with_the_block_and_acts_in_training_alone() -> None:
    torch.manual_seed(0)
    encoder = EfficientNetLite("efficientnet_lite0", drop_path=0.3)
    rates = [block.drop_path for block in encoder.modules() if isinstance(block, InvertedResidual)]
    assert rates[0] == 0 and rates[-1] == pytest.approx(0.3) and rates == sorted(rates)
    image = torch.rand(2, 3, 32, 32)
    plain = EfficientNetLite("efficientnet_lite0")
    plain.load_state_dict(encoder.state_dict())
    expected = plain.eval()(image)[-1]
    torch.testing.assert_close(encoder.eval()(image)[-1], expected)
    assert not torch.allclose(encoder.train()(image)[-1], expected)
