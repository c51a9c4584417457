"""Edge-guided depth: a network that learns the edges of the depth map guides one that learns the depth.

Three networks of one plain shape (eight 3x3 layers, the seventh a transposed convolution): `PlainCNN` learns
depth from the image alone; `GradientNetwork` learns the Sobel edges of the depth map; `EdgeGuidedNetwork`
learns depth from the image and from the gradient network's prediction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.errors import UsageError
from fathom.models.layers import Output, check_output, full_precision, metres
from fathom.models.network import Box, Network
from fathom.models.receptive_field import Step, Transposed, Window
from fathom.sample import Grid

Activation = Literal["relu", "tanh"]
Padding = Literal["same", "none"]
Edges = Literal["magnitude", "xy"]
FILTERS = (50, 80, 120, 120, 80, 50, 50)


class PlainStack(nn.ModuleList):
    """A 3x3 layer for each of `filters`, the last of them transposed, then a 3x3 convolution to `outputs`.

    Every layer but the output is followed by batch normalisation and the activation. The second layer takes
    `guides` channels beside the first layer's output. With ``padding = "none"`` each convolution loses a
    pixel on each side, and the transposed one gives one back.
    """

    def __init__(
        self,
        filters: tuple[int, ...],
        outputs: int,
        activation: Activation,
        padding: Padding,
        guides: int = 0,
    ) -> None:
        super().__init__()
        self.pad = 1 if padding == "same" else 0
        inputs = 3
        for i, width in enumerate(filters):
            kind = nn.ConvTranspose2d if i == len(filters) - 1 else nn.Conv2d
            convolution = kind(inputs + (guides if i == 1 else 0), width, 3, padding=self.pad, bias=False)
            act = nn.ReLU() if activation == "relu" else nn.Tanh()
            self.append(nn.Sequential(convolution, nn.BatchNorm2d(width), act))
            inputs = width
        self.append(nn.Conv2d(inputs, outputs, 3, padding=self.pad))

    @property
    def margin(self) -> int:
        """Pixels lost on each side."""
        return 0 if self.pad else len(self) - 2

    def named(self, prefix: str = "") -> dict[str, nn.Module]:
        return {f"{prefix}layer_{i + 1}": layer for i, layer in enumerate(self)}

    def path(self, prefix: str = "") -> list[tuple[str, list[Step]]]:
        steps: list[Step] = [Window(3, 1, self.pad) for _ in self]
        steps[-2] = Transposed(3, 1, self.pad)
        return [(name, [step]) for name, step in zip(self.named(prefix), steps, strict=True)]


def centre(size: Grid, lost: int) -> Box:
    """The box within `size` that remains when `lost` pixels go on each side."""
    height, width = size[0] - 2 * lost, size[1] - 2 * lost
    if min(height, width) < 1:
        raise UsageError(
            f"An image of {size[0]}x{size[1]} pixels is too small: without padding the network loses {lost} "
            'pixels on each side; use larger images or padding = "same".'
        )
    return lost, lost, height, width


def check_plain(filters: tuple[int, ...], activation: str, padding: str) -> None:
    """Raise `UsageError` unless the settings can be built."""
    if len(filters) < 2 or min(filters) < 1:
        raise UsageError(f"An edge-guided network needs two or more positive filters, not {filters}.")
    for value, choices in ((activation, get_args(Activation)), (padding, get_args(Padding))):
        if value not in choices:
            raise UsageError(f"'{value}' is not one of {', '.join(choices)}.")


class _Plain(Network):
    """A `PlainStack` from image to output."""

    stack: PlainStack

    def _stacked(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        self.output_crop((image.shape[-2], image.shape[-1]))
        x = image * 2 - 1
        for layer in self.stack:
            x = self._run(layer, x)
        return x

    def output_crop(self, size: Grid) -> Box:
        return centre(size, self.stack.margin)

    def layers(self) -> dict[str, nn.Module]:
        return self.stack.named()

    def path(self) -> list[tuple[str, list[Step]]]:
        return self.stack.path()


class PlainCNN(_Plain):
    """Image -> depth in metres: the network without guidance."""

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: eight layers.

        Attributes:
            filters: channels of each layer before the output.
            activation: ``"relu"`` or ``"tanh"``.
            padding: ``"same"`` keeps the size; ``"none"`` loses the borders.
            output: how the last activation becomes metres: see `fathom.models.layers.metres`.
            typical_depth: metres predicted where the last activation is 0.
        """

        filters: tuple[int, ...] = FILTERS
        activation: Activation = "relu"
        padding: Padding = "same"
        output: Output = "linear"
        typical_depth: float = 2.5

        def __post_init__(self) -> None:
            check_plain(self.filters, self.activation, self.padding)
            check_output(self.output, self.typical_depth)

    predicts = "depth"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or PlainCNN.Config()
        self.stack = PlainStack(config.filters, 1, config.activation, config.padding)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Depth in metres of the part `output_crop` of the image."""
        return metres(self._stacked(image), self.config.output, self.config.typical_depth)


class GradientNetwork(_Plain):
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
            check_plain(self.filters, self.activation, self.padding)
            if self.edges not in get_args(Edges):
                raise UsageError(f"'{self.edges}' is not one of {', '.join(get_args(Edges))}.")

    predicts = "depth_edges"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or GradientNetwork.Config()
        self.output_channels = 1 if config.edges == "magnitude" else 2
        self.stack = PlainStack(config.filters, self.output_channels, config.activation, config.padding)

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        """Edges of the part `output_crop` of the image."""
        return full_precision(self._stacked(image))


class EdgeGuidedNetwork(Network):
    """Image -> depth in metres, guided: the second layer sees the predicted edges beside the first's output.

    `gradient` is the `GradientNetwork`; load a trained one's weights into it before training. While it is
    frozen it stays in evaluation mode, so that its batch statistics do not move either.
    """

    @dataclass(frozen=True)
    class Config(Network.Config):
        """Defaults: eight layers, guided by a frozen gradient network of eight layers.

        Attributes:
            filters, activation, padding, output, typical_depth: as for `PlainCNN`.
            gradient_filters, gradient_activation, gradient_padding, gradient_edges: as for `GradientNetwork`.
            freeze_gradient: leave the gradient network as it is.
        """

        filters: tuple[int, ...] = FILTERS
        activation: Activation = "relu"
        padding: Padding = "same"
        output: Output = "linear"
        typical_depth: float = 2.5
        gradient_filters: tuple[int, ...] = FILTERS
        gradient_activation: Activation = "relu"
        gradient_padding: Padding = "same"
        gradient_edges: Edges = "magnitude"
        freeze_gradient: bool = True

        def __post_init__(self) -> None:
            check_plain(self.filters, self.activation, self.padding)
            check_output(self.output, self.typical_depth)
            self.gradient()

        def gradient(self) -> GradientNetwork.Config:
            """The configuration of the gradient network inside."""
            return GradientNetwork.Config(
                self.gradient_filters, self.gradient_activation, self.gradient_padding, self.gradient_edges
            )

    predicts = "depth"
    config: Config

    def __init__(self, config: Config | None = None) -> None:
        super().__init__()
        self.config = config = config or EdgeGuidedNetwork.Config()
        self.gradient = GradientNetwork(config.gradient())
        guides = self.gradient.output_channels
        self.stack = PlainStack(config.filters, 1, config.activation, config.padding, guides)
        # Pixels lost on each side once edges and first layer have one size; the rest of the stack loses more.
        first = 0 if self.stack.pad else 1
        self.guide_margin = max(first, self.gradient.stack.margin)
        self.margin = self.guide_margin + self.stack.margin - first
        if config.freeze_gradient:
            self.gradient.requires_grad_(False)
            self.gradient.eval()

    def train(self, mode: bool = True) -> EdgeGuidedNetwork:
        super().train(mode)
        if self.config.freeze_gradient:
            self.gradient.eval()
        return self

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 1 h w"]:
        """Depth in metres of the part `output_crop` of the image."""
        size = image.shape[-2], image.shape[-1]
        self.output_crop(size)
        self.gradient.checkpointing = self.checkpointing
        *_, height, width = centre(size, self.guide_margin)
        first = self._run(self.stack[0], image * 2 - 1)
        guided = [middle(first, (height, width)), middle(self.gradient(image), (height, width))]
        x = torch.cat(guided, dim=1)
        for layer in list(self.stack)[1:]:
            x = self._run(layer, x)
        return metres(x, self.config.output, self.config.typical_depth)

    def output_crop(self, size: Grid) -> Box:
        return centre(size, self.margin)

    def layers(self) -> dict[str, nn.Module]:
        return {**self.gradient.stack.named("gradient_"), **self.stack.named()}

    def path(self) -> list[tuple[str, list[Step]]]:
        # The widest path: through the gradient network, then from the second layer on. The first layer is on
        # the short one.
        return [*self.gradient.stack.path("gradient_"), *self.stack.path()[1:]]


def middle(x: Float[Tensor, "B C H W"], size: Grid) -> Float[Tensor, "B C h w"]:
    """The middle of `x`, of `size`."""
    top, left = (x.shape[-2] - size[0]) // 2, (x.shape[-1] - size[1]) // 2
    return x[..., top : top + size[0], left : left + size[1]]
