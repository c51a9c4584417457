"""Moments: all that a linear probe needs to know of a set of pixels.

For inputs x (p channels) and targets y (q outputs) over the pixels of a group of scenes,

    n,  Σ(x−s),  Σ(y−t),  Σ(x−s)(x−s)ᵀ,  Σ(x−s)(y−t)ᵀ,  Σ(y−t)(y−t)ᵀ        (float64)

with one fixed shift (s, t) near the means, so that a channel with a huge offset loses no digits to cancellation. They
add: over batches, workers and machines. Everything a least-squares probe can be asked (its optimum under any L2
penalty, its loss on any set of groups) is a function of them, so the images are read once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor


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
        shift_x: s, ``(p,)``.
        shift_y: t, ``(q,)``.
    """

    n: Float[Tensor, "G"]
    x: Float[Tensor, "G p"]
    y: Float[Tensor, "G q"]
    xx: Float[Tensor, "G p p"]
    xy: Float[Tensor, "G p q"]
    yy: Float[Tensor, "G q"]
    shift_x: Float[Tensor, "p"]
    shift_y: Float[Tensor, "q"]

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

    def add(self, group: int, X: Float[Tensor, "n p"], Y: Float[Tensor, "n q"]) -> None:
        """Add pixels to `group`. Products are formed in the precision of `X`, sums in float64."""
        Xc = X - self.shift_x.to(X)
        Yc = Y.to(X.dtype) - self.shift_y.to(X)
        self.n[group] += len(X)
        self.x[group] += Xc.sum(0, dtype=torch.float64).cpu()
        self.y[group] += Yc.sum(0, dtype=torch.float64).cpu()
        self.xx[group] += (Xc.T @ Xc).cpu()
        self.xy[group] += (Xc.T @ Yc).cpu()
        self.yy[group] += Yc.square().sum(0, dtype=torch.float64).cpu()

    @property
    def groups(self) -> int:
        return len(self.n)

    def take(self, groups: Sequence[int]) -> Moments:
        """The named groups."""
        index = torch.as_tensor(list(groups), dtype=torch.long)
        parts = {name: getattr(self, name)[index] for name in ("n", "x", "y", "xx", "xy", "yy")}
        return replace(self, **parts)

    def total(self, groups: Sequence[int] | None = None) -> Moments:
        """One group: the sum of the named groups (all by default). Adds without copying the stack."""
        chosen = range(self.groups) if groups is None else groups
        parts = {}
        for name in ("n", "x", "y", "xx", "xy", "yy"):
            stack = getattr(self, name)
            sums = torch.zeros_like(stack[0])
            for group in chosen:
                sums += stack[group]
            parts[name] = sums[None]
        return replace(self, **parts)

    def minus(self, other: Moments) -> Moments:
        """What remains of these groups without `other` (same shift, same number of groups)."""
        parts = {name: getattr(self, name) - getattr(other, name) for name in ("n", "x", "y", "xx", "xy", "yy")}
        return replace(self, **parts)

    def select(self, columns: slice | Sequence[int], outputs: slice | Sequence[int] = slice(None)) -> Moments:
        """Only some inputs and outputs, as if the others had never been read."""
        rows = columns if isinstance(columns, slice) else torch.as_tensor(list(columns))
        outs = outputs if isinstance(outputs, slice) else torch.as_tensor(list(outputs))
        return Moments(
            n=self.n,
            x=self.x[:, rows],
            y=self.y[:, outs],
            xx=self.xx[:, rows][:, :, rows],
            xy=self.xy[:, rows][:, :, outs],
            yy=self.yy[:, outs],
            shift_x=self.shift_x[rows],
            shift_y=self.shift_y[outs],
        )

    def about(self, shift_x: Float[Tensor, "p"], shift_y: Float[Tensor, "q"]) -> Moments:
        """The same pixels about another shift s′: with δ = s − s′, Σ(x−s′)(x−s′)ᵀ is the old sum + Σ(x−s)δᵀ + δΣ(x−s)ᵀ + nδδᵀ."""
        dx, dy = self.shift_x - shift_x, self.shift_y - shift_y
        n = self.n[:, None]
        cross = self.x[:, :, None] * dx
        return Moments(
            n=self.n,
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

    def __add__(self, other: Moments) -> Moments:
        """Group by group; `other` is brought to this shift first."""
        if not (torch.equal(self.shift_x, other.shift_x) and torch.equal(self.shift_y, other.shift_y)):
            other = other.about(self.shift_x, self.shift_y)
        parts = {name: getattr(self, name) + getattr(other, name) for name in ("n", "x", "y", "xx", "xy", "yy")}
        return replace(self, **parts)

    def all_reduce(self) -> Moments:
        """The sum over the processes of `torch.distributed`, whose shifts must agree; itself without processes."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        parts = {}
        for name in ("n", "x", "y", "xx", "xy", "yy"):
            summed = getattr(self, name).clone()
            torch.distributed.all_reduce(summed)
            parts[name] = summed
        return replace(self, **parts)

    def loss(self, weight: Float[Tensor, "p q"], bias: Float[Tensor, "q"]) -> Float[Tensor, "G q"]:
        """Σ(y − xᵀw − b)² of each group and output: Σy² − 2wᵀΣxy + wᵀΣxxᵀw, written about the shift."""
        w, b = weight.double(), bias.double()
        # y − xᵀw − b = (y−t) − (x−s)ᵀw − c  with  c = b + sᵀw − t
        c = b + self.shift_x @ w - self.shift_y
        quadratic = torch.einsum("pq,gpr,rq->gq", w, self.xx, w) if self.xx.numel() else torch.zeros_like(self.yy)
        linear = torch.einsum("gpq,pq->gq", self.xy, w)
        loss = self.yy - 2 * linear + quadratic
        loss = loss - 2 * c * (self.y - self.x @ w) + self.n[:, None] * c.square()
        return loss.clamp(min=0)
