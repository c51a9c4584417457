"""Negative controls of the verdict on the user's own data: how often it says what is known to be false.

Every random draw is encoded once. Worlds are then made from errors by scene: scenes are drawn with replacement from the test scenes,
which are thereby the population, and what is true of it is known exactly. Encoders that know nothing of the feature, or as much as a
baseline, must not be called `implicit`; one that removes exactly the margin must not be called `absent`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from rich.table import Table
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import first_frame, readable
from fathom.data.transforms import fit
from fathom.encoders.base import Encoder
from fathom.encoders.baselines import position
from fathom.errors import UsageError
from fathom.features import Feature
from fathom.metrics.protocols import PROTOCOLS
from fathom.probing.evidence.records import Row, VerdictRecord
from fathom.probing.evidence.rows import controls, evidence_rows
from fathom.probing.evidence.verdict.cases import Baseline, Case, Control, ControlOf, baseline_of
from fathom.probing.evidence.verdict.findings import LEAST_SCENES, LEVEL, MARGIN, weigh_all
from fathom.probing.evidence.verdict.verdict import decide
from fathom.probing.fit import fit_probes
from fathom.probing.passes.measuring import measuring_pass
from fathom.probing.passes.training import training_pass
from fathom.probing.plan import default_size
from fathom.probing.probe import plan
from fathom.probing.settings import CONTROLS, ProbeSettings
from fathom.probing.targets import CONTROL_FRAMES, ControlTargets, fill_invalid, frames_of_scenes
from fathom.sample import Grid, Sample
from fathom.statistics import Contrast, scene_intervals

Array = NDArray[np.float64]

DRAWS = 12
"""Random copies of the encoder: one at a time is the encoder, five of the others are its controls."""

WORLDS = 500
"""Test sets drawn for each check: 5 % is counted to ±1 %."""

RESAMPLES = 1000
"""Of each interval; a tenth of a run's, for speed."""

NOISE = 4
"""Channels of noise beside the position."""


class PositionAndNoise(Encoder):
    """Where a cell is, and noise that the picture determines: an encoder that knows no depth and is not a baseline."""

    name = "position+noise"
    layers = ("columns",)

    def __init__(self, cells: Grid | None = None) -> None:
        self.cells = cells

    def on_grid(self, grid: Grid) -> PositionAndNoise:
        """The same on the probe's grid."""
        return PositionAndNoise(grid)

    def encode(self, images: Float[Tensor, "B 3 H W"]) -> dict[str, Float[Tensor, "B _ _ _"]]:
        """The noise of a picture is the same in every pass."""
        assert self.cells is not None
        maps = []
        for image in images:
            seed = zlib.crc32(image.cpu().numpy().tobytes())
            noise = torch.randn(NOISE, *self.cells, generator=torch.Generator().manual_seed(seed))
            maps.append(torch.cat([position(image[None], self.cells)[0].cpu(), noise]))
        return {"columns": torch.stack(maps).to(images)}


@dataclass(frozen=True)
class Check:
    """What was said in many worlds of one kind.

    Attributes:
        encoder: what stood for the encoder. scenes: in each world. worlds: how many.
        implicit, absent: fractions of the worlds in which that was the verdict; `absent` regardless of `implicit`.
        false: which of the two is false there; empty where none is.
        rate, low, high: of the false one, with its 95 % binomial interval (Clopper & Pearson 1934); None where none is.
        loss, gain: fractions of the worlds in which the 95 % interval of the loss, and of the fraction removed of the reference
            baseline's loss, held the truth.
    """

    encoder: str
    scenes: int
    worlds: int
    implicit: float
    absent: float
    false: str
    rate: float | None
    low: float | None
    high: float | None
    loss: float
    gain: float


@dataclass(frozen=True)
class SelfCheck:
    """All checks of one encoder and feature on one data set.

    Attributes:
        encoder, feature: checked. draws: random copies that were encoded.
        spread: standard deviation over them of the logarithm of the loss.
        test_scenes: of the population.
        checks: in order.
    """

    encoder: str
    feature: str
    draws: int
    spread: float
    test_scenes: int
    checks: tuple[Check, ...]

    def to_json(self) -> dict[str, Any]:
        """Keys are the attributes."""
        return asdict(self)

    def table(self) -> Table:
        """For the screen."""
        title = f"self-check of {self.encoder} and {self.feature}: {self.draws} random draws, {self.test_scenes} test scenes"
        table = Table(title=title, title_justify="left")
        for head in HEADS:
            table.add_column(head, justify="left" if head in ("in place of the encoder", "false") else "right")
        for item in self.checks:
            table.add_row(*cells(item))
        return table


HEADS = (
    "in place of the encoder", "scenes", "implicit, %", "absent, %", "false", "false verdicts, %", "95 % interval",
    "coverage of the loss, %", "coverage of the gain, %",
)  # fmt: skip


def cells(item: Check) -> list[str]:
    """One line of a table."""
    rate = "" if item.rate is None else f"{100 * item.rate:.1f}"
    interval = "" if item.low is None or item.high is None else f"{100 * item.low:.1f} to {100 * item.high:.1f}"
    shares = [f"{100 * value:.1f}" for value in (item.implicit, item.absent)]
    return [
        item.encoder, str(item.scenes), *shares, item.false or "none", rate, interval, f"{100 * item.loss:.1f}",
        f"{100 * item.gain:.1f}",
    ]  # fmt: skip


def self_check(
    encoder: str | Encoder,
    feature: Feature,
    train: Dataset,
    test: Dataset,
    *,
    settings: ProbeSettings | None = None,
    draws: int = DRAWS,
    worlds: int = WORLDS,
    sizes: Sequence[int] = (),
) -> SelfCheck:
    """Encode random copies of the encoder, position with noise, and the feature with shuffled truth once, then draw worlds.

    Args:
        encoder: whose random copies are drawn.
        feature: probed for.
        train, test: the frames; the test scenes are the population.
        settings: of the run; controls, heads, pictures and cues are set here.
        draws: random copies; at least one more than the controls of a run.
        worlds: test sets drawn for each check.
        sizes: scenes in each; by default as many as there are.
    """
    settings = settings or ProbeSettings()
    copies = settings.controls or CONTROLS
    if draws <= copies:
        raise UsageError(f"A self-check takes more than {copies} random draws, not {draws}.")
    settings = replace(
        settings, size=settings.size or default_size(first_frame(train, settings.skip_bad).image_size), controls=draws,
        label_curve=False, heads=(), cues=False, pictures=0, cache=None,
    )  # fmt: skip
    truth = shuffled(feature, train, settings)
    rows, control_of = _measure(encoder, [feature, truth], train, test, settings)
    seeds = [row for row in rows if row.role == "random" and row.feature == feature.name and row.chosen]
    if not seeds:
        raise UsageError("A self-check draws random copies of an encoder; this one has no weights to draw.")
    kinds = worlds_of(rows, control_of, feature.name, truth.name, copies)
    scenes = int((np.asarray(seeds[0].cells) > 0).sum())
    name = next(row.encoder for row in rows if row.role == "encoder" and row.encoder != PositionAndNoise.name)
    return SelfCheck(
        encoder=name,
        feature=feature.name,
        draws=len(seeds),
        spread=float(np.std(np.log([row.test_mse for row in seeds]), ddof=1)),
        test_scenes=scenes,
        checks=tuple(
            check(label, false, make, size, worlds, settings.seed)
            for size in (sizes or (scenes,))
            for label, (false, make) in kinds.items()
        ),
    )


def shuffled(feature: Feature, train: Dataset, settings: ProbeSettings) -> Feature:
    """The feature of a frame of another scene: a truth that no picture shows. Other frames than those of the control task."""
    frames = frames_of_scenes(train, CONTROL_FRAMES, settings.seed + 1)
    donors = [fit(sample, settings.input_size) for sample in readable(train, frames, settings.skip_bad)]
    made: dict[Grid, ControlTargets] = {}

    def target(sample: Sample, grid: Grid) -> tuple[Float[Tensor, "q h w"], Bool[Tensor, "1 h w"]]:
        if grid not in made:
            maps = torch.stack([fill_invalid(*feature.of(donor, grid)) for donor in donors])
            made[grid] = ControlTargets(maps, tuple(donor.scene for donor in donors), settings.seed + 1)
        return made[grid].of(sample), feature.of(sample, grid)[1]

    return Feature(f"{feature.name} of another scene", feature.channels, target, feature.unit, support=feature.support)


def _measure(
    encoder: str | Encoder, features: Sequence[Feature], train: Dataset, test: Dataset, settings: ProbeSettings
) -> tuple[Sequence[Row], ControlOf]:
    """Rows of all participants, each encoded once on the training and once on the test frames."""
    run = plan([encoder, PositionAndNoise()], list(features), train, test, None, settings)
    settings, notes = run.settings, run.notes
    mean_maps = training_pass(run.participants, run.groups, run.train, run.blocks, settings, notes)
    means = {name: average.mean() for name, average in mean_maps.items()}
    candidates = fit_probes(run.participants, run.groups, mean_maps, run.train, run.blocks, settings)
    protocol = PROTOCOLS[str(settings.protocol)]
    depth, grid_cells, _ = measuring_pass(candidates, [], means, run.test, protocol, settings, notes)
    return evidence_rows(candidates, depth, grid_cells), controls(candidates)


Make = Callable[[np.random.Generator], Case]
"""A case over all test scenes, with its random copies drawn anew."""


def worlds_of(
    rows: Sequence[Row], control_of: ControlOf, feature: str, truth: str, copies: int
) -> Mapping[str, tuple[str, Make]]:
    """What stands in place of the encoder, which verdict is then false, and how its case is made."""
    chosen = [row for row in rows if row.chosen]

    def of(role: str, name: str) -> list[Row]:
        return [row for row in chosen if row.role == role and row.feature == name]

    def case(row: Row, seeds: Sequence[Row] = ()) -> Case:
        groups = [[other] for other in of("baseline", row.feature)] + ([list(seeds)] if seeds else [])
        baselines = tuple(baseline_of(group, control_of) for group in groups)
        cells, errors = (np.asarray(values, dtype=np.float64) for values in (row.cells, row.errors))
        return Case(row.encoder, row.feature, cells, errors, baselines, control_of(row))

    def drawn(row: Row, rng: np.random.Generator) -> Case:
        """Against some of its own random copies; row None is one more of them."""
        return case(row, [seeds_of[row.feature][i] for i in rng.permutation(len(seeds_of[row.feature]))[:copies]])

    def one_more(rng: np.random.Generator) -> Case:
        order = rng.permutation(len(seeds_of[feature]))[: copies + 1]
        picked = [seeds_of[feature][i] for i in order]
        return case(picked[0], picked[1:])

    seeds_of = {name: of("random", name) for name in (feature, truth)}
    encoders = {name: {row.encoder: row for row in of("encoder", name)} for name in (feature, truth)}
    name = next(item for item in encoders[feature] if item != PositionAndNoise.name)
    real = case(encoders[feature][name])
    pixels = next((row for row in of("baseline", feature) if row.encoder == "pixels"), None)
    kinds: dict[str, tuple[str, Make]] = {
        "one more random draw": ("implicit", one_more),
        "the encoder, shuffled truth": ("implicit", lambda rng: drawn(encoders[truth][name], rng)),
        "position and noise": ("implicit", lambda rng: case(encoders[feature][PositionAndNoise.name])),
        "as good as the best baseline": ("implicit", lambda rng: scaled(real, 0.0)),
        "removes the margin": ("absent", lambda rng: scaled(real, MARGIN)),
        "the encoder": ("", lambda rng: drawn(encoders[feature][name], rng)),
    }
    if pixels is not None:
        kinds["pixels"] = ("implicit", lambda rng: case(pixels))
    return kinds


def scaled(case: Case, gain: float) -> Case:
    """The case with the encoder's errors scaled so that it removes exactly `gain` of the loss of its best baseline."""
    best = min(float(baseline.mean.sum()) for baseline in case.baselines)
    return replace(case, errors=case.errors * (best * (1 - gain) / float(case.errors.sum())))


def take(case: Case, scenes: NDArray[np.int64]) -> Case:
    """The case on these scenes, some of them more than once."""
    control = case.control
    return replace(
        case,
        cells=case.cells[scenes],
        errors=case.errors[scenes],
        baselines=tuple(
            replace(
                item,
                errors=tuple(errors[scenes] for errors in item.errors),
                control=None if item.control is None else item.control[scenes],
            )
            for item in case.baselines
        ),
        control=None
        if control is None
        else Control(control.errors[scenes], control.around[scenes], control.control_around[scenes]),
    )


def check(label: str, false: str, make: Make, scenes: int, worlds: int, seed: int) -> Check:
    """Draw worlds of one kind and count."""
    if scenes < LEAST_SCENES:
        raise UsageError(f"A self-check takes {LEAST_SCENES} test scenes or more, not {scenes}.")
    rng = np.random.default_rng([seed, scenes, zlib.crc32(label.encode())])
    whole = [make(rng) for _ in range(worlds)]
    known = np.flatnonzero(whole[0].cells > 0)
    drawn = [take(case, rng.choice(known, scenes)) for case in whole]
    found = weigh_all(drawn, resamples=RESAMPLES)
    losses = scene_intervals([Contrast((case.errors,), (case.cells,)) for case in drawn], resamples=RESAMPLES)
    absent = np.mean([item.p_absent <= LEVEL for item in found])
    implicit = np.mean([decide(item).verdict == "implicit" for item in found])
    rate = {"implicit": implicit, "absent": absent}.get(false)
    low, high = (None, None) if rate is None else binomial(round(float(rate) * worlds), worlds)
    return Check(
        label, scenes, worlds, float(implicit), float(absent), false, None if rate is None else float(rate), low, high,
        loss=float(np.mean([
            item.low <= np.log(case.errors.sum() / case.cells.sum()) <= item.high
            for item, case in zip(losses, whole, strict=True)
        ])),
        gain=float(np.mean([_gain_held(item, case) for item, case in zip(found, whole, strict=True)])),
    )  # fmt: skip


def _gain_held(found: VerdictRecord, whole: Case) -> bool:
    """Whether the interval of the gain over the best baseline without seeds holds what is true of all test scenes."""
    single: list[Baseline] = [item for item in whole.baselines if len(item.errors) == 1]
    best = min(single, key=lambda item: float(item.mean.sum()))
    gain = next(item for item in found.gains if item.baseline == best.name)
    true = 1 - float(whole.errors.sum()) / float(best.mean.sum())
    return gain.low is not None and gain.high is not None and gain.low <= true <= gain.high


def binomial(count: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion (Clopper & Pearson 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(beta.ppf(tail, count, of - count + 1))
    high = 1.0 if count == of else float(beta.ppf(1 - tail, count + 1, of - count))
    return low, high
