"""Changes of an image that leave its geometry: colour at constant luma, light at constant colour, texture, outlines.

Images are RGB in [0, 1] as files hold them (gamma-encoded), and so are the results. Luma is that of ITU-R BT.601. Colour is what
is left of a pixel without its luma; where a new colour does not fit into the cube at that luma it is made paler, never lighter.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from fathom.sobel import sobel

STOP = 2 ** (1 / 2.2)
"""Twice the light, for images encoded with a gamma of 2.2."""

FAINT = 0.01
"""Standard deviations below this, of luma or colour, are noise and quantisation: they are not blown up."""

Image = Float[Tensor, "3 H W"]


def luma(image: Image) -> Float[Tensor, "1 H W"]:
    """0.299 R + 0.587 G + 0.114 B."""
    return (image * image.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)


def _join(light: Float[Tensor, "1 H W"], colour: Image) -> Image:
    """Luma and colour (RGB − luma) to RGB; colour is scaled down, pixel by pixel, as far as [0, 1] asks."""
    light = light.clamp(0, 1)
    room = torch.where(colour > 0, 1 - light, light)
    scale = (room / colour.abs().clamp(min=1e-6)).amin(0, keepdim=True).clamp(max=1)
    return (light + scale * colour).clamp(0, 1)


def grey(image: Image) -> Image:
    """Every pixel at its luma."""
    return luma(image).expand_as(image).clone()


def complement(image: Image) -> Image:
    """Every colour turned to its opposite, at its luma."""
    light = luma(image)
    return _join(light, light - image)


def brighter(image: Image) -> Image:
    """Twice the light; what no longer fits is cut off, as in a camera."""
    return (image * STOP).clamp(max=1)


def darker(image: Image) -> Image:
    """Half the light."""
    return image / STOP


@dataclass(frozen=True)
class Look:
    """How an image looks, apart from what is where.

    Attributes:
        light: mean and standard deviation of luma.
        colour_mean: mean of B − luma and R − luma, ``(2,)``.
        colour_cov: their covariance, ``(2, 2)``.
    """

    light: tuple[float, float]
    colour_mean: Float[Tensor, "2"]
    colour_cov: Float[Tensor, "2 2"]


def look(image: Image) -> Look:
    """The look of an image."""
    light = luma(image).double()
    colour = (image[[2, 0]] - light).flatten(1)
    mean = colour.mean(1)
    centred = colour - mean[:, None]
    return Look((float(light.mean()), float(light.std(unbiased=False))), mean, centred @ centred.T / centred.shape[1])


def _root(matrix: Float[Tensor, "2 2"], least: float = 0.0) -> Float[Tensor, "2 2"]:
    """Symmetric square root, its eigenvalues at least `least`."""
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt().clamp(min=least)) @ vectors.T
    return root


def with_colours_of(image: Image, other: Look) -> Image:
    """The image at its own luma, its colours moved to the mean and covariance of another's.

    The map is linear and moves colours the least of all that do so (Monge-Kantorovich; Pitié & Kokaram 2007):
    T = A^(−1/2) (A^(1/2) B A^(1/2))^(1/2) A^(−1/2). After Reinhard et al. (2001), but with the correlation of the two axes.
    """
    own = look(image)
    root = _root(own.colour_cov, FAINT)
    inverse = torch.linalg.inv(root)
    turn = inverse @ _root(root @ other.colour_cov @ root) @ inverse
    light = luma(image)
    colour = (image[[2, 0]] - light).double().flatten(1)
    moved = (turn @ (colour - own.colour_mean[:, None]) + other.colour_mean[:, None]).to(image)
    blue, red = moved.reshape(2, *light.shape[1:])
    green = -(0.299 * red + 0.114 * blue) / 0.587  # so that luma is kept
    return _join(light, torch.stack([red, green, blue]))


def with_light_of(image: Image, other: Look) -> Image:
    """The image with the mean and standard deviation of luma of another's (Reinhard et al. 2001), colours scaled with luma."""
    own = look(image)
    light = luma(image)
    contrast = other.light[1] / max(own.light[1], FAINT)
    new = ((light - own.light[0]) * contrast + other.light[0]).clamp(0, 1)
    return _join(new, (image - light) * new / light.clamp(min=1 / 255))


def _side(image: Tensor) -> int:
    return int(min(image.shape[-2:]))


def _gauss(image: Float[Tensor, "C H W"], sigma: float) -> Float[Tensor, "C H W"]:
    """Gaussian filter, edges repeated."""
    reach = max(int(3 * sigma + 0.5), 1)
    at = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-(at**2) / (2 * sigma**2))
    weights = (weights / weights.sum()).to(image)
    padded = F.pad(image[:, None], [reach] * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, weights[None, None, :, None]), weights[None, None, None])[:, 0]


def _box(image: Float[Tensor, "C H W"], reach: int) -> Float[Tensor, "C H W"]:
    """Mean over a square window of side 2 reach + 1, cut at the border: from running sums, whatever the window."""
    side = 2 * reach + 1
    sums = F.pad(image.double(), (reach + 1, reach, reach + 1, reach))
    sums = sums.cumsum(-1)
    sums = sums[..., side:] - sums[..., :-side]
    sums = sums.cumsum(-2)
    sums = sums[..., side:, :] - sums[..., :-side, :]
    height, width = (torch.arange(size) for size in image.shape[-2:])
    rows, columns = ((at + reach).clamp(max=len(at) - 1) - (at - reach).clamp(min=0) + 1 for at in (height, width))
    return (sums / (rows[:, None] * columns)).to(image)


def blurred(image: Image) -> Image:
    """Gaussian blur of a sixtieth of the shorter side: texture goes, and outlines lose their sharpness."""
    return _gauss(image, _side(image) / 60).clamp(0, 1)


def smoothed(image: Image) -> Image:
    """Texture removed, edges of larger things kept: the rolling guidance filter (Zhang et al. 2014), with the guided filter of
    He et al. (2013) inside.

    What is smaller than about a fiftieth of the shorter side is first blurred away; then each round smooths the image along the
    edges that the round before has left, and so brings back the sharp edges of what is larger.
    """
    side = _side(image)
    return _rolling(image, side / 120, max(round(side / 40), 1))


def _rolling(image: Float[Tensor, "C H W"], sigma: float, reach: int) -> Float[Tensor, "C H W"]:
    """Four rounds of He et al. (2013), each channel by its own guide: locally image ≈ a · guide + b."""
    guide = _gauss(image, sigma)
    mean_i = _box(image, reach)
    for _ in range(4):
        mean_g, square, product = _box(torch.cat([guide, guide * guide, guide * image]), reach).chunk(3)
        a = (product - mean_g * mean_i) / ((square - mean_g * mean_g).clamp(min=0) + 0.03**2)
        slope, offset = _box(torch.cat([a, mean_i - a * mean_g]), reach).chunk(2)
        guide = slope * guide + offset
    return guide.clamp(0, 1)


def outlines(image: Image) -> Image:
    """Dark lines along the edges of luma, on a ground of the frame's mean luma: neither colour, shading nor texture.

    A line is the darker the steeper the edge of the smoothed image, fully at its 95th percentile.
    """
    light, side = luma(image), _side(image)
    gx, gy = sobel(_rolling(light, side / 120, max(round(side / 40), 1))[0])
    steep = torch.hypot(gx, gy)
    full = torch.quantile(steep.flatten()[:: max(steep.numel() // 100_000, 1)], 0.95).clamp(min=FAINT)
    line = (steep / full).clamp(max=1)
    return (light.mean() * (1 - line)).expand_as(image).clone()
