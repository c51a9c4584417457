"""Structural similarity with a mask: Gaussian windows that leave invalid pixels out.

Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity". Each window
takes its moments from its valid pixels alone, their Gaussian weights divided by their sum (normalised
convolution, Knutsson and Westin 1993), so that an invalid pixel, or one beyond the border, has no influence.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


class Moments(NamedTuple):
    """Weighted means, variances and covariance of each window."""

    mean_x: Float[Tensor, "B C H W"]
    mean_y: Float[Tensor, "B C H W"]
    var_x: Float[Tensor, "B C H W"]
    var_y: Float[Tensor, "B C H W"]
    cov: Float[Tensor, "B C H W"]


class Components(NamedTuple):
    """The three factors of SSIM, one a pixel."""

    luminance: Float[Tensor, "B C H W"]
    contrast: Float[Tensor, "B C H W"]
    structure: Float[Tensor, "B C H W"]


def gaussian_window(size: int = WINDOW, sigma: float = SIGMA) -> Float[Tensor, " size"]:
    """Gaussian weights of one axis, summing to 1."""
    offset = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    weight = torch.exp(-0.5 * (offset / sigma) ** 2)
    return weight / weight.sum()


def smooth(values: Float[Tensor, "B C H W"], window: Float[Tensor, " size"]) -> Float[Tensor, "B C H W"]:
    """Windowed sums of `values` around every pixel, with zeros beyond the border; the window is separable."""
    batch, channels, height, width = values.shape
    flat = values.reshape(batch * channels, 1, height, width)
    kernel, pad = window.to(values), window.numel() // 2
    flat = F.conv2d(flat, kernel.view(1, 1, -1, 1), padding=(pad, 0))
    flat = F.conv2d(flat, kernel.view(1, 1, 1, -1), padding=(0, pad))
    return flat.view(batch, channels, height, width)


def window_moments(x: Float[Tensor, "B C H W"], y: Float[Tensor, "B C H W"], valid: Bool[Tensor, "B 1 H W"]) -> Moments:
    """Moments of each Gaussian window over its valid pixels.

    Variances divide by the sum of the weights (no Bessel correction), as the definition of SSIM has it. They
    are taken about a common shift, the mean of both images, so that float32 does not lose them to a large
    offset.
    """
    x, y = torch.where(valid, x, 0.0), torch.where(valid, y, 0.0)
    weight, channels = valid.to(x.dtype), x.shape[1]
    count = (2 * channels * weight.sum((1, 2, 3), keepdim=True)).clamp(min=1)
    shift = ((x + y).sum((1, 2, 3), keepdim=True) / count).detach()
    x, y = torch.where(valid, x - shift, 0.0), torch.where(valid, y - shift, 0.0)
    sums = smooth(torch.cat([x, y, x * x, y * y, x * y, weight], dim=1), gaussian_window())
    means = sums[:, :-1] / sums[:, -1:].clamp(min=1e-6)
    mean_x, mean_y, square_x, square_y, product = torch.split(means, channels, dim=1)
    var_x = (square_x - mean_x**2).clamp(min=0)
    var_y = (square_y - mean_y**2).clamp(min=0)
    return Moments(mean_x + shift, mean_y + shift, var_x, var_y, product - mean_x * mean_y)


def ssim_map(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    valid: Bool[Tensor, "B 1 H W"],
    data_range: float,
) -> Float[Tensor, "B C H W"]:
    """SSIM of the window around each pixel, in [-1, 1] up to rounding.

    ``(2 μx μy + C1)(2 σxy + C2) / ((μx² + μy² + C1)(σx² + σy² + C2))``, C1 = (K1·L)², C2 = (K2·L)², L =
    `data_range`. The value has a meaning at valid pixels only.
    """
    m = window_moments(x, y, valid)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * m.mean_x * m.mean_y + c1) / (m.mean_x**2 + m.mean_y**2 + c1)
    return luminance * (2 * m.cov + c2) / (m.var_x + m.var_y + c2)


def ssim_components(
    x: Float[Tensor, "B C H W"],
    y: Float[Tensor, "B C H W"],
    valid: Bool[Tensor, "B 1 H W"],
    data_range: float,
) -> Components:
    """Luminance, contrast and structure of each window; with C3 = C2/2 their product is SSIM.

    For reading, not for training: the standard deviations have no gradient where they are 0.
    """
    m = window_moments(x, y, valid)
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    deviations = (m.var_x * m.var_y).sqrt()
    return Components(
        luminance=(2 * m.mean_x * m.mean_y + c1) / (m.mean_x**2 + m.mean_y**2 + c1),
        contrast=(2 * deviations + c2) / (m.var_x + m.var_y + c2),
        structure=(m.cov + c2 / 2) / (deviations + c2 / 2),
    )
