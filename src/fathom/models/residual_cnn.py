"""The residual CNN: the autoencoder's encoder with a 1x1 convolution to depth, trained with supervision.

It is the supervised upper bound of a probe of the autoencoder: the same architecture, trained on depth.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.models.autoencoder import OFFSET, SCALE
from fathom.models.layers import Output, ResidualGroups, check_output, initialise_fan_in, metres
from fathom.models.network import Network, pad_to_multiple
from fathom.models.receptive_field import Step, same


class ResidualCNN(Network):
    """Image -> depth on a grid of stride 8, the grid of the autoencoder's code.

    Its truth on that grid is the average of the valid depths of each cell (`fathom.grids.masked_average`).
    """

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: the published widths of the encoder.

        Attributes:
            width: channels of the first group; each further group has twice as many.
            groups: groups of blocks; the stride is 2^(groups-1).
            blocks: residual blocks in a group.
            output: how the last activation becomes metres: see `fathom.models.layers.metres`.
            typical_depth: metres predicted where the last activation is 0, as it nearly is before training.
        """

        width: int = 256
        groups: int = 4
        blocks: int = 2
        output: Output = "softplus"
        typical_depth: float = 2.5

        def __post_init__(self) -> None:
            if min(self.groups, self.blocks) < 1:
                raise UsageError("The residual CNN's groups and blocks must be at least 1.")
            if self.width < 4 or self.width % 4:
                raise UsageError(f"The residual CNN's width must be a multiple of 4, not {self.width}.")
            check_output(self.output, self.typical_depth)

    predicts = "depth"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or ResidualCNN.Config()
        self.stride = self.output_stride = 2 ** (config.groups - 1)
        self.encoder = ResidualGroups(config.width, config.groups, config.blocks)
        self.output = nn.Sequential(nn.ReLU(), nn.Conv2d(self.encoder.outputs, 1, 1))
        initialise_fan_in(self)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Depth in metres, h = ceil(H / stride)."""
        x = pad_to_multiple(image, self.stride) * SCALE + OFFSET
        for stage in self.encoder.values():
            x = self._run(stage, x)
        return metres(self.output(x), self.config.output, self.config.typical_depth)

    def layers(self) -> dict[str, nn.Module]:
        return {**dict(self.encoder.items()), "output": self.output}

    def path(self) -> list[tuple[str, list[Step]]]:
        return [*self.encoder.path(), ("output", same(1))]
