"""Receptive fields, counted, against the support of the gradient of one output pixel."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fathom.models import MODELS, Network, build
from fathom.models.receptive_field import Transposed, Upsample, Window, receptive_field, same

SMALL: dict[str, dict[str, Any]] = {
    "autoencoder": {"width": 4, "k": 2, "bottleneck": 2},
    "residual_cnn": {"width": 4, "output": "linear"},
    "unet": {"widths": (8,) * 5, "attention_levels": 0, "output": "linear"},
    "plain_cnn": {"filters": (4,) * 7},
    "gradient": {"filters": (4,) * 7},
    "edge_guided": {"filters": (4,) * 7, "gradient_filters": (4,) * 7},
    "pretrained_unet": {"encoder": "efficientnet_lite0", "widths": (4,) * 4, "context": 4},
}
"""Narrow, and as deep as the full size: the width has no part in the receptive field."""


def averaging(model: Network) -> Network:
    """The same wiring with every weight positive and nothing that stops a gradient or looks beyond its window."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.MaxPool2d):
                setattr(module, name, nn.AvgPool2d(2))
            elif isinstance(child, nn.GroupNorm | nn.BatchNorm2d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.Conv2d | nn.ConvTranspose2d):
                fan_in = child.in_channels * child.kernel_size[0] ** 2
                nn.init.constant_(child.weight, 1 / fan_in)
                if child.bias is not None:
                    nn.init.zeros_(child.bias)
    return model.double().requires_grad_(False).eval()


def support(model: Network, output: Tensor, image: Tensor, column: int) -> int:
    """Columns of the image from the first to the last that `output` at `column` depends on."""
    (gradient,) = torch.autograd.grad(output[..., column].sum(), image, retain_graph=True)
    columns = gradient.abs().sum((0, 1, 2)).nonzero().flatten()
    return int(columns[-1] - columns[0] + 1)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "pretrained_unet"])  # it pools the whole image
def test_equals_the_support_of_the_gradient(name: str) -> None:
    model = averaging(build(name, SMALL[name]))
    width = -(-(model.receptive_field + 2 * model.stride) // model.stride) * model.stride
    # Ones within the positive range of every activation.
    image = torch.ones(1, 3, model.stride * 2, width + width % 2, dtype=torch.float64, requires_grad=True)
    output = model(image)
    middle = output.shape[-1] // 2
    phases = max(model.stride // model.output_stride, 1)
    widest = max(support(model, output, image, middle - phases // 2 + phase) for phase in range(phases))
    assert model.receptive_field == widest


def test_the_field_of_an_encoder_stage_is_the_support_of_its_gradient() -> None:
    model = averaging(build("pretrained_unet", SMALL["pretrained_unet"]))
    image = torch.ones(1, 3, 32, 640, dtype=torch.float64, requires_grad=True)
    for stage, output in zip((1, 2, 3, 5), model.encoder(image), strict=False):
        found = support(model, output, image, output.shape[-1] // 2)
        assert model.receptive_fields()[f"stage_{stage}"] == found


def test_the_groups_of_the_encoder_see_what_is_published() -> None:
    with torch.device("meta"):
        fields = build("autoencoder").receptive_fields()
    assert [fields[f"group_{i}"] for i in (1, 2, 3, 4)] == [19, 44, 94, 194]


@pytest.mark.parametrize("name", MODELS)
def test_every_layer_that_can_be_probed_lies_on_a_path_whose_field_grows(name: str) -> None:
    model = build(name, SMALL[name])
    fields = list(model.receptive_fields().values())
    assert fields == sorted(fields)
    # Of the edge-guided network the widest path goes through the gradient network, around its own first layer.
    assert set(model.layers()) - set(model.receptive_fields()) <= ({"layer_1"} if name == "edge_guided" else set())


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], 1),
        ([Window(7)], 7),
        ([Window(3, 2), Window(3)], 7),
        ([*same(3), Window(2, 2)], 4),
        ([Window(2, 2), Upsample(2)], 2),
        ([Upsample(2), *same(3)], 2),
        ([Transposed(3, 1, 1)], 3),
        ([Transposed(4, 2, 1)], 2),
        ([Transposed(3, 2, 1)], 2),
    ],
)
def test_short_chains_counted_by_hand(steps: list[Any], expected: int) -> None:
    assert receptive_field(steps) == expected
