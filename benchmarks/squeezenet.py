"""SqueezeNet 1.1 (Iandola et al. 2016) without its classifier, as a factory for `module:`.

fathom probe DATA -e "module:benchmarks/squeezenet.py:imagenet?weights=FILE"

Reads the maps after fire3, fire5, fire7 and fire9 (128, 256, 384 and 512 channels at strides 4, 8, 16 and 16).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WIDTHS = {2: (16, 64), 3: (16, 64), 4: (32, 128), 5: (32, 128), 6: (48, 192), 7: (48, 192), 8: (64, 256), 9: (64, 256)}
"""Channels of each fire module: of its squeeze, and of each of its two expansions."""

MEAN_BGR = (103.939, 116.779, 123.68)


class Fire(nn.Module):
    """Squeeze by 1x1, expand by 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    """The convolutional part."""

    probe_layers = ("fire3", "fire5", "fire7", "fire9")

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        channels = 64
        for index, (squeeze, expand) in WIDTHS.items():
            self.add_module(f"fire{index}", Fire(channels, squeeze, expand))
            channels = 2 * expand
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x).relu())
        for index in WIDTHS:
            x = self.get_submodule(f"fire{index}")(x)
            if index in (3, 5):
                x = self.pool(x)
        return x


def preprocess(images: Tensor) -> Tensor:
    """RGB in [0, 1] to BGR in 0 ... 255, less the mean of ImageNet."""
    return images.flip(1) * 255 - images.new_tensor(MEAN_BGR)[:, None, None]


def imagenet(weights: str) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """With the weights of a safetensors file whose keys are those of this module."""
    network = SqueezeNet()
    network.load_state_dict(load_file(weights))
    return network, preprocess
