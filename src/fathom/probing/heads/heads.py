"""Heads beyond linear: what may stand between a frozen encoder and a feature when a linear map is not enough.

Both see one cell at a time, so that a 1x1 convolution is a linear map of the cell's columns: neither adds context that the
encoder does not have. They differ from the linear probe in capacity alone, and that changes what a score means; see
docs/heads.md.

A head is a linear map of its inputs followed by something that is not linear. `columns` gives the first part, so that a
prediction can take the large product on each layer's own coarse grid (`Design.predict`), and `finish` the second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.errors import UsageError, nearest

LINEAR_NORMALISATION = 0.1
"""Added to every bin after the ReLU, as in AdaBins (Bhat et al. 2021) and DINOv2."""


@dataclass(frozen=True)
class Spread:
    """Where the targets of the cells that are trained on lie, output by output.

    Attributes:
        mean, deviation, low, high: ``(q,)``, in the unit of the feature.
    """

    mean: Float[Tensor, "q"]
    deviation: Float[Tensor, "q"]
    low: Float[Tensor, "q"]
    high: Float[Tensor, "q"]

    def take(self, outputs: slice) -> Spread:
        """Of some of the outputs."""
        return Spread(self.mean[outputs], self.deviation[outputs], self.low[outputs], self.high[outputs])


class MlpHead(nn.Module):
    """1x1 convolution, GELU, 1x1 convolution; its output is about the training mean, in training deviations.

    Args:
        channels: columns of a cell, standardised.
        spread: of the targets.
        width: hidden units.
    """

    def __init__(self, channels: int, spread: Spread, width: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(channels, width)
        self.output = nn.Linear(width, len(spread.mean))
        self.register_buffer("mean", spread.mean.float())
        self.register_buffer("deviation", spread.deviation.float())

    def forward(self, cells: Float[Tensor, "n p"]) -> Float[Tensor, "n q"]:
        return self.finish(self.hidden(cells))

    def columns(self) -> tuple[Float[Tensor, "p m"], Float[Tensor, "m"]]:
        """Weight and bias of the first map."""
        return self.hidden.weight.T, self.hidden.bias

    def finish(self, hidden: Float[Tensor, "*cells m"]) -> Float[Tensor, "*cells q"]:
        """GELU and the second map, in the unit of the feature."""
        standardised: Tensor = self.output(F.gelu(hidden))
        return standardised * self.get_buffer("deviation") + self.get_buffer("mean")


class BinsHead(nn.Module):
    """Batch norm, 1x1 convolution to bins, linear normalisation, expectation (DINOv2, Oquab et al. 2024, section 7.4).

    The bins lie uniformly from the least to the largest target of the training cells; a prediction is their average under
    the weights ``relu(logit) + 0.1``, made to sum to one, and so never leaves that range. In DINOv2's released code the batch
    norm stands in the head as a comment; here it is in.

    Args:
        channels: columns of a cell, standardised.
        spread: of the targets.
        bins: of each output.
    """

    def __init__(self, channels: int, spread: Spread, bins: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(channels)
        self.logits = nn.Linear(channels, len(spread.mean) * bins)
        steps = torch.linspace(0, 1, bins)
        centres = spread.low.float()[:, None] + (spread.high - spread.low).float()[:, None] * steps
        self.register_buffer("centres", centres)

    def forward(self, cells: Float[Tensor, "n p"]) -> Float[Tensor, "n q"]:
        return self.finish(self.logits(self.norm(cells)))

    def columns(self) -> tuple[Float[Tensor, "p m"], Float[Tensor, "m"]]:
        """Weight and bias of batch norm (as in evaluation) and the map to bins, folded into one."""
        norm = self.norm
        assert norm.running_mean is not None and norm.running_var is not None
        gain = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * gain
        return gain[:, None] * self.logits.weight.T, self.logits.bias + self.logits.weight @ shift

    def finish(self, hidden: Float[Tensor, "*cells m"]) -> Float[Tensor, "*cells q"]:
        """Linear normalisation and expectation."""
        centres = self.get_buffer("centres")
        logits = hidden.reshape(*hidden.shape[:-1], *centres.shape)
        weights = F.relu(logits) + LINEAR_NORMALISATION
        return (weights * centres).sum(-1) / weights.sum(-1)


@dataclass(frozen=True)
class Architecture:
    """Sizes of the heads.

    Attributes:
        width: hidden units of ``mlp``.
        bins: of each output of ``bins``.
    """

    width: int = 256
    bins: int = 256


Head = MlpHead | BinsHead

HEADS: dict[str, Callable[[int, Spread, Architecture], Head]] = {
    "mlp": lambda channels, spread, sizes: MlpHead(channels, spread, sizes.width),
    "bins": lambda channels, spread, sizes: BinsHead(channels, spread, sizes.bins),
}
"""name -> network of so many columns for targets of such a spread."""


def build_head(kind: str, channels: int, spread: Spread, sizes: Architecture, seed: int) -> Head:
    """A fresh head, its weights drawn from `seed`; the global random state is left as it was."""
    check_head(kind)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HEADS[kind](channels, spread, sizes)


def check_head(kind: str) -> None:
    """Raise `UsageError` unless there is a head called `kind`."""
    if kind not in HEADS:
        raise UsageError(f"There is no head '{kind}'{nearest(kind, HEADS)}; the linear probe is always fitted.")


def parameter_count(network: nn.Module) -> int:
    """Numbers that training may change."""
    return sum(parameter.numel() for parameter in network.parameters())
