"""`evaluate`: depth models and baselines on the same frames, under a named protocol, with paired intervals over scenes."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, cast

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from fathom.data.dataset import Dataset
from fathom.data.formats.benchmarks.ibims import edges_path
from fathom.data.formats.files import SKIP, decode_image
from fathom.data.loading import Skipped, batches
from fathom.data.record import DataRecord
from fathom.data.sources import load
from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import Openable, open_depth_model
from fathom.devices import resolve_device
from fathom.errors import DataError, UsageError, nearest
from fathom.evaluation.baselines import Baselines, align_names, prepare
from fathom.evaluation.frames import FrameScores, Shown, thinned
from fathom.evaluation.held_out import Split, choose_frames
from fathom.evaluation.participants import Participant
from fathom.evaluation.result import (
    SCHEMA_VERSION,
    Evaluation,
    LeftOut,
    Record,
    Result,
    Settings,
    Table,
    ranked,
)
from fathom.evaluation.scoring import differences, mean_score, pooled_rmse, scene_sums
from fathom.metrics.alignment import choose_alignment
from fathom.metrics.groups import ALL, GROUPS, Compared, measured
from fathom.metrics.protocols import PROTOCOLS, Protocol, choose_protocol
from fathom.models.saved import Trained
from fathom.progress import count, note, track
from fathom.sample import Grid, Sample
from fathom.statistics import LEAST_SCENES, METHOD
from fathom.training.run.summary import versions

T = TypeVar("T")

SCORERS = min(4, os.cpu_count() or 1)
"""Threads that score frames."""


def evaluate(
    models: Openable | Sequence[Openable],
    data: Dataset | str | Path | Sequence[Dataset | str | Path],
    *,
    protocol: str | Protocol | None = None,
    split: Split | Path | None = None,
    flip: bool = False,
    align: str | None = None,
    metrics: Sequence[str] = (),
    kind: str | None = None,
    size: Grid | None = None,
    batch_size: int = 8,
    device: str = "auto",
    workers: int = 0,
    skip_bad: bool = False,
    pictures: int = 3,
    command: str = "",
) -> Evaluation:
    """Measure depth models on data, each next to the mean map and the constant.

    Args:
        models: one or several: names, paths, what `fathom.train` returns, any `nn.Module`; see `open_depth_model`.
        data: one or several: specs, of which `split` chooses the frames; or data sets, all of them unless `split` says
            otherwise.
        protocol: a name of `PROTOCOLS` or one of your own; None chooses by the data.
        split: ``test``, ``val``, ``all``, a file of ``fathom data split``, or None; see `fathom.evaluation.held_out.choose_frames`.
        flip: average with the prediction for the mirrored image, mirrored back.
        align: a name of `fathom.metrics.alignment.ALIGNMENTS` for all; None aligns each model as its kind of depth requires.
        metrics: groups of `fathom.metrics.groups.GROUPS` besides those of the protocol.
        kind: of depth, for modules that do not declare it.
        size: (height, width) at which the models see an image; None is each model's own choice.
        batch_size: images predicted at once.
        device: ``cpu``, ``cuda``, ``mps`` or ``auto``.
        workers: processes that read data.
        skip_bad: leave out frames that cannot be read, and report them.
        pictures: best frames and worst frames to keep for the page, each.
        command: recorded in the result.

    Raises:
        CheckpointError: a model is broken, or predicts no depth.
        UsageError: an unknown protocol, alignment, metric or part, or one that does not fit the data or the model.
        DataError: data that cannot be read, or of which no pixel counts.
    """
    listed = [models] if isinstance(models, str | Path | Trained | nn.Module | DepthModel) else list(models)
    parts = [data] if isinstance(data, Dataset | str | Path) else list(data)
    if not listed or not parts:
        raise UsageError("An evaluation needs at least one model and one data set.")
    for group in metrics:
        named("group of metrics", group, GROUPS)
    chosen = protocol if protocol is None or isinstance(protocol, Protocol) else named("protocol", protocol, PROTOCOLS)
    opened = [open_depth_model(model, device=device, input_size=size, kind=kind) for model in listed]
    for model in opened:
        choose_alignment(model.kind, align)  # before anything is read
    tables: list[Table] = []
    frames: list[tuple[FrameScores, ...]] = []
    shown: list[Shown] = []
    for number, one in enumerate(parts):
        everything = one if isinstance(one, Dataset) else load(one, skip_bad=skip_bad)
        wanted = split or ("all" if isinstance(one, Dataset) else None)
        part, sentence = choose_frames(everything, opened, wanted)
        run = _Run(
            opened, part, everything, chosen or choose_protocol(part), align, tuple(metrics), flip, batch_size, workers, skip_bad
        )  # fmt: skip
        table, own = run.table(sentence)
        tables.append(table)
        frames.append(own)
        shown += run.shown(table, own, number, pictures)
    settings = Settings(flip, align, size, resolve_device(device), METHOD)
    record = Record(
        SCHEMA_VERSION, command, {key: str(value) for key, value in versions().items()}, settings, tuple(tables)
    )
    return Evaluation(record, tuple(frames), tuple(shown))


def named(what: str, name: str, known: Mapping[str, T]) -> T:
    """The member of a registry; `UsageError` with the nearest name where there is none."""
    if name not in known:
        raise UsageError(f"There is no {what} '{name}'{nearest(name, known)}.")
    return known[name]


@dataclass
class _Run:
    """The evaluation on one data set.

    Attributes:
        part: the frames that are measured. everything: all frames of their source.
        skipped: frames that could not be read.
    """

    models: Sequence[DepthModel]
    part: Dataset
    everything: Dataset
    protocol: Protocol
    align: str | None
    extra: tuple[str, ...]
    flip: bool
    batch_size: int
    workers: int
    skip_bad: bool
    skipped: Skipped = field(default_factory=Skipped)

    def __post_init__(self) -> None:
        self.groups = tuple(dict.fromkeys((*self.protocol.groups, *self.extra)))
        self.participants = _participants(self.models, self.align)
        self.files = {self.part.frame(i).id: self.part.frame(i).files for i in range(len(self.part))}

    def table(self, sentence: str) -> tuple[Table, tuple[FrameScores, ...]]:
        """Measure every frame."""
        location = self.part.source.location
        note(
            f"Measuring {', '.join(model.name for model in self.models)} on {count(len(self.part), 'frame')} of {location}."
        )
        self.baselines = self._baselines()
        frames: list[FrameScores] = []
        stream = batches(
            self.part,
            None,
            batch_size=self.batch_size,
            workers=self.workers,
            skipped=self.skipped if self.skip_bad else None,
        )
        steps = -(-len(self.part) // self.batch_size)
        with ThreadPoolExecutor(SCORERS) as self.pool:
            for batch in track(stream, f"Evaluating under {self.protocol.name}", steps):
                frames += self._scores([sample for _, sample in batch])
        self._check(frames)
        scored = [frame for frame in frames if frame.metrics]
        scenes = tuple(dict.fromkeys(frame.scene for frame in scored))
        results = tuple(self._result(participant, scored, scenes) for participant in self.participants)
        table = Table(
            data=DataRecord.of(self.part),
            protocol=self.protocol,
            groups=self.groups,
            frames=len(scored),
            pixels=sum(frame.pixels for frame in scored),
            scenes=scenes,
            baseline=self.baselines.said if self.baselines else "",
            results=results,
            differences=differences(results),
            without_truth=tuple(frame.id for frame in frames if not frame.metrics),
            left_out=tuple(LeftOut(*item) for item in self.skipped.frames),
            notes=(),
        )
        return replace(table, notes=tuple(self._notes(sentence, table))), tuple(frames)

    def _baselines(self) -> Baselines | None:
        """The mean map, where there is a frame of another scene; without one the baselines do not take part."""
        found = prepare(self.part, self.everything, self.protocol, self.skip_bad)
        if all(found.maps(scene) is not None for scene in self.part.scenes):
            return found
        self.participants = [one for one in self.participants if one.role == "model"]
        return None

    def _scores(self, samples: Sequence[Sample]) -> Iterator[FrameScores]:
        """Every participant's metrics of each frame of a batch."""
        counts = [_counted(self.protocol, sample) for sample in samples]
        edges = [self._edges(sample) for sample in samples]
        metrics: list[dict[str, Mapping[str, float]]] = [{} for _ in samples]

        def scored(job: tuple[Participant, int, Tensor]) -> tuple[Compared, Mapping[str, float]]:
            one, index, value = job
            metres = one.aligned(value, samples[index], self.protocol, counts[index])
            compared = _compared(self.protocol, metres, samples[index], edges[index])
            return compared, measured(compared, self.groups)

        for participant in self.participants:
            values = participant.values(samples, self.baselines, self.flip)
            jobs = [
                (participant, index, value)
                for index, value in enumerate(values)
                if value is not None and bool(counts[index].any())
            ]
            # NumPy lets go of the interpreter's lock, so that frames are scored side by side.
            for (_, index, _), (compared, found) in zip(jobs, self.pool.map(scored, jobs), strict=True):
                metrics[index][participant.name] = found
                participant.by_depth.add(samples[index].scene, compared.prediction, compared.target, compared.valid)
        for sample, counted, own in zip(samples, counts, metrics, strict=True):
            yield FrameScores(sample.id, sample.scene, int(torch.count_nonzero(counted)), own)

    def _edges(self, sample: Sample) -> Bool[Tensor, "h w"] | None:
        """Annotated occlusion edges of a frame, where its data have them and they are asked for."""
        path = edges_path(self.files[sample.id]) if "edges" in self.groups else None
        if path is None:
            return None
        edges = torch.from_numpy(decode_image(path) > 0)
        if tuple(edges.shape) != sample.depth_size:
            raise DataError(path, f"is a map of {tuple(edges.shape)} for depth of {sample.depth_size}", SKIP)
        return edges

    def _check(self, frames: Sequence[FrameScores]) -> None:
        """At least one frame must have been scored."""
        location, protocol = self.part.source.location, self.protocol
        if not frames:
            raise DataError(
                location, f"none of the {len(self.skipped)} frames can be read ({self.skipped.describe(1)})"
            )
        if not any(frame.metrics for frame in frames):
            raise DataError(
                location,
                f"no pixel of {count(len(frames), 'frame')} counts under {protocol.name} (valid, {protocol.least:g} m to "
                f"{protocol.most:g} m)",
                "check how the depth's counts become metres with 'fathom data info', or choose another protocol",
            )

    def _result(self, one: Participant, frames: Sequence[FrameScores], scenes: tuple[str, ...]) -> Result:
        by_scene = {name: scene_sums(frames, one.name, name, scenes) for name in ALL if _in_groups(name, self.groups)}
        scores = {name: mean_score(name, sums) for name, sums in by_scene.items()}
        order = [frame.id for frame in ranked(frames, one.name)]
        seen = set(one.model.train_scenes) if one.model else set()
        return Result(
            name=one.name,
            role=one.role,
            kind=one.kind,
            alignment=one.alignment,
            seen_scenes=sum(scene in seen for scene in scenes),
            train_scenes=len(seen),
            licence=one.model.licence if one.model else "",
            facts={key: str(value) for key, value in one.model.facts().items()} if one.model else {},
            cameras=tuple(one.cameras),
            input_size=one.input_size,
            missing=one.missing / one.predicted if one.predicted else 0.0,
            scores={name: score for name, score in scores.items() if score is not None},
            pooled_rmse=pooled_rmse(frames, one.name, scenes),
            by_scene={name: sums for name, sums in by_scene.items() if sum(sums.frames)},
            by_depth=one.by_depth.bands(),
            best=tuple(order[:10]),
            worst=tuple(order[::-1][:10]),
            prompted=one.prompted,
        )

    def _notes(self, sentence: str, table: Table) -> Iterator[str]:
        yield sentence
        if len(table.scenes) < LEAST_SCENES:
            yield f"No intervals and no tests: {count(len(table.scenes), 'scene')}, and fewer than {LEAST_SCENES} give none."
        for result in table.results:
            if result.role == "model" and result.alignment != "none":
                yield f"{result.name} gives {result.kind}: {result.alignment} fitted to the truth of each frame; its errors are not those of metres."
            if result.prompted:
                yield (
                    f"{result.name} was given each frame's depth as its prompt, the very depth that it is measured against: its "
                    "errors say how closely it keeps to that, and are paired with those of no other model."
                )
            if result.missing:
                yield (
                    f"{result.name}: {result.missing:.1%} of the predicted pixels are not finite, such as a border that the "
                    "model leaves out; the nearest finite one stands in there."
                )
        if len({result.alignment for result in table.results if result.role == "model"}) > 1:
            yield "Models with different alignments are not paired: an alignment uses the truth. --align NAME gives all the same."
        if table.baseline:
            yield f"Mean map and constant: {table.baseline}."
        else:
            yield "No mean map and no constant: they need frames of another scene."
        if table.without_truth:
            total = table.frames + len(table.without_truth)
            yield (
                f"{len(table.without_truth)} of {total} frames have no pixel that counts under {self.protocol.name}; "
                "not in the means."
            )
        for group in self.groups:
            if not set(GROUPS[group].metrics) & set(table.metrics):
                yield f"No metrics of the group '{group}': they need {GROUPS[group].needs or 'frames on which they are defined'}, which these data lack."
        if table.left_out:
            yield f"{len(table.left_out)} frames left out that cannot be read: {self.skipped.describe()}"

    def shown(self, table: Table, frames: Sequence[FrameScores], number: int, most: int) -> Iterator[Shown]:
        """The best frames of the first model, best first, and the worst, worst last; read and predicted again."""
        order = ranked(frames, table.results[0].name)
        worst = min(most, (len(order) + 1) // 2)
        best = min(most, len(order) - worst)
        position = {id_: index for index, id_ in enumerate(self.part.ids)}
        places = [(f"best {i + 1}", order[i]) for i in range(best)]
        places += [(f"worst {i + 1}", order[-1 - i]) for i in reversed(range(worst))]
        for place, scores in places:
            sample = self.part[position[scores.id]]
            counts = _counted(self.protocol, sample)
            predictions = {}
            for one in self.participants:
                if one.role == "model":
                    value = cast("Tensor", one.values([sample], None, self.flip)[0])
                    metres = one.aligned(value, sample, self.protocol, counts)
                    metres = torch.nan_to_num(metres, self.protocol.least, self.protocol.most, self.protocol.least)
                    predictions[one.name] = thinned(metres.clamp(self.protocol.least, self.protocol.most))
            yield Shown(
                number,
                place,
                scores,
                thinned(sample.float_image()),
                thinned(sample.depth),
                thinned(counts[None]),
                predictions,
            )


def _participants(models: Sequence[DepthModel], align: str | None) -> list[Participant]:
    """Models under unique names, then the baselines with every alignment that a model has."""
    found: list[Participant] = []
    for model in models:
        taken = sum(one.model is not None and one.model.name == model.name for one in found)
        name = f"{model.name} ({taken + 1})" if taken else model.name
        found.append(Participant(name, choose_alignment(model.kind, align), model.kind, model))
    for name, suffix in align_names(one.alignment for one in list(found)).items():
        found += [Participant(f"{what}{suffix}", name, baseline=what) for what in ("mean map", "constant")]
    return found


def _in_groups(metric: str, groups: Sequence[str]) -> bool:
    return any(metric in GROUPS[group].metrics for group in groups)


def _counted(protocol: Protocol, sample: Sample) -> Bool[Tensor, "h w"]:
    """The pixels that count, at the size of the truth."""
    rows, columns = protocol.window(sample.depth_size)
    counts = torch.zeros(sample.depth_size, dtype=torch.bool)
    counts[rows, columns] = protocol.counted(sample.depth[0, rows, columns], sample.valid[0, rows, columns])
    return counts


def _compared(protocol: Protocol, metres: Tensor, sample: Sample, edges: Bool[Tensor, "h w"] | None) -> Compared:
    """Prediction and truth as the protocol compares them, with the camera of the crop."""
    region = protocol.apply(metres, sample)
    rows, columns = protocol.window(sample.depth_size)
    camera = sample.intrinsics
    if camera is not None:
        height, width = sample.depth_size
        camera = camera.scaled(height / sample.image_size[0], width / sample.image_size[1])
        camera = camera.cropped(rows.start or 0, columns.start or 0)
    normals = None if sample.normals is None else sample.normals[:, rows, columns]
    edges = None if edges is None else edges[rows, columns]
    return Compared(region.predictions[0], region.target, region.valid, camera, normals, edges)
