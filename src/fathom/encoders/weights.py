"""The weights of controls: fresh ones, or a network's own ones in another order."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

SHIFTS = ("bias", "shift", "beta", "offset")


def reinitialise(module: nn.Module, seed: int) -> nn.Module:
    """Give every submodule the fresh weights of its own initialisation, and batch statistics of mean 0 and variance 1.

    Inner modules come first, so that the ``reset_parameters`` of a network has the last word on its layers. A submodule with
    weights but without ``reset_parameters`` gets Kaiming-normal matrices, zero shifts (one dimension, and
    a name that ends as one of `SHIFTS` does) and unit scales (any other of one dimension: at 0 they would switch their
    branch off). The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        for child in reversed(list(module.modules())):
            reset: Any = getattr(child, "reset_parameters", None)
            if callable(reset):
                reset()
                continue
            for name, parameter in child.named_parameters(recurse=False):
                if parameter.ndim > 1:
                    nn.init.kaiming_normal_(parameter)
                elif name.endswith(SHIFTS):
                    nn.init.zeros_(parameter)
                else:
                    nn.init.ones_(parameter)
    return module


def permute_weights(module: nn.Module, seed: int) -> nn.Module:
    """Shuffle the entries inside every weight tensor: the same values, nothing of what they had learned to compute."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.numel() > 1:
                flat = parameter.detach().reshape(-1)
                parameter.copy_(
                    flat[torch.randperm(flat.numel(), generator=generator).to(flat.device)].view_as(parameter)
                )
    return module
