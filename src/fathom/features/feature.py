"""`Feature`: what is probed for, and the one place where a target is checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import FathomError, UsageError
from fathom.sample import Grid, Sample
from fathom.user_code import digest_of_code

Target = tuple[Float[Tensor, "C h w"], Bool[Tensor, "1 h w"]]
TargetFunction = Callable[[Sample, Grid], Target]
ToDepth = Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]

LARGEST = 1e15
"""Magnitude beyond which a value is refused: its square must fit float32 with room to spare."""


@dataclass(frozen=True)
class Feature:
    """What is probed for. `fathom.feature` finds the shipped ones by name; `Feature.from_function` makes one of your own.

    Attributes:
        name: as in tables and on the command line.
        channels: outputs C of the target.
        target: makes the target of a sample on a grid: values ``(C, h, w)`` and validity ``(1, h, w)``.
        unit: of the values, for tables; empty if they have none.
        to_depth: turns predicted values into metres, where that makes sense; full-resolution depth metrics need it.
        classes: whether the channels are shares of classes, so that accuracy and mIoU are meaningful.
        from_depth: whether the target is made of the depth map (and the camera) alone, so that a predicted depth map gives it too.
        directions: whether the channels are a unit vector, so that angles are meaningful.
        spec: what names it in `fathom.feature`, where that is not its name. code: SHA-256 of the Python code of a feature of the
            user's, None where it cannot be read.
        support: features of equal support are valid in the same cells of every frame, and share their moments; empty
            for a support of its own.
    """

    name: str
    channels: int
    target: TargetFunction
    unit: str = ""
    to_depth: ToDepth | None = None
    classes: bool = False
    support: str = ""
    from_depth: bool = False
    directions: bool = False
    spec: str | None = None
    code: str | None = None

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise UsageError("A feature needs a name.")
        if self.channels < 1:
            raise UsageError(f"Feature '{self.name}' has {self.channels} channels; it takes one or more.")
        if not self.support:
            object.__setattr__(self, "support", self.name)

    @staticmethod
    def from_function(
        name: str,
        function: TargetFunction,
        channels: int = 1,
        unit: str = "",
        classes: bool = False,
        from_depth: bool = False,
    ) -> Feature:
        """A feature of the user's own.

        Args:
            name: for tables and evidence.
            function: from a sample and a grid (h, w) to values ``(channels, h, w)`` and validity ``(1, h, w)`` bool.
                It sees the sample at the input size of the probe; `fathom.grids.masked_average` brings a map of any
                size onto the grid. What stands in an invalid cell has no influence, NaN included.
            channels: outputs.
            unit: of the values; empty if they have none.
            classes: whether the channels are shares of classes, which adds accuracy and mIoU; of one channel, a mask, the IoU.
            from_depth: whether `function` reads nothing but depth, validity and camera: an upper bound can then give it.
        """
        code = digest_of_code(function)
        return Feature(name, channels, function, unit, classes=classes, from_depth=from_depth, code=code)

    def of(self, sample: Sample, grid: Grid) -> Target:
        """The target of `sample`, checked: right types and shapes, and finite wherever it claims to be valid.

        Returns:
            values float32 ``(C, h, w)``, 0 in invalid cells, and validity ``(1, h, w)``.

        Raises:
            FathomError: naming the feature, the frame and what is wrong.
        """
        values, valid = _pair(self.target(sample, grid), f"Feature '{self.name}' of frame {sample.id}")
        if tuple(values.shape) != (self.channels, *grid) or tuple(valid.shape) != (1, *grid):
            raise FathomError(
                f"Feature '{self.name}' of frame {sample.id} has shape {tuple(values.shape)} and validity "
                f"{tuple(valid.shape)}; wanted {(self.channels, *grid)} and {(1, *grid)}."
            )
        known = torch.where(valid, values, 0.0)
        if not bool((known.abs() <= LARGEST).all()):
            size = "beyond ±1e15" if bool(torch.isfinite(known).all()) else "NaN or infinite"
            raise FathomError(
                f"Feature '{self.name}' of frame {sample.id} is {size} in a cell that it calls valid; "
                "make such cells invalid or choose another unit."
            )
        return known, valid


def _pair(made: Any, who: str) -> tuple[Tensor, Tensor]:
    """Values as float32 and validity, whatever a user's function returned."""
    if not isinstance(made, tuple) or len(made) != 2 or not all(isinstance(part, Tensor) for part in made):
        kind = type(made).__name__
        if isinstance(made, tuple):
            kind = f"a tuple of ({', '.join(type(part).__name__ for part in made)})"
        raise FathomError(f"{who} is {kind}; wanted two tensors: values (C, h, w) and validity (1, h, w).")
    values, valid = made
    if valid.dtype != torch.bool:
        raise FathomError(f"{who} has a validity of {valid.dtype}; wanted bool, such as validity > 0.")
    if values.is_complex():
        raise FathomError(f"{who} has complex values; give real and imaginary part as two channels.")
    return values.detach().to("cpu", torch.float32), valid.detach().cpu()
