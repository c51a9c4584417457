"""The losses by name, their weighted sum, and what a recipe's `[loss]` minimises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.errors import UsageError, nearest
from fathom.training.losses.masked import Loss, Prediction, Target, Valid
from fathom.training.losses.terms import berhu, gradient, mae, mse, silog, ssim
from fathom.training.recipe import LossSection

Objective = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, dict[str, Tensor]]]
"""(prediction, target, valid) to the weighted loss and its terms one by one."""

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


def objective(section: LossSection) -> Objective:
    """The recipe's weighted loss of (prediction, target, valid), and its terms one by one."""
    loss = WeightedSum(section.weights(), section.data_range)
    if section.space == "linear":
        return loss
    if section.space == "log":
        return lambda prediction, target, valid: loss(logarithm(prediction), logarithm(target), valid)

    def in_disparity(prediction: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return loss(disparity(prediction), disparity(target), valid)

    return in_disparity


def logarithm(depth: Tensor) -> Tensor:
    """ln depth, of at least 1 mm; equal steps are equal ratios."""
    return depth.clamp(min=1e-3).log()


def disparity(depth: Tensor) -> Tensor:
    """``10 m / depth``, within [1, 100]: the target of DenseDepth (Alhashim & Wonka 2018, section 3.2)."""
    return 10 / depth.clamp(0.1, 10)
