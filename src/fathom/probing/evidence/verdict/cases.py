"""What is decided: an encoder and a feature, with everything it is compared with, from the rows of a run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fathom.probing.evidence.records import Row

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """What the encoder must beat.

    Attributes:
        name: its SPEC.
        errors: Σ of squared errors in each test scene, one array ``(S,)`` a seed; a baseline without seeds has one.
        cv_mse: cross-validated loss on the training scenes (mean over seeds), or None where it was not taken.
        control: errors on the control task in each test scene, ``(S,)`` (mean over seeds), or None where there was none.
    """

    name: str
    errors: tuple[Array, ...]
    cv_mse: float | None = None
    control: Array | None = None

    @property
    def mean(self) -> Array:
        """Errors by scene, averaged over seeds."""
        return np.asarray(np.stack(self.errors).astype(np.float64).mean(axis=0))

    @property
    def is_copy(self) -> bool:
        """Whether this is the encoder's own architecture without what it learned."""
        return self.name.startswith(("random:", "permuted:"))

    @property
    def losses(self) -> Array:
        """Σ of squared errors of each seed."""
        return np.array([np.sum(item, dtype=np.float64) for item in self.errors])

    def draw_variance(self, cells: Array) -> tuple[float, int]:
        """Variance of one further seed's loss against the mean of these, s²(1 + 1/k), and its degrees of freedom."""
        return draw_variance(self.losses / np.sum(cells))

    def log_draw_variance(self) -> tuple[float, int]:
        """The same of the logarithm of the loss, moderated; none of one seed, or where a loss is 0."""
        if len(self.errors) < 2 or not (self.losses > 0).all():
            return 0.0, 0
        return moderated(float(np.log(self.losses).var(ddof=1)), len(self.errors))


PRIOR_SPREAD = 0.04
"""Standard deviation of the logarithm of the loss over random copies, as assumed before any is seen. docs/method.md has those measured."""

PRIOR_WEIGHT = 2
"""Degrees of freedom that the assumption is worth: half as much as five seeds, so that the seeds decide where they differ."""


def moderated(variance: float, seeds: int) -> tuple[float, int]:
    """s̃²(1 + 1/k), the variance of one further draw, and its degrees of freedom d₀ + k − 1 (Smyth 2004):

    s̃² = (d₀ s₀² + (k − 1) s²) / (d₀ + k − 1), with s² the variance of k draws and s₀² the one assumed.
    """
    df = PRIOR_WEIGHT + seeds - 1
    return (PRIOR_WEIGHT * PRIOR_SPREAD**2 + (seeds - 1) * variance) / df * (1 + 1 / seeds), df


def draw_variance(values: Array) -> tuple[float, int]:
    """s²(1 + 1/k) of k values and its degrees of freedom; none of fewer than two."""
    seeds = len(values)
    return (float(values.var(ddof=1) * (1 + 1 / seeds)), seeds - 1) if seeds > 1 else (0.0, 0)


@dataclass(frozen=True)
class Control:
    """The control task on the test scenes, each ``(S,)``: what selectivity is computed from.

    Attributes:
        errors: Σ of squared errors of the encoder's probe of the control target.
        around: Σ(y − training mean)² of the true feature. control_around: the same of the control target.
    """

    errors: Array
    around: Array
    control_around: Array


@dataclass(frozen=True)
class Case:
    """All that the verdict on one encoder and one feature depends on.

    Attributes:
        encoder, feature: names.
        cells: valid cells in each test scene, ``(S,)``.
        errors: the encoder's, at the layer that cross-validation chose, ``(S,)``.
        baselines: everything it is compared with, random and permuted weights included.
        control: the control task, or None where there was none; then nothing can be `implicit`.
        upper_bound: errors of a supervised network, ``(S,)``, if one was named.
        untrained: whether copies of the encoder with random weights took part; without them nothing can be `implicit`.
    """

    encoder: str
    feature: str
    cells: Array
    errors: Array
    baselines: tuple[Baseline, ...]
    control: Control | None = None
    upper_bound: Array | None = None
    untrained: bool = True


ControlOf = Callable[[Row], Control | None]
"""The control task of a row on the test scenes, or None where it had none."""


def cases(rows: Sequence[Row], control_of: ControlOf) -> list[Case]:
    """A case for each encoder (not baselines, nor random or permuted controls, nor the upper bound) and feature, at its chosen layer.

    It is compared with all baselines of the run, and against the random and the permuted controls that are of this encoder, all
    seeds of one kind together.
    """
    chosen = [row for row in rows if row.chosen]
    return [
        _case(row, [other for other in chosen if other.feature == row.feature], control_of)
        for row in chosen
        if row.role == "encoder"
    ]


def layer_cases(rows: Sequence[Row], control_of: ControlOf) -> list[tuple[Row, Case]]:
    """A case for each encoder, feature and layer, as if the encoder had been named with this layer alone: it is compared with its
    untrained copies at the same layer, and with baselines at their chosen one."""
    found = []
    for row in rows:
        if row.role == "encoder":
            peers = [
                peer
                for peer in rows
                if peer.feature == row.feature and (peer.layer == row.layer if peer.of == row.encoder else peer.chosen)
            ]
            found.append((row, replace(_case(row, peers, control_of), encoder=f"{row.encoder} at {row.layer}")))
    return found


def _case(row: Row, peers: Sequence[Row], control_of: ControlOf) -> Case:
    groups = [[peer] for peer in peers if peer.role == "baseline"]
    for role in ("random", "permuted"):
        seeds = [peer for peer in peers if peer.role == role and peer.of == row.encoder]
        if seeds:
            groups.append(seeds)
    upper_bounds = [peer for peer in peers if peer.role == "upper_bound"]
    return Case(
        encoder=row.encoder,
        feature=row.feature,
        cells=np.asarray(row.cells, dtype=np.float64),
        errors=np.asarray(row.errors, dtype=np.float64),
        baselines=tuple(baseline_of(group, control_of) for group in groups),
        control=control_of(row),
        # Of several upper bounds, the best: the gap that is left is to the best network known.
        untrained=any(group[0].role == "random" for group in groups),
        upper_bound=np.asarray(min(upper_bounds, key=lambda peer: peer.test_mse).errors) if upper_bounds else None,
    )


def baseline_of(group: Sequence[Row], control_of: ControlOf) -> Baseline:
    """One row, or the seeds of one control together."""
    cv = [peer.cv_mse for peer in group if peer.cv_mse is not None]
    controls = [control.errors for peer in group if (control := control_of(peer)) is not None]
    first = group[0]
    return Baseline(
        name=first.encoder if first.role == "baseline" else f"{first.role}:{first.of}",
        errors=tuple(np.asarray(peer.errors, dtype=np.float64) for peer in group),
        cv_mse=float(np.mean(cv)) if len(cv) == len(group) else None,
        control=np.mean(np.stack(controls), axis=0) if len(controls) == len(group) else None,
    )
