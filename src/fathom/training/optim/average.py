"""Exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


class Average:
    """``a ← d·a + (1 − d)·w`` after every step, with ``d = min(decay, (1 + t) / (10 + t))``.

    The second form keeps the random first weights from lingering in a short training. Buffers (batch norm's
    statistics) and integers are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.tensors = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        self._averaged = [name for name, _ in model.named_parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step of `model` into the average."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        current = model.state_dict()
        averages = [self.tensors[name] for name in self._averaged]
        torch._foreach_lerp_(averages, [current[name] for name in self._averaged], 1 - decay)
        for name in current.keys() - set(self._averaged):
            self.tensors[name].copy_(current[name])

    def restore(self, tensors: Mapping[str, Tensor], updates: int) -> None:
        """Take up a saved average."""
        self.updates = updates
        for name, tensor in tensors.items():
            self.tensors[name].copy_(tensor)
