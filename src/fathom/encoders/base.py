"""What an encoder is: something frozen that turns images into feature maps."""

from __future__ import annotations

from typing import Protocol, Self, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class Encoder(Protocol):
    """A frozen map from images to feature maps, one for each layer, read in one forward pass.

    An encoder does its own normalisation, is in evaluation mode, asks for no gradient, and computes on the device that
    its last `to` named.

    Attributes:
        name: the SPEC as the user gave it.
        layers: names of the layers it returns, from shallow to deep.
        baseline: whether it is a baseline (constant, position, pixels ...) and no learned representation.
    """

    name: str
    layers: tuple[str, ...]
    baseline: bool

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Feature maps of `images` (RGB in [0, 1]), one a layer, each on the layer's own grid."""
        ...

    def to(self, device: torch.device | str) -> Self:
        """Move to `device` and return itself."""
        ...
