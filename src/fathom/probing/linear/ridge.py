"""Ridge regression in closed form, from `Moments`.

The probe minimises  (1/n) Σ (y − b − zᵀv)² + λ‖v‖²  over standardised inputs z = (x − x̄)/σ, with the intercept b not
penalised (Hoerl & Kennard 1970). With R the correlation matrix of x and r the covariance of z with y,

    v(λ) = (R + λI)⁻¹ r,      R = V diag(e) Vᵀ   ⇒   v(λ) = V diag(1/(e + λ)) Vᵀ r

so one eigendecomposition gives the whole path. λ = α/n for scikit-learn's `Ridge(alpha)` on the standardised matrix.

Products in float32 leave errors in R. A penalty below their size would fit them, so it is left out of the path (`Chosen.left_out`),
never raised in silence; moments of products in float64 have errors a billion times smaller.

A probe predicts inside the range of its training targets: the linear map, then `Probe.clip`. Losses from moments, such as the
cross-validated ones, are those of the linear map before the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.errors import FathomError
from fathom.probing.linear.moments import TOLERANCE, ContradictionError, Moments, rounded_loss

PATH = tuple(float(f"{mantissa}e{exponent}") for exponent in range(-8, 3) for mantissa in (1, 3))
"""Default penalties, relative to unit variance: from numerically none to almost total."""

CONSTANT = 1e-12
"""A channel with less variance than this share of its own squared offset is rounding only: float32 resolves 4e-15 of it."""

SPECTRAL = 0.5
"""Rounding of R's small eigenvalues in units of u·√p, u the unit roundoff of one product: float32 products of 2,000 to 20,000 cells
of 10 to 800 independent channels gave 0.03 to 0.34. Correlated channels may have more; their negative eigenvalues show it."""


@dataclass(frozen=True)
class Probe:
    """A fitted linear map: prediction = xᵀ weight + bias, in the units of the target, then clipped.

    Attributes:
        weight: ``(p, q)`` float64.
        bias: ``(q,)`` float64.
        penalty: λ of each output, ``(q,)``.
        low, high: range of the training targets, ``(q,)``.
    """

    weight: Float[Tensor, "p q"]
    bias: Float[Tensor, "q"]
    penalty: Float[Tensor, "q"]
    low: Float[Tensor, "q"]
    high: Float[Tensor, "q"]

    def predict(self, X: Float[Tensor, "n p"]) -> Float[Tensor, "n q"]:
        """The linear map, clipped to the range of the training targets."""
        return (X.double() @ self.weight + self.bias).clamp(self.low, self.high)


@dataclass(frozen=True)
class Decomposition:
    """Standardised second moments of one training set, decomposed: what is shared by all penalties.

    Attributes:
        mean_x: ``(p,)``. scale: 1/σ of each channel, 0 where constant, ``(p,)``. mean_y: ``(q,)``.
        eigenvalues: e, of the u channels that are not constant, ``(u,)``. vectors: V, ``(p, u)``. rotated: Vᵀ r, ``(u, q)``.
        low, high: range of the targets, ``(q,)``.
        noise: how far rounding moves the eigenvalues, where some are that small; else 0. No smaller penalty is used: rounding
            would be fitted.
        rounding: unit roundoff of the products.
    """

    mean_x: Float[Tensor, "p"]
    scale: Float[Tensor, "p"]
    mean_y: Float[Tensor, "q"]
    eigenvalues: Float[Tensor, "u"]
    vectors: Float[Tensor, "p u"]
    rotated: Float[Tensor, "u q"]
    low: Float[Tensor, "q"]
    high: Float[Tensor, "q"]
    noise: float
    rounding: float

    def solve(self, penalty: float | Float[Tensor, "q"]) -> Probe:
        """The probe at λ = `penalty` (one for all outputs, or one each).

        Raises `FathomError` where it lies below the rounding of the moments.
        """
        lam = torch.as_tensor(penalty, dtype=torch.float64).expand(self.rotated.shape[1])
        if len(lam) and float(lam.min()) < self.noise:
            raise FathomError(
                f"The penalty {float(lam.min()):.1g} lies below {self.noise:.1g}, the rounding of these moments; use a larger one."
            )
        weight = self.scale[:, None] * (self.vectors @ (self.rotated * self.shrinkage(lam)))
        return Probe(weight, self.mean_y - self.mean_x @ weight, lam.clone(), self.low, self.high)

    def shrinkage(self, penalties: Float[Tensor, "L"]) -> Float[Tensor, "u L"]:
        """1/(e + λ) for each direction and penalty; a direction that rounding made negative counts as 0."""
        return 1 / (self.eigenvalues.clamp(min=0)[:, None] + penalties).clamp(min=1e-300)


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


def standardise(moments: Moments, scale: Float[Tensor, "p"] | None = None) -> Standardised:
    """Standardise the (single) group of `moments`.

    Args:
        moments: of the pixels to fit on.
        scale: of each channel, in place of 1/σ over these pixels.

    Raises:
        FathomError: there is no pixel, or a moment is not finite.
        ContradictionError: the moments cannot be those of any data.
    """
    n = float(moments.n.sum())
    if n < 1:
        raise FathomError("There is no valid pixel to fit the probe on; check the depth maps with 'fathom data check'.")
    if not torch.isfinite(moments.xx).all() or not torch.isfinite(moments.xy).all():
        raise FathomError("The encoder gave values that are not finite (NaN or infinity), so no probe can be fitted.")
    mean_x, mean_y = moments.x[0] / n, moments.y[0] / n
    covariance = moments.xx[0] / n - torch.outer(mean_x, mean_x)
    cross = moments.xy[0] / n - torch.outer(mean_x, mean_y)
    variance = covariance.diagonal()
    # What rounding may leave of the variance of a channel that has none: of its sums, and of the numbers that it was given as.
    slack_x = moments.slack * moments.xx[0].diagonal() / n
    slack_y = moments.slack * moments.yy[0] / n
    constant = torch.maximum(CONSTANT * (mean_x + moments.shift_x).square(), slack_x)
    variance_y = moments.yy[0] / n - mean_y.square()
    _check(variance, slack_x, variance_y, slack_y, cross, constant)
    own = variance.clamp(min=1e-300).rsqrt()
    scale = torch.where(variance > constant, own if scale is None else scale, 0.0)
    return Standardised(
        mean_x=mean_x + moments.shift_x,
        scale=scale,
        mean_y=mean_y + moments.shift_y,
        correlation=scale[:, None] * covariance * scale,
        cross=scale[:, None] * cross,
    )


def _check(
    variance: Float[Tensor, "p"],
    slack_x: Float[Tensor, "p"],
    variance_y: Float[Tensor, "q"],
    slack_y: Float[Tensor, "q"],
    cross: Float[Tensor, "p q"],
    constant: Float[Tensor, "p"],
) -> None:
    """Raise `ContradictionError` where a variance is negative, or cov(x, y)² > var(x) var(y), by more than rounding explains."""
    if bool((variance < -slack_x).any()) or bool((variance_y < -slack_y).any()):
        raise ContradictionError("the sums over training cells give a negative variance")
    bound = (variance.clamp(min=0) + constant)[:, None] * (variance_y.clamp(min=0) + slack_y)
    if bool((cross.square() > 1.01 * bound).any()):
        channel = int((cross.square() - 1.01 * bound).amax(1).argmax())
        raise ContradictionError(
            f"channel {channel} covaries with the target more than its variance allows (the Cauchy-Schwarz bound)"
        )


def decompose(moments: Moments, scale: Float[Tensor, "p"] | None = None) -> Decomposition:
    """Standardise and decompose the (single) group of `moments`; arguments and errors as of `standardise`."""
    ready = standardise(moments, scale)
    used = torch.nonzero(ready.scale)[:, 0]  # a constant channel has no direction
    eigenvalues, inner = torch.linalg.eigh(ready.correlation[used][:, used])
    vectors = inner.new_zeros(len(ready.scale), len(used)).index_copy_(0, used, inner)
    return Decomposition(
        mean_x=ready.mean_x,
        scale=ready.scale,
        mean_y=ready.mean_y,
        eigenvalues=eigenvalues,
        vectors=vectors,
        rotated=vectors.T @ ready.cross,
        low=moments.low[0],
        high=moments.high[0],
        noise=_noise(moments, ready, eigenvalues),
        rounding=moments.rounding,
    )


def _noise(moments: Moments, ready: Standardised, eigenvalues: Float[Tensor, "u"]) -> float:
    """How far rounding moves the eigenvalues of R, or 0 where all of them are well above that.

    A correlation matrix has no eigenvalue below zero, so the most negative one shows how far rounding reaches; where there is
    none below zero by chance, the error that products of this precision have.
    """
    if not len(eigenvalues):
        return 0.0
    # A mean far from the shift is subtracted from larger sums, which costs digits.
    inflation = float((moments.xx[0].diagonal() / moments.n.sum() * ready.scale.square()).max())
    level = SPECTRAL * moments.rounding * len(eigenvalues) ** 0.5 * max(inflation, 1.0)
    lowest = float(eigenvalues[0])
    return max(level, -4 * lowest) if lowest < 4 * level else 0.0


def path_losses(fitted: Decomposition, held_out: Moments, penalties: Sequence[float]) -> Float[Tensor, "L q"]:
    """Σ(y − prediction)² over `held_out` (one group) for each penalty, p² operations each; infinite below rounding.

    Raises `ContradictionError` where a loss is negative by more than rounding explains.
    """
    about = held_out.about(fitted.mean_x, fitted.mean_y)  # the intercept is then zero
    lam = torch.as_tensor(list(penalties), dtype=torch.float64)
    coefficients = fitted.shrinkage(lam)[:, :, None] * fitted.rotated[:, None, :]
    weights = fitted.scale[:, None] * (fitted.vectors @ coefficients.flatten(1))
    quadratic = (weights * (about.xx[0] @ weights)).sum(0).reshape(len(lam), -1)
    linear = (weights.reshape(-1, *coefficients.shape[1:]) * about.xy[0][:, None, :]).sum(0)
    size_x, size_y = held_out.sizes_about(fitted.mean_x, fitted.mean_y)
    terms = (size_x[:, None] * weights.square()).sum(0).reshape(len(lam), -1) * max(len(weights), 1) ** 0.5
    usable = lam >= fitted.noise
    losses = torch.full_like(quadratic, torch.inf)
    losses[usable] = rounded_loss(
        (about.yy[0] - 2 * linear + quadratic)[usable],
        (size_y + terms)[usable],
        max(TOLERANCE * fitted.rounding, held_out.slack),
    )
    return losses


@dataclass(frozen=True)
class Chosen:
    """A probe, its penalties chosen by cross-validation, and what the choice was made on.

    Attributes:
        probe: fitted on all training groups.
        cv_mse: cross-validated mean squared error at the chosen λ, ``(q,)``, of the linear map before the clip.
        path: penalties tried. path_mse: cross-validated error of each, ``(L, q)``.
        train_mse: in-sample error of the probe, ``(q,)``, before the clip.
        left_out: penalties that were asked for and lie below the rounding of the moments.
    """

    probe: Probe
    cv_mse: Float[Tensor, "q"]
    path: tuple[float, ...]
    path_mse: Float[Tensor, "L q"]
    train_mse: Float[Tensor, "q"]
    left_out: tuple[float, ...] = ()

    @property
    def limited_by_rounding(self) -> bool:
        """Whether a penalty that was left out might have been chosen: the least that was tried is the best of some output.

        A banded fit searches without a path; what limits it shows in the fit of the same columns with one penalty.
        """
        return bool(self.left_out and self.path) and bool((self.probe.penalty <= min(self.path)).any())


def cross_validate(
    moments: Moments,
    folds: Sequence[Sequence[int]],
    penalties: Sequence[float] = PATH,
    tie: Sequence[Sequence[int]] | None = None,
) -> Chosen:
    """Choose λ by cross-validation over folds of groups, then fit on all groups.

    λ is relative to the variance of each channel over all groups, in every fold: a channel that fires in one scene has next to no
    variance in the fold without it, and standardised there it would decide the choice by that scene alone.

    Args:
        moments: one group a scene or block of scenes.
        folds: the groups of each fold; a fold's training set is all groups that are not in it.
        penalties: the path.
        tie: sets of outputs that share one λ (the components of one feature); by default each output has its own.
    """
    total = moments.total()
    fitted = decompose(total)
    asked = torch.as_tensor(list(penalties), dtype=torch.float64)
    losses = torch.zeros(len(penalties), moments.y.shape[1], dtype=torch.float64)
    for fold in folds:
        # Added, not subtracted from the total: a difference would carry the rounding of what was taken away.
        held_out, rest = moments.total(fold), moments.total([g for g in range(moments.groups) if g not in set(fold)])
        if float(held_out.n.sum()) and float(rest.n.sum()):
            losses += path_losses(decompose(rest, fitted.scale), held_out, penalties)
    usable = (asked >= fitted.noise) & torch.isfinite(losses).all(1)
    if not bool(usable.any()):
        raise FathomError(
            f"All penalties up to {max(penalties):g} lie below the rounding of this encoder's features; ask for larger ones."
        )
    lam, path_mse = asked[usable], losses[usable] / total.n.sum()
    best = torch.empty(path_mse.shape[1], dtype=torch.long)
    for outputs in tie or [[j] for j in range(path_mse.shape[1])]:
        best[list(outputs)] = int(path_mse[:, list(outputs)].sum(1).argmin())
    probe = fitted.solve(lam[best])
    return Chosen(
        probe=probe,
        cv_mse=path_mse.gather(0, best[None])[0],
        path=tuple(lam.tolist()),
        path_mse=path_mse,
        train_mse=total.loss(probe.weight, probe.bias)[0] / total.n.sum(),
        left_out=tuple(asked[~usable].tolist()),
    )
