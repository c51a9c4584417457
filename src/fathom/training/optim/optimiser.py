"""The optimiser of a recipe: parameters in groups by rate and decay, and its state as files hold it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from fathom.errors import UsageError
from fathom.training.recipe import OptimSection


def make_optimiser(model: nn.Module, section: OptimSection, fused: bool) -> Optimizer:
    """The recipe's optimiser. Weight decay spares what has one dimension: biases and norms."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(parameter.requires_grad and not name.startswith(section.freeze or ("\0",)))
        if parameter.requires_grad:
            groups.setdefault((rate_factor(name, section.rates), parameter.ndim >= 2), []).append(parameter)
    _refuse_unmatched(model, section)
    listed: list[dict[str, Any]] = [
        {"params": parameters, "weight_decay": section.weight_decay if decays else 0.0, "factor": factor}
        for (factor, decays), parameters in groups.items()
    ]
    if section.name == "sgd":
        return torch.optim.SGD(listed, lr=section.lr, momentum=section.momentum, nesterov=section.momentum > 0)
    kind = torch.optim.AdamW if section.name == "adamw" else torch.optim.Adam
    return kind(listed, lr=section.lr, betas=section.betas, fused=fused)


def rate_factor(name: str, rates: Mapping[str, float]) -> float:
    """The factor of the longest key that `name` begins with, 1 without one."""
    found = [key for key in rates if name.startswith(key)]
    return rates[max(found, key=len)] if found else 1.0


def _refuse_unmatched(model: nn.Module, section: OptimSection) -> None:
    names = [name for name, _ in model.named_parameters()]
    for setting, keys in (("rates", list(section.rates)), ("freeze", section.freeze)):
        for key in keys:
            if not any(name.startswith(key) for name in names):
                tops = sorted({name.split(".")[0] for name in names})
                raise UsageError(
                    f"optim.{setting} names '{key}', and no parameter begins so; the network has {', '.join(tops)}."
                )


class OptimiserScalars(msgspec.Struct):
    """The optimiser's values that are no tensors: of each group, and by ``parameter.name``."""

    groups: list[dict[str, Any]]
    state: dict[str, int | float | bool]


def split_optimiser(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors by ``parameter.name`` and JSON values."""
    tensors, scalars = {}, {}
    for parameter, values in state["state"].items():
        for name, value in values.items():
            key = f"{parameter}.{name}"
            if isinstance(value, Tensor):
                tensors[key] = value
            else:
                scalars[key] = value
    return tensors, {"groups": state["param_groups"], "state": scalars}


def join_optimiser(
    tensors: Mapping[str, Tensor], scalars: OptimiserScalars, fresh: Mapping[str, Any]
) -> dict[str, Any]:
    """The inverse of `split_optimiser`.

    The settings of the groups are those of `fresh`, the new optimiser's state: the recipe decides them, not a file.
    """
    if [group.get("params") for group in scalars.groups] != [group["params"] for group in fresh["param_groups"]]:
        raise ValueError("its optimiser has other groups of parameters")
    state: dict[int, dict[str, Any]] = {}
    for key, value in [*tensors.items(), *scalars.state.items()]:
        parameter, _, name = key.partition(".")
        state.setdefault(int(parameter), {})[name] = value
    known = {number for group in fresh["param_groups"] for number in group["params"]}
    if not state.keys() <= known:
        raise ValueError("its optimiser has other parameters")
    return {"state": state, "param_groups": fresh["param_groups"]}


def lay_out_as_parameters(optimiser: Optimizer) -> None:
    """Give the optimiser's tensors their parameters' memory layout, which files do not keep.

    The fused kernels walk parameter, gradient and moments in memory order: with another order they would pair
        the
    wrong elements.
    """
    for parameter, values in optimiser.state.items():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter).copy_(value)
