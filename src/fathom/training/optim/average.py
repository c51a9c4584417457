"""Exponential moving average of the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


def moving_average(network: nn.Module, decay: float) -> AveragedModel:
    """A copy of `network` whose parameters are ``a ← d·a + (1 − d)·w`` after each update, ``d = min(decay, t / (9 + t))``.

    t, counted from 1, keeps the random first weights from lingering in a short training. Buffers (batch norm's
    statistics) are copied, not averaged.
    """

    def step(averages: list[Tensor], weights: list[Tensor], _: Tensor | int) -> None:
        t = int(average.n_averaged)  # on the CPU, where reading it makes no device wait
        torch._foreach_lerp_(averages, weights, 1 - min(decay, t / (9 + t)))

    average = AveragedModel(network, multi_avg_fn=step)  # type: ignore[arg-type]
    average.requires_grad_(False).eval()
    average.n_averaged.fill_(1)  # type: ignore[operator]  # at 0 it copies the weights as they are
    return average
