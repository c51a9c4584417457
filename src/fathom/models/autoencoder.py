"""The autoencoder: encoder and decoder of the discrete VAE of DALL·E, without the quantisation.

Ramesh et al. 2021, "Zero-Shot Text-to-Image Generation", appendix A: four groups of residual blocks, 2x2
max-pooling on the way down, nearest-neighbour upsampling on the way up. The code has `k` channels at an
eighth of the size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.models.layers import ResidualBlock, ResidualGroups, full_precision, initialise_fan_in
from fathom.models.network import Network, pad_to_multiple
from fathom.models.receptive_field import Step, Upsample, same

# Images enter as 0.8·x + 0.1, so that black and white lie inside the range of the decoder's sigmoid.
SCALE, OFFSET = 0.8, 0.1


class Decoder(nn.ModuleDict):
    """1x1 convolution, groups of residual blocks that halve in width, ReLU and 1x1 to the image.

    Nearest-neighbour upsampling doubles the size before every group but the first.
    """

    def __init__(self, k: int, bottleneck: int, width: int, groups: int, blocks: int) -> None:
        super().__init__()
        gain = 1 / (groups * blocks) ** 2
        self["input"] = nn.Conv2d(k, bottleneck, 1)
        inputs = bottleneck
        for group in range(groups):
            outputs = width * 2 ** (groups - 1 - group)
            stage = nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest")) if group else nn.Sequential()
            for _ in range(blocks):
                stage.append(ResidualBlock(inputs, outputs, (1, 3, 3, 3), gain))
                inputs = outputs
            self[f"group_{group + 1}"] = stage
        self["output"] = nn.Sequential(nn.ReLU(), nn.Conv2d(width, 3, 1))


class Autoencoder(Network):
    """Image -> code of `k` channels on a grid of stride 8 -> image.

    In training mode the reconstruction is left unclamped (it lies in [-0.125, 1.125]), since a clamped pixel
    has no gradient; in evaluation mode it is clamped to [0, 1].
    """

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: the published widths, and a code of 10 channels.

        Attributes:
            k: channels of the code.
            width: channels of the first group; each further group has twice as many.
            groups: groups of blocks; the stride is 2^(groups-1).
            blocks: residual blocks in a group.
            bottleneck: channels of the decoder's first convolution.
        """

        k: int = 10
        width: int = 256
        groups: int = 4
        blocks: int = 2
        bottleneck: int = 128

        def __post_init__(self) -> None:
            if min(self.k, self.groups, self.blocks, self.bottleneck) < 1:
                raise UsageError("The autoencoder's k, groups, blocks and bottleneck must be at least 1.")
            if self.width < 4 or self.width % 4:
                raise UsageError(f"The autoencoder's width must be a multiple of 4, not {self.width}.")

    predicts = "image"
    output_channels = 3
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or Autoencoder.Config()
        self.stride = 2 ** (config.groups - 1)
        self.encoder = ResidualGroups(config.width, config.groups, config.blocks)
        self.code = nn.Sequential(nn.ReLU(), nn.Conv2d(self.encoder.outputs, config.k, 1))
        self.decoder = Decoder(config.k, config.bottleneck, config.width, config.groups, config.blocks)
        initialise_fan_in(self)

    def encode(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B k h w"]:
        """The code of `image`, h = ceil(H / stride). Runs all of `layers`, none of the decoder."""
        x = pad_to_multiple(image, self.stride) * SCALE + OFFSET
        for stage in self.encoder.values():
            x = self._run(stage, x)
        code: Tensor = self.code(x)
        return code

    def decode(self, code: Float[Tensor, "B k h w"]) -> Float[Tensor, "B 3 H W"]:
        """The image of `code`, H = h · stride."""
        x = code
        for stage in self.decoder.values():
            x = self._run(stage, x)
        image = (torch.sigmoid(full_precision(x)) - OFFSET) / SCALE
        return image if self.training else image.clamp(0, 1)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
        """The reconstruction of `image`, of its size."""
        height, width = image.shape[-2:]
        return self.decode(self.encode(image))[..., :height, :width]

    def layers(self) -> dict[str, nn.Module]:
        return {**dict(self.encoder.items()), "code": self.code}

    def path(self) -> list[tuple[str, list[Step]]]:
        stages: list[tuple[str, list[Step]]] = [*self.encoder.path(), ("code", same(1))]
        for i in range(self.config.groups):
            up: list[Step] = [Upsample(2)] if i else []
            stages.append((f"decoder_{i + 1}", up + same(3, 3 * self.config.blocks)))
        return [*stages, ("output", same(1))]
