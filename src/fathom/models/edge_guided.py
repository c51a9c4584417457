"""Edge-guided depth: a network that learns the edges of the depth map guides one that learns the depth.

Three networks of one plain shape (eight 3x3 layers, the seventh a transposed convolution): `PlainCNN` learns
depth from the image alone; `GradientNetwork` learns the Sobel edges of the depth map; `FinetuneNetwork`
learns depth from the image and from the gradient network's prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.models.layers import Output, metres
from fathom.models.network import Box, Network
from fathom.models.receptive_field import Step, Transposed, Window
from fathom.models.residual_cnn import check_output
from fathom.sample import Grid

Activation = Literal["relu", "tanh"]
Padding = Literal["same", "none"]
Edges = Literal["magnitude", "xy"]
FILTERS = (50, 80, 120, 120, 80, 50, 50)


def plain_layers(
    inputs: int,
    filters: tuple[int, ...],
    outputs: int,
    activation: Activation,
    padding: Padding,
    guides: int = 0,
) -> nn.ModuleList:
    """A 3x3 layer for each of `filters`, the last of them transposed, then a 3x3 convolution to `outputs`.

    Each but the last is followed by batch normalisation and the activation. The second takes `guides`
    channels more.
    """
    pad = 1 if padding == "same" else 0
    layers = nn.ModuleList()
    for i, width in enumerate(filters):
        kind = nn.ConvTranspose2d if i == len(filters) - 1 else nn.Conv2d
        convolution = kind(inputs + (guides if i == 1 else 0), width, 3, padding=pad, bias=False)
        act = nn.ReLU() if activation == "relu" else nn.Tanh()
        layers.append(nn.Sequential(convolution, nn.BatchNorm2d(width), act))
        inputs = width
    layers.append(nn.Conv2d(inputs, outputs, 3, padding=pad))
    return layers


def plain_path(filters: tuple[int, ...], padding: Padding) -> list[tuple[str, list[Step]]]:
    """The stages of `plain_layers`."""
    pad, transposed = (1 if padding == "same" else 0), len(filters)
    stages: list[tuple[str, list[Step]]] = []
    for i in range(1, len(filters) + 2):
        step: Step = Transposed(3, 1, pad) if i == transposed else Window(3, 1, pad)
        stages.append((f"layer_{i}", [step]))
    return stages


def margin(filters: tuple[int, ...], padding: Padding) -> int:
    """Pixels lost on each side: one for each convolution without padding; the transposed one returns one."""
    return len(filters) - 1 if padding == "none" else 0


def centre(size: Grid, lost: int) -> Box:
    """The box within `size` that remains when `lost` pixels go on each side."""
    height, width = size[0] - 2 * lost, size[1] - 2 * lost
    if min(height, width) < 1:
        raise UsageError(
            f"An image of {size[0]}x{size[1]} pixels is too small: without padding the network loses {lost} "
            'pixels on each side; use larger images or padding = "same".'
        )
    return lost, lost, height, width


def _check(filters: tuple[int, ...], activation: str, padding: str) -> None:
    if len(filters) < 2 or min(filters) < 1:
        raise UsageError(f"An edge-guided network needs two or more positive filters, not {filters}.")
    for value, choices in ((activation, get_args(Activation)), (padding, get_args(Padding))):
        if value not in choices:
            raise UsageError(f"'{value}' is not one of {', '.join(choices)}.")


class PlainCNN(Network):
    """Image -> depth in metres: the network without guidance. Borders are lost with ``padding = "none"``."""

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: eight layers.

        Attributes:
            filters: channels of each layer before the output.
            activation: ``"relu"`` or ``"tanh"``.
            padding: ``"same"`` keeps the size; ``"none"`` loses a pixel on each side at every convolution.
            output: how the last activation becomes metres: see `fathom.models.layers.metres`.
            typical_depth: metres predicted where the last activation is 0.
        """

        filters: tuple[int, ...] = FILTERS
        activation: Activation = "relu"
        padding: Padding = "same"
        output: Output = "linear"
        typical_depth: float = 2.5

        def __post_init__(self) -> None:
            _check(self.filters, self.activation, self.padding)
            check_output(self.output, self.typical_depth)

    predicts = "depth"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or PlainCNN.Config()
        self.stages = plain_layers(3, config.filters, 1, config.activation, config.padding)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Depth in metres of the part `output_crop` of the image."""
        self.output_crop((image.shape[-2], image.shape[-1]))
        x = image * 2 - 1
        for stage in self.stages:
            x = self._run(stage, x)
        return metres(x, self.config.output, self.config.typical_depth)

    def output_crop(self, size: Grid) -> Box:
        return centre(size, margin(self.config.filters, self.config.padding))

    def layers(self) -> dict[str, nn.Module]:
        return {f"layer_{i + 1}": stage for i, stage in enumerate(self.stages)}

    def path(self) -> list[tuple[str, list[Step]]]:
        return plain_path(self.config.filters, self.config.padding)


class GradientNetwork(Network):
    """Image -> Sobel edges of the depth map (`fathom.sobel`), in metres per pixel."""

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: eight layers, one channel.

        Attributes:
            filters, activation, padding: as for `PlainCNN`.
            edges: ``"magnitude"``, one channel, or ``"xy"``, the derivatives along x and y.
        """

        filters: tuple[int, ...] = FILTERS
        activation: Activation = "relu"
        padding: Padding = "same"
        edges: Edges = "magnitude"

        def __post_init__(self) -> None:
            _check(self.filters, self.activation, self.padding)
            if self.edges not in get_args(Edges):
                raise UsageError(
                    f"The edges must be one of {', '.join(get_args(Edges))}, not '{self.edges}'."
                )

    predicts = "depth_edges"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or GradientNetwork.Config()
        self.output_channels = 1 if config.edges == "magnitude" else 2
        self.stages = plain_layers(3, config.filters, self.output_channels, config.activation, config.padding)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Edges of the part `output_crop` of the image."""
        self.output_crop((image.shape[-2], image.shape[-1]))
        x = image * 2 - 1
        for stage in self.stages:
            x = self._run(stage, x)
        return x

    def output_crop(self, size: Grid) -> Box:
        return centre(size, margin(self.config.filters, self.config.padding))

    def layers(self) -> dict[str, nn.Module]:
        return {f"layer_{i + 1}": stage for i, stage in enumerate(self.stages)}

    def path(self) -> list[tuple[str, list[Step]]]:
        return plain_path(self.config.filters, self.config.padding)


class FinetuneNetwork(Network):
    """Image -> depth in metres, guided: the second layer sees predicted edges beside the image.

    `gradient` is the `GradientNetwork`; load a trained one's weights into it before training. Frozen, it
    stays in evaluation mode, so that its batch statistics do not move either.
    """

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: eight layers, guided by a frozen gradient network of eight layers.

        Attributes:
            filters, activation, padding, output, typical_depth: as for `PlainCNN`; activation and padding are
                those of the gradient network too.
            gradient_filters: filters of the gradient network.
            gradient_edges: what the gradient network predicts.
            freeze_gradient: leave the gradient network as it is.
        """

        filters: tuple[int, ...] = FILTERS
        activation: Activation = "relu"
        padding: Padding = "same"
        output: Output = "linear"
        typical_depth: float = 2.5
        gradient_filters: tuple[int, ...] = FILTERS
        gradient_edges: Edges = "magnitude"
        freeze_gradient: bool = True

        def __post_init__(self) -> None:
            _check(self.filters, self.activation, self.padding)
            check_output(self.output, self.typical_depth)
            self.gradient()

        def gradient(self) -> GradientNetwork.Config:
            """The configuration of the gradient network inside."""
            return GradientNetwork.Config(
                self.gradient_filters, self.activation, self.padding, self.gradient_edges
            )

    predicts = "depth"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or FinetuneNetwork.Config()
        self.gradient = GradientNetwork(config.gradient())
        guides = self.gradient.output_channels
        self.stages = plain_layers(3, config.filters, 1, config.activation, config.padding, guides)
        if config.freeze_gradient:
            self.gradient.requires_grad_(False)
            self.gradient.eval()

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self.config.freeze_gradient:
            self.gradient.eval()
        return self

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Depth in metres of the part `output_crop` of the image."""
        self.output_crop((image.shape[-2], image.shape[-1]))
        self.gradient.checkpointing = self.checkpointing
        edges = self.gradient(image)
        x = self._run(self.stages[0], image * 2 - 1)
        x = torch.cat([_centred(x, self._common(image)), _centred(edges, self._common(image))], dim=1)
        for stage in self.stages[1:]:
            x = self._run(stage, x)
        return metres(x, self.config.output, self.config.typical_depth)

    def _common(self, image: Tensor) -> Grid:
        """The size that both the first layer's output and the edges have, or can be cropped to."""
        lost = self._guide_margin()
        return image.shape[-2] - 2 * lost, image.shape[-1] - 2 * lost

    def _guide_margin(self) -> int:
        first = 1 if self.config.padding == "none" else 0
        return max(first, margin(self.config.gradient_filters, self.config.padding))

    def output_crop(self, size: Grid) -> Box:
        # After the first layer there is one convolution less to lose a pixel.
        rest = margin(self.config.filters, self.config.padding) - (1 if self.config.padding == "none" else 0)
        return centre(size, self._guide_margin() + rest)

    def layers(self) -> dict[str, nn.Module]:
        own = {f"layer_{i + 1}": stage for i, stage in enumerate(self.stages)}
        return {**{f"gradient_{name}": layer for name, layer in self.gradient.layers().items()}, **own}

    def path(self) -> list[tuple[str, list[Step]]]:
        # The widest path: through the gradient network, then from the second layer on.
        gradient = [(f"gradient_{name}", steps) for name, steps in self.gradient.path()]
        return [*gradient, *plain_path(self.config.filters, self.config.padding)[1:]]


def _centred(x: Float[Tensor, "B C H W"], size: Grid) -> Float[Tensor, "B C h w"]:
    """The middle of `x`, of `size`."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]
