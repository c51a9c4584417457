"""What an evaluation found: typed records that are written as JSON and read back, and every frame's metrics beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fathom.data.record import DataRecord
from fathom.errors import DataError
from fathom.evaluation.by_depth import Band
from fathom.evaluation.frames import (
    FIX,
    PER_IMAGE,
    PICTURES,
    FrameScores,
    Shown,
    load_pictures,
    read_frames,
    save_pictures,
    write_frames,
)
from fathom.files.atomic import write_json
from fathom.files.inputs import read_bytes, read_json
from fathom.metrics.alignment import Kind
from fathom.metrics.groups import ALL
from fathom.metrics.protocols import Protocol

SCHEMA_VERSION = 2
FILE = "evaluation.json"
RANKED_BY = "abs_rel"
"""The metric that says which frames are best and worst: unlike the RMSE it does not single out the largest rooms."""
TESTED = ("abs_rel", "rmse", "delta1")
"""Metrics whose paired differences are tested."""

Role = Literal["model", "baseline"]


@dataclass(frozen=True)
class Score:
    """A number and its 95 % interval over scenes, None where there are too few scenes for one."""

    mean: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class SceneSums:
    """A metric's sum over the frames of each scene, and over how many frames, in the order of the table's `scenes`."""

    sums: tuple[float, ...]
    frames: tuple[int, ...]


@dataclass(frozen=True)
class Result:
    """One line of the table: a model or a baseline on one data set.

    Attributes:
        name: unique in the table. role: ``model`` or ``baseline``.
        kind: what its numbers are. alignment: what was fitted to the truth, frame by frame, before comparing.
        seen_scenes: measured scenes that it was trained on; its numbers are too good for new ones where there are any.
        train_scenes: how many scenes it was trained on, as far as it says.
        licence, facts: of the model, as it states them.
        cameras: where the cameras that it was given come from, such as ``data``.
        input_size: (height, width) at which it saw the last frame, where it says.
        missing: fraction of the predicted pixels that were not finite; the nearest finite one stands in there.
        scores: by metric, means over frames. pooled_rmse: over all pixels of all frames.
        by_scene: by metric, what differences are made of.
        by_depth: errors against true depth, near to far.
        best, worst: ids of up to ten frames each, the extreme one first, by `RANKED_BY`.
        prompted: whether it was given the depth that it is measured against, as models that take a LiDAR's depth are.
    """

    name: str
    role: Role
    kind: Kind
    alignment: str
    seen_scenes: int
    train_scenes: int
    licence: str
    facts: dict[str, str]
    cameras: tuple[str, ...]
    input_size: tuple[int, int] | None
    missing: float
    scores: dict[str, Score]
    pooled_rmse: Score
    by_scene: dict[str, SceneSums]
    by_depth: tuple[Band, ...]
    best: tuple[str, ...]
    worst: tuple[str, ...]
    prompted: bool = False


@dataclass(frozen=True)
class Difference:
    """The mean of one result less that of another on the same frames, paired over scenes.

    Attributes:
        metric, first, second: what, and whose: `first` − `second`.
        estimate, interval: below 0 where `first` has the smaller value.
        p: two-sided, of "no difference". p_holm: after Holm's correction over all differences of the table.
        better: the name of the better one where p_holm is below 0.05, else empty.
    """

    metric: str
    first: str
    second: str
    estimate: float
    interval: tuple[float, float] | None
    p: float | None
    p_holm: float | None
    better: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A frame that could not be read, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Table:
    """All results on one data set.

    Attributes:
        data, protocol: what was measured on, and how. groups: of metrics.
        frames, pixels: that went into the means. scenes: of those frames.
        baseline: what the mean map and the constant were made of, a sentence.
        results: models first, in the order given, then baselines.
        differences: of every pair of models with one alignment, and of each model from the mean map.
        without_truth: ids of frames without a pixel that counts.
        left_out: frames that could not be read. notes: what a reader should know.
    """

    data: DataRecord
    protocol: Protocol
    groups: tuple[str, ...]
    frames: int
    pixels: int
    scenes: tuple[str, ...]
    baseline: str
    results: tuple[Result, ...]
    differences: tuple[Difference, ...]
    without_truth: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def result(self, name: str) -> Result:
        """The result of this name; `KeyError` where there is none."""
        return {result.name: result for result in self.results}[name]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that some result has, in print order."""
        return tuple(name for name in ALL if any(name in result.scores for result in self.results))


@dataclass(frozen=True)
class Settings:
    """What the user chose; `align` None is each model's own."""

    flip: bool
    align: str | None
    size: tuple[int, int] | None
    device: str
    interval_method: str
    interval_level: float = 0.95


@dataclass(frozen=True)
class Record:
    """``evaluation.json``; its keys are documented in docs/protocols.md."""

    schema_version: int
    command: str
    versions: dict[str, str]
    settings: Settings
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Evaluation:
    """What `fathom.evaluate` returns.

    Attributes:
        record: everything that `evaluation.json` holds.
        frames: every frame of each data set, in the order of the data; empty when read back from JSON.
        shown: best and worst frames by the first model, for the page.
    """

    record: Record
    frames: tuple[tuple[FrameScores, ...], ...] = ()
    shown: tuple[Shown, ...] = field(default=(), repr=False)

    def score(self, metric: str, model: str | None = None, data: int = 0) -> Score:
        """A metric's mean with its interval: of the first model on the first data set unless told otherwise."""
        results = self.record.tables[data].results
        return (results[0] if model is None else self.record.tables[data].result(model)).scores[metric]

    def save(self, out: str | Path) -> list[Path]:
        """Write ``evaluation.json``, ``per_image.csv`` and, where frames are shown, ``pictures.npz`` into the folder `out`.

        The first, written last, holds the checksums of the others.
        """
        folder = Path(out)
        names = [(table.data.location, [result.name for result in table.results]) for table in self.record.tables]
        written = [write_frames(folder / PER_IMAGE, names, self.frames)]
        if self.shown:
            written.append(save_pictures(folder / PICTURES, self.shown))
        else:
            (folder / PICTURES).unlink(missing_ok=True)  # of an evaluation that was here before
        files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in written}
        write_json(folder / FILE, {**self.to_json(), "sha256": files}, checksum=True)
        return [folder / FILE, *written]

    def to_json(self) -> dict[str, Any]:
        """`evaluation.json`, as JSON values."""
        import msgspec

        found: dict[str, Any] = _printable(msgspec.to_builtins(self.record))
        return found

    @staticmethod
    def load(path: str | Path, *, frames: bool = False) -> Evaluation:
        """Read an evaluation back from its folder or its JSON file.

        Args:
            path: the folder or the file.
            frames: also read every frame's scores, and the frames that the page shows, from the files beside it.

        Raises:
            DataError: there is none, or it is of another version, or the files are of different evaluations.
        """
        file = Path(path)
        file = file / FILE if file.is_dir() else file
        fix = "name the folder of a 'fathom evaluate' run"
        record = read_json(file, Record, what="an evaluation that fathom wrote", fix=fix, checksum=True)
        if record.schema_version != SCHEMA_VERSION:
            raise DataError(file, f"has schema version {record.schema_version}, not {SCHEMA_VERSION}", "evaluate again")
        if not frames:
            return Evaluation(record)
        names = [[result.name for result in table.results] for table in record.tables]
        measured = [table.frames + len(table.without_truth) for table in record.tables]
        beside = read_json(file, dict[str, Any], what="an evaluation that fathom wrote", fix=fix).get("sha256", {})
        for name in (PER_IMAGE, PICTURES):
            _verify(file.with_name(name), beside.get(name) if isinstance(beside, dict) else None)
        scores = read_frames(file.with_name(PER_IMAGE), names, measured)
        pictures = file.with_name(PICTURES)
        return Evaluation(record, scores, load_pictures(pictures, scores) if pictures.exists() else ())


def _verify(path: Path, expected: str | None) -> None:
    """Refuse a file beside ``evaluation.json`` that is not the one it was written with."""
    found = hashlib.sha256(read_bytes(path, "index-bytes")).hexdigest() if path.exists() else None
    if found != expected:
        problem = (
            "is missing" if found is None else "is damaged or belongs to another evaluation (its checksum differs)"
        )
        raise DataError(path, problem, FIX)


def is_evaluation(path: str | Path) -> bool:
    """Whether a folder holds an evaluation, or a file is one by its name."""
    given = Path(path)
    return given.name == FILE or (given / FILE).is_file()


def ranked(frames: Sequence[FrameScores], name: str) -> list[FrameScores]:
    """Frames with a pixel that counts, from the best to the worst of result `name`."""
    scored = [frame for frame in frames if frame.metrics]
    return sorted(scored, key=lambda frame: frame.metrics[name][RANKED_BY])


def _printable(value: Any) -> Any:
    """Text that JSON can hold, whatever bytes a file's name is made of."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(item) for item in value]
    return value
