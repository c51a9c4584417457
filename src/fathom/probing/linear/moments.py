"""Moments: all that a linear probe needs to know of a set of pixels.

For inputs x (p channels) and targets y (q outputs) over the pixels of a group of scenes,

    n,  Σ(x−s),  Σ(y−t),  Σ(x−s)(x−s)ᵀ,  Σ(x−s)(y−t)ᵀ,  Σ(y−t)(y−t)ᵀ        (float64)

with one fixed shift (s, t) near the means, so that a channel with a huge offset loses no digits to cancellation. They
add: over batches, workers and machines. Everything a least-squares probe can be asked (its optimum under any L2
penalty, its loss on any set of groups) is a function of them, so the images are read once.

Products of float32 data are formed in float32 and summed in float64. Float32 holds 1e-38 to 3e38, so a product of channels
near 1e-24 would be 0 and one near 1e20 infinite. Each batch is therefore multiplied by a power of two for each channel
(`power_of_two`), which rounds nothing, and the products are divided by it in float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.errors import FathomError

SAFE_EXPONENT = 16
"""Magnitudes from 2⁻¹⁶ to 2¹⁶ are left as they are: neither their products nor the sums of these leave float32's range."""

TOLERANCE = 1024.0
"""Units of roundoff by which a sum of products may be off. Float32 products of 2,000 to 20,000 cells of positive, correlated
columns were off by 3 to 530; independent columns by less than 1."""


class ContradictionError(FathomError):
    """Moments that no data can have: a negative variance or loss, or a covariance beyond the Cauchy-Schwarz bound."""


def power_of_two(largest: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
    """A power of two for each channel that brings its largest magnitude near 1; 1 where that is not needed."""
    exponent = torch.frexp(largest.float())[1]
    usual = (exponent.abs() <= SAFE_EXPONENT) | ~torch.isfinite(largest)
    return torch.where(
        usual, 1.0, torch.ldexp(torch.ones_like(largest, dtype=torch.float32), (-exponent).clamp(-126, 126))
    )


def largest_magnitude(columns: Float[Tensor, "n p"]) -> Float[Tensor, "p"]:
    """max |x| of each column; 0 of no row."""
    if not columns.numel():
        return columns.new_zeros(columns.shape[1])
    return torch.maximum(columns.amax(0), -columns.amin(0))


@dataclass
class Moments:
    """Moments of G groups, stacked.

    Attributes:
        n: pixels in each group, ``(G,)``.
        x: Σ(x−s), ``(G, p)``.
        y: Σ(y−t), ``(G, q)``.
        xx: Σ(x−s)(x−s)ᵀ, ``(G, p, p)``.
        xy: Σ(x−s)(y−t)ᵀ, ``(G, p, q)``.
        yy: Σ(y−t)², ``(G, q)``: the diagonal of Σ(y−t)(y−t)ᵀ, for outputs are fitted one by one.
        low: least target in each group, ``(G, q)``; infinity in a group without pixels.
        high: largest target, ``(G, q)``; minus infinity there.
        shift_x: s, ``(p,)``.
        shift_y: t, ``(q,)``.
        rounding: unit roundoff of the products: 2⁻²⁴ if any was formed in float32, else 2⁻⁵³.
    """

    n: Float[Tensor, "G"]
    x: Float[Tensor, "G p"]
    y: Float[Tensor, "G q"]
    xx: Float[Tensor, "G p p"]
    xy: Float[Tensor, "G p q"]
    yy: Float[Tensor, "G q"]
    low: Float[Tensor, "G q"]
    high: Float[Tensor, "G q"]
    shift_x: Float[Tensor, "p"]
    shift_y: Float[Tensor, "q"]
    rounding: float = 2.0**-53

    @staticmethod
    def zeros(groups: int, shift_x: Float[Tensor, "p"], shift_y: Float[Tensor, "q"]) -> Moments:
        """Moments of no pixel, in `groups` groups, about the given shift."""
        p, q = len(shift_x), len(shift_y)

        def empty(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=torch.float64)

        return Moments(
            n=empty(groups),
            x=empty(groups, p),
            y=empty(groups, q),
            xx=empty(groups, p, p),
            xy=empty(groups, p, q),
            yy=empty(groups, q),
            low=torch.full((groups, q), torch.inf, dtype=torch.float64),
            high=torch.full((groups, q), -torch.inf, dtype=torch.float64),
            # Exact in float32, so that what is subtracted from float32 data is the very shift recorded here.
            shift_x=shift_x.float().double().cpu(),
            shift_y=shift_y.float().double().cpu(),
        )

    @staticmethod
    def of(X: Float[Tensor, "n p"], Y: Float[Tensor, "n q"]) -> Moments:
        """Moments of one group from a design matrix, about its own mean; products in the precision of `X`."""
        moments = Moments.zeros(1, X.double().mean(0), Y.double().mean(0))
        moments.add(0, X, Y)
        return moments

    def tensors(self) -> dict[str, Tensor]:
        """All that `from_tensors` needs, by the names `MOMENTS`."""
        return {name: torch.as_tensor(getattr(self, name), dtype=torch.float64) for name in MOMENTS}

    @staticmethod
    def from_tensors(tensors: Mapping[str, Tensor]) -> Moments:
        """The moments that gave these `tensors`."""
        own: dict[str, Any] = {name: tensors[name] for name in MOMENTS}
        return Moments(**own | {"rounding": float(own["rounding"])})

    def add(self, group: int, X: Float[Tensor, "n p"], Y: Float[Tensor, "n q"]) -> None:
        """Add pixels to `group`. Products are formed in the precision of `X`, sums in float64."""
        Y = Y.to(X.dtype)
        cx, cy = (power_of_two(largest_magnitude(part)).to(X) for part in (X, Y))
        Xc, Yc = X * cx - self.shift_x.to(X) * cx, Y * cy - self.shift_y.to(X) * cy
        ix, iy = 1 / cx.double(), 1 / cy.double()
        self.n[group] += len(X)
        self.x[group] += (Xc.sum(0, dtype=torch.float64) * ix).cpu()
        self.y[group] += (Yc.sum(0, dtype=torch.float64) * iy).cpu()
        self.xx[group] += ((Xc.T @ Xc).double() * ix[:, None] * ix).cpu()
        self.xy[group] += ((Xc.T @ Yc).double() * ix[:, None] * iy).cpu()
        self.yy[group] += (Yc.square().sum(0, dtype=torch.float64) * iy.square()).cpu()
        if len(X):
            self.widen(group, Y.amin(0), Y.amax(0))
        self.note_precision(X.dtype)

    def widen(self, group: int, low: Float[Tensor, "q"], high: Float[Tensor, "q"]) -> None:
        """Extend the range of targets of a group."""
        self.low[group] = torch.minimum(self.low[group], low.double().cpu())
        self.high[group] = torch.maximum(self.high[group], high.double().cpu())

    def note_precision(self, dtype: torch.dtype) -> None:
        """Products of this precision were added."""
        self.rounding = max(self.rounding, torch.finfo(dtype).eps / 2)

    @property
    def slack(self) -> float:
        """The share of its largest term by which a sum may be off: products in `rounding`, added up in float64.

        The second part is γ_n = n·u (Higham 2002, section 3.1). Sums of one value over and over, as a dead channel gives them, come
        near it; TOLERANCE alone is exceeded from some 20,000 cells on.
        """
        return TOLERANCE * self.rounding + float(self.n.sum()) * 2.0**-53

    def spread(self) -> Float[Tensor, "p"]:
        """Root mean square of x − s over all groups."""
        squares = self.xx.diagonal(dim1=1, dim2=2).sum(0)
        return (squares / self.n.sum().clamp(min=1)).clamp(min=0).sqrt()

    @property
    def groups(self) -> int:
        return len(self.n)

    def take(self, groups: Sequence[int]) -> Moments:
        """The named groups."""
        index = torch.as_tensor(list(groups), dtype=torch.long)
        parts = {name: getattr(self, name)[index] for name in (*SUMS, "low", "high")}
        return replace(self, **parts)

    def total(self, groups: Sequence[int] | None = None) -> Moments:
        """One group: the sum of the named groups (all by default). Adds without copying the stack."""
        chosen = range(self.groups) if groups is None else groups
        parts: dict[str, Any] = {}
        for name in SUMS:
            stack = getattr(self, name)
            sums = torch.zeros_like(stack[0])
            for group in chosen:
                sums += stack[group]
            parts[name] = sums[None]
        index = torch.as_tensor(list(chosen), dtype=torch.long)
        if len(index):
            parts |= {"low": self.low[index].amin(0)[None], "high": self.high[index].amax(0)[None]}
        else:
            parts |= {
                "low": torch.full_like(self.low[:1], torch.inf),
                "high": torch.full_like(self.high[:1], -torch.inf),
            }
        return replace(self, **parts)

    def select(self, columns: slice | Sequence[int], outputs: slice | Sequence[int] = slice(None)) -> Moments:
        """Only some inputs and outputs, as if the others had never been read."""
        rows = columns if isinstance(columns, slice) else torch.as_tensor(list(columns))
        outs = outputs if isinstance(outputs, slice) else torch.as_tensor(list(outputs))
        return replace(
            self,
            x=self.x[:, rows],
            y=self.y[:, outs],
            xx=self.xx[:, rows][:, :, rows],
            xy=self.xy[:, rows][:, :, outs],
            yy=self.yy[:, outs],
            low=self.low[:, outs],
            high=self.high[:, outs],
            shift_x=self.shift_x[rows],
            shift_y=self.shift_y[outs],
        )

    def about(self, shift_x: Float[Tensor, "p"], shift_y: Float[Tensor, "q"]) -> Moments:
        """The same pixels about another shift s′: with δ = s − s′, Σ(x−s′)(x−s′)ᵀ is the old sum + Σ(x−s)δᵀ + δΣ(x−s)ᵀ + nδδᵀ."""
        dx, dy = self.shift_x - shift_x, self.shift_y - shift_y
        n = self.n[:, None]
        cross = self.x[:, :, None] * dx
        return replace(
            self,
            x=self.x + n * dx,
            y=self.y + n * dy,
            xx=self.xx + cross + cross.mT + n[:, :, None] * torch.outer(dx, dx),
            xy=self.xy
            + self.x[:, :, None] * dy
            + dx[:, None] * self.y[:, None, :]
            + n[:, :, None] * torch.outer(dx, dy),
            yy=self.yy + 2 * dy * self.y + n * dy.square(),
            shift_x=shift_x,
            shift_y=shift_y,
        )

    def sizes_about(
        self, shift_x: Float[Tensor, "p"], shift_y: Float[Tensor, "q"]
    ) -> tuple[Float[Tensor, "p"], Float[Tensor, "q"]]:
        """The largest terms of Σ(x−s′)² and Σ(y−t′)² of one group: what rounding in `about` is measured by."""
        n = float(self.n.sum())
        x = self.xx[0].diagonal() + n * (self.shift_x - shift_x).square()
        return x, self.yy[0] + n * (self.shift_y - shift_y).square()

    def __add__(self, other: Moments) -> Moments:
        """Group by group; `other` is brought to this shift first."""
        if not (torch.equal(self.shift_x, other.shift_x) and torch.equal(self.shift_y, other.shift_y)):
            other = other.about(self.shift_x, self.shift_y)
        parts = {name: getattr(self, name) + getattr(other, name) for name in SUMS}
        return replace(
            self,
            **parts,
            low=torch.minimum(self.low, other.low),
            high=torch.maximum(self.high, other.high),
            rounding=max(self.rounding, other.rounding),
        )

    def all_reduce(self) -> Moments:
        """The sum over the processes of `torch.distributed`, about the shift of the first."""
        shifts = self.shift_x.clone(), self.shift_y.clone()
        for shift in shifts:
            torch.distributed.broadcast(shift, src=0)
        own = self.about(*shifts)
        operations = dict.fromkeys(SUMS, torch.distributed.ReduceOp.SUM)
        operations |= {"low": torch.distributed.ReduceOp.MIN, "high": torch.distributed.ReduceOp.MAX}
        parts = {}
        for name, operation in operations.items():
            parts[name] = getattr(own, name).clone()
            torch.distributed.all_reduce(parts[name], op=operation)
        worst = torch.tensor([self.rounding], dtype=torch.float64)
        torch.distributed.all_reduce(worst, op=torch.distributed.ReduceOp.MAX)
        return replace(own, **parts, rounding=float(worst))

    def loss(self, weight: Float[Tensor, "p q"], bias: Float[Tensor, "q"]) -> Float[Tensor, "G q"]:
        """Σ(y − xᵀw − b)² of each group and output: Σy² − 2wᵀΣxy + wᵀΣxxᵀw, written about the shift."""
        w, b = weight.double(), bias.double()
        # y − xᵀw − b = (y−t) − (x−s)ᵀw − c  with  c = b + sᵀw − t
        c = b + self.shift_x @ w - self.shift_y
        quadratic = torch.einsum("pq,gpr,rq->gq", w, self.xx, w) if self.xx.numel() else torch.zeros_like(self.yy)
        linear = torch.einsum("gpq,pq->gq", self.xy, w)
        loss = self.yy - 2 * linear + quadratic
        loss = loss - 2 * c * (self.y - self.x @ w) + self.n[:, None] * c.square()
        scale = (
            self.yy
            + self.xx.diagonal(dim1=1, dim2=2) @ w.square() * max(len(w), 1) ** 0.5
            + self.n[:, None] * c.square()
        )
        return rounded_loss(loss, scale, self.slack)


SUMS = ("n", "x", "y", "xx", "xy", "yy")
"""The fields that add."""

MOMENTS = (*SUMS, "low", "high", "shift_x", "shift_y", "rounding")
"""All fields."""


def rounded_loss(loss: Tensor, scale: Tensor, slack: float) -> Tensor:
    """A sum of squared errors made of moments: 0 where rounding left it a little below.

    Args:
        loss: computed. scale: the size of the terms whose difference it is. slack: the share of it that rounding explains.

    Raises:
        ContradictionError: it is negative by more than rounding explains.
    """
    if bool((loss < -slack * scale).any()):
        worst = float((loss / scale.clamp(min=1e-300)).min())
        raise ContradictionError(
            f"the sums over training cells give a squared error of {worst:.2g} times its largest term; a squared error cannot "
            "be negative"
        )
    return loss.clamp(min=0)
