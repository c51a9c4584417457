"""What the evidence of a probe run holds, as types: the keys of ``evidence.json`` are the attributes below, and its JSON Schema is made
of them (`fathom.probing.evidence.schema`). What is not known, and NaN and infinity, which JSON does not have, are None."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from fathom.data.record import DataRecord
from fathom.statistics import Interval

Kind = Literal["implicit", "inconclusive", "absent", "too few scenes", "withheld", ""]
"""Of a verdict; empty before it is decided."""

Group = Literal["colour", "light", "texture", "shape", "position"]
"""The cue that an alteration of the test images takes away."""


def finite(value: float | None) -> float | None:
    """The value as a float, or None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None


@dataclass(frozen=True)
class Data:
    """Both parts of the data."""

    train: DataRecord
    test: DataRecord


@dataclass(frozen=True)
class ProtocolRecord:
    """Of the full-resolution metrics: its name, and one sentence."""

    name: str
    description: str


@dataclass(frozen=True)
class EncoderRecord:
    """A participant of the run.

    Attributes:
        encoder: its name, by default the SPEC. role, of, seed: as in `Row`.
        layers: that were read.
        spec: the SPEC it was opened by; None for one that was given in memory.
        weights: SHA-256 of its parameters and buffers. code: SHA-256 of the Python files of a module of the user's.
        revision: commit of a repository of the hub. licence: as the model's own files state it.
    """

    encoder: str
    role: str
    of: str | None
    seed: int | None
    layers: tuple[str, ...]
    spec: str | None = None
    weights: str | None = None
    code: str | None = None
    revision: str | None = None
    licence: str | None = None


@dataclass(frozen=True)
class FeatureRecord:
    """What was probed for.

    Attributes:
        feature: its name. channels, unit: of its values.
        spec: what ``--feature`` calls it; None for one that was given in memory.
        code: SHA-256 of the Python file of a feature of the user's.
    """

    feature: str
    channels: int
    unit: str
    spec: str | None
    code: str | None


@dataclass(frozen=True)
class Row:
    """One probe: an encoder's layer and a feature. Losses are in the square of the feature's unit.

    Attributes:
        encoder: the SPEC as given.
        layer: its name, or ``all`` for the concatenation.
        feature: what was probed for. unit: of it, empty if it has none.
        channels: columns of the probe, intercept not counted.
        penalty: λ, chosen by cross-validation over training scenes.
        role: ``encoder``, ``baseline``, ``random`` or ``permuted`` (the same architecture without what was learned), ``head`` (not
            linear), or ``upper_bound`` (a supervised network).
        of: the encoder it is a control of. seed: of its weights. Both None where they mean nothing.
        chosen: whether this layer is the encoder's best by cross-validation; one of each encoder and feature.
        cv_mse: cross-validated on the training scenes. train_mse: in sample.
        test_mse: mean over the valid grid cells of the test frames, summed over outputs. test_rmse: its root.
        interval: 95 % interval of `test_mse` over scenes, or None with fewer scenes than it takes.
        ratio_to_pixels: `test_mse` over that of the null model ``pixels``, or None without it or where it knows all.
        r2: share of the variance around the training mean that is explained on the test frames.
        control_r2: the same for the control task (targets of other rooms); `r2` less this is the selectivity.
        abs_rel, delta1, rmse: full resolution, under the run's protocol; for depth features of chosen layers.
        accuracy, miou: for class features, of the largest output. iou: in place of miou for a single class (a mask): cells inside in
            both over cells inside in either, inside where the share is above one half.
        angle_mean, angle_median: degrees between predicted and true directions, for normals. angle_11, angle_22, angle_30: fractions
            of cells below 11.25, 22.5 and 30 degrees.
        bands: λ of each layer, where the joined layers have their own; `penalty` is then their geometric mean.
        parameters: of the head, where it is not linear.
        clipped: fraction of the test cells where the prediction left the range of the training targets and was clipped to it; None
            where nothing is clipped.
        penalties_left_out: how many of the penalties asked for lie below the rounding of the moments and were not tried.
        errors: Σ of squared errors in each test scene, in the order of `Evidence.test_scenes`.
        cells: valid cells in each test scene.
    """

    encoder: str
    layer: str
    feature: str
    channels: int
    penalty: float
    role: str
    chosen: bool
    cv_mse: float | None
    train_mse: float | None
    test_mse: float
    test_rmse: float
    interval: tuple[float, float] | None
    ratio_to_pixels: float | None
    r2: float | None
    errors: tuple[float, ...]
    cells: tuple[float, ...]
    of: str | None = None
    seed: int | None = None
    control_r2: float | None = None
    abs_rel: float | None = None
    delta1: float | None = None
    rmse: float | None = None
    accuracy: float | None = None
    miou: float | None = None
    iou: float | None = None
    angle_mean: float | None = None
    angle_median: float | None = None
    angle_11: float | None = None
    angle_22: float | None = None
    angle_30: float | None = None
    bands: dict[str, float] | None = None
    parameters: int | None = None
    clipped: float | None = None
    penalties_left_out: int = 0
    unit: str = ""


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % interval over scenes."""

    estimate: float | None
    low: float | None
    high: float | None

    @staticmethod
    def of(found: Interval) -> Estimate:
        """An interval of `fathom.statistics`."""
        return Estimate(finite(found.estimate), finite(found.low), finite(found.high))


@dataclass(frozen=True)
class Code:
    """Length of an online code of the target given an encoder.

    Attributes:
        bits: total, for targets noted to `resolution`.
        constant_bits: the same for a code that knows no input: the constant. Their difference does not depend on the
            resolution.
        cells: target values coded (cells times outputs).
        schedule: scenes (groups) known before each block, 0 first.
        block_bits: bits of each block.
        resolution: in units of the target.
        bits_per_cell: bits / cells.
        saved_per_cell: bits a cell that the encoder saves over the constant, the cost of learning the probe counted.
    """

    bits: float
    constant_bits: float
    cells: float
    schedule: tuple[int, ...]
    block_bits: tuple[float, ...]
    resolution: float
    bits_per_cell: float
    saved_per_cell: float


@dataclass(frozen=True)
class Information:
    """What the losses of one encoder and feature at its chosen layer mean in bits.

    Attributes:
        r2: share of the variance explained. v_information: bits a cell that a linear probe learns from the encoder.
        baseline: the reference baseline of its verdict. beyond: bits a cell beyond that baseline.
        code: the description length, where it was computed.
    """

    encoder: str
    feature: str
    layer: str
    r2: Estimate | None = None
    v_information: Estimate | None = None
    baseline: str | None = None
    beyond: Estimate | None = None
    code: Code | None = None


@dataclass(frozen=True)
class LabelCurveRecord:
    """Loss of one encoder and feature against the number of training scenes.

    Attributes:
        scenes: training scenes, mean over the orders drawn. mse: test loss with each. low, high: its 95 % interval.
        draws: orders of the training scenes.
        scenes_to_beat_baselines: number of scenes from which on every baseline is beaten; None if that never happens, and for
            baselines.
    """

    encoder: str
    feature: str
    layer: str
    role: str
    scenes: tuple[float, ...]
    mse: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]
    draws: int
    scenes_to_beat_baselines: float | None


@dataclass(frozen=True)
class TrainingLossCheck:
    """Training losses of all linear probes, computed directly from predictions and compared with those of the moments.

    Attributes:
        frames: training frames it was done on.
        largest_difference: relative to the variation of the target; beyond rounding the run stops.
    """

    frames: int
    largest_difference: float


@dataclass(frozen=True)
class Cue:
    """What one alteration does to one probe. Losses and `change` are in the square of the feature's unit, shifts in its unit.

    Attributes:
        encoder, layer, feature, unit: of the probe.
        alteration, words, group: what was done, and the cue that it takes away; see `fathom.probing.cues.alterations`.
        decides: whether the sentence may rest on it. exact: whether the frames were rendered anew.
        scenes: test scenes measured.
        base_mse, mse: loss on the original and on the altered frames, over the same points of the scenes.
        change: mse − base_mse. low, high: its 95 % interval over scenes. None with too few scenes, here and below.
        relative: change / base_mse.
        gain: loss of the training mean − base_mse: what the probe knows. gain_low: lower end of its 95 % interval.
        lost: change / gain, None where the gain, here or on whole frames, is not above zero by its interval.
        sure_low, sure_high: interval of `change`, widened to hold for all statements of a sentence at once.
        over_low, over_high: interval of change − `MARGIN` · gain, widened likewise; None where `lost` is.
        shift: mean change of the prediction where the image is the same; one-channel features only.
        shift_low, shift_high: its interval, widened likewise.
        in_place, in_place_low, in_place_high: the same against the prediction at the same cell of the frame.
        moves: how far predictions move with the image. moves_low, moves_high: its interval, widened likewise; for alterations that
            move it, here and below.
        stays, stays_low, stays_high: how far they stay in their place in the frame.
    """

    encoder: str
    layer: str
    feature: str
    unit: str
    alteration: str
    words: str
    group: Group
    decides: bool
    exact: bool
    scenes: int
    base_mse: float
    mse: float
    change: float
    low: float | None
    high: float | None
    relative: float | None
    gain: float
    gain_low: float | None
    lost: float | None
    sure_low: float | None
    sure_high: float | None
    over_low: float | None
    over_high: float | None
    shift: float | None = None
    shift_low: float | None = None
    shift_high: float | None = None
    in_place: float | None = None
    in_place_low: float | None = None
    in_place_high: float | None = None
    moves: float | None = None
    moves_low: float | None = None
    moves_high: float | None = None
    stays: float | None = None
    stays_low: float | None = None
    stays_high: float | None = None


@dataclass(frozen=True)
class GainRecord:
    """The fraction of a baseline's loss that the encoder removes on the same test scenes, 1 − L/L_j.

    Attributes:
        baseline: its name. seeds: how many it has.
        estimate, low, high: the gain and its 95 % interval. se: its standard error.
        p_above: one-sided p of "no gain". p_below: of "a gain". 1 with too few scenes.
        p_selectivity: of "no selectivity against this baseline". p_margin: of "the gain is the margin or more". weight: of this
            baseline in `absent`.
    """

    baseline: str
    seeds: int
    estimate: float | None
    low: float | None
    high: float | None
    se: float | None
    p_above: float
    p_below: float
    p_selectivity: float | None
    p_margin: float
    weight: float


@dataclass(frozen=True)
class VerdictRecord:
    """The verdict on one encoder and feature, the sentence that explains it, and what it rests on.

    Attributes:
        verdict: ``implicit``, ``inconclusive``, ``absent``, ``too few scenes`` or ``withheld``; empty before it is decided.
        sentence: the same in words.
        scenes: test scenes with a valid cell.
        baseline: the reference baseline, which the fractions refer to. baseline_mse, encoder_mse: the two losses.
        gap_closed: fraction of the gap from that baseline to the upper bound that the encoder closes; None without an upper bound
            that beats the baseline.
        relative_gain: fraction of the baseline's loss that the encoder removes.
        selectivity: R² less R² on the control task. p_selectivity: of "no selectivity".
        p_implicit, p_absent: after Holm over the verdicts of the run. p_implicit_alone, p_absent_alone: before.
        margin: fraction of a baseline's loss below which a gain counts as none.
        seeds_limit: whether the random seeds, not the scenes, stand in the way of `implicit`. seeds_needed: how many would do, if
            any number would.
        same_as: the random or permuted copy whose errors are the encoder's own.
        untrained: whether copies of the encoder with random weights took part; without them nothing is `implicit`.
        gains: over each baseline, the least first.
        layer: in `layer_verdicts`, which; None where it is the one that cross-validation chose.
    """

    encoder: str
    feature: str
    verdict: Kind
    sentence: str
    scenes: int
    baseline: str
    baseline_mse: float
    encoder_mse: float
    gap_closed: Estimate | None
    relative_gain: Estimate
    selectivity: Estimate | None
    p_selectivity: float | None
    p_implicit: float
    p_absent: float
    margin: float
    gains: tuple[GainRecord, ...]
    p_implicit_alone: float | None = None
    p_absent_alone: float | None = None
    seeds_limit: bool = False
    seeds_needed: int | None = None
    same_as: str | None = None
    untrained: bool = True
    layer: str | None = None
