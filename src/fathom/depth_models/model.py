"""`DepthModel`: images, and the camera where it is known, to depth of a declared kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, get_args, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from fathom.data.camera import assumed
from fathom.errors import UsageError, nearest
from fathom.metrics.alignment import Kind as Kind
from fathom.sample import Grid, Intrinsics

KINDS: tuple[Kind, ...] = get_args(Kind)

Images = UInt8[Tensor, "B 3 H W"] | Float[Tensor, "B 3 H W"]
"""RGB, uint8 in 0..255 or float in [0, 1]."""


def unit_of(kind: Kind) -> str:
    """``m`` for metric depth, empty for the other kinds."""
    return "m" if kind == "metric" else ""


@dataclass(frozen=True)
class DepthMaps:
    """What a model says of images of one size.

    Attributes:
        values: ``(B, H, W)`` float32 on the CPU; NaN where the model gives none.
        kind: what the values are; see `Kind`.
        cameras: of each image in pixels of the image, with its origin: as given, the model's own estimate, or assumed.
        confidence: ``(B, H, W)``, larger is surer, or None.
        input_size: the (height, width) at which the model saw the images, where it says.
    """

    values: Float[Tensor, "B H W"]
    kind: Kind
    cameras: tuple[Intrinsics, ...]
    confidence: Float[Tensor, "B H W"] | None = None
    input_size: Grid | None = None

    @property
    def unit(self) -> str:
        """``m`` for metric depth, empty for the other kinds."""
        return unit_of(self.kind)


@runtime_checkable
class DepthModel(Protocol):
    """Anything that reads depth from images. A new kind of model is one file with such a class and one line in
    `fathom.depth_models.opening.DEPTH_MODELS`; what it does not declare has the defaults here.

    Attributes:
        name: as a person would name it: the SPEC it was opened by, or the name of a shipped network.
        kind: of its values.
        licence: of its weights; empty where it is not known.
        train_scenes: scenes it was trained on, where that is known: no fair test holds any of them.
        takes_prompt: whether it can take a sparse or coarse depth map in metres beside the image.
        uses_camera: whether its values depend on the camera that it is given.
        estimates_camera: whether it estimates the camera where none is given.
    """

    name: str
    kind: Kind
    licence: str = ""
    train_scenes: tuple[str, ...] = ()
    takes_prompt: bool = False
    uses_camera: bool = False
    estimates_camera: bool = False

    @property
    def unit(self) -> str:
        """``m`` for metric depth, else empty."""
        return unit_of(self.kind)

    def predict(
        self,
        images: Images,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        """Depth of a batch of images of one size.

        Args:
            images: ``(B, 3, H, W)``.
            cameras: of each image in pixels of the image; None where unknown.
            size: (height, width) of the maps returned; the images' own by default.
            prompts: depth ``(h, w)`` in metres of each image, 0 or NaN where unknown, for a model that `takes_prompt`.
        """
        ...

    def to(self, device: str | torch.device) -> DepthModel:
        """Move it to a device."""
        ...

    def facts(self) -> Mapping[str, Any]:
        """What else a person should know of it, for the record beside each depth file: path, step, sizes ... as JSON values."""
        return {}


def parse_kind(text: str, name: str) -> Kind:
    """`text` as a `Kind`; `UsageError` names the known ones."""
    for kind in KINDS:
        if text == kind:
            return kind
    raise UsageError(f"Depth model '{name}': there is no kind of depth '{text}'{nearest(text, KINDS)}.")


def ask_for_kind(name: str, how: str) -> UsageError:
    """The error about a model whose kind of depth is not declared: it is asked for and never guessed."""
    return UsageError(
        f"Depth model '{name}' does not say which kind of depth it gives; {how} one of metric (metres), scale-invariant "
        "(depth up to a factor), affine-depth (up to factor and shift), affine-disparity (1/depth up to factor and shift)."
    )


def known_cameras(images: Images, cameras: Sequence[Intrinsics | None] | None) -> tuple[Intrinsics, ...]:
    """One camera an image: the given one, or the assumed one."""
    size = (int(images.shape[-2]), int(images.shape[-1]))
    given = cameras if cameras is not None else [None] * len(images)
    if len(given) != len(images):
        raise UsageError(f"{len(given)} cameras are given for {len(images)} images.")
    return tuple(camera or assumed(size) for camera in given)


def float_images(images: Images) -> Float[Tensor, "B 3 H W"]:
    """RGB in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
