"""What an encoder is: something frozen that turns images into feature maps."""

from __future__ import annotations

import hashlib
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from fathom.sample import Grid


@dataclass(frozen=True)
class Control:
    """That an encoder is a control of another one.

    Attributes:
        kind: ``random`` (fresh weights) or ``permuted`` (its weights, shuffled inside each tensor).
        of: name of the encoder it is a control of.
        seed: of the fresh weights or of the shuffling.
    """

    kind: str
    of: str
    seed: int


@dataclass(frozen=True)
class Training:
    """What an encoder was trained on, as far as it is known.

    Attributes:
        scenes: names of the scenes it has seen.
        depth: whether it was trained to predict depth. What it knows of depth is then not implicit.
    """

    scenes: tuple[str, ...] = ()
    depth: bool = False


@dataclass(frozen=True)
class Provenance:
    """What a colleague needs to use the same encoder again; None where it is not known.

    Attributes:
        spec: the SPEC it was opened by; None for one that was given in memory.
        weights: SHA-256 of all parameters and buffers.
        code: SHA-256 of the Python files of a module of the user's.
        revision: commit of a repository of the hub.
        licence: as the model's own files state it.
    """

    spec: str | None = None
    weights: str | None = None
    code: str | None = None
    revision: str | None = None
    licence: str | None = None


Own = TypeVar("Own", bound="Encoder")


class Encoder(ABC):
    """A frozen map from images to feature maps, one for each layer, read in one forward pass.

    An encoder does its own normalisation, is in evaluation mode, asks for no gradient, and computes on the device that
    its last `to` named. A subclass gives `name`, `layers` and `encode`; the other methods have defaults.

    Attributes:
        name: what it is called in tables: the SPEC as the user gave it, its alias, or any name that differs from others.
        layers: names of the layers it returns, from shallow to deep.
        baseline: whether it is a baseline (constant, position, pixels ...) and no learned representation.
        control: set where it is a random or permuted copy of another encoder.
    """

    name: str
    layers: tuple[str, ...]
    baseline: bool = False
    control: Control | None = None

    @staticmethod
    def from_module(
        net: nn.Module,
        layers: Sequence[str] = (),
        preprocess: Callable[[Tensor], Tensor] | None = None,
        name: str | None = None,
    ) -> Encoder:
        """Read a `torch.nn.Module` that is in memory. The encoder holds a frozen copy; `net` stays as it is.

        Args:
            net: takes a batch of images.
            layers: names of submodules to read; by default the last one of each spatial size.
            preprocess: from RGB in [0, 1] to the input of `net`; by default ImageNet's mean and standard deviation.
            name: for tables; by default the name of the module's class.
        """
        opener: Callable[..., Encoder] = importlib.import_module("fathom.encoders.module").encoder_of
        return opener(net, tuple(layers), preprocess, name)

    @abstractmethod
    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """Feature maps of `images` (RGB in [0, 1]), one a layer, each on the layer's own grid."""

    def to(self: Own, device: torch.device | str) -> Own:
        """Move to `device` and return itself."""
        return self

    def on_grid(self, grid: Grid) -> Encoder:
        """The encoder for a probe on `grid`. Baselines have no grid of their own and take this one."""
        return self

    def random_copy(self, seed: int) -> Encoder | str:
        """The same architecture with fresh weights, or the reason why there is none."""
        return f"{self.name} does not say how to make a copy with random weights"

    def permuted_copy(self, seed: int) -> Encoder | str:
        """The same architecture with its own weights shuffled, or the reason why there is none."""
        return f"{self.name} does not say how to make a copy with permuted weights"

    def training(self) -> Training:
        """What it was trained on, as far as it is known."""
        return Training()

    def provenance(self) -> Provenance:
        """What identifies its weights and its code."""
        return Provenance()


def digest_of(*parts: object) -> str | None:
    """SHA-256 of the names, shapes, types and values of all parameters and buffers of the modules among `parts`.

    None where none of them is a module with any.
    """
    digest, found = hashlib.sha256(), False
    for place, part in enumerate(parts):
        if not isinstance(part, nn.Module):
            continue
        for name, tensor in [*part.named_parameters(), *part.named_buffers()]:
            found = True
            digest.update(f"{place}.{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            data = cast(Any, tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
            digest.update(data.tobytes())
    return digest.hexdigest() if found else None
