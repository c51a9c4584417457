"""What every network of the package offers beside `forward`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils.checkpoint import checkpoint

from fathom.errors import UsageError, nearest
from fathom.files.limits import most
from fathom.models.receptive_field import Step, receptive_field
from fathom.sample import Grid

Box = tuple[int, int, int, int]
"""Top, left, height, width."""


class Network(nn.Module):
    """A network from images to a dense prediction.

    ``forward(image: (B, 3, H, W) in [0, 1]) -> (B, C, H', W')``, in metres for `predicts` = ``"depth"``, in
    [0, 1] for ``"image"``, in metres per pixel for ``"depth_edges"``. A network knows nothing of files,
    precision or devices.

    Attributes:
        config: what it was built from.
        predicts: what it predicts: a name in `fathom.training.scoring.targets.TARGETS`.
        stride: the coarsest step of its grids: an input divisible by it needs no padding.
        output_stride: input pixels to one output pixel, along an axis.
        output_channels: C of the prediction.
        global_context: whether attention or normalisation lets every output pixel see the whole image, beyond
            the receptive field of the convolutions.
        takes_camera: whether `forward` takes the camera as a second argument, ``(B, 4)``: fx, fy, cx and cy in pixels of the
            image, NaN where it is unknown.
        checkpointing: recompute activations in the backward pass instead of keeping them: the same gradients
            for less memory and about a third more time.
    """

    @dataclass(frozen=True)
    class Config:
        """The parameters of the network; the defaults are its full size."""

    predicts: ClassVar[str]
    config: Config
    stride: int = 1
    output_stride: int = 1
    output_channels: int = 1
    global_context: bool = False
    takes_camera: bool = False
    checkpointing: bool = False

    def forward(self, image: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B C h w"]:
        raise NotImplementedError

    def layers(self) -> dict[str, nn.Module]:
        """The modules whose outputs can be probed, by name, from shallow to deep."""
        raise NotImplementedError

    def path(self) -> list[tuple[str, list[Step]]]:
        """The widest path from image to output as named stages; the names of `layers` are among them."""
        raise NotImplementedError

    def receptive_fields(self) -> dict[str, int]:
        """Receptive field of the convolutions, in input pixels, at the end of each stage of `path`."""
        fields, steps = {}, list[Step]()
        for name, stage in self.path():
            steps += stage
            fields[name] = receptive_field(steps)
        return fields

    @property
    def receptive_field(self) -> int:
        """Receptive field of the convolutions, in input pixels, at the output."""
        return list(self.receptive_fields().values())[-1]

    def output_crop(self, size: Grid) -> Box:
        """The part of an input of `size` that the prediction covers, in input pixels; mostly all of it."""
        return 0, 0, *size

    def output_size(self, size: Grid) -> Grid:
        """Size of the prediction for an input of `size`."""
        _, _, height, width = self.output_crop(size)
        return -(-height // self.output_stride), -(-width // self.output_stride)

    def _run(self, block: nn.Module, *inputs: Tensor) -> Tensor:
        """`block(*inputs)`, recomputed in the backward pass if `checkpointing` is set."""
        if self.checkpointing and torch.is_grad_enabled():
            still = StillStatistics(block)
            if not still.norms:
                plain: Tensor = checkpoint(block, *inputs, use_reentrant=False)
                return plain
            normed: Tensor = checkpoint(block, *inputs, use_reentrant=False, context_fn=lambda: (nullcontext(), still))
            return normed
        output: Tensor = block(*inputs)
        return output


class StillStatistics:
    """Within it the running statistics of batch normalisation in `block` do not move.

    The recomputation of a checkpointed block would otherwise count its batch a second time.
    """

    def __init__(self, block: nn.Module) -> None:
        self.norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]

    def __enter__(self) -> None:
        self.before = [(norm.momentum, _batches(norm).clone()) for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, batches) in zip(self.norms, self.before, strict=True):
            norm.momentum = momentum
            _batches(norm).copy_(batches)


def _batches(norm: nn.BatchNorm2d) -> Tensor:
    assert norm.num_batches_tracked is not None
    return norm.num_batches_tracked


def pad_to_multiple(image: Float[Tensor, "B C H W"], stride: int) -> Float[Tensor, "B C h w"]:
    """Repeat the last row and column until height and width are multiples of `stride`."""
    height, width = image.shape[-2:]
    if min(height, width) < stride:
        raise UsageError(
            f"An image of {height}x{width} pixels is smaller than the network's stride of {stride}; "
            f"use images of at least {stride}x{stride}."
        )
    bottom, right = -height % stride, -width % stride
    return F.pad(image, (0, right, 0, bottom), mode="replicate") if bottom or right else image


MOST_SETTING = 10_000_000
"""The largest whole number in a configuration: no network has a width or a depth of that size."""


def check_size(model: type[Network], config: Network.Config) -> None:
    """Refuse a configuration of too many modules or parameters before it takes any memory.

    The network is built once without storage (PyTorch's `meta` device), where each module and parameter is counted as it comes.
    """
    for field in fields(config):
        value = getattr(config, field.name)
        # Before arithmetic with it: 2^groups of a number of thirty digits would not end.
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int) and abs(number) > MOST_SETTING:
                raise UsageError(f"The network's {field.name} is beyond {MOST_SETTING:,}, so that it cannot be built.")
    modules = parameters = 0

    def count_module(*_: Any) -> None:
        nonlocal modules
        modules += 1
        if modules > most("layers"):
            raise UsageError(
                f"This network has more than {most('layers'):,} layers; where that is meant, raise the limit "
                f"with --limit layers={10 * most('layers')}."
            )

    def count_parameter(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
        nonlocal parameters
        parameters += parameter.numel()
        if parameters > most("parameters"):
            raise UsageError(
                f"This network has more than {most('parameters'):,} parameters; where that is meant, raise the limit "
                f"with --limit parameters={10 * most('parameters')}."
            )

    hooks = (
        register_module_module_registration_hook(count_module),
        register_module_parameter_registration_hook(count_parameter),
    )
    try:
        with torch.device("meta"):
            model(config)
    except (RuntimeError, OverflowError, MemoryError) as error:
        raise UsageError(
            f"A network of this configuration cannot be built ({(str(error).splitlines() or [type(error).__name__])[0]})."
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


def config_from(config_type: type[Network.Config], values: Mapping[str, Any]) -> Network.Config:
    """A configuration from plain values, as JSON and TOML hold them: lists stand for tuples."""
    known = {field.name for field in fields(config_type)}
    for key in values:
        if key not in known:
            raise UsageError(f"The network has no setting '{key}'{nearest(key, known)}.")
    return config_type(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})
