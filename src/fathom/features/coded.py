"""``module:file.py:function``: a feature that a function of the user's gives, pixel by pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from fathom.errors import DataError, FathomError, UsageError
from fathom.features.feature import Feature, Target
from fathom.grids import masked_average
from fathom.sample import Grid, Sample
from fathom.user_code import UserFunction, find_function

if TYPE_CHECKING:
    from fathom.data.dataset import Dataset

CODE = "module:"


def coded_feature(name: str, dataset: Dataset | None) -> Feature:
    """The feature of ``module:file.py:function`` or ``module:package.module:function``.

    The function takes a `Sample` and gives a map ``(C, H, W)`` or ``(H, W)``, NaN where it is not known; cells are averaged from it.
    It is called on the first readable frame of `dataset`, which tells the number of channels, and by its type bool that it is a mask.
    The feature is called as the function.

    Raises:
        UsageError: there is no such function, or nothing to call it on.
        FathomError: it fails, or gives something else.
    """
    body = name.removeprefix(CODE)
    function = find_function(f"Feature '{name}'", body, "function")
    if dataset is None:
        raise UsageError(f"The feature '{name}' needs data to tell its number of channels.")
    first = _map(name, function, _first(dataset))

    def target(sample: Sample, grid: Grid) -> Target:
        """The averaged map."""
        values = _map(name, function, sample).float()
        return masked_average(values, torch.isfinite(values).all(0, keepdim=True), grid)

    mask = first.dtype == torch.bool and len(first) == 1
    return Feature(body.rpartition(":")[2], len(first), target, spec=name, code=function.digest(), classes=mask)


def _map(name: str, function: UserFunction, sample: Sample) -> Tensor:
    try:
        made: Any = function(sample)
    except FathomError:
        raise
    except Exception as error:  # whatever a function of the user's raises
        raise FathomError(f"Feature '{name}' fails on frame {sample.id} ({type(error).__name__}: {error}).") from error
    if not isinstance(made, Tensor) or made.ndim not in (2, 3) or made.is_complex():
        what = f"shape {tuple(made.shape)}" if isinstance(made, Tensor) else type(made).__name__
        raise FathomError(f"Feature '{name}' of frame {sample.id} gives {what}; wanted a tensor (C, H, W) or (H, W).")
    return (made if made.ndim == 3 else made[None]).detach().cpu()


def _first(dataset: Dataset) -> Sample:
    first: DataError | None = None
    for position in range(len(dataset)):
        try:
            return dataset[position]
        except DataError as error:
            first = first or error  # the pass over the data names it, or leaves it out where that was asked for
    raise first or UsageError(f"{dataset.source.location} has no frame.")
