"""`probe`: frozen encoders x features x data -> Evidence."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fathom
from fathom.data.dataset import Dataset
from fathom.data.loading import first_frame, readable
from fathom.encoders.base import Encoder
from fathom.errors import FathomError, UsageError, nearest
from fathom.features import Feature, feature
from fathom.probing.candidates import Candidate, FittedProbe, MeanMapGuess, ReadBatch, best_layer
from fathom.probing.controls import donor_positions
from fathom.probing.entrants import FLOORS, Entrant, enter
from fathom.probing.evidence import Evidence, Row
from fathom.probing.passes import (
    Reading,
    SceneErrors,
    Support,
    add_errors,
    empty_errors,
    images_of,
    most_blocks,
    supports,
    train_pass,
)
from fathom.probing.pictures import Picture, Pictures
from fathom.probing.plan import Blocks, default_grid, default_size, plan_blocks
from fathom.probing.ridge import PATH, cross_validate
from fathom.probing.scores import ClassScores, DepthScores
from fathom.probing.statistics import METHOD, ratio_interval
from fathom.progress import note, track
from fathom.sample import Grid, Sample

if TYPE_CHECKING:
    from fathom.evaluation.protocols import Protocol

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


def probe(
    encoder: str | Encoder | Sequence[str | Encoder] = (),
    feature: str | Feature | Sequence[str | Feature] = "depth",
    train: Dataset | None = None,
    test: Dataset | None = None,
    *,
    floors: Sequence[str] = FLOORS,
    size: Grid | None = None,
    grid: Grid | None = None,
    protocol: str | None = None,
    seed: int = 0,
    batch_size: int = 16,
    folds: int = 5,
    penalties: Sequence[float] = PATH,
    device: str = "cpu",
    workers: int = 0,
    skip_bad: bool = False,
    pictures: int = 4,
    command: str = "",
) -> Evidence:
    """Fit exact linear probes from frozen encoders to features and measure them on unseen scenes.

    Args:
        encoder: SPECs or encoders, one or several; see docs/encoders.md.
        feature: names or `Feature`s, one or several.
        train: training frames. Without `test` they are split: officially where the source says how, else by scene.
        test: test frames; no scene may be in both.
        floors: what every encoder is held against.
        size: input (height, width); by default the short side is brought to at most 240.
        grid: the probe's grid; by default one cell for 8 x 8 pixels of input.
        protocol: of the full-resolution metrics; by default what suits the data.
        seed: of the split, the blocks and everything else that is random.
        batch_size: frames encoded at once; changes nothing but speed and memory.
        folds: of the cross-validation over training scenes that chooses λ and layer.
        penalties: values of λ tried.
        device, workers: where it is computed, and how many processes read.
        skip_bad: leave out frames that cannot be read, and say so in the notes.
        pictures: test frames to keep predictions of, for the picture.
        command: recorded in the evidence.

    Returns:
        `Evidence` with a row for each encoder, layer and feature.

    Raises:
        FathomError: for data, encoders or features that cannot give an honest number.
    """
    from fathom.evaluation.protocols import PROTOCOLS, choose_protocol

    if train is None:
        raise UsageError("probe() needs training data; give train=fathom.load(...).")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol '{protocol}'{nearest(protocol, PROTOCOLS)}.")
    train, test = _parts(train, test, seed)
    features = _features(feature, train)
    size = size or default_size(first_frame(train, skip_bad).image_size)
    settings = Settings(
        size,
        grid or default_grid(size),
        seed,
        batch_size,
        folds,
        tuple(penalties),
        device,
        workers,
        skip_bad,
        pictures,
    )
    given = [encoder] if isinstance(encoder, str) or not isinstance(encoder, Sequence) else list(encoder)
    entrants = enter(given, floors, settings.grid, size=size, seed=seed, device=device)
    chosen_protocol = PROTOCOLS[protocol] if protocol else choose_protocol(test)
    run = _Run(settings, entrants, supports(features))
    candidates = run.fit(train)
    rows, frames = run.measure(candidates, test, chosen_protocol)
    return Evidence(
        rows=rows,
        data={"train": _describe(train), "test": _describe(test)},
        test_scenes=test.scenes,
        protocol={"name": chosen_protocol.name, "description": chosen_protocol.description},
        size=settings.size,
        grid=settings.grid,
        settings={
            "seed": seed,
            "batch_size": batch_size,
            "folds": folds,
            "penalties": list(penalties),
            "device": device,
            "interval_method": METHOD,
        },
        versions=versions(),
        command=command,
        notes=run.notes,
        pictures=frames,
    )


def _parts(train: Dataset, test: Dataset | None, seed: int) -> tuple[Dataset, Dataset]:
    if test is None:
        train, test = train.official_split() if train.source.official.get("test") else train.split(seed=seed)
    if not len(train) or not len(test):
        raise FathomError(f"{train.source.location}: the {'training' if not len(train) else 'test'} part has no frame.")
    shared = set(train.scenes) & set(test.scenes)
    if shared and train.source.location == test.source.location:
        raise UsageError(
            f"{len(shared)} scenes are in both the training and the test part (such as '{min(shared)}'); split by scene, "
            "or the score shows memory of rooms."
        )
    return train, test


def _features(given: str | Feature | Sequence[str | Feature], train: Dataset) -> list[Feature]:
    listed = [given] if isinstance(given, str | Feature) else list(given)
    made = [feature(item, train) if isinstance(item, str) else item for item in listed]
    if len({item.name for item in made}) < len(made):
        raise UsageError("A feature is named twice.")
    return made


class _Run:
    """The state of one run: encoders being read, and what was left out."""

    def __init__(self, settings: Settings, entrants: Sequence[Entrant], kinds: tuple[Support, ...]) -> None:
        self.settings = settings
        self.readings = [Reading(entrant.encoder) for entrant in entrants]
        self.roles = {id(reading): entrant.role for reading, entrant in zip(self.readings, entrants, strict=True)}
        self.kinds = kinds
        self.notes: list[str] = []

    def fit(self, train: Dataset) -> list[Candidate]:
        """The training pass, then every probe in closed form."""
        settings = self.settings
        blocks = self._blocks(train)
        self.kinds = self._with_control(train)
        ordered = train.subset(blocks.order(train))
        batches = (
            [fitted for fitted, _ in pairs] for pairs in self._batches(ordered, f"reading {len(train)} training frames")
        )
        mean_maps = train_pass(batches, self.readings, self.kinds, settings.grid, blocks, settings.device)
        for kind in self.kinds:
            if kind.name not in mean_maps or not float(mean_maps[kind.name].counts.sum()):
                raise FathomError(
                    f"{train.source.location}: no training frame has a valid cell of {kind.name}; nothing can be probed."
                )
        candidates: list[Candidate] = [
            MeanMapGuess(mean_maps[kind.name], kind, blocks.folds, settings.device) for kind in self.kinds
        ]
        pairs = [(reading, kind) for reading in self.readings for kind in self.kinds]
        for reading, kind in track(pairs, "solving probes"):
            moments = reading.moments[kind.name]
            chosen = {
                layer: cross_validate(moments.select(columns), blocks.folds, settings.penalties, kind.ties)
                for layer, columns in reading.layers.items()
            }
            candidates.append(FittedProbe(reading, kind, self.roles[id(reading)], chosen, settings.device))
        return candidates

    def _blocks(self, train: Dataset) -> Blocks:
        """Blocks of scenes, as many as memory allows: one frame is encoded to learn how wide the encoders are."""
        from fathom.data.transforms import fit

        settings = self.settings
        images = images_of([fit(first_frame(train, settings.skip_bad), settings.size)], settings.device)
        for reading in self.readings:
            reading.place(images, settings.grid)
        widest = max((reading.design.channels for reading in self.readings if reading.design is not None), default=0)
        wide = sum(not reading.encoder.floor for reading in self.readings)
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

    def measure(
        self, candidates: Sequence[Candidate], test: Dataset, protocol: Protocol
    ) -> tuple[list[Row], list[Picture]]:
        """The test pass: losses by scene, full-resolution metrics and pictures out of one forward pass."""
        settings = self.settings
        scenes = {scene: index for index, scene in enumerate(test.scenes)}
        errors = [empty_errors(len(scenes), len(c.layers), len(c.layers[0].penalty)) for c in candidates]
        means = {guess.kind.name: guess.mean_target for guess in candidates if isinstance(guess, MeanMapGuess)}
        depth, classes = DepthScores(candidates, protocol), ClassScores()
        pictures = Pictures.plan(candidates, test, settings.pictures)
        for pairs in self._batches(test, f"reading {len(test)} test frames"):
            batch = self._read(pairs)
            index = [scenes[sample.scene] for sample in batch.samples]
            predicted = []
            for candidate, sums in zip(candidates, errors, strict=True):
                prediction = candidate.predict(batch)
                Y, valid = batch.targets[candidate.kind.name]
                add_errors(sums, prediction, Y, valid, means[candidate.kind.name], index)
                classes.add(candidate, prediction, Y, valid)
                predicted.append(prediction)
            depth.add(predicted, batch.originals)
            pictures.add(predicted, batch.samples)
        if depth.refused:
            self.notes.append(depth.refused)
        return evidence_rows(candidates, errors, depth, classes), pictures.frames

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


def evidence_rows(
    candidates: Sequence[Candidate], errors: Sequence[SceneErrors], depth: DepthScores, classes: ClassScores
) -> list[Row]:
    """A row for each candidate, layer and feature."""
    rows: list[Row] = []
    for candidate, sums in zip(candidates, errors, strict=True):
        for one in candidate.kind.features:
            best = best_layer(candidate, one.name)
            for position in range(len(candidate.layers)):
                scores = {**classes.of(candidate, one.name, position)}
                if position == best:
                    scores.update(depth.of(candidate, one.name))
                rows.append(_row(candidate, one.name, position, position == best, sums, scores))
    pixels = {row.feature: row.test_mse for row in rows if row.encoder == "pixels"}
    return [
        replace(row, ratio_to_pixels=row.test_mse / pixels[row.feature]) if pixels.get(row.feature) else row
        for row in rows
    ]


def _row(
    candidate: Candidate,
    feature: str,
    position: int,
    chosen: bool,
    sums: SceneErrors,
    scores: Mapping[str, float | None],
) -> Row:
    layer, outputs = candidate.layers[position], candidate.kind.outputs[feature]
    squared, cells = sums.squared[:, position, outputs].sum(1).numpy(), sums.cells.numpy()
    if not cells.sum():
        raise FathomError(f"No test frame has a valid cell of {feature}; nothing can be measured.")
    mse = float(squared.sum() / cells.sum())
    low, high = _bounds(squared, cells)
    return Row(
        encoder=candidate.encoder,
        layer=layer.name,
        feature=feature,
        channels=layer.channels,
        penalty=float(layer.penalty[outputs][0]),
        role=candidate.role.name,
        of=candidate.role.of,
        seed=candidate.role.seed,
        chosen=chosen,
        cv_mse=_known(float(layer.cv_mse[outputs].sum())),
        train_mse=_known(float(layer.train_mse[outputs].sum())),
        test_mse=mse,
        test_rmse=mse**0.5,
        interval=(low, high) if np.isfinite([low, high]).all() else None,
        ratio_to_pixels=None,
        r2=_r2(sums, position, outputs),
        control_r2=_r2(sums, position, candidate.kind.control(feature))
        if candidate.kind.donors is not None and candidate.role.name != "ceiling"
        else None,
        errors=tuple(squared.tolist()),
        cells=tuple(cells.tolist()),
        **scores,
    )


def _bounds(squared: np.ndarray, cells: np.ndarray) -> tuple[float, float]:
    interval = ratio_interval(squared, cells)
    return float(interval.low), float(interval.high)


def _r2(sums: SceneErrors, position: int, outputs: slice) -> float | None:
    around = float(sums.target[:, outputs].sum())
    return 1 - float(sums.squared[:, position, outputs].sum()) / around if around > 0 else None


def _known(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _describe(dataset: Dataset) -> dict[str, Any]:
    return {
        "location": dataset.source.location,
        "kind": dataset.source.kind,
        "part": dataset.part,
        "frames": len(dataset),
        "scenes": len(dataset.scenes),
        "fingerprint": dataset.fingerprint(),
        "facts": dict(dataset.source.facts),
    }


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {
        "fathom": fathom.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
