"""Layers that several networks share."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.models.receptive_field import Step, Window, same

Output = Literal["linear", "softplus", "log"]
OUTPUTS: tuple[Output, ...] = ("linear", "softplus", "log")


class ResidualBlock(nn.Module):
    """``skip(x) + gain · branch(x)``: four convolutions, each after a ReLU, a quarter as wide inside.

    `skip` is a 1x1 convolution where the widths differ and the identity elsewhere. `kernels` are (3, 3, 3, 1)
    in an encoder and (1, 3, 3, 3) in a decoder.
    """

    def __init__(self, inputs: int, outputs: int, kernels: tuple[int, ...], gain: float) -> None:
        super().__init__()
        hidden = outputs // 4
        widths = (inputs, hidden, hidden, hidden, outputs)
        self.gain = gain
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)
        self.branch = nn.Sequential()
        for i, kernel in enumerate(kernels):
            self.branch.append(nn.ReLU())
            self.branch.append(nn.Conv2d(widths[i], widths[i + 1], kernel, padding=kernel // 2))

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        result: Tensor = self.skip(x) + self.gain * self.branch(x)
        return result


class ResidualGroups(nn.ModuleDict):
    """The trunk of the dVAE's encoder: a 7x7 convolution, then groups of blocks, each twice as wide.

    A 2x2 max-pool stands before every group but the first: the output of ``group_i`` has stride 2^(i-1).
    """

    def __init__(self, width: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.groups, self.blocks = groups, blocks
        self.outputs = width * 2 ** (groups - 1)
        gain = 1 / (groups * blocks) ** 2
        self["input"] = nn.Conv2d(3, width, 7, padding=3)
        inputs = width
        for group in range(groups):
            outputs = width * 2**group
            stage = nn.Sequential() if group == 0 else nn.Sequential(nn.MaxPool2d(2))
            for _ in range(blocks):
                stage.append(ResidualBlock(inputs, outputs, (3, 3, 3, 1), gain))
                inputs = outputs
            self[f"group_{group + 1}"] = stage

    def path(self) -> list[tuple[str, list[Step]]]:
        stages = [("input", same(7))]
        for group in range(self.groups):
            pool: list[Step] = [Window(2, 2)] if group else []
            stages.append((f"group_{group + 1}", pool + same(3, 3 * self.blocks)))
        return stages


@torch.no_grad()
def initialise_fan_in(module: nn.Module) -> None:
    """Weights of every convolution in `module` from N(0, 1/(n_in·k²)), biases 0."""
    for layer in module.modules():
        # Without storage there is nothing to draw, and to be told so PyTorch imports its whole compiler: three seconds.
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:
            fan_in = layer.in_channels * layer.kernel_size[0] * layer.kernel_size[1]
            layer.weight.normal_(std=1 / math.sqrt(fan_in))
            if layer.bias is not None:
                layer.bias.zero_()


def full_precision(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """At least float32: at 5 m bfloat16 would step by 3 cm, and an image would lose two of its eight bits."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def metres(raw: Float[Tensor, "*shape"], output: Output, typical: float) -> Float[Tensor, "*shape"]:
    """Depth in metres of a network's last activation, `typical` metres where that is 0.

    ``linear``: typical + raw, which can be negative. ``softplus``: ln(1 + exp(raw + b)), positive, and linear
    from about a metre on. ``log``: typical · exp(raw), so that equal steps are equal ratios; the exponent is
    kept within ±7 (a factor of 1,100), beyond which no gradient flows.
    """
    raw = full_precision(raw)
    if output == "linear":
        return raw + typical
    if output == "softplus":
        return F.softplus(raw + (typical + math.log(-math.expm1(-typical))))
    return typical * raw.clamp(-7, 7).exp()


def check_output(output: str, typical_depth: float) -> None:
    """Raise `UsageError` unless `output` and `typical_depth` can be meant."""
    if output not in OUTPUTS:
        raise UsageError(f"The output must be one of {', '.join(OUTPUTS)}, not '{output}'.")
    if not 0 < typical_depth < float("inf"):
        raise UsageError(f"The typical depth must be a positive number of metres, not {typical_depth}.")
