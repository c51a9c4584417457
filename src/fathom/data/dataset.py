"""`Dataset`: frames of one source, chosen by index, read one at a time.

A source is any object with the attributes of :class:`Source`: it lists its frames without reading them and reads one
on request. Everything above (splits, probing, training, evaluation) sees a `Dataset` and never a source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from fathom.data.scenes import choose_fraction
from fathom.errors import DataError, UsageError
from fathom.sample import Sample


@dataclass(frozen=True, slots=True)
class Frame:
    """What is known of a frame before it is read.

    Attributes:
        id: unique within the source.
        scene: the scene it belongs to.
        files: the files it is read from, for messages and for the fingerprint.
    """

    id: str
    scene: str
    files: tuple[Path, ...] = ()


@runtime_checkable
class Source(Protocol):
    """One way of storing frames. Implementations pickle, so that worker processes can read from them.

    Attributes:
        kind: its name in a DATA spec, such as ``"nyu-mat"``.
        location: the path or name it was opened with.
        frames: every frame, in a fixed order.
        facts: what a user should know of the data, in print order: ``depth`` (z-depth, and how stored counts became
            metres), ``size`` and so on.
        official: frame indices of the official split by the names ``train``, ``val``, ``test``; empty if none.
    """

    kind: str
    location: str
    frames: Sequence[Frame]
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]]

    def read(self, index: int) -> Sample:
        """Read frame `index`; raises `DataError` naming the file when it is broken."""
        ...


@dataclass(frozen=True, repr=False)
class Dataset:
    """Frames of a source, in the order of `indices`; a map-style data set for `torch.utils.data`.

    Attributes:
        source: where the frames are read.
        indices: which of the source's frames, in which order.
        part: what these frames are, for output: ``"all"``, ``"train"``, ``"test"`` ...
    """

    source: Source
    indices: tuple[int, ...]
    part: str = "all"
    _scenes: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        frames = self.source.frames
        object.__setattr__(self, "_scenes", tuple(frames[i].scene for i in self.indices))

    def __repr__(self) -> str:
        frames, scenes = len(self), len(self.scenes)
        return f"<Dataset {self.source.kind}:{self.source.location}, {self.part}: {frames} frames of {scenes} scenes>"

    @classmethod
    def whole(cls, source: Source) -> Dataset:
        """All frames of `source`."""
        if not source.frames:
            raise DataError(source.location, "no frame was found", "name a folder or file that holds some")
        return cls(source, tuple(range(len(source.frames))))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample:
        sample = self.source.read(self.indices[position])
        _refuse_mismatch(sample, self.frame(position))
        _refuse_foreign_camera(sample, self.frame(position))
        return sample

    def __iter__(self) -> Iterator[Sample]:
        return (self[position] for position in range(len(self)))

    def frame(self, position: int) -> Frame:
        return self.source.frames[self.indices[position]]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.source.frames[i].id for i in self.indices)

    @property
    def frame_scenes(self) -> tuple[str, ...]:
        """The scene of each frame, in order."""
        return self._scenes

    @property
    def scenes(self) -> tuple[str, ...]:
        """The scenes that occur, each once, in order of first appearance."""
        return tuple(dict.fromkeys(self._scenes))

    def subset(self, positions: Sequence[int], part: str | None = None) -> Dataset:
        """The frames at `positions` of this data set."""
        return Dataset(self.source, tuple(self.indices[p] for p in positions), part or self.part)

    def of_scenes(self, scenes: Sequence[str], part: str | None = None) -> Dataset:
        """All frames of the named scenes, in this data set's order."""
        wanted = set(scenes)
        return self.subset([p for p, scene in enumerate(self._scenes) if scene in wanted], part)

    @property
    def has_official_split(self) -> bool:
        """Whether these frames hold some of the source's own training part and some of its test part, of other scenes."""
        return self._has_official_parts and not self._official_in_both()

    @property
    def _has_official_parts(self) -> bool:
        chosen = set(self.indices)
        return all(not chosen.isdisjoint(self.source.official.get(part, ())) for part in ("train", "test"))

    def _official_in_both(self) -> list[str]:
        """Scenes with frames on both sides of the official split."""
        chosen, frames = set(self.indices), self.source.frames
        train, test = (
            {frames[i].scene for i in self.source.official.get(part, ()) if i in chosen} for part in ("train", "test")
        )
        return sorted(train & test)

    def official_split(self) -> tuple[Dataset, Dataset]:
        """The source's own (train, test); raises `UsageError` where it has none, or one that is not by scene."""
        if self._has_official_parts and (shared := self._official_in_both()):
            raise UsageError(
                f"The official split of {self.source.location} has scene '{shared[0]}' in both parts, so that scores would be "
                "those of seen scenes; split it by fraction or folds instead, or name the parts (?part=train, ?part=test)."
            )
        if not self.has_official_split:
            raise UsageError(
                f"{self.source.location} ({self.source.kind}) has no official split; split it by fraction or folds instead."
            )
        chosen = set(self.indices)
        train, test = (
            Dataset(self.source, tuple(i for i in self.source.official[part] if i in chosen), part)
            for part in ("train", "test")
        )
        return train, test

    def split(self, fraction: float = 0.25, seed: int = 0) -> tuple[Dataset, Dataset]:
        """(train, test) by scene: whole scenes, in random order, go to test until it holds `fraction` of the frames."""
        if not 0 < fraction < 1:
            raise UsageError(f"A test fraction of {fraction} is not between 0 and 1.")
        need_scenes(self, 2)
        test = set(choose_fraction(self._scenes, fraction, seed))
        train = [scene for scene in self.scenes if scene not in test]
        return self.of_scenes(train, "train"), self.of_scenes(sorted(test), "test")

    def named(self, part: str) -> Dataset:
        """The same frames under another name."""
        return Dataset(self.source, self.indices, part)

    @property
    def left_out(self) -> tuple[str, ...]:
        """What the source left out as incomplete when it was opened with ``skip_bad``, a sentence for each frame."""
        return tuple(getattr(self.source, "left_out", ()))

    def fingerprint(self) -> str:
        """Hex digest of what these frames are: ids, scenes, and the content of every file (of a large one, samples)."""
        digest = hashlib.sha256(f"{self.source.kind}\n{json.dumps(dict(self.source.facts))}".encode())
        contents: dict[Path, bytes] = {}
        for index in self.indices:
            frame = self.source.frames[index]
            digest.update(f"{frame.id}\t{frame.scene}".encode("utf-8", "surrogateescape"))
            for path in frame.files:
                if path not in contents:
                    contents[path] = _content_digest(path)
                digest.update(contents[path])
        return digest.hexdigest()[:16]


def need_scenes(dataset: Dataset, scenes: int) -> None:
    """Raise `UsageError` where `dataset` has fewer scenes than a split needs."""
    found = len(dataset.scenes)
    if found < scenes:
        raise UsageError(
            f"{dataset.source.location} has {found} scene{'s' if found != 1 else ''}, too few for {scenes} parts: a split is by "
            "scene; add recordings, or name a data set of its own for the test."
        )


def _refuse_mismatch(sample: Sample, frame: Frame) -> None:
    """Refuse an image and a depth map whose sides are in different proportion: they cannot show the same view."""
    (height, width), (rows, columns) = sample.image_size, sample.depth_size
    # A size rounded to whole pixels, or a border cut from both, moves a side by less than two.
    if abs(columns * height / width - rows) < 2 or abs(rows * width / height - columns) < 2:
        return
    name = frame.files[0] if frame.files else frame.id
    raise DataError(
        name,
        f"is {height}x{width} (height x width) and its depth map {rows}x{columns}, which cannot show the same view",
        "check the pairing, or leave the frame out with --skip-bad",
    )


def _refuse_foreign_camera(sample: Sample, frame: Frame) -> None:
    """Refuse a camera that belongs to an image of another size: its principal point is far from the middle."""
    camera = sample.intrinsics
    if camera is None:
        return
    height, width = sample.image_size
    across, down = camera.cx / width, camera.cy / height
    outside = not (0 < across < 1 and 0 < down < 1)
    scaled = not 0.3 < across < 0.7 and not 0.3 < down < 0.7
    turned = max(abs(camera.cx / height - 0.5), abs(camera.cy / width - 0.5)) < 0.05 < abs(across - 0.5)
    if (outside or scaled or turned) or not (camera.fx > 0 and camera.fy > 0):
        raise DataError(
            frame.files[0] if frame.files else frame.id,
            f"is {height}x{width} (height x width), and its camera (fx {camera.fx:g}, fy {camera.fy:g}, centre {camera.cx:g}, "
            f"{camera.cy:g}) is that of an image of about {2 * camera.cy:.0f}x{2 * camera.cx:.0f}",
            "give the camera of the images as stored ('PATH?intrinsics=fx,fy,cx,cy' where the source takes it)",
        )


def _content_digest(path: Path, block: int = 1 << 16, blocks: int = 16) -> bytes:
    """SHA-256 of size and content; of a file beyond `blocks` blocks, of evenly spaced blocks and the end."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            digest.update(size.to_bytes(8, "little"))
            span = max(size - block, 0)
            starts = (
                range(0, size, block) if size <= block * blocks else [span * i // blocks for i in range(blocks + 1)]
            )
            for start in starts:
                file.seek(start)
                digest.update(file.read(block))
    except OSError:
        digest.update(b"unreadable")
    return digest.digest()
