"""Least-squares alignment of a prediction to the truth, for networks whose depth has no scale of its own.

Scale: s = Σpg / Σp².  Scale and shift: the 2x2 normal equations (Ranftl et al. 2020).  Median: s = median g / median p.
"""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

Align = Callable[[Float[Tensor, "H W"], Float[Tensor, "H W"], Bool[Tensor, "H W"]], Float[Tensor, "H W"]]


def scale(
    prediction: Float[Tensor, "H W"], target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> Float[Tensor, "H W"]:
    """s·p with the least Σ(s·p − g)² over valid pixels."""
    p, g = prediction[valid].double(), target[valid].double()
    return prediction * float((p @ g) / (p @ p).clamp(min=1e-12))


def scale_shift(
    prediction: Float[Tensor, "H W"], target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> Float[Tensor, "H W"]:
    """s·p + t with the least Σ(s·p + t − g)² over valid pixels."""
    p, g = prediction[valid].double(), target[valid].double()
    centred = p - p.mean()
    s = float((centred @ (g - g.mean())) / (centred @ centred).clamp(min=1e-12))
    return prediction * s + float(g.mean() - s * p.mean())


def median(
    prediction: Float[Tensor, "H W"], target: Float[Tensor, "H W"], valid: Bool[Tensor, "H W"]
) -> Float[Tensor, "H W"]:
    """p scaled so that the medians agree (Zhou et al. 2017)."""
    return prediction * float(target[valid].median() / prediction[valid].median().clamp(min=1e-12))


ALIGNMENTS: dict[str, Align] = {"scale": scale, "scale-shift": scale_shift, "median": median}
