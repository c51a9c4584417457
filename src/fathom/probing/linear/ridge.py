"""Ridge regression in closed form, from `Moments`.

The probe minimises  (1/n) Σ (y − b − zᵀv)² + λ‖v‖²  over standardised inputs z = (x − x̄)/σ, with the intercept b not
penalised (Hoerl & Kennard 1970). With R the correlation matrix of x and r the covariance of z with y,

    v(λ) = (R + λI)⁻¹ r,      R = V diag(e) Vᵀ   ⇒   v(λ) = V diag(1/(e + λ)) Vᵀ r

so one eigendecomposition gives the whole path. λ = α/n for scikit-learn's `Ridge(alpha)` on the standardised matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.errors import FathomError
from fathom.probing.linear.moments import Moments

PATH = tuple(float(f"{mantissa}e{exponent}") for exponent in range(-8, 3) for mantissa in (1, 3))
"""Default penalties, relative to unit variance: from numerically none to almost total."""

CONSTANT = 1e-12
"""A channel with less variance than this share of its squared offset, or of the largest variance, is rounding only."""


@dataclass(frozen=True)
class Probe:
    """A fitted linear map: prediction = xᵀ weight + bias, in the units of the target.

    Attributes:
        weight: ``(p, q)`` float64.
        bias: ``(q,)`` float64.
        penalty: λ of each output, ``(q,)``.
    """

    weight: Float[Tensor, "p q"]
    bias: Float[Tensor, "q"]
    penalty: Float[Tensor, "q"]


@dataclass(frozen=True)
class Decomposition:
    """Standardised second moments of one training set, decomposed: what is shared by all penalties.

    Attributes:
        mean_x: ``(p,)``. scale: 1/σ of each channel, 0 where constant, ``(p,)``. mean_y: ``(q,)``.
        eigenvalues: e, ``(p,)``. vectors: V, ``(p, p)``. rotated: Vᵀ r, ``(p, q)``.
        noise: the rounding error of the eigenvalues. A correlation matrix has none below zero, so the most negative one
            shows how far rounding reaches; no penalty may be smaller, or rounding would be fitted.
    """

    mean_x: Float[Tensor, "p"]
    scale: Float[Tensor, "p"]
    mean_y: Float[Tensor, "q"]
    eigenvalues: Float[Tensor, "p"]
    vectors: Float[Tensor, "p p"]
    rotated: Float[Tensor, "p q"]
    noise: float

    def solve(self, penalty: float | Float[Tensor, "q"]) -> Probe:
        """The probe at λ = `penalty` (one for all outputs, or one each), or at `noise` where that is larger."""
        lam = torch.as_tensor(penalty, dtype=torch.float64).expand(self.rotated.shape[1]).clamp(min=self.noise)
        standardised = self.vectors @ (self.rotated * self.shrinkage(lam))
        weight = self.scale[:, None] * standardised
        return Probe(weight, self.mean_y - self.mean_x @ weight, lam.clone())

    def shrinkage(self, penalties: Float[Tensor, "L"]) -> Float[Tensor, "p L"]:
        """1/(e + λ) for each direction and penalty; a direction that rounding made negative counts as 0."""
        lam = penalties.clamp(min=self.noise)
        return 1 / (self.eigenvalues.clamp(min=0)[:, None] + lam).clamp(min=1e-300)


@dataclass(frozen=True)
class Standardised:
    """Second moments of one training set over standardised inputs.

    Attributes:
        mean_x: ``(p,)``. scale: 1/σ of each channel, 0 where constant, ``(p,)``. mean_y: ``(q,)``.
        correlation: R, ``(p, p)``. cross: r, ``(p, q)``.
    """

    mean_x: Float[Tensor, "p"]
    scale: Float[Tensor, "p"]
    mean_y: Float[Tensor, "q"]
    correlation: Float[Tensor, "p p"]
    cross: Float[Tensor, "p q"]


def standardise(moments: Moments) -> Standardised:
    """Standardise the (single) group of `moments`.

    Raises `FathomError` if there is no pixel or a moment is not finite.
    """
    n = float(moments.n.sum())
    if n < 1:
        raise FathomError("There is no valid pixel to fit the probe on; check the depth maps with 'fathom data check'.")
    if not torch.isfinite(moments.xx).all() or not torch.isfinite(moments.xy).all():
        raise FathomError("The encoder gave values that are not finite (NaN or infinity), so no probe can be fitted.")
    mean_x, mean_y = moments.x[0] / n, moments.y[0] / n
    covariance = moments.xx[0] / n - torch.outer(mean_x, mean_x)
    cross = moments.xy[0] / n - torch.outer(mean_x, mean_y)
    variance = covariance.diagonal().clamp(min=0)
    offset = (mean_x + moments.shift_x).square()
    baseline = CONSTANT * torch.maximum(offset, variance.max() if len(variance) else variance.new_zeros(()))
    scale = torch.where(variance > baseline, variance.clamp(min=1e-300).rsqrt(), 0.0)
    return Standardised(
        mean_x=mean_x + moments.shift_x,
        scale=scale,
        mean_y=mean_y + moments.shift_y,
        correlation=scale[:, None] * covariance * scale,
        cross=scale[:, None] * cross,
    )


def decompose(moments: Moments) -> Decomposition:
    """Standardise and decompose the (single) group of `moments`; raises as `standardise` does."""
    ready = standardise(moments)
    eigenvalues, vectors = torch.linalg.eigh(ready.correlation)
    lowest = float(eigenvalues.min()) if len(eigenvalues) else 0.0
    return Decomposition(
        mean_x=ready.mean_x,
        scale=ready.scale,
        mean_y=ready.mean_y,
        eigenvalues=eigenvalues,
        vectors=vectors,
        rotated=vectors.T @ ready.cross,
        noise=max(0.0, -4 * lowest),
    )


def path_losses(fitted: Decomposition, held_out: Moments, penalties: Sequence[float]) -> Float[Tensor, "L q"]:
    """Σ(y − prediction)² over `held_out` (one group) for each penalty, p² operations each."""
    about = held_out.about(fitted.mean_x, fitted.mean_y)  # the intercept is then zero
    lam = torch.as_tensor(list(penalties), dtype=torch.float64)
    coefficients = fitted.shrinkage(lam)[:, :, None] * fitted.rotated[:, None, :]
    weights = fitted.scale[:, None] * (fitted.vectors @ coefficients.flatten(1))
    quadratic = (weights * (about.xx[0] @ weights)).sum(0).reshape(len(lam), -1)
    linear = (weights.reshape(-1, *coefficients.shape[1:]) * about.xy[0][:, None, :]).sum(0)
    return (about.yy[0] - 2 * linear + quadratic).clamp(min=0)


@dataclass(frozen=True)
class Chosen:
    """A probe, its penalties chosen by cross-validation, and what the choice was made on.

    Attributes:
        probe: fitted on all training groups.
        cv_mse: cross-validated mean squared error at the chosen λ, ``(q,)``.
        path: penalties tried. path_mse: cross-validated error of each, ``(L, q)``.
        train_mse: in-sample error of the probe, ``(q,)``.
    """

    probe: Probe
    cv_mse: Float[Tensor, "q"]
    path: tuple[float, ...]
    path_mse: Float[Tensor, "L q"]
    train_mse: Float[Tensor, "q"]


def cross_validate(
    moments: Moments,
    folds: Sequence[Sequence[int]],
    penalties: Sequence[float] = PATH,
    tie: Sequence[Sequence[int]] | None = None,
) -> Chosen:
    """Choose λ by cross-validation over folds of groups, then fit on all groups.

    Args:
        moments: one group a scene or block of scenes.
        folds: the groups of each fold; a fold's training set is all groups that are not in it.
        penalties: the path.
        tie: sets of outputs that share one λ (the components of one feature); by default each output has its own.
    """
    total = moments.total()
    losses = torch.zeros(len(penalties), moments.y.shape[1], dtype=torch.float64)
    for fold in folds:
        held_out = moments.total(fold)
        rest = total.minus(held_out)
        if float(held_out.n.sum()) and float(rest.n.sum()) > 0.5:
            losses += path_losses(decompose(rest), held_out, penalties)
    path_mse = losses / total.n.sum()
    best = torch.empty(path_mse.shape[1], dtype=torch.long)
    for outputs in tie or [[j] for j in range(path_mse.shape[1])]:
        best[list(outputs)] = int(path_mse[:, list(outputs)].sum(1).argmin())
    lam = torch.as_tensor(list(penalties), dtype=torch.float64)[best]
    fitted = decompose(total)
    probe = fitted.solve(lam)
    return Chosen(
        probe=probe,
        cv_mse=path_mse.gather(0, best[None])[0],
        path=tuple(penalties),
        path_mse=path_mse,
        train_mse=total.loss(probe.weight, probe.bias)[0] / total.n.sum(),
    )
