"""One probe run: the training pass, every probe in closed form, the test pass, and the verdicts from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import first_frame, readable
from fathom.errors import FathomError
from fathom.probing.candidates import Candidate, FittedProbe, MeanMapGuess, ReadBatch
from fathom.probing.evidence.bits import information
from fathom.probing.evidence.cases import cases
from fathom.probing.evidence.evidence import Row
from fathom.probing.evidence.few_labels import WIDE, LabelProbes, label_curves, label_probes
from fathom.probing.evidence.rows import Measured, controls, evidence_rows
from fathom.probing.evidence.verdict import verdicts
from fathom.probing.linear.banded import BANDED, banded_ridge
from fathom.probing.linear.ridge import PATH, cross_validate
from fathom.probing.participants import Entrant
from fathom.probing.passes import (
    ALL,
    Reading,
    Support,
    add_errors,
    empty_errors,
    images_of,
    most_blocks,
    train_pass,
)
from fathom.probing.pictures import Picture, Pictures
from fathom.probing.plan import Blocks, plan_blocks
from fathom.probing.scores import ClassScores, DepthScores
from fathom.probing.targets import MeanMap, donor_positions
from fathom.probing.upper_bound import UpperBound, is_from_depth
from fathom.progress import note, track
from fathom.sample import Grid, Sample

if TYPE_CHECKING:
    from fathom.metrics.protocols import Protocol
    from fathom.models.saved import Trained

DONORS = 32
"""Frames whose targets serve as the control task: enough that none repeats often, few enough to read at the start."""


@dataclass(frozen=True)
class Settings:
    """What determines a run beside data, encoders and features; saved with the evidence."""

    size: Grid
    grid: Grid
    seed: int = 0
    batch_size: int = 16
    folds: int = 5
    penalties: tuple[float, ...] = PATH
    device: str = "cpu"
    workers: int = 0
    skip_bad: bool = False
    pictures: int = 4
    label_curve: bool | None = None
    banded: bool | None = None
    heads: tuple[str, ...] = ()
    cache: str | None = None


@dataclass
class Found:
    """What a test pass gives the evidence."""

    rows: list[Row]
    verdicts: list[dict[str, Any]]
    pictures: list[Picture]
    extra: dict[str, Any]


class Session:
    """The state of one run: encoders being read, and what was left out."""

    def __init__(self, settings: Settings, entrants: Sequence[Entrant], kinds: tuple[Support, ...]) -> None:
        self.settings = settings
        self.readings = [Reading(entrant.encoder) for entrant in entrants]
        self.roles = {id(reading): entrant.role for reading, entrant in zip(self.readings, entrants, strict=True)}
        self.kinds = kinds
        self.notes: list[str] = []
        self.labels: list[LabelProbes] = []
        self.witnesses: dict[int, Float[Tensor, "p"]] = {}

    def fit(self, train: Dataset) -> list[Candidate]:
        """The training pass, then every probe in closed form."""
        settings = self.settings
        blocks = self._blocks(train)
        self.kinds = self._with_control(train)
        mean_maps = self._moments(train, blocks)
        for kind in self.kinds:
            self._check_target(kind, mean_maps.get(kind.name), train)
        candidates: list[Candidate] = [
            MeanMapGuess(mean_maps[kind.name], kind, blocks.folds, settings.device) for kind in self.kinds
        ]
        pairs = [(reading, kind) for reading in self.readings for kind in self.kinds]
        probes = [self._solve(reading, kind, blocks) for reading, kind in track(pairs, "solving probes")]
        self.labels = label_probes(
            probes,
            blocks,
            settings.penalties,
            settings.seed,
            settings.device,
            settings.label_curve,
            self.notes,
        )
        return [*candidates, *probes, *self._heads(train)]

    def _moments(self, train: Dataset, blocks: Blocks) -> dict[str, MeanMap]:
        """The training pass, over the encoders whose moments no cache holds; returns the mean map of each support."""
        settings, cache, missing = self.settings, None, list(self.readings)
        if settings.cache is not None:
            from fathom.probing.moments_cache import MomentsCache

            cache = MomentsCache(
                Path(settings.cache), train, settings.size, settings.grid, blocks, self.kinds, settings.skip_bad
            )
            missing, known = cache.load(self.readings, self.witnesses)
            if not missing and len(known) == len(self.kinds):
                note(
                    f"The moments of all {len(self.readings)} encoders are in {settings.cache}; no training frame is read."
                )
                return known
        ordered = train.subset(blocks.order(train))
        batches = (
            [fitted for fitted, _ in pairs] for pairs in self._batches(ordered, f"reading {len(train)} training frames")
        )
        made = train_pass(batches, missing, self.kinds, settings.grid, blocks, settings.device)
        if cache is not None:
            cache.save(missing, made)
        return made

    @staticmethod
    def _check_target(kind: Support, average: MeanMap | None, train: Dataset) -> None:
        """Raise where there is nothing to learn: no valid cell, or one value everywhere."""
        if average is None or not float(average.counts.sum()):
            raise FathomError(
                f"{train.source.location}: no training frame has a valid cell of {kind.name}; nothing can be probed."
            )
        spread = average.variance() > 1e-12 * average.mean().square()
        for one in kind.features:
            if not bool(spread[kind.outputs[one.name]].any()):
                raise FathomError(
                    f"{train.source.location}: {one.name} has the same value in every valid cell of the training frames; "
                    "there is nothing for a probe to explain."
                )

    def _solve(self, reading: Reading, kind: Support, blocks: Blocks) -> FittedProbe:
        """Every layer's probe of one encoder and one support."""
        settings, moments, layers = self.settings, reading.moments[kind.name], reading.layers
        role = self.roles[id(reading)]
        chosen = {
            layer: cross_validate(moments.select(columns), blocks.folds, settings.penalties, kind.ties)
            for layer, columns in layers.items()
        }
        columns, bands = dict(layers), {}
        wide = settings.banded is None and ALL in layers and layers[ALL].stop > WIDE
        if (
            ALL in layers
            and settings.banded is not False
            and not wide
            and role.name in ("encoder", "random", "permuted")
        ):
            own = {layer: part for layer, part in layers.items() if layer != ALL}
            found = banded_ridge(moments, blocks.folds, own, chosen[ALL], kind.ties)
            chosen[BANDED], columns[BANDED] = found.chosen, layers[ALL]
            bands[BANDED] = dict(zip(own, found.penalties, strict=True))
        return FittedProbe(reading, kind, role, chosen, settings.device, columns, bands)

    def _heads(self, train: Dataset) -> list[Candidate]:
        """Heads beyond linear for the encoders named, where any were asked for."""
        settings = self.settings
        if not settings.heads:
            return []
        from fathom.probing.heads.training import HeadSettings, train_heads

        return [
            *train_heads(
                [reading for reading in self.readings if self.roles[id(reading)].name == "encoder"],
                self.roles,
                self.kinds,
                train,
                [HeadSettings(kind=kind) for kind in settings.heads],
                size=settings.size,
                grid=settings.grid,
                seed=settings.seed,
                batch_size=settings.batch_size,
                workers=settings.workers,
                device=settings.device,
                skip_bad=settings.skip_bad,
                cache=settings.cache,
            )
        ]

    def upper_bounds(self, name: str, trained: Trained) -> list[Candidate]:
        """The supervised network as a candidate for every support that a depth map gives."""
        settings, made = self.settings, []
        for kind in self.kinds:
            if all(is_from_depth(one) for one in kind.features):
                made.append(UpperBound(name, trained, kind, settings.size, settings.grid, settings.device))
            else:
                names = ", ".join(one.name for one in kind.features)
                self.notes.append(
                    f"The upper bound predicts depth, which does not give {names}; no share is reported there."
                )
        return [*made]

    def _blocks(self, train: Dataset) -> Blocks:
        """Blocks of scenes, as many as memory allows: one frame is encoded to learn how wide the encoders are."""
        from fathom.data.transforms import fit

        settings = self.settings
        images = images_of([fit(first_frame(train, settings.skip_bad), settings.size)], settings.device)
        for reading in self.readings:
            placed = reading.place(images, settings.grid)
            assert reading.design is not None
            self.witnesses[id(reading)] = reading.design.means(placed).cpu()
        widest = max((reading.design.channels for reading in self.readings if reading.design is not None), default=0)
        wide = sum(not reading.encoder.baseline for reading in self.readings)
        return plan_blocks(
            train,
            most_blocks(widest, len(train.scenes), len(self.kinds), wide),
            settings.folds,
            settings.seed,
        )

    def _with_control(self, train: Dataset) -> tuple[Support, ...]:
        """The supports with their control task: targets of up to `DONORS` frames, each of another training scene."""
        from fathom.data.transforms import fit

        settings = self.settings
        positions = donor_positions(train, DONORS, settings.seed)
        frames = [fit(sample, settings.size) for sample in readable(train, positions, settings.skip_bad)]
        return tuple(kind.with_donors(frames, settings.grid, settings.seed) for kind in self.kinds)

    def _batches(self, dataset: Dataset, description: str) -> Iterator[list[tuple[Sample, Sample]]]:
        from fathom.data.loading import Skipped, batches

        settings = self.settings
        skipped = Skipped() if settings.skip_bad else None
        count = -(-len(dataset) // settings.batch_size)
        stream = batches(
            dataset, settings.size, batch_size=settings.batch_size, workers=settings.workers, skipped=skipped
        )
        yield from track(stream, description, total=count)
        if skipped is not None and len(skipped):
            self.notes.append(f"{len(skipped)} frames could not be read and were left out: {skipped.describe()}")
            note(self.notes[-1])

    def measure(self, candidates: Sequence[Candidate], test: Dataset, protocol: Protocol) -> Found:
        """The test pass: losses by scene, full-resolution metrics and pictures out of one forward pass; then the verdicts."""
        settings = self.settings
        scenes = {scene: index for index, scene in enumerate(test.scenes)}
        every: list[Candidate] = [*candidates, *self.labels]
        measured = [Measured(c, empty_errors(len(scenes), len(c.layers), len(c.layers[0].penalty))) for c in every]
        means = {guess.kind.name: guess.mean_target for guess in candidates if isinstance(guess, MeanMapGuess)}
        depth, classes = DepthScores(candidates, protocol), ClassScores()
        pictures = Pictures.plan(candidates, test, settings.pictures)
        for pairs in self._batches(test, f"reading {len(test)} test frames"):
            batch = self._read(pairs)
            index = [scenes[sample.scene] for sample in batch.samples]
            predicted = []
            for item in measured:
                prediction = item.candidate.predict(batch)
                Y, valid = batch.targets[item.candidate.kind.name]
                add_errors(item.sums, prediction, Y, valid, means[item.candidate.kind.name], index)
                if not isinstance(item.candidate, LabelProbes):
                    classes.add(item.candidate, prediction, Y, valid)
                    predicted.append(prediction)
            depth.add(predicted, batch.originals)
            pictures.add(predicted, batch.samples)
        if depth.refused:
            self.notes.append(depth.refused)
        main, labels = measured[: len(candidates)], measured[len(candidates) :]
        rows = evidence_rows(main, depth, classes)
        decided = [verdict.to_json() for verdict in verdicts(cases(rows, controls(main)))]
        baselines = {(verdict["encoder"], verdict["feature"]): verdict["baseline"] for verdict in decided}
        extra: dict[str, Any] = {
            "information": information(main, baselines, settings.seed, all_widths=bool(settings.label_curve)),
            "label_curves": label_curves(labels),
        }
        return Found(rows, decided, pictures.frames, extra)

    def _read(self, pairs: Sequence[tuple[Sample, Sample]]) -> ReadBatch:
        settings = self.settings
        samples = [sample for sample, _ in pairs]
        images = images_of(samples, settings.device)
        targets = {}
        for kind in self.kinds:
            values, valid = kind.targets(samples, settings.grid)
            targets[kind.name] = (values.to(settings.device), valid.to(settings.device))
        placed = {id(reading): reading.place(images, settings.grid) for reading in self.readings}
        return ReadBatch(samples, [original for _, original in pairs], placed, targets)
