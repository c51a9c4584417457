"""`probe`: frozen encoders x features x data -> Evidence."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fathom
from fathom.data.dataset import Dataset
from fathom.encoders.base import Encoder
from fathom.errors import FathomError, UsageError
from fathom.features import Feature, feature
from fathom.probing.evidence import Evidence, Row
from fathom.probing.passes import (
    Fitted,
    FittedLayer,
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
from fathom.probing.pictures import Pictures
from fathom.probing.plan import Blocks, default_grid, default_size, plan_blocks
from fathom.probing.ridge import PATH, cross_validate
from fathom.probing.scores import ClassScores, DepthScores
from fathom.probing.statistics import ratio_interval
from fathom.progress import note, track
from fathom.sample import Grid

if TYPE_CHECKING:
    from fathom.evaluation.protocols import Protocol

FLOORS = ("constant", "position", "pixels", "pixels+position", "patch")
"""What every encoder is held against unless told otherwise: see docs/method.md."""


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
    from fathom.encoders import open_encoder
    from fathom.evaluation.protocols import PROTOCOLS, choose_protocol

    if train is None:
        raise UsageError("probe() needs training data; give train=fathom.load(...).")
    train, test = _parts(train, test, seed)
    features = _features(feature, train)
    first = train[0]
    size = size or default_size(first.image_size)
    settings = Settings(
        size, grid or default_grid(size), seed, batch_size, folds, tuple(penalties), device, workers, skip_bad, pictures
    )
    specs = [*floors, *([encoder] if isinstance(encoder, str) or not isinstance(encoder, Sequence) else encoder)]
    opened = [open_encoder(spec, seed=seed, size=size) if isinstance(spec, str) else spec for spec in specs]
    names = [item.name for item in opened]
    if len(set(names)) < len(names):
        raise UsageError(f"Encoder {max(names, key=names.count)} is named twice.")
    if protocol is not None and protocol not in PROTOCOLS:
        from fathom.errors import nearest

        raise UsageError(f"There is no protocol '{protocol}'{nearest(protocol, PROTOCOLS)}.")
    chosen_protocol = PROTOCOLS[protocol] if protocol else choose_protocol(test)
    run = _Run(settings, [_on_grid(item, settings.grid).to(device) for item in opened], supports(features))
    fitted = run.fit(train)
    return run.measure(fitted, train, test, chosen_protocol, command)


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


def _on_grid(encoder: Encoder, grid: Grid) -> Encoder:
    """Floors have no grid of their own: they work on the probe's."""
    place = getattr(encoder, "on_grid", None)
    return place(grid) if place is not None else encoder


class _Run:
    """The state of one run: encoders being read, and what was left out."""

    def __init__(self, settings: Settings, encoders: Sequence[Encoder], kinds: tuple[Support, ...]) -> None:
        self.settings = settings
        self.readings = [Reading(encoder) for encoder in encoders]
        self.kinds = kinds
        self.notes: list[str] = []

    def fit(self, train: Dataset) -> list[Fitted]:
        """The training pass, then every probe in closed form."""
        settings = self.settings
        blocks = self._blocks(train)
        ordered = train.subset(blocks.order(train))
        batches = (
            [fitted for fitted, _ in pairs]
            for pairs in self._batches(ordered, f"reading {len(train)} training frames")
        )
        train_pass(batches, self.readings, self.kinds, settings.grid, blocks, settings.device)
        if not self.readings[0].moments:
            raise FathomError(f"{train.source.location}: none of the training frames could be read.")
        solved = []
        pairs = [(reading, kind) for reading in self.readings for kind in self.kinds]
        for reading, kind in track(pairs, "solving probes"):
            moments = reading.moments[kind.name]
            if float(moments.n.sum()) == 0:
                raise FathomError(
                    f"{train.source.location}: no training frame has a valid cell of {kind.name}; nothing can be probed."
                )
            ties = [list(range(part.start, part.stop)) for part in kind.outputs.values()]
            layers = [
                FittedLayer(
                    layer,
                    columns,
                    cross_validate(moments.select(columns), blocks.folds, settings.penalties, ties),
                )
                for layer, columns in reading.layers.items()
            ]
            solved.append(Fitted(reading, kind, layers))
        return solved

    def _blocks(self, train: Dataset) -> Blocks:
        """Blocks of scenes, as many as memory allows: one frame is encoded to learn how wide the encoders are."""
        from fathom.data.transforms import fit

        settings = self.settings
        images = images_of([fit(train[0], settings.size)], settings.device)
        for reading in self.readings:
            reading.place(images, settings.grid)
        widest = max(reading.design.channels for reading in self.readings if reading.design is not None)
        limit = most_blocks(widest, len(train.scenes), len(self.kinds), sum(not r.encoder.floor for r in self.readings))
        return plan_blocks(train, limit, settings.folds, settings.seed)

    def _batches(self, dataset: Dataset, description: str) -> Any:
        from fathom.data.loading import Skipped, batches

        settings = self.settings
        skipped = Skipped() if settings.skip_bad else None
        count = -(-len(dataset) // settings.batch_size)
        stream = batches(
            dataset,
            settings.size,
            batch_size=settings.batch_size,
            workers=settings.workers,
            skipped=skipped,
        )
        yield from track(stream, description, total=count)
        if skipped is not None and len(skipped):
            self.notes.append(f"{len(skipped)} frames could not be read and were left out: {skipped.describe()}")
            note(self.notes[-1])

    def measure(
        self, fitted: list[Fitted], train: Dataset, test: Dataset, protocol: Protocol, command: str
    ) -> Evidence:
        """The test pass: losses by scene, full-resolution metrics, pictures; then the evidence."""
        settings = self.settings
        scenes = {scene: index for index, scene in enumerate(test.scenes)}
        errors = [empty_errors(item, len(scenes)) for item in fitted]
        weights = [tuple(part.float().to(settings.device) for part in item.weights()) for item in fitted]
        depth = DepthScores(fitted, protocol)
        classes = ClassScores(fitted)
        pictures = Pictures.plan(fitted, test, settings.pictures)
        for pairs in self._batches(test, f"reading {len(test)} test frames"):
            samples = [sample for sample, _ in pairs]
            index = [scenes[sample.scene] for sample in samples]
            images = images_of(samples, settings.device)
            placed = {id(reading): reading.place(images, settings.grid) for reading in self.readings}
            targets = {
                kind.name: tuple(part.to(settings.device) for part in kind.targets(samples, settings.grid))
                for kind in self.kinds
            }
            predicted = []
            for item, (weight, bias), sums in zip(fitted, weights, errors, strict=True):
                assert item.reading.design is not None
                prediction = item.reading.design.predict(placed[id(item.reading)], weight, bias)
                Y, valid = targets[item.kind.name]
                mean = item.layers[0].chosen.mean_y
                add_errors(sums, prediction, Y, valid, mean, index)
                predicted.append(prediction)
                classes.add(item, prediction, Y, valid)
            depth.add(predicted, [original for _, original in pairs])
            pictures.add(fitted, predicted, samples)
        rows = evidence_rows(fitted, errors, depth, classes)
        if depth.refused:
            self.notes.append(depth.refused)
        return Evidence(
            rows=rows,
            data={"train": _describe(train), "test": _describe(test)},
            test_scenes=tuple(scenes),
            protocol={"name": protocol.name, "description": protocol.description},
            size=settings.size,
            grid=settings.grid,
            settings={
                "seed": settings.seed,
                "batch_size": settings.batch_size,
                "folds": settings.folds,
                "penalties": list(settings.penalties),
                "device": settings.device,
                "interval_method": METHOD,
            },
            versions=versions(),
            command=command,
            notes=self.notes,
            pictures=pictures,
        )


def evidence_rows(
    fitted: Sequence[Fitted], errors: Sequence[SceneErrors], depth: DepthScores, classes: ClassScores
) -> list[Row]:
    """A row for each encoder, layer and feature."""
    rows: list[Row] = []
    pixels: dict[str, float] = {}
    for item, sums in zip(fitted, errors, strict=True):
        for one in item.kind.features:
            outputs = item.kind.outputs[one.name]
            best = item.best_layer(one.name)
            for position, layer in enumerate(item.layers):
                squared = sums.squared[:, position, outputs].sum(1).numpy()
                cells = sums.cells.numpy()
                if not cells.sum():
                    raise FathomError(f"No test frame has a valid cell of {one.name}; nothing can be measured.")
                mse = float(squared.sum() / cells.sum())
                variance = float(sums.target[:, outputs].sum() / sums.cells.sum())
                chosen = layer.layer == best
                if item.reading.encoder.name == "pixels":
                    pixels[one.name] = mse
                rows.append(
                    Row(
                        encoder=item.reading.encoder.name,
                        layer=layer.layer,
                        feature=one.name,
                        channels=layer.columns.stop - layer.columns.start,
                        penalty=float(layer.chosen.probe.penalty[outputs][0]),
                        floor=item.reading.encoder.floor,
                        chosen=chosen,
                        cv_mse=float(layer.chosen.cv_mse[outputs].sum()),
                        train_mse=float(layer.chosen.train_mse[outputs].sum()),
                        test_mse=mse,
                        test_rmse=mse**0.5,
                        interval=_interval(squared, cells),
                        ratio_to_pixels=None,
                        r2=1 - mse / variance if variance > 0 else None,
                        errors=tuple(squared.tolist()),
                        cells=tuple(cells.tolist()),
                        **(depth.of(item, one.name) if chosen else {}),
                        **classes.of(item, one.name, position),
                    )
                )
    return [
        replace(row, ratio_to_pixels=row.test_mse / pixels[row.feature]) if pixels.get(row.feature) else row
        for row in rows
    ]


def _interval(squared: np.ndarray, cells: np.ndarray) -> tuple[float, float] | None:
    interval = ratio_interval(squared, cells)
    low, high = float(interval.low), float(interval.high)
    return (low, high) if np.isfinite([low, high]).all() else None


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
