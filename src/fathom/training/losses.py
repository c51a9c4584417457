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

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.errors import UsageError, nearest
from fathom.training.ssim import ssim_map

Prediction = Float[Tensor, "B C H W"]
Target = Float[Tensor, "B C H W"]
Valid = Bool[Tensor, "B 1 H W"]
Loss = Callable[..., Float[Tensor, ""]]


def masked(loss: Loss) -> Loss:
    """`loss` in float32, outside autocast, with 0 in both maps where they are not valid."""

    @functools.wraps(loss)
    def on_clean_maps(prediction: Tensor, target: Tensor, valid: Tensor, **options: float) -> Tensor:
        if prediction.shape != target.shape:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            raise ValueError(f"prediction and target must have one shape, not {shapes}")
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        valid = valid.expand(len(prediction), 1, *prediction.shape[-2:])
        with torch.autocast(prediction.device.type, enabled=False):
            p = torch.where(valid, prediction.to(dtype), 0.0)
            t = torch.where(valid, target.to(dtype), 0.0)
            return loss(p, t, valid, **options)

    return on_clean_maps


def image_means(values: Prediction, valid: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Mean of `values` over the valid pixels and all channels of each image, 0 where an image has none."""
    count = valid.sum((1, 2, 3)) * values.shape[1]
    return torch.where(valid, values, 0.0).sum((1, 2, 3)) / count.clamp(min=1)


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
    """``(1 − SSIM) / 2`` in [0, 1], SSIM unclipped in [-1, 1]; see `fathom.training.ssim`.

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


LOSSES: dict[str, Loss] = {
    "mae": mae,
    "mse": mse,
    "gradient": gradient,
    "ssim": ssim,
    "silog": silog,
    "berhu": berhu,
}

DENSE_DEPTH = {"ssim": 1.0, "gradient": 1.0, "mae": 0.1}
"""Weights of DenseDepth (Alhashim and Wonka 2018), which made them for the target 10 m / depth in [1, 100]
with an
SSIM range of 100. On depth in metres the terms have other magnitudes: with depths of some 3 m the errors are
alike (|Δ(10/d)| ≈ 1.1 |Δd|), the SSIM range becomes the depth cap."""


@dataclass(frozen=True)
class WeightedSum:
    """A sum of losses by name, each of which can be read by itself.

    Attributes:
        weights: weight of each term, by its name in `LOSSES`; those of DenseDepth unless given. Hafeez et al.
            2024 (arXiv 2404.07686) search the weights of the same three terms.
        data_range: of the target, for SSIM: the depth cap in metres, or 1 for images.
    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DENSE_DEPTH))
    data_range: float = 10.0

    def __post_init__(self) -> None:
        if not self.weights:
            raise UsageError("A loss needs at least one term.")
        for name, weight in self.weights.items():
            if name not in LOSSES:
                raise UsageError(f"There is no loss '{name}'{nearest(name, LOSSES)}.")
            if not 0 <= weight < float("inf"):
                raise UsageError(f"The weight of the loss '{name}' must be 0 or more, not {weight}.")
        if not 0 < self.data_range < float("inf"):
            raise UsageError(f"The data range of the loss must be positive, not {self.data_range}.")

    def __call__(
        self, prediction: Prediction, target: Target, valid: Valid
    ) -> tuple[Float[Tensor, ""], dict[str, Float[Tensor, ""]]]:
        """The weighted sum, and each term without its weight (detached)."""
        terms = {name: self._term(name, prediction, target, valid) for name in self.weights}
        total = torch.stack([weight * terms[name] for name, weight in self.weights.items()]).sum()
        return total, {name: term.detach() for name, term in terms.items()}

    def _term(self, name: str, prediction: Prediction, target: Target, valid: Valid) -> Float[Tensor, ""]:
        options = {"data_range": self.data_range} if name == "ssim" else {}
        return LOSSES[name](prediction, target, valid, **options)
