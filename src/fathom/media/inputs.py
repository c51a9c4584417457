"""What a prediction run reads: images, folders and patterns of images, and data sets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fathom.data.dataset import Dataset
from fathom.data.formats.files import IMAGE_SUFFIXES
from fathom.data.sources import SOURCES, load, recognise
from fathom.errors import DataError, UsageError
from fathom.media.images import OUTPUTS, find_images
from fathom.progress import note
from fathom.sample import Sample


@dataclass(frozen=True)
class Input:
    """One image to predict.

    Attributes:
        name: of its results relative to the output folder, without suffix.
        shown: what the reader knows it as: the file, or the frame of a data set.
        path: of the image file; None for a frame.
        dataset: of the frame, with its position there; None for a file.
    """

    name: str
    shown: str
    path: Path | None = None
    dataset: Dataset | None = None
    position: int = 0

    def read(self) -> Path | Sample:
        """What `fathom.predict` takes: the file's path, or the frame with its camera."""
        if self.dataset is not None:
            return self.dataset[self.position]
        assert self.path is not None
        return self.path


def find_inputs(given: Sequence[str], out: Path, *, skip_bad: bool = False) -> list[Input]:
    """Everything that `given` names, in order: image files, folders, patterns such as ``'photos/*.jpg'``, and DATA.

    A folder in a layout of `SOURCES` (with depth beside its images) is read as data, so that each frame has its camera and
    depth maps are not taken for images; any other folder is searched for images.
    """
    images: list[Path] = []
    frames: list[Input] = []
    for text in given:
        found = _data(text, skip_bad)
        if found is None:
            images += _expand(text)
            continue
        note(f"{text}: {len(found)} frames of {found.source.kind} data.")
        prefix = f"{Path(found.source.location).stem}/" if len(given) > 1 else ""
        frames += [
            Input(prefix + _safe(id_), f"{found.source.location}: {id_}", dataset=found, position=position)
            for position, id_ in enumerate(found.ids)
        ]
    files = [Input(item.name, str(item.path), path=item.path) for item in find_images(images, out)] if images else []
    return _told_apart([*files, *frames])


def _data(text: str, skip_bad: bool) -> Dataset | None:
    """The data set that `text` names, or None where it names images."""
    path = Path(text).expanduser()
    if not path.exists():
        kind = text.partition("?")[0].partition(":")[0]
        return load(text, skip_bad=skip_bad) if kind in SOURCES or Path(text.partition("?")[0]).exists() else None
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    try:
        kind = recognise(path)
    except DataError:
        if path.is_file():
            raise
        return None
    try:
        return load(text, skip_bad=skip_bad)
    except (DataError, UsageError) as error:
        if not path.is_dir():
            raise
        if kind != "folder":  # else photographs in a folder that looked like pairs
            note(f"{text}: its images are read without what belongs to them. {error}")
        return None


def _expand(text: str) -> list[Path]:
    """A path, or the files that a pattern matches."""
    path = Path(text).expanduser()
    if path.exists() or not re.search(r"[*?\[]", text):
        return [path]
    root = Path(path.anchor or ".")
    found = sorted(root.glob(str(path.relative_to(path.anchor) if path.anchor else path)))
    if not found:
        raise DataError(text, "matches no file", "check the pattern, and quote it so that the shell leaves it alone")
    return found


def _safe(name: str) -> str:
    """A frame's id as a relative path without suffix."""
    parts = [part for part in re.split(r"[/\\]", name) if part not in ("", ".", "..")]
    return "/".join(re.sub(r'[<>:"|?*\x00-\x1f]', "_", part) for part in parts) or "frame"


def _told_apart(inputs: list[Input]) -> list[Input]:
    """`inputs`, refused where two would write the same file."""
    taken: dict[str, str] = {}
    for item in inputs:
        key = item.name.casefold()
        if key in taken:
            raise UsageError(
                f"The results of {item.shown} and {taken[key]} would have the same name; predict them into two --out folders."
            )
        taken[key] = item.shown
    return inputs


def targets(out: Path, item: Input, output: str) -> Path:
    """Where the result `output` (a key of `OUTPUTS`) of an input is written."""
    return out / (item.name + OUTPUTS[output])
