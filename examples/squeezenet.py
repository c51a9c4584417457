"""SqueezeNet 1.1 without its classifier (Iandola et al. 2016), an example of the ``module:`` route:

fathom probe DATA --encoder "module:examples/squeezenet.py:squeezenet?weights=squeezenet1_1-imagenet.safetensors"
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


class Fire(nn.Module):
    """Squeeze to few channels, expand by 1x1 and 3x3 side by side."""

    def __init__(self, channels: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze1x1 = nn.Conv2d(channels, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze1x1(x).relu()
        return torch.cat([self.expand1x1(x).relu(), self.expand3x3(x).relu()], 1)


class SqueezeNet(nn.Module):
    """Stem and eight fire modules; max-pooling after the stem, fire3 and fire5."""

    probe_layers = ("fire3", "fire5", "fire7", "fire9")

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 3, stride=2)
        self.fire2, self.fire3 = Fire(64, 16, 64), Fire(128, 16, 64)
        self.fire4, self.fire5 = Fire(128, 32, 128), Fire(256, 32, 128)
        self.fire6, self.fire7 = Fire(256, 48, 192), Fire(384, 48, 192)
        self.fire8, self.fire9 = Fire(384, 64, 256), Fire(512, 64, 256)
        self.pool = nn.MaxPool2d(3, 2)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Normal with variance 2 / fan-in, no bias. Random controls use it too."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def preprocess(self, images: Tensor) -> Tensor:
        """RGB in [0, 1] to BGR in 0..255 less the mean of the training images."""
        mean = torch.tensor([103.939, 116.779, 123.68], device=images.device)[:, None, None]
        return images.flip(1) * 255 - mean

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.conv1(x).relu())
        x = self.pool(self.fire3(self.fire2(x)))
        x = self.pool(self.fire5(self.fire4(x)))
        x = self.fire7(self.fire6(x))
        return self.fire9(self.fire8(x))


def squeezenet(weights: str | None = None) -> SqueezeNet:
    """SqueezeNet with the weights of a safetensors file, or freshly initialised."""
    network = SqueezeNet()
    if weights:
        from safetensors.torch import load_file

        network.load_state_dict(load_file(Path(weights)))
    return network
