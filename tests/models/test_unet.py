"""The U-Net: its size, its attention on every kernel, and any image size."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fathom.errors import UsageError
from fathom.models import UNet
from fathom.models.unet import Attention

CONFIG = UNet.Config(widths=(8, 16, 32), blocks=1, attention_levels=2, head_width=8)


def tiny(config: UNet.Config = CONFIG) -> UNet:
    torch.manual_seed(0)
    return UNet(config)


def test_full_size_has_about_ten_million_parameters() -> None:
    with torch.device("meta"):
        model = UNet()
        depth = model(torch.empty(2, 3, 96, 128))
    assert 9e6 < sum(p.numel() for p in model.parameters()) < 11e6
    assert depth.shape == (2, 1, 96, 128)


def test_attention_stands_at_the_coarse_levels_only() -> None:
    with torch.device("meta"):
        model = UNet()
    with_attention = {
        name for name, level in model.layers().items() if any(isinstance(m, Attention) for m in level.modules())
    }
    assert with_attention == {"down_4", "down_5", "up_4"}


def test_attention_is_softmax_of_scaled_products_of_each_head() -> None:
    torch.manual_seed(0)
    layer = Attention(16, heads=2).double()
    x = torch.randn(2, 16, 3, 5, dtype=torch.float64)
    tokens = layer.norm(x).flatten(2).transpose(1, 2)
    query, key, value = (tokens @ layer.qkv.weight.T + layer.qkv.bias).split(16, dim=-1)
    mixed = []
    for head in range(2):
        part = slice(8 * head, 8 * head + 8)
        scores = (query[..., part] @ key[..., part].transpose(1, 2) / math.sqrt(8)).softmax(-1)
        mixed.append(scores @ value[..., part])
    update = torch.cat(mixed, -1) @ layer.project.weight.T + layer.project.bias
    torch.testing.assert_close(layer(x), x + update.transpose(1, 2).reshape(x.shape))


def available(backend: SDPBackend, device: str, dtype: torch.dtype) -> bool:
    query = torch.zeros(1, 2, 8, 8, device=device, dtype=dtype)
    try:
        with sdpa_kernel(backend):
            F.scaled_dot_product_attention(query, query, query)
    except RuntimeError:
        return False
    return True


FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]


@pytest.mark.parametrize("backend", FUSED, ids=lambda backend: backend.name.lower())
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_fused_attention_agrees_with_the_plain_kernel(backend: SDPBackend, device: str) -> None:
    # On a GPU the flash kernel takes half precision alone.
    dtype, tolerance = (torch.float32, 1e-5) if device == "cpu" else (torch.bfloat16, 5e-2)
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    if not available(backend, device, dtype):
        pytest.skip(f"no {backend.name} kernel on {device}")
    image = torch.rand(2, 3, 32, 40, device=device)
    results = []
    for kernel in (SDPBackend.MATH, backend):
        model = tiny().to(device)
        with sdpa_kernel(kernel), torch.autocast(device, dtype, enabled=dtype != torch.float32):
            depth = model(image)
            depth.square().mean().backward()
        results.append((depth.detach(), model.stem.weight.grad))
    torch.testing.assert_close(results[0], results[1], atol=tolerance, rtol=tolerance)


def test_the_flash_kernel_exists_on_the_cpu() -> None:
    # Otherwise the comparison above would be skipped everywhere that tests usually run.
    assert available(SDPBackend.FLASH_ATTENTION, "cpu", torch.float32)


def test_a_size_the_stride_does_not_divide_is_padded_and_cropped_back() -> None:
    model = tiny().eval()
    image = torch.rand(1, 3, 18, 23)
    padded = F.pad(image, (0, 1, 0, 2), mode="replicate")
    assert model(image).shape == (1, 1, 18, 23)
    torch.testing.assert_close(model(image), model(padded)[..., :18, :23])


def test_an_image_does_not_see_the_others_of_its_batch() -> None:
    model = tiny().train()
    images = torch.rand(3, 3, 16, 16)
    together = model(images)
    torch.testing.assert_close(together[1:2], model(images[1:2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("output", ["linear", "softplus", "log"])
def test_every_output_can_be_trained_and_starts_near_the_typical_depth(output: str) -> None:
    config = UNet.Config(widths=(8, 16), blocks=1, attention_levels=1, head_width=8, output=output, typical_depth=4.0)
    model = tiny(config)
    image, target = torch.rand(2, 3, 8, 8), torch.full((2, 1, 8, 8), 1.5)
    first = model(image)
    assert float(first.mean().detach()) == pytest.approx(4.0, abs=1.5)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(40):
        loss = (model(image) - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"widths": (30,)}, "multiples of 8"),
        ({"widths": ()}, "multiples of 8"),
        ({"widths": (8, 24), "head_width": 16}, "must divide"),
        ({"widths": (8,), "attention_levels": 2}, "out of that range"),
        ({"typical_depth": -1.0}, "positive number of metres"),
        ({"blocks": 0}, "at least 1"),
    ],
)
def test_settings_that_cannot_be_built_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        UNet.Config(**{"attention_levels": 1, **settings})
