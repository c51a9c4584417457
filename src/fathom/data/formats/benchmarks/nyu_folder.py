"""``nyu-folder:`` — NYU Depth V2 as folders of images: the BTS form with 16-bit millimetres, and the Kaggle copy.

The Kaggle copy (``nyu2_train/<scene>_out/N.jpg`` and ``N.png``) keeps training depth in 8 bits, 255 for 10 m, and test
depth in 16-bit millimetres. Read with one scale, one of the two is wrong by a factor of 25, so each file's bit depth is
looked at and what fits neither form is refused.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fathom.data.dataset import Frame
from fathom.data.formats.benchmarks.nyu_mat import CAMERA, room_of
from fathom.data.formats.files import UnknownUnitError, clean_depth, metres_per_count, read_counts, read_rgb
from fathom.data.transforms import crop_border
from fathom.errors import DataError
from fathom.files.inputs import below, inside, read_bytes
from fathom.sample import Sample

EIGHT_BIT_METRES = 10.0
"""Depth of count 255 in the Kaggle copy's training maps."""

MOST_MILLIMETRES = 20_000
"""The sensor reaches 10 m; 16-bit counts beyond this are no millimetres."""


@dataclass(frozen=True)
class Entry:
    """The files of one frame and the part it was listed under."""

    id: str
    scene: str
    image: Path
    depth: Path
    part: str


@dataclass
class NyuFolderSource:
    """Frames of an NYU folder; see `open_nyu_folder`."""

    location: str
    form: str
    entries: Sequence[Entry]
    scale: float | None
    border: int
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]]
    kind: str = "nyu-folder"
    left_out: Sequence[str] = ()

    def __post_init__(self) -> None:
        self.frames = tuple(Frame(e.id, e.scene, (e.image, e.depth)) for e in self.entries)

    def read(self, index: int) -> Sample:
        """One frame."""
        entry = self.entries[index]
        counts = read_counts(entry.depth)
        scale = self.scale if self.scale is not None else scale_of(counts, entry.depth, self.form)
        depth, valid = clean_depth(counts.astype(np.float32) * np.float32(scale), entry.depth)
        image = read_rgb(entry.image)
        camera = CAMERA.scaled(image.shape[-2] / 480, image.shape[-1] / 640)
        return crop_border(Sample(image, depth, valid, entry.scene, entry.id, camera), self.border)


def scale_of(counts: np.ndarray, path: Path, form: str) -> float:
    """Metres a count of one depth map, by its bit depth and its values; raises `UnknownUnitError` where they fit no known form."""
    largest = int(counts.max(initial=0))
    if counts.dtype == np.uint8:
        if form == "kaggle":
            return EIGHT_BIT_METRES / 255
        raise UnknownUnitError(
            path,
            f"has 8 bits where the {form} form has 16-bit millimetres",
            "give 'PATH?depth-scale=0.0392157' if 255 is 10 m",
        )
    if largest > MOST_MILLIMETRES:
        raise UnknownUnitError(
            path,
            f"has counts up to {largest}, which as millimetres would be {largest / 1000:.1f} m in a room",
            "give 'PATH?depth-scale=COUNTS_A_METRE' (6553.5 if 65535 is 10 m)",
        )
    inside = counts[counts > 0]
    if inside.size and float(np.median(inside)) < 256:
        raise UnknownUnitError(
            path,
            f"has 16 bits but a median of {np.median(inside):.0f} counts, 8-bit values it seems",
            "give 'PATH?depth-scale=0.0392157' if 255 is 10 m, 1000 for millimetres",
        )
    return 0.001


def open_nyu_folder(
    path: Path,
    *,
    pairs: Path | None = None,
    depth_scale: float | None = None,
    border: int = 0,
    skip_bad: bool = False,
) -> NyuFolderSource:
    """Open NYU Depth V2 as folders.

    Args:
        path: the folder of the BTS categories, or any folder above the Kaggle copy's ``nyu2_train``.
        pairs: a file of ``rgb depth focal`` lines (BTS) or of ``rgb,depth`` lines (Kaggle) that names the frames.
        depth_scale: of all maps: below 1 metres a count, else counts a metre; by default told from each file.
        border: pixels cut from every side.
        skip_bad: leave out frames with a missing file.
    """
    scale = None if depth_scale is None else metres_per_count(depth_scale)
    left_out: list[str] | None = [] if skip_bad else None
    kaggle = _kaggle_root(path)
    form = "kaggle" if kaggle is not None else "bts"
    if pairs is not None:
        found = _listed(pairs, [path, *([kaggle, kaggle.parent] if kaggle else [])], _part_of(pairs.stem), left_out)
    elif kaggle is not None:
        found = _kaggle(kaggle, left_out)
    else:
        found = _bts(path, left_out)
    entries = tuple(found)
    if not entries:
        raise DataError(
            path,
            "holds no NYU frame",
            "looked for <scene>/rgb_N.jpg with sync_depth_N.png (BTS), and nyu2_train/<scene>_out/N.jpg with N.png (Kaggle)",
        )
    ids = {entry.id for entry in entries}
    if len(ids) < len(entries):
        twice = next(e.id for i, e in enumerate(entries) if e.id in {other.id for other in entries[:i]})
        raise DataError(path, f"lists frame '{twice}' twice", "remove one of the two")
    unit = (
        f"{scale:.6g} m a count, as given"
        if scale is not None
        else "16-bit millimetres" + (", or 8-bit with 255 = 10 m, told apart by file" if form == "kaggle" else "")
    )
    facts = {"depth": f"z-depth; {unit}", "form": form, "scene": "folder; parts a, b, c of one room are one scene"}
    if border:
        facts["border"] = f"{border} pixels cut from every side"
    if left_out:
        facts["left out"] = f"{len(left_out)} incomplete: {'; '.join(left_out[:3])}"
    sides = {part: [i for i, entry in enumerate(entries) if entry.part == part] for part in ("train", "test")}
    return NyuFolderSource(
        str(path),
        form,
        entries,
        scale,
        border,
        facts,
        {part: tuple(indices) for part, indices in sides.items()} if all(sides.values()) else {},
        left_out=tuple(left_out or ()),
    )


def _part_of(name: str) -> str:
    return next((part for part in ("train", "test") if part in name.lower()), "all")


def _kaggle_root(path: Path) -> Path | None:
    """The folder that holds ``nyu2_train`` or ``nyu2_test``, at most two levels down."""
    for base in (path, *sorted(path.glob("*")), *sorted(path.glob("*/*"))):
        if (base / "nyu2_train").is_dir() or (base / "nyu2_test").is_dir():
            return base
    return path.parent if path.name in ("nyu2_train", "nyu2_test") else None


def _kaggle(root: Path, left_out: list[str] | None) -> Iterator[Entry]:
    for part in ("train", "test"):
        table = root / f"nyu2_{part}.csv"
        if table.is_file():
            # Paths in the lists begin with the name of the folder that holds them, "data/".
            yield from _listed(table, [root.parent, root], part, left_out)
            continue
        folder = root / f"nyu2_{part}"
        for image in sorted(file for file in below(folder) if file.name.endswith((".jpg", "_colors.png"))):
            name = image.name.replace("_colors.png", "_depth.png") if part == "test" else f"{image.stem}.png"
            yield from _entry(image, image.with_name(name), part, image, left_out)


def _bts(path: Path, left_out: list[str] | None) -> Iterator[Entry]:
    for image in sorted(file for file in below(path) if file.name.startswith("rgb_") and file.suffix == ".jpg"):
        part = next((p for p in ("train", "test") if p in image.relative_to(path).parts), "all")
        yield from _entry(
            image, image.with_name(f"sync_depth_{image.stem.removeprefix('rgb_')}.png"), part, image, left_out
        )


def _listed(table: Path, roots: Sequence[Path], part: str, left_out: list[str] | None) -> Iterator[Entry]:
    """Frames of a list file, resolved against the first of `roots` that holds them."""
    text = read_bytes(table, "index-bytes").decode("utf-8", "surrogateescape")
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            fields = next(csv.reader([line])) if "," in line else line.split()
        except csv.Error as error:
            raise DataError(table, f"line {number} cannot be read ({error})") from error
        if not fields or not line.strip():
            continue
        if len(fields) < 2:
            raise DataError(table, f"line {number} is no 'rgb depth [focal]' or 'rgb,depth': {line.strip()[:60]}")
        # Paths of such lists begin with a slash and mean the folder of the data.
        names = [field.strip().lstrip("/") for field in fields[:2]]
        image, depth = (_resolve([inside(root, name, table) for root in roots]) for name in names)
        yield from _entry(image, depth, part, f"{table}: line {number} names", left_out)


def _resolve(places: Sequence[Path]) -> Path:
    """The first of `places` that is a file, or the first."""
    return next((place for place in places if place.is_file()), places[0])


def _entry(image: Path, depth: Path, part: str, named_by: Path | str, left_out: list[str] | None) -> Iterator[Entry]:
    missing = next((file for file in (image, depth) if not file.is_file()), None)
    if missing is not None:
        if left_out is None:
            problem = "is missing" + (f" ({named_by} it)" if isinstance(named_by, str) else f" beside {named_by.name}")
            raise DataError(missing, problem, "complete the data or use --skip-bad")
        left_out.append(f"{missing}: is missing")
        return
    folder = image.parent.name
    if folder.startswith("nyu2_test"):
        # The test frames lie in one folder without scene names.
        yield Entry(f"{folder}/{image.stem}", f"{folder}/{image.stem}", image, depth, part)
    else:
        yield Entry(f"{folder}/{image.stem}", room_of(folder.removesuffix("_out")), image, depth, part)
