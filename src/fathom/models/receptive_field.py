"""The receptive field of a chain of layers, counted exactly.

An output pixel is followed back to the interval of input pixels it depends on, one axis at a time. Where the
chain upsamples, pixels of different phase depend on intervals of different width; the widest is reported.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Span = tuple[int, int]
"""First and last pixel, both included."""


@dataclass(frozen=True, slots=True)
class Window:
    """A convolution or pooling: `kernel` pixels wide, moved by `stride`."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def back(self, interval: Span) -> Span:
        """The input pixels that the output pixels `interval` depend on; so in each kind of step."""
        first, last = interval
        return first * self.stride - self.padding, last * self.stride - self.padding + self.kernel - 1


@dataclass(frozen=True, slots=True)
class Upsample:
    """Nearest-neighbour upsampling by `factor`."""

    factor: int

    def back(self, interval: Span) -> Span:
        return interval[0] // self.factor, interval[1] // self.factor


@dataclass(frozen=True, slots=True)
class Transposed:
    """A transposed convolution."""

    kernel: int
    stride: int = 1
    padding: int = 0

    def back(self, interval: Span) -> Span:
        first, last = interval
        return -((self.kernel - 1 - self.padding - first) // self.stride), (last + self.padding) // self.stride


Step = Window | Upsample | Transposed
"""One layer on the path from the image to the output."""


def same(kernel: int, count: int = 1) -> list[Step]:
    """`count` convolutions of odd `kernel` that keep the size."""
    return [Window(kernel, 1, kernel // 2)] * count


def receptive_field(steps: Sequence[Step]) -> int:
    """Width in input pixels of what one output pixel of the chain `steps` (input first) can depend on."""
    phases = math.prod(step.factor for step in steps if isinstance(step, Upsample))
    phases *= math.prod(step.stride for step in steps if isinstance(step, Transposed))
    return max(_width(steps, phase) for phase in range(phases))


def _width(steps: Iterable[Step], pixel: int) -> int:
    interval = (pixel, pixel)
    for step in reversed(list(steps)):
        interval = step.back(interval)
    return interval[1] - interval[0] + 1
