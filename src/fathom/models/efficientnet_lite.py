"""EfficientNet-Lite as a feature pyramid: the mobile networks of Tan and Le 2019 without squeeze-excitation.

The architecture is that of Google's ``efficientnet/lite``: MobileNet-v2 blocks, ReLU6, TensorFlow's "same" padding. Batch
normalisation is folded into the convolutions when ImageNet weights are read (`fold`): a fine-tuned encoder keeps the statistics
it came with, which small batches would only disturb, and a training step loses a third of its passes over memory.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.models.receptive_field import Step, Window, same

SCALES: dict[str, tuple[float, float]] = {"efficientnet_lite0": (1.0, 1.0), "efficientnet_lite2": (1.1, 1.2)}
"""Width and depth factors of each variant."""

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride of the first block, expansion and width of each stage of Lite0."""

STEM = 32
PYRAMID = (0, 1, 2, 4, 6)
"""The last stage at each of the strides 2, 4, 8, 16 and 32."""

BN_EPSILON = 1e-3


class SameConv(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: where it is odd, bottom and right get the additional pixel."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        even = stride == 1
        super().__init__(inputs, outputs, kernel, stride, padding=kernel // 2 if even else 0, groups=groups)
        self.even = even

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d h w"]:
        if not self.even:
            kernel, stride = self.kernel_size[0], self.stride[0]
            (top, bottom), (left, right) = (_same_padding(length, kernel, stride) for length in x.shape[-2:])
            x = F.pad(x, (left, right, top, bottom))
        filtered: Tensor = super().forward(x)
        return filtered


def _same_padding(length: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max((-(-length // stride) - 1) * stride + kernel - length, 0)
    return total // 2, total - total // 2


class InvertedResidual(nn.Module):
    """Expand by a 1x1 convolution, filter each channel, project; added to the input where the shapes agree."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, ratio: int) -> None:
        super().__init__()
        hidden = inputs * ratio
        self.expand = SameConv(inputs, hidden, 1) if ratio != 1 else None
        self.depthwise = SameConv(hidden, hidden, kernel, stride, groups=hidden)
        self.project = SameConv(hidden, outputs, 1)
        self.residual = stride == 1 and inputs == outputs
        self.drop_path = 0.0

    def forward(self, x: Float[Tensor, "B c H W"]) -> Float[Tensor, "B d h w"]:
        y = x if self.expand is None else F.relu6(self.expand(x))
        projected: Tensor = self.project(F.relu6(self.depthwise(y)))
        if not self.residual:
            return projected
        return x + (stochastic_depth(projected, self.drop_path) if self.training and self.drop_path else projected)


def stochastic_depth(branch: Float[Tensor, "B c h w"], rate: float) -> Float[Tensor, "B c h w"]:
    """The branch of a random `rate` of the images set to 0, and the others' divided by 1 - `rate` (Huang et al. 2016)."""
    kept = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= rate
    return branch * (kept / (1 - rate)).to(branch.dtype)


class EfficientNetLite(nn.Module):
    """Images in [0, 1] -> the last feature map at each of the strides 2, 4, 8, 16 and 32.

    Attributes:
        widths: channels of the five maps.
    """

    stride = 32

    def __init__(self, name: str, drop_path: float = 0.0) -> None:
        super().__init__()
        width_factor, depth_factor = SCALES[name]
        self.stem = SameConv(3, STEM, 3, 2)
        self.stages = nn.ModuleList()
        inputs, ends, self.kernels = STEM, [], list[list[tuple[int, int]]]()
        for i, (repeats, kernel, stride, ratio, width) in enumerate(STAGES):
            outputs = _to_eight(width * width_factor)
            count = repeats if i in (0, len(STAGES) - 1) else math.ceil(repeats * depth_factor)
            blocks = nn.Sequential()
            for j in range(count):
                blocks.append(InvertedResidual(inputs, outputs, kernel, stride if j == 0 else 1, ratio))
                inputs = outputs
            self.stages.append(blocks)
            self.kernels.append([(kernel, stride if j == 0 else 1) for j in range(count)])
            ends.append(outputs)
        self.widths = tuple(ends[i] for i in PYRAMID)
        blocks_in_order = [block for block in self.modules() if isinstance(block, InvertedResidual)]
        for i, block in enumerate(blocks_in_order):
            block.drop_path = drop_path * i / (len(blocks_in_order) - 1)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        """The five maps, from stride 2 to stride 32, for a size that 32 divides."""
        x = F.relu6(self.stem(image * (255 / 128) - 127 / 128))
        maps = []
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i in PYRAMID:
                maps.append(x)
        return maps

    def path(self) -> list[tuple[str, list[Step]]]:
        """The convolutions down to stride 32, one stage after the other, for the receptive field."""
        stages: list[tuple[str, list[Step]]] = [("stem", [Window(3, 2, 0)])]
        for i, kernels in enumerate(self.kernels):
            steps: list[Step] = []
            for kernel, stride in kernels:
                steps += same(kernel) if stride == 1 else [Window(kernel, stride, (kernel - 2) // 2)]
            stages.append((f"stage_{i + 1}", steps))
        return stages

    @torch.no_grad()
    def load_imagenet(self, tensors: Mapping[str, Tensor]) -> None:
        """Fill in ImageNet weights in the names of ``efficientnet_lite_pytorch``, batch normalisation folded."""
        fold(self.stem, tensors, "_conv_stem", "_bn0")
        blocks = (module for module in self.modules() if isinstance(module, InvertedResidual))
        for i, block in enumerate(blocks):
            prefix = f"_blocks.{i}."
            if block.expand is not None:
                fold(block.expand, tensors, f"{prefix}_expand_conv", f"{prefix}_bn0")
            fold(block.depthwise, tensors, f"{prefix}_depthwise_conv", f"{prefix}_bn1")
            fold(block.project, tensors, f"{prefix}_project_conv", f"{prefix}_bn2")


@torch.no_grad()
def fold(convolution: nn.Conv2d, tensors: Mapping[str, Tensor], name: str, norm: str) -> None:
    """``BN(w * x) = (g / s) w * x + (b − g m / s)`` with s = sqrt(variance + epsilon), as one convolution with a bias."""
    scale = tensors[f"{norm}.weight"] / (tensors[f"{norm}.running_var"] + BN_EPSILON).sqrt()
    convolution.weight.copy_(tensors[f"{name}.weight"] * scale.view(-1, 1, 1, 1))
    assert convolution.bias is not None
    convolution.bias.copy_(tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale)


def _to_eight(width: float) -> int:
    """The nearest multiple of 8 that loses at most a tenth, as MobileNet rounds widths."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded
