"""What a linear probe's losses mean in bits: R², V-information, and description length by an online code over scenes.

All three are functions of squared errors or of `Moments`; none needs a further pass over the images.

Bits here count cells as independent given the prediction. Cells of one room are not, so a total of bits is a length of that
code, not an amount of evidence; the evidence is in the interval over scenes. Differences between encoders, in bits a cell, do
not suffer from this.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from fathom.errors import FathomError
from fathom.probing.candidates import Candidate, named
from fathom.probing.evidence.records import Code, Estimate, Information
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import PATH, decompose, path_losses
from fathom.probing.settings import ProbeSettings
from fathom.statistics import RESAMPLES, Interval, scene_interval

Array = NDArray[np.float64]

WIDE = 512
"""Channels up to which what takes many decompositions (label curves, bits, banded penalties) is computed unasked."""

LEAST_GROUPS = 4
"""Of training scenes for a description length."""


def r_squared(errors: Array, around: Array, *, resamples: int = RESAMPLES) -> Interval:
    """R² = 1 − Σe/Σv, with e the squared errors and v the squares around the training mean by scene, ``(S,)`` each."""
    loss = scene_interval(errors, around, log=bool(np.sum(errors) > 0), resamples=resamples)
    return replace(loss, estimate=1 - loss.estimate, low=1 - loss.high, high=1 - loss.low)


def v_information(without: Array, errors: Array, *, outputs: int = 1, resamples: int = RESAMPLES) -> Interval:
    """V-information I_V(X → Y) = H_V(Y|∅) − H_V(Y|X) = (q/2) log₂(L_without / L), in bits a cell, with its interval.

    V: Gaussians with a linear mean and one variance for all q outputs (Xu et al. 2020). Measured on unseen scenes, so it is
    below zero where the probe does worse than what it is compared with. With the constant's errors as `without` it is the
    V-information of the encoder; with a baseline's, the information beyond that baseline (conditional V-information, Hewitt et al.
    2021, where the baseline's inputs are among the encoder's).

    Args:
        without: Σ of squared errors in each scene, ``(S,)``, without the encoder.
        errors: with it.
        outputs: q, channels of the feature.
    """
    ratio = scene_interval(np.asarray(without), np.asarray(errors), log=True, resamples=resamples)
    if not ratio.estimate > 0:
        raise FathomError("V-information needs losses above zero; a probe without any error has no bits to count.")
    half = outputs / 2

    def bits(value: float) -> float:
        return half * math.log2(value) if value > 0 else -math.inf if value == 0 else math.nan

    return Interval(
        bits(ratio.estimate), bits(ratio.low), bits(ratio.high), half * ratio.se / ratio.estimate / math.log(2)
    )


def doubling(groups: int, least: int = 2) -> tuple[int, ...]:
    """Group counts that double up to `groups`, from the first that is at least `least`: 80 gives 2, 3, 5, 10, 20, 40, 80."""
    counts, count = [groups], groups
    while math.ceil(count / 2) >= least and count > least:
        count = math.ceil(count / 2)
        counts.append(count)
    return tuple(reversed(counts))


def online_code(
    moments: Moments, *, penalties: Sequence[float] = PATH, seed: int = 0, resolution: float = 0.01
) -> Code:
    """Online (prequential) description length of the targets given the inputs (Blier & Ollivier 2018; Voita & Titov 2020).

    Scenes stand in a seeded order and are sent in blocks that double. The first block is sent by a Gaussian of the target's
    overall mean and variance, agreed on beforehand and the same for every encoder. Each further block is sent by the probe
    fitted on all before it:

        Σ over outputs j   n/2 · log₂(2π σ_j²) + E_j / (2 σ_j² ln 2) − n log₂(resolution)

    with E_j the block's squared error. λ_j and σ_j² are those of the block before, predicted in its turn (for the first probe,
    of cross-validation inside the first block), so nothing is used that the receiver does not have. Costs one decomposition a
    block.

    Args:
        moments: one group a scene, or a block of scenes; at least 4 with valid cells.
        penalties: values of λ to choose from.
        seed: of the order.
        resolution: to which targets are noted, in their unit: 0.01 is a centimetre of depth.
    """
    moments = moments.take(torch.nonzero(moments.n)[:, 0].tolist())  # a group without a valid cell has nothing to send
    if moments.groups < 4:
        raise FathomError(
            f"A description length over scenes needs at least 4 groups of scenes with valid cells, not {moments.groups}."
        )
    order = np.random.default_rng(seed).permutation(moments.groups).tolist()
    schedule = doubling(moments.groups)
    lengths = _blocks(moments, order, schedule, penalties, resolution)
    without = _blocks(moments.select(slice(0, 0)), order, schedule, penalties[:1], resolution)
    bits, constant, cells = sum(lengths), sum(without), float(moments.n.sum()) * moments.y.shape[1]
    return Code(
        bits=bits,
        constant_bits=constant,
        cells=cells,
        schedule=(0, *schedule[:-1]),
        block_bits=tuple(lengths),
        resolution=resolution,
        bits_per_cell=bits / cells,
        saved_per_cell=(constant - bits) / cells,
    )


def _blocks(
    moments: Moments, order: Sequence[int], schedule: Sequence[int], penalties: Sequence[float], resolution: float
) -> list[float]:
    """Bits of each block."""
    total, first = moments.total(), order[: schedule[0]]
    mean = total.y[0] / total.n.sum()
    variance = (total.yy[0] / total.n.sum() - mean.square()).clamp(min=1e-300)
    opening = moments.total(first)
    squares = opening.yy[0] - 2 * mean * opening.y[0] + opening.n.sum() * mean.square()
    lengths = [_bits(squares, variance, float(opening.n.sum()), resolution)]
    past, cells = _inside(moments, first, penalties), float(opening.n.sum())
    for start, end in pairwise(schedule):
        block = moments.total(order[start:end])
        losses = path_losses(decompose(moments.total(order[:start])), block, penalties)
        # A penalty below the rounding of either block has no loss there; the largest always has one.
        chosen = past.masked_fill(losses.isinf(), torch.inf).argmin(0, keepdim=True)
        expected = torch.maximum(past.gather(0, chosen)[0] / cells, 1e-12 * variance)
        count = float(block.n.sum())
        lengths.append(_bits(losses.gather(0, chosen)[0], expected, count, resolution))
        past, cells = losses, count
    return lengths


def _inside(moments: Moments, groups: Sequence[int], penalties: Sequence[float]) -> Float[Tensor, "L q"]:
    """Cross-validated losses inside the first block, in up to four folds."""
    folds = [list(groups[k :: min(4, len(groups))]) for k in range(min(4, len(groups)))]
    losses = torch.zeros(len(penalties), moments.y.shape[1], dtype=torch.float64)
    for fold in folds:
        rest = moments.total([group for group in groups if group not in fold])
        if float(rest.n.sum()) >= 1:
            losses += path_losses(decompose(rest), moments.total(fold), penalties)
    return losses


def _bits(squares: Float[Tensor, "q"], variance: Float[Tensor, "q"], cells: float, resolution: float) -> float:
    """Length of `cells` values an output with these squared errors under Gaussians of this variance."""
    nats = cells / 2 * torch.log(2 * math.pi * variance) + squares / (2 * variance)
    return float(nats.sum()) / math.log(2) - cells * len(squares) * math.log2(resolution)


def measure_information(
    candidates: Sequence[Candidate],
    baselines: Mapping[tuple[str, str], str],
    settings: ProbeSettings,
) -> tuple[Information, ...]:
    """Bits of each baseline, encoder and upper bound at its chosen layer.

    Args:
        candidates: after the test pass.
        baselines: the reference baseline of each encoder and feature that a verdict is on: bits beyond it are given too.
        settings: of the run. The description length of a layer beyond `WIDE` channels is computed where label curves are asked for.
    """
    seeds: dict[tuple[str, str], list[Array]] = {}
    for item in candidates:
        for one in item.group.features:
            seeds.setdefault((item.encoder, one.name), []).append(_chosen_errors(item, one.name))
    losses = {key: np.mean(np.stack(errors), axis=0) for key, errors in seeds.items()}
    return tuple(
        _information(item, one.name, losses, baselines.get((item.encoder, one.name)), settings)
        for item in candidates
        if item.role.name in ("baseline", "encoder", "upper_bound")
        for one in item.group.features
    )


def _information(
    item: Candidate,
    feature: str,
    losses: Mapping[tuple[str, str], Array],
    baseline: str | None,
    settings: ProbeSettings,
) -> Information:
    outputs = item.group.outputs[feature]
    channels = outputs.stop - outputs.start
    around, errors = item.sums.target[:, outputs].sum(1).numpy(), losses[item.encoder, feature]
    found = Information(item.encoder, feature, item.best_layer(feature).name, code=_code(item, feature, settings))
    if not (around.sum() > 0 and errors.sum() > 0):
        return found
    found = replace(
        found,
        r2=Estimate.of(r_squared(errors, around)),
        v_information=Estimate.of(v_information(around, errors, outputs=channels)),
    )
    if baseline is None or (baseline, feature) not in losses:
        return found
    beyond = v_information(losses[baseline, feature], errors, outputs=channels)
    return replace(found, baseline=baseline, beyond=Estimate.of(beyond))


def _chosen_errors(item: Candidate, feature: str) -> Array:
    outputs = item.group.outputs[feature]
    errors: Array = item.sums.squared[:, item.best(feature), outputs].sum(1).numpy()
    return errors


def _code(item: Candidate, feature: str, settings: ProbeSettings) -> Code | None:
    """The description length, where the candidate is a linear probe and it takes seconds."""
    layer = item.best_layer(feature)
    if item.participant is None or layer.columns is None:
        return None
    moments = item.participant.moments[item.group.name]
    if int((moments.n > 0).sum()) < LEAST_GROUPS or (layer.channels > WIDE and not settings.label_curve):
        return None
    inside = moments.select(layer.columns, item.group.outputs[feature])
    with named(item.encoder, f"{layer.name} on few scenes"):
        return online_code(inside, penalties=settings.penalties, seed=settings.seed)
