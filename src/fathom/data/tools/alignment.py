"""Do depth map and image show the same view? Where depth jumps, the image mostly has an edge too.

For each frame the edges of the image and of the depth map are correlated at every small shift, as they are and with the depth
map mirrored. A mirrored or shifted depth map shows as a correlation that is higher elsewhere than at rest, in nearly all frames.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
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
    grey = small.float_image().mean(0)
    image = torch.hypot(*sobel(grey))
    # A strong edge counts once, however strong: texture and lamps would outweigh all else.
    image = (image / image.flatten().quantile(0.95).clamp(min=1e-6)).clamp(max=1)
    valid = small.valid[0]
    log = torch.where(valid, small.depth[0], 1.0).clamp(min=1e-3).log()
    known = whole_windows(valid)
    edges = torch.where(known, (torch.hypot(*sobel(log)) / JUMP).clamp(max=1), 0.0)
    if float(edges.sum()) < LEAST_EDGES or float(known.float().mean()) < 0.2:
        return None
    return EdgeMatch(
        shifted_correlation(image, edges, known), shifted_correlation(image, edges.flip(-1), known.flip(-1))
    )


def shifted_correlation(
    image: Float[Tensor, "h w"], edges: Float[Tensor, "h w"], known: Bool[Tensor, "h w"]
) -> Float[Tensor, "s s"]:
    """Correlation coefficient of `edges`, where `known`, with `image` under each shift of the edges by up to `REACH` pixels.

    With m the mask, e the edges less their mean under m, and i the image's edges, the value at shift s is
    ``Σ m e(x) i(x + s) / sqrt(Σ m e² · Σ m (i - mean)²)``, the last sums under the shifted mask; beyond the border i is 0.
    """
    size = [dimension + 2 * REACH for dimension in image.shape]
    mask = known.double()
    mean = (edges * mask).sum() / mask.sum()
    centred = (edges.double() - mean) * mask

    def correlate(kernel: Tensor, values: Tensor) -> Tensor:
        product = torch.fft.rfft2(kernel, s=size).conj() * torch.fft.rfft2(values, s=size)
        whole = torch.fft.irfft2(product, s=size)
        return torch.roll(whole, (REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]

    values = image.double()
    total = mask.sum()
    variance = correlate(mask, values**2) - correlate(mask, values) ** 2 / total
    scale = (centred.square().sum() * variance.clamp(min=1e-9)).sqrt()
    return (correlate(centred, values) / scale.clamp(min=1e-9)).float()


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
    mean = straight.mean(0)
    down, right = divmod(int(mean.argmax()), 2 * REACH + 1)
    dy, dx = down - REACH, right - REACH
    gain = straight[:, down, right] - straight[:, REACH, REACH]
    peak, still = float(mean[down, right]), float(mean[REACH, REACH])
    # One pixel is within what occlusion and interpolation do; a maximum at the end of the search is none.
    if not 2 <= max(abs(dx), abs(dy)) < REACH or peak < 0.1 or peak < 1.1 * still or not _certain(gain):
        return None
    parts = [
        f"{100 * abs(by) / LONGER_SIDE:.1f} % of the longer side {word[by > 0]}"
        for by, word in ((dx, ("to the left", "to the right")), (dy, ("up", "down")))
        if by
    ]
    return (
        f"depth and image look shifted against each other: their edges fit best with depth moved {' and '.join(parts)} "
        f"(correlation {peak:.2f} instead of {still:.2f}, {len(matches)} frames)"
    )


def _certain(differences: Float[Tensor, "n"]) -> bool:
    """Whether the mean difference is above 0 beyond doubt: more than four standard errors, the best of many shifts allowed for."""
    spread = float(differences.std()) / math.sqrt(len(differences))
    return float(differences.mean()) > 4 * spread
