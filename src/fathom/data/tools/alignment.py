"""Do depth map and image show the same view? Where depth jumps, the image mostly has an edge too, of the same direction.

For each frame the edges of the image and of the depth map are correlated at every small shift, as they are and with the depth
map mirrored. A mirrored or shifted depth map shows as a correlation that is higher elsewhere than at rest, in nearly all frames.
An edge matches one of its own direction alone: the bezel of a screen or a shelf has many edges near one another, and strengths
alone match them at wrong shifts.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Complex, Float
from torch import Tensor

from fathom.data.transforms import fit
from fathom.sample import Sample
from fathom.sobel import sobel, whole_windows

LONGER_SIDE = 160
"""Pixels of the longer side to which frames are brought."""

REACH = 12
"""Shifts that are tried, in those pixels: 7.5 % of the longer side."""

LEAST_FRAMES = 5
LEAST_EDGES = 40
"""Pixels of depth edges that a frame needs, and frames that a finding needs."""

LEAST_MATCH = 0.1
"""Correlation that a shift needs to be believed."""

JUMP = 0.05
"""Gradient of log depth a pixel that counts as a whole edge."""


@dataclass(frozen=True)
class EdgeMatch:
    """Correlation of the edges of one frame, ``(2 REACH + 1, 2 REACH + 1)`` by shift of the depth map down and to the right."""

    as_is: Float[Tensor, "s s"]
    mirrored: Float[Tensor, "s s"]


def match_edges(sample: Sample) -> EdgeMatch | None:
    """The correlations of one frame; None where its depth has too few edges to tell."""
    height, width = sample.image_size
    scale = LONGER_SIDE / max(height, width)
    small = fit(sample, (max(1, round(height * scale)), max(1, round(width * scale))))
    valid = small.valid[0]
    known = whole_windows(valid)
    log = torch.where(valid, small.depth[0], 1.0).clamp(min=1e-3).log()
    edges = torch.where(known, edge_field(log, JUMP), 0.0)
    if float(edges.abs().sum()) < LEAST_EDGES or float(known.float().mean()) < 0.2:
        return None
    image = edge_field(small.float_image().mean(0))
    # Seen in a mirror an edge of angle θ has the angle π − θ, and twice that is −2θ.
    return EdgeMatch(
        shifted_correlation(image, edges, known), shifted_correlation(image, edges.conj().flip(-1), known.flip(-1))
    )


def edge_field(values: Float[Tensor, "h w"], whole: float | None = None) -> Complex[Tensor, "h w"]:
    """Edges as m·exp(2iθ), with θ the direction of the gradient: twice the angle, since light to dark is the same edge as dark to light.

    m is the size of the gradient over `whole`, cut off at 1; by default over its own 95th percentile. A strong edge counts once,
    however strong: texture and lamps would outweigh all else.
    """
    down, right = sobel(values)
    size = torch.hypot(down, right)
    most = size.flatten().quantile(0.95).clamp(min=1e-6) if whole is None else torch.tensor(whole)
    return torch.polar((size / most).clamp(max=1), 2 * torch.atan2(down, right))


def shifted_correlation(
    image: Complex[Tensor, "h w"], edges: Complex[Tensor, "h w"], known: Bool[Tensor, "h w"]
) -> Float[Tensor, "s s"]:
    """How well `edges`, where `known`, match those of `image` under each shift of theirs by up to `REACH` pixels; at most 1.

    With m the mask, e the edges under m and i the image's, the value at shift s is
    ``Re Σ conj(e(x)) i(x + s) / sqrt(Σ |e|² · Σ m(x) |i(x + s)|²)``; beyond the border i is 0.
    """
    size = [dimension + 2 * REACH for dimension in image.shape]
    masked = torch.where(known, edges, 0.0)

    def correlate(kernel: Tensor, values: Tensor) -> Tensor:
        product = torch.fft.fft2(kernel, s=size).conj() * torch.fft.fft2(values, s=size)
        whole = torch.fft.ifft2(product, s=size).real
        return torch.roll(whole, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]

    power = correlate(known.double(), image.abs().double().square())
    scale = (masked.abs().double().square().sum() * power.clamp(min=1e-9)).sqrt()
    return (correlate(masked.to(torch.complex128), image.to(torch.complex128)) / scale.clamp(min=1e-9)).float()


def describe_alignment(matches: Sequence[EdgeMatch]) -> str | None:
    """A sentence on mirrored or shifted depth, None where nothing speaks for it."""
    if len(matches) < LEAST_FRAMES:
        return None
    straight, mirrored = (torch.stack([getattr(match, name) for match in matches]) for name in ("as_is", "mirrored"))
    near = slice(REACH - 3, REACH + 4)
    rest, turned = (maps[:, near, near].amax((1, 2)) for maps in (straight, mirrored))
    if float(turned.mean()) > 1.3 * float(rest.mean()) and _certain(turned - rest):
        return (
            f"depth looks mirrored left to right: its edges fit those of the image better when it is turned (correlation "
            f"{float(turned.mean()):.2f} instead of {float(rest.mean()):.2f}, {len(matches)} frames)"
        )
    return _describe_shift(straight)


def _describe_shift(straight: Float[Tensor, "n s s"]) -> str | None:
    """A sentence on depth that fits best elsewhere than at rest."""
    mean = straight.mean(0)
    down, right = divmod(int(mean.argmax()), 2 * REACH + 1)
    dy, dx = down - REACH, right - REACH
    # One pixel is within what occlusion and interpolation do; a maximum at the end of the search is none.
    if not 2 <= max(abs(dx), abs(dy)) < REACH or not _better(straight, (down, right), (REACH, REACH)):
        return None
    # Long edges along an axis say nothing of a shift along it: only what a shift without it would lose is told.
    sure = {"x": _better(straight, (down, right), (down, REACH)), "y": _better(straight, (down, right), (REACH, right))}
    parts = [
        f"{100 * abs(by) / LONGER_SIDE:.1f} % of the longer side {word[by > 0]}"
        for by, word, axis in ((dx, ("to the left", "to the right"), "x"), (dy, ("up", "down"), "y"))
        if by and sure[axis]
    ]
    where = f"with depth moved {' and '.join(parts)}" if parts else "elsewhere, in no certain direction"
    peak, still = float(mean[down, right]), float(mean[REACH, REACH])
    return (
        f"depth and image look shifted against each other: their edges fit best {where} (correlation {peak:.2f} instead of "
        f"{still:.2f}, {len(straight)} frames)"
    )


def _better(maps: Float[Tensor, "n s s"], one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether the correlation at shift `one` is clearly above that at `other`: by a tenth, and beyond doubt."""
    first, second = maps[:, one[0], one[1]], maps[:, other[0], other[1]]
    peak, rest = float(first.mean()), float(second.mean())
    return peak >= LEAST_MATCH and peak >= 1.1 * rest and _certain(first - second)


def _certain(differences: Float[Tensor, "n"]) -> bool:
    """Whether the mean difference is above 0 beyond doubt: more than four standard errors, the best of many shifts allowed for."""
    spread = float(differences.std()) / math.sqrt(len(differences))
    return float(differences.mean()) > 4 * spread
