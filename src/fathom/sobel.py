"""Edges of a depth map by the Sobel operator."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def sobel(depth: Float[Tensor, "*B H W"]) -> tuple[Float[Tensor, "*B H W"], Float[Tensor, "*B H W"]]:
    """Derivatives of `depth` along x and along y, per pixel.

    Sobel's kernels, [1 2 1]ᵀ [-1 0 1] and its transpose, divided by 8, so that a ramp of one metre a pixel
    has the derivative 1. The outermost pixels are repeated beyond the border.
    """
    height, width = depth.shape[-2:]
    padded = F.pad(depth.reshape(-1, 1, height, width), (1, 1, 1, 1), mode="replicate")
    padded = padded.reshape(*depth.shape[:-2], height + 2, width + 2)
    across = (padded[..., 2:] - padded[..., :-2]) / 2
    down = (padded[..., 2:, :] - padded[..., :-2, :]) / 2
    gx = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 4
    gy = (down[..., :-2] + 2 * down[..., 1:-1] + down[..., 2:]) / 4
    return gx, gy


def whole_windows(valid: Bool[Tensor, "*B H W"]) -> Bool[Tensor, "*B H W"]:
    """Whether all pixels of the 3x3 window lie inside the map and are valid."""
    full = torch.zeros_like(valid)
    rows = valid[..., :-2, :] & valid[..., 1:-1, :] & valid[..., 2:, :]
    full[..., 1:-1, 1:-1] = rows[..., :-2] & rows[..., 1:-1] & rows[..., 2:]
    return full


def sobel_edges(
    depth: Float[Tensor, "*B 1 H W"], valid: Bool[Tensor, "*B 1 H W"]
) -> tuple[Float[Tensor, "*B 1 H W"], Bool[Tensor, "*B 1 H W"]]:
    """Magnitude of the Sobel gradient in metres per pixel, and where it is known.

    It is known where the whole 3x3 window is valid and inside the map; elsewhere it is 0. What stands in an
    invalid pixel, NaN included, has no influence.
    """
    gx, gy = sobel(torch.where(valid, depth, 0.0))
    known = whole_windows(valid)
    return torch.where(known, torch.hypot(gx, gy), 0.0), known


def sobel_xy(
    depth: Float[Tensor, "*B 1 H W"], valid: Bool[Tensor, "*B 1 H W"]
) -> tuple[Float[Tensor, "*B 2 H W"], Bool[Tensor, "*B 1 H W"]]:
    """As `sobel_edges`, but the two derivatives, along x and along y."""
    derivatives = torch.cat(sobel(torch.where(valid, depth, 0.0)), dim=-3)
    known = whole_windows(valid)
    return torch.where(known, derivatives, 0.0), known
