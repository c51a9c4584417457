"""The U-Net: a pyramid of residual blocks with skip connections, and self-attention at its coarse levels.

Ronneberger et al. 2015 (the pyramid), Vaswani et al. 2017 (attention). Group normalisation, and no batch
normalisation, so that the gradient of a batch is the mean of its images' gradients however it is divided.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.models.layers import Output, check_output, metres
from fathom.models.network import Network, pad_to_multiple
from fathom.models.receptive_field import Step, Upsample, Window, same

NORM_GROUPS = 8


class Block(nn.Module):
    """``skip(x) + conv(act(norm(conv(act(norm(x))))))`` with 3x3 convolutions, GroupNorm and SiLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm_1 = nn.GroupNorm(NORM_GROUPS, inputs)
        self.conv_1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm_2 = nn.GroupNorm(NORM_GROUPS, outputs)
        self.conv_2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B d h w"]:
        y = self.conv_1(F.silu(self.norm_1(x)))
        result: Tensor = self.skip(x) + self.conv_2(F.silu(self.norm_2(y)))
        return result


class Attention(nn.Module):
    """``x + project(attention(norm(x)))`` over all positions of the grid, with several heads.

    The fused kernels of `scaled_dot_product_attention` serve where they exist; they and the plain one agree.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(NORM_GROUPS, channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)

    def forward(self, x: Float[Tensor, "B c h w"]) -> Float[Tensor, "B c h w"]:
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        query, key, value = self.qkv(tokens).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        mixed = F.scaled_dot_product_attention(query, key, value)
        update: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return x + update.transpose(1, 2).reshape(x.shape)


class Level(nn.Sequential):
    """`count` blocks, each followed by attention if `heads` is not 0."""

    def __init__(self, inputs: int, outputs: int, count: int, heads: int) -> None:
        super().__init__()
        for _ in range(count):
            self.append(Block(inputs, outputs))
            if heads:
                self.append(Attention(outputs, heads))
            inputs = outputs


class UNet(Network):
    """Image -> depth in metres, of the same size.

    A size that the stride does not divide is padded and cropped back.
    """

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: about 10 million parameters, made for images of 96x128.

        Attributes:
            widths: channels of each level, finest first; the stride is 2^(levels-1).
            blocks: residual blocks of a level, on each side.
            attention_levels: how many levels have attention, counted from the coarsest.
            head_width: channels of one attention head.
            output: how the last activation becomes metres: see `fathom.models.layers.metres`.
            typical_depth: metres predicted where the last activation is 0.
        """

        widths: tuple[int, ...] = (32, 64, 128, 192, 256)
        blocks: int = 2
        attention_levels: int = 2
        head_width: int = 32
        output: Output = "softplus"
        typical_depth: float = 2.5

        def __post_init__(self) -> None:
            if not self.widths or any(width < 1 or width % NORM_GROUPS for width in self.widths):
                raise UsageError(f"The U-Net's widths must be multiples of {NORM_GROUPS}, not {self.widths}.")
            if self.blocks < 1:
                raise UsageError(f"The U-Net's blocks must be at least 1, not {self.blocks}.")
            if not 0 <= self.attention_levels <= len(self.widths):
                raise UsageError(f"The U-Net has {len(self.widths)} levels; attention_levels is out of that range.")
            attended = self.widths[len(self.widths) - self.attention_levels :]
            if self.head_width < 1 or any(width % self.head_width for width in attended):
                raise UsageError(f"The U-Net's head_width {self.head_width} must divide the widths {attended}.")
            check_output(self.output, self.typical_depth)

        def heads(self, level: int) -> int:
            """Attention heads of `level` (0 is the finest), 0 where it has no attention."""
            return self.widths[level] // self.head_width if level >= len(self.widths) - self.attention_levels else 0

    predicts = "depth"
    global_context = True
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or UNet.Config()
        widths, levels = config.widths, len(config.widths)
        self.stride = 2 ** (levels - 1)
        self.stem = nn.Conv2d(3, widths[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i in range(levels):
            inputs = widths[max(i - 1, 0)]
            if i:
                self.shrink.append(nn.Conv2d(inputs, inputs, 3, stride=2, padding=1))
            self.down.append(Level(inputs, widths[i], config.blocks, config.heads(i)))
        for i in reversed(range(levels - 1)):
            self.grow.append(nn.Conv2d(widths[i + 1], widths[i], 3, padding=1))
            self.up.append(Level(2 * widths[i], widths[i], config.blocks, config.heads(i)))
        self.output = nn.Sequential(
            nn.GroupNorm(NORM_GROUPS, widths[0]), nn.SiLU(), nn.Conv2d(widths[0], 1, 3, padding=1)
        )

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 H W"]:
        """Depth in metres."""
        height, width = image.shape[-2:]
        x: Tensor = self.stem(pad_to_multiple(image, self.stride) * 2 - 1)
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i:
                x = self.shrink[i - 1](x)
            x = self._run(level, x)
            skips.append(x)
        skips.pop()
        for grow, level in zip(self.grow, self.up, strict=True):
            x = grow(F.interpolate(x, scale_factor=2, mode="nearest"))
            x = self._run(level, torch.cat([x, skips.pop()], dim=1))
        depth = metres(self.output(x), self.config.output, self.config.typical_depth)
        return depth[..., :height, :width]

    def layers(self) -> dict[str, nn.Module]:
        levels = len(self.config.widths)
        down = {f"down_{i + 1}": level for i, level in enumerate(self.down)}
        up = {f"up_{levels - 1 - i}": level for i, level in enumerate(self.up)}
        return {"stem": self.stem, **down, **up, "output": self.output}

    def path(self) -> list[tuple[str, list[Step]]]:
        blocks, levels = same(3, 2 * self.config.blocks), len(self.config.widths)
        halve: list[Step] = [Window(3, 2, 1)]
        double: list[Step] = [Upsample(2), *same(3)]
        down = [(f"down_{i + 1}", (halve if i else []) + blocks) for i in range(levels)]
        up = [(f"up_{i + 1}", double + blocks) for i in reversed(range(levels - 1))]
        return [("stem", same(3)), *down, *up, ("output", same(3))]
