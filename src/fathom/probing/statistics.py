"""Intervals and tests over scenes.

Scenes, not pixels, are the independent units: pixels of one room resemble each other. Every quantity here is a ratio of
sums over scenes, R = Σ a_s / Σ b_s:

    mean squared error           a = Σ squared error,        b = valid cells
    difference of two losses     a = E₁ − E₂,                b = valid cells
    share of a gap closed        a = E_floor − E_encoder,    b = E_floor − E_ceiling

Its linearised standard error over S scenes (Cochran 1977, ch. 6) is

    se² = S/(S−1) · Σ (a_s − R b_s)² / (Σ b_s)²

and `fathom.probing.scene_interval` makes intervals of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RESAMPLES = 10_000
LEAST_SCENES = 5
"""Fewer scenes give no interval: 4 values have too few distinct resamples for a 2.5 % tail."""


@dataclass(frozen=True)
class Interval:
    """An estimate and its interval; low and high are NaN with fewer than `LEAST_SCENES` scenes.

    Attributes:
        estimate: R.
        low, high: bounds.
        se: linearised standard error of R.
        p_above: one-sided p-value of "R ≤ 0", for quantities that may have either sign.
        p_below: one-sided p-value of "R ≥ 0".
    """

    estimate: float
    low: float
    high: float
    se: float
    p_above: float = float("nan")
    p_below: float = float("nan")


@lru_cache(maxsize=4)
def resampling_weights(scenes: int, resamples: int, seed: int) -> Array:
    """How often each scene is drawn in each resample, ``(resamples, scenes)``; rows sum to `scenes`."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(scenes, np.full(scenes, 1 / scenes), size=resamples).astype(np.float64)


def linearised(a: Array, b: Array) -> tuple[float, float]:
    """R = Σa/Σb over scenes, and its standard error."""
    total = b.sum()
    ratio = a.sum() / total
    scenes = len(a)
    residual = a - ratio * b
    se = np.sqrt(scenes / max(scenes - 1, 1) * (residual**2).sum()) / abs(total)
    return float(ratio), float(se)


def mean_over_seeds(errors: Sequence[Array], counts: Array) -> tuple[Array, float, int]:
    """Per-scene errors averaged over random seeds, the variance of their mean loss, and its degrees of freedom."""
    stacked = np.stack([np.asarray(item, dtype=np.float64) for item in errors])
    losses = stacked.sum(1) / np.sum(counts)
    seeds = len(losses)
    variance = float(losses.var(ddof=1) / seeds) if seeds > 1 else 0.0
    return stacked.mean(0), variance, seeds - 1


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return adjusted
