"""Losses between a predicted and a true map, both masked.

Every loss is ``(prediction, target, valid) -> scalar`` with these rules:

- A pixel that is not valid has no influence on value or gradient, whatever stands there, NaN and infinities
  included. An image without a valid pixel contributes 0 and no gradient; so does a whole batch of them.
- It is the mean over the valid pixels of an image, averaged over the images of the batch. A batch's loss is
thus the
  mean of the losses of its equal parts, and gradient accumulation equals the large batch exactly. `berhu`
  alone is
  an exception: its threshold is that of the batch.
- It is computed in float32 (or in float64, if given it), under autocast too.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.training.losses.masked import Prediction, Target, Valid, image_means, masked
from fathom.training.losses.ssim import ssim_map


@masked
def mae(prediction: Prediction, target: Target, valid: Valid) -> Float[Tensor, ""]:
    """Mean absolute error, L1."""
    return image_means((prediction - target).abs(), valid).mean()


@masked
def mse(prediction: Prediction, target: Target, valid: Valid) -> Float[Tensor, ""]:
    """Mean squared error, L2."""
    return image_means((prediction - target) ** 2, valid).mean()


@masked
def gradient(prediction: Prediction, target: Target, valid: Valid) -> Float[Tensor, ""]:
    """Error of the edges: ``mean |∂y p − ∂y t| + mean |∂x p − ∂x t|`` with forward differences (DenseDepth).

    Only pairs of neighbours that are both valid count.
    """
    error = prediction - target
    down, across = error[..., 1:, :] - error[..., :-1, :], error[..., 1:] - error[..., :-1]
    means = image_means(down.abs(), valid[..., 1:, :] & valid[..., :-1, :])
    means = means + image_means(across.abs(), valid[..., 1:] & valid[..., :-1])
    return means.mean()


@masked
def ssim(prediction: Prediction, target: Target, valid: Valid, *, data_range: float = 10.0) -> Float[Tensor, ""]:
    """``(1 − SSIM) / 2`` in [0, 1], SSIM unclipped in [-1, 1]; see `fathom.training.losses.ssim`.

    `data_range` is the depth cap in metres, or 1 for images. An image without a valid pixel contributes 0.
    """
    return image_means((1 - ssim_map(prediction, target, valid, data_range)) / 2, valid).mean()


@masked
def silog(prediction: Prediction, target: Target, valid: Valid) -> Float[Tensor, ""]:
    """Scale-invariant logarithmic error, ``10 · sqrt(mean e² − 0.85 (mean e)²)``, e = ln p − ln t.

    Eigen et al. 2014 with the weights of BTS (Lee et al. 2019). Depths below a millimetre count as one, and
    have no
    gradient: choose an output that is positive.
    """
    error = torch.where(valid, prediction.clamp(min=1e-3).log() - target.clamp(min=1e-3).log(), 0.0)
    spread = image_means(error**2, valid) - 0.85 * image_means(error, valid) ** 2
    # The clamp keeps the gradient of the square root finite; 1e-8 is a loss of 0.001.
    rooted = 10 * spread.clamp(min=1e-8).sqrt()
    return torch.where(valid.any(-1).any(-1).any(-1), rooted, 0.0).mean()


@masked
def berhu(prediction: Prediction, target: Target, valid: Valid) -> Float[Tensor, ""]:
    """Reverse Huber, Laina et al. 2016: |d| up to c = 0.2 · max |d| of the batch; ``(d²+c²)/2c`` beyond."""
    error = (prediction - target).abs()
    threshold = (0.2 * error.detach().amax()).clamp(min=1e-6)
    beyond = (error**2 + threshold**2) / (2 * threshold)
    return image_means(torch.where(error <= threshold, error, beyond), valid).mean()
