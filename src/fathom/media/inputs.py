"""What a prediction run reads: images, folders and patterns of images, and data sets."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from fathom.data.dataset import Dataset
from fathom.data.formats.files import IMAGE_SUFFIXES, DepthUnitWarning, UnknownUnitError
from fathom.data.sources import SOURCES, load, recognise
from fathom.errors import DataError, FathomError, UsageError
from fathom.media.images import OUTPUTS, find_images
from fathom.progress import count, note
from fathom.sample import Sample


@dataclass(frozen=True)
class Input:
    """One image to predict.

    Attributes:
        name: of its results relative to the output folder, without suffix.
        shown: what the reader knows it as: the file, or the frame of a data set.
        path: of the image file; None for a frame.
        dataset: of the frame, with its position there; None for a file.
        has_depth: whether the unit of the frame's depth is known; else it is read without depth.
    """

    name: str
    shown: str
    path: Path | None = None
    dataset: Dataset | None = None
    position: int = 0
    has_depth: bool = True

    def read(self) -> Path | Sample:
        """What `fathom.predict` takes: the file's path, or the frame with its camera."""
        if self.dataset is None:
            assert self.path is not None
            return self.path
        if self.has_depth:
            return self.dataset[self.position]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DepthUnitWarning)  # the depth is dropped
            sample = self.dataset[self.position]
        return replace(sample, depth=torch.zeros_like(sample.depth), valid=torch.zeros_like(sample.valid))


def find_inputs(given: Sequence[str], out: Path, *, skip_bad: bool = False) -> list[Input]:
    """Everything that `given` names, in order: image files, folders, patterns such as ``'photos/*.jpg'``, and DATA.

    A folder in a layout of `SOURCES` (with depth beside its images) is read as data, so that each frame has its camera and
    depth maps are not taken for images; any other folder is searched for images.
    """
    images: list[Path] = []
    frames: list[Input] = []
    for text in given:
        opened = _data(text, skip_bad)
        if opened is None:
            images += _expand(text)
            continue
        found, has_depth = opened
        note(f"{text}: {count(len(found), 'frame')} of {found.source.kind} data.")
        prefix = f"{Path(found.source.location).stem}/" if len(given) > 1 else ""
        frames += [
            Input(
                prefix + _safe(id_),
                f"{found.source.location}: {id_}",
                dataset=found,
                position=position,
                has_depth=has_depth,
            )
            for position, id_ in enumerate(found.ids)
        ]
    files = [Input(item.name, str(item.path), path=item.path) for item in find_images(images, out)] if images else []
    return _told_apart([*files, *frames])


def _data(text: str, skip_bad: bool) -> tuple[Dataset, bool] | None:
    """The data set that `text` names and whether the unit of its depth is known, or None where `text` names images."""
    path = Path(text).expanduser()
    if not path.exists():
        kind = text.partition("?")[0].partition(":")[0]
        known = kind in SOURCES or Path(text.partition("?")[0]).expanduser().exists()
        return _opened(text, skip_bad) if known else None
    if path.is_file() and path.suffix.lower() in IMAGE_SUFFIXES:
        return None
    try:
        kind = recognise(path)
    except DataError:
        if path.is_file():
            raise
        return None
    try:
        return _opened(text, skip_bad)
    except (DataError, UsageError) as error:
        if not path.is_dir():
            raise
        if kind != "folder":  # else photographs in a folder that looked like pairs
            note(f"{text}: its images are read without what belongs to them. {error}")
        return None


def _opened(text: str, skip_bad: bool) -> tuple[Dataset, bool]:
    """The data set, and whether the unit of its depth is known: a prediction does without."""
    try:
        found = load(text, skip_bad=skip_bad)
        if len(found):
            _read_first(found)
        return found, True
    except UnknownUnitError as error:
        note(f"{error} A prediction needs no depth: images and cameras are read without.")
        return load(text, skip_bad=skip_bad, depth_scale=1000.0), False


def _read_first(found: Dataset) -> None:
    """Raise `UnknownUnitError` where the first frame does; what else is wrong with it is told when its turn comes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DepthUnitWarning)
        try:
            found[0]
        except UnknownUnitError:
            raise
        except FathomError:
            pass


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
