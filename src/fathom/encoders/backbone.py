"""An encoder of any SPEC inside a network that is trained: its maps with gradients, on the grids a decoder wants."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from fathom.encoders import open_encoder
from fathom.encoders.module import ModuleEncoder
from fathom.errors import FathomError, UsageError

STRIDES = (2, 4, 8, 16, 32)
"""Input pixels to a cell of each map, as the decoder of `fathom.models.pretrained_unet` takes them."""


class Backbone(nn.Module):
    """Image -> five maps, from stride 2 to stride 32.

    Each stride takes the encoder's layer of the nearest stride, resized where it differs; an encoder on one grid (a ViT)
    gives its layers from shallow to deep to the strides from 4 to 32. Stride 2 is the image itself where the encoder has
    no layer so fine. It stays in evaluation mode: statistics of batch normalisation do not move, dropout is off.
    """

    def __init__(self, encoder: ModuleEncoder) -> None:
        super().__init__()
        self.network = encoder.module.requires_grad_(True)
        self.preprocess = encoder.preprocess if isinstance(encoder.preprocess, nn.Module) else None
        # In a list, so that the encoder's own modules are not registered a second time.
        self._encoder = [encoder]
        side = 256
        with torch.no_grad():
            maps = encoder.maps(torch.zeros(1, 3, side, side))
        self.levels = chosen_levels({layer: side / z.shape[-1] for layer, z in maps.items()})
        self.widths = tuple(maps[layer].shape[1] if layer else 3 for layer in self.levels)
        self.origin: dict[str, Any] = asdict(encoder.provenance())

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> list[Tensor]:
        maps = self._encoder[0].maps(image)
        height, width = image.shape[-2:]
        return [
            resized(maps[layer] if layer else image, (height // stride, width // stride))
            for layer, stride in zip(self.levels, STRIDES, strict=True)
        ]

    def train(self, mode: bool = True) -> Backbone:
        """Stay in evaluation mode."""
        return super().train(False)


def chosen_levels(strides: dict[str, float]) -> list[str]:
    """The layer for each of `STRIDES`, empty for the image, given the stride of each layer from shallow to deep."""
    layers = list(strides)
    if len({round(math.log2(stride), 1) for stride in strides.values()}) == 1:  # one grid
        count = len(STRIDES) - 1
        return ["", *(layers[len(layers) * (i + 1) // count - 1 if len(layers) >= count else -1] for i in range(count))]

    def nearest(stride: int) -> str:
        # Of layers equally near, the deepest.
        return min(reversed(layers), key=lambda layer: abs(math.log2(strides[layer] / stride)))

    finest = nearest(STRIDES[0])
    return [finest if strides[finest] <= 2 * 2**0.5 else "", *map(nearest, STRIDES[1:])]


def resized(values: Float[Tensor, "B C h w"], size: tuple[int, int]) -> Float[Tensor, "B C H W"]:
    """Bilinear, averaging where it shrinks."""
    if tuple(values.shape[-2:]) == size:
        return values
    shrinks = values.shape[-2] > size[0]
    values = values.float() if shrinks else values  # averaging is not implemented in bf16
    return F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=shrinks)


def open_backbone(spec: str) -> Backbone:
    """The encoder that `spec` names as a trainable backbone.

    Raises:
        UsageError: it cannot be opened, or has no weights to train.
    """
    try:
        with torch.device("cpu"):  # a network is built once without storage, to count it
            encoder = open_encoder(spec, size=(256, 256))
            if not isinstance(encoder, ModuleEncoder):
                raise UsageError("it has no network")
            return Backbone(encoder)
    except FathomError as error:
        raise UsageError(f"Encoder '{spec}' cannot be opened ({str(error).rstrip('.')}).") from error
