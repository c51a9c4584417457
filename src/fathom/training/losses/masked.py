"""Losses that see valid pixels alone: the decorator and the mean that every term is made with."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Prediction = Float[Tensor, "B C H W"]
Target = Float[Tensor, "B C H W"]
Valid = Bool[Tensor, "B 1 H W"]
Loss = Callable[..., Float[Tensor, ""]]


def masked(loss: Loss) -> Loss:
    """`loss` in float32, outside autocast, with 0 in both maps where they are not valid."""

    @functools.wraps(loss)
    def on_clean_maps(prediction: Tensor, target: Tensor, valid: Tensor, **options: float) -> Tensor:
        if prediction.shape != target.shape:
            shapes = f"{tuple(prediction.shape)} and {tuple(target.shape)}"
            raise ValueError(f"prediction and target must have one shape, not {shapes}")
        dtype = torch.promote_types(prediction.dtype, torch.float32)
        valid = valid.expand(len(prediction), 1, *prediction.shape[-2:])
        with torch.autocast(prediction.device.type, enabled=False):
            p = torch.where(valid, prediction.to(dtype), 0.0)
            t = torch.where(valid, target.to(dtype), 0.0)
            return loss(p, t, valid, **options)

    return on_clean_maps


def image_means(values: Prediction, valid: Bool[Tensor, "B 1 H W"]) -> Float[Tensor, " B"]:
    """Mean of `values` over the valid pixels and all channels of each image, 0 where an image has none."""
    count = valid.sum((1, 2, 3)) * values.shape[1]
    return torch.where(valid, values, 0.0).sum((1, 2, 3)) / count.clamp(min=1)
