"""Banded ridge: the concatenation of layers with a penalty for each layer.

    v = argmin (1/n) Σ (y − b − zᵀv)² + Σ_l λ_l ‖v_l‖²  =  (R + diag(λ))⁻¹ r

(Nunez-Elizalde, Huth & Gallant 2019; Dupré la Tour et al. 2022). With one λ a wide layer that knows nothing drags a narrow one
that knows much. The penalties are chosen by coordinate descent on the cross-validated loss over training scenes, from the best
single λ, so that this loss is never above that of the plain concatenation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.probing.linear.moments import Moments, rounded_loss
from fathom.probing.linear.ridge import Chosen, Probe, standardise

BANDED = "banded"
"""Name of the concatenation with a penalty for each layer."""

STEPS = (10.0, math.sqrt(10.0))
"""Factors by which a penalty is moved, in turn."""

SPAN = (1e-8, 1e4)
"""Penalties stay inside, unless the user names the values to choose from: then inside those."""


@dataclass(frozen=True)
class Banded:
    """The probe, and λ of each band and output, ``(bands, q)``, in the order of the bands given."""

    chosen: Chosen
    penalties: Float[Tensor, "bands q"]


@dataclass(frozen=True)
class _Fold:
    """Standardised moments of a training set, and of what was held out of it in the same coordinates; `size_x`, `size_y` are the sizes that rounding is measured by."""

    gram: Float[Tensor, "p p"]
    cross: Float[Tensor, "p q"]
    held_gram: Float[Tensor, "p p"]
    held_cross: Float[Tensor, "p q"]
    held_squares: Float[Tensor, "q"]
    size_x: Float[Tensor, "p"]
    size_y: Float[Tensor, "q"]
    slack: float

    def loss(self, penalty: Float[Tensor, "p"], outputs: list[int]) -> float:
        """Σ of held-out squared errors of some outputs; infinite where rounding leaves no solution."""
        v = _solve(self.gram, self.cross[:, outputs], penalty)
        if v is None:
            return math.inf
        quadratic = (v * (self.held_gram @ v)).sum()
        loss = self.held_squares[outputs].sum() - 2 * (v * self.held_cross[:, outputs]).sum() + quadratic
        terms = self.size_y[outputs].sum() + (self.size_x @ v.square()).sum() * len(v) ** 0.5
        return float(rounded_loss(loss, terms, self.slack))


def _solve(
    gram: Float[Tensor, "p p"], cross: Float[Tensor, "p q"], penalty: Float[Tensor, "p"]
) -> Float[Tensor, "p q"] | None:
    factor, info = torch.linalg.cholesky_ex(gram + penalty.diag())
    return None if int(info) else torch.cholesky_solve(cross, factor)


def banded_ridge(
    moments: Moments,
    folds: Sequence[Sequence[int]],
    bands: Mapping[str, slice],
    start: Chosen,
    ties: Sequence[Sequence[int]],
    span: tuple[float, float] = SPAN,
) -> Banded:
    """Choose λ of each band by cross-validation over folds of groups, then fit on all groups.

    Args:
        moments: one group a scene or block of scenes.
        folds: the groups of each fold.
        bands: columns of each layer; together all columns.
        start: the fit with one λ, from `cross_validate` on the same moments and folds. Where rounding left out penalties there,
            no band gets a smaller one than was tried.
        ties: sets of outputs that share their penalties.
        span: least and largest penalty of a band.
    """
    total = moments.total()
    cells = float(total.n.sum())
    whole = standardise(total)
    split = [_fold(moments, set(fold), whole.scale) for fold in folds]
    prepared = [item for item in split if item is not None]
    columns = list(bands.values())
    q = moments.y.shape[1]
    weight, penalties = torch.zeros(moments.x.shape[1], q, dtype=torch.float64), torch.zeros(len(columns), q).double()
    cv_mse = torch.zeros(q, dtype=torch.float64)
    least = max(span[0], min(start.path)) if start.left_out else span[0]
    for tie in ties:
        outputs = list(tie)
        lam = _descend(prepared, columns, float(start.probe.penalty[outputs[0]]), outputs, (least, span[1]))
        solved = _solve(whole.correlation, whole.cross[:, outputs], _spread(lam, columns))
        assert solved is not None  # no fold was more singular than all scenes together
        weight[:, outputs] = whole.scale[:, None] * solved
        penalties[:, outputs] = torch.tensor(lam, dtype=torch.float64)[:, None]
        for j in outputs:
            cv_mse[j] = math.fsum(item.loss(_spread(lam, columns), [j]) for item in prepared) / cells
    bias = whole.mean_y - whole.mean_x @ weight
    probe = Probe(weight, bias, penalties.log().mean(0).exp(), total.low[0], total.high[0])
    chosen = Chosen(
        probe=probe,
        cv_mse=cv_mse,
        path=(),
        path_mse=torch.zeros(0, q, dtype=torch.float64),
        train_mse=total.loss(weight, bias)[0] / cells,
        left_out=start.left_out,
    )
    return Banded(chosen, penalties)


def _fold(moments: Moments, fold: set[int], scale: Float[Tensor, "p"]) -> _Fold | None:
    held_out, rest = moments.total(sorted(fold)), moments.total([g for g in range(moments.groups) if g not in fold])
    if not float(held_out.n.sum()) or not float(rest.n.sum()):
        return None
    fitted = standardise(rest, scale)
    about = held_out.about(fitted.mean_x, fitted.mean_y)
    size_x, size_y = held_out.sizes_about(fitted.mean_x, fitted.mean_y)
    return _Fold(
        gram=fitted.correlation,
        cross=fitted.cross,
        held_gram=fitted.scale[:, None] * about.xx[0] * fitted.scale,
        held_cross=fitted.scale[:, None] * about.xy[0],
        held_squares=about.yy[0],
        size_x=fitted.scale.square() * size_x,
        size_y=size_y,
        slack=moments.slack,
    )


def _spread(lam: Sequence[float], columns: Sequence[slice]) -> Float[Tensor, "p"]:
    """λ of each column."""
    penalty = torch.empty(max(part.stop for part in columns), dtype=torch.float64)
    for value, part in zip(lam, columns, strict=True):
        penalty[part] = value
    return penalty


def _descend(
    folds: Sequence[_Fold], columns: Sequence[slice], start: float, outputs: list[int], span: tuple[float, float]
) -> list[float]:
    """Move one band's λ at a time while the cross-validated loss falls."""

    def loss(lam: Sequence[float]) -> float:
        return math.fsum(fold.loss(_spread(lam, columns), outputs) for fold in folds)

    lowest, highest = span
    lam = [min(max(start, lowest), highest)] * len(columns)
    best = loss(lam)
    # What is not worth a further round, and lies above rounding where the target is known exactly.
    least = 1e-6 * max(best, 1e-6 * math.fsum(float(fold.held_squares[outputs].sum()) for fold in folds))
    for step in STEPS:
        moved = True
        while moved:
            moved = False
            for band in range(len(columns)):
                for factor in (step, 1 / step):
                    while lowest <= lam[band] * factor <= highest:
                        tried = [*lam[:band], lam[band] * factor, *lam[band + 1 :]]
                        value = loss(tried)
                        if not value < best - least:
                            break
                        lam, best, moved = tried, value, True
    return lam
