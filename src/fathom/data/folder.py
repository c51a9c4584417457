"""``folder:`` — any folder of image and depth pairs, paired by sub-folder, by name, or by a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from fathom.data.dataset import Frame
from fathom.data.files import (
    DEPTH_SUFFIXES,
    IMAGE_SUFFIXES,
    clean_depth,
    metres_per_count,
    read_counts,
    read_metres,
    read_rgb,
)
from fathom.data.transforms import crop_border
from fathom.errors import DataError, UsageError
from fathom.sample import Sample

IMAGE_FOLDERS = ("rgb", "image", "images", "color", "colour", "img")
DEPTH_FOLDERS = ("depth", "depths", "sync_depth", "gt", "disparity_free_depth")
LABEL_FOLDERS = ("labels40", "labels", "label", "semantic")
PAIR_MARKS = (
    ("_rgb", "_depth"),
    ("_colors", "_depth"),
    ("_color", "_depth"),
    ("rgb_", "sync_depth_"),
    ("rgb_", "depth_"),
)
"""How one folder may name both files of a pair: (mark of the image, mark of the depth map)."""

COLUMNS = {
    "image": ("image", "rgb", "color", "colour", "img"),
    "depth": ("depth", "gt"),
    "scene": ("scene", "room", "sequence"),
    "labels": ("labels", "label", "semantic"),
    "id": ("frame", "id", "name"),
}
"""CSV columns by any sensible name."""


@dataclass(frozen=True)
class Pair:
    """The files of one frame."""

    id: str
    scene: str
    image: Path
    depth: Path
    labels: Path | None = None


@dataclass
class FolderSource:
    """Frames of a folder; see `open_folder`."""

    location: str
    pairs: Sequence[Pair]
    scale: float | None
    offset: float
    invalid: int | None
    border: int
    facts: Mapping[str, str]
    kind: str = "folder"
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.frames = tuple(
            Frame(p.id, p.scene, tuple(f for f in (p.image, p.depth, p.labels) if f is not None)) for p in self.pairs
        )

    def read(self, index: int) -> Sample:
        """One frame."""
        pair = self.pairs[index]
        metres = self._metres(pair.depth)
        depth, valid = clean_depth(metres, pair.depth)
        labels = None
        if pair.labels is not None:
            labels = torch.from_numpy(read_counts(pair.labels).astype(np.int64))[None]
            if labels.shape[-2:] != depth.shape[-2:]:
                sizes = "x".join(map(str, labels.shape[-2:])), "x".join(map(str, depth.shape[-2:]))
                raise DataError(pair.labels, f"has labels of {sizes[0]} for depth of {sizes[1]}")
        sample = Sample(read_rgb(pair.image), depth, valid, pair.scene, pair.id, labels=labels)
        return crop_border(sample, self.border)

    def _metres(self, path: Path) -> np.ndarray:
        if path.suffix.lower() in (".npy", ".exr", ".tif", ".tiff"):
            if self.scale is None:
                return read_metres(path)
            from fathom.data.files import decode_image, read_npy

            counts = read_npy(path) if path.suffix.lower() == ".npy" else decode_image(path)
        else:
            counts = read_counts(path)
            if self.scale is None:
                raise DataError(
                    path,
                    f"holds {counts.dtype} counts, and nothing says how many make a metre",
                    "give --depth-scale (1000 for millimetres)",
                )
        metres = counts.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        if self.invalid is not None:
            metres[counts == self.invalid] = 0
        return metres


def open_folder(
    path: Path,
    *,
    depth_scale: float | None = None,
    depth_offset: float = 0.0,
    invalid: int | None = None,
    border: int = 0,
    images: str | None = None,
    depths: str | None = None,
    csv: str | None = None,
    scene: str = "auto",
    skip_bad: bool = False,
) -> FolderSource:
    """Open a folder of pairs.

    Args:
        path: the folder.
        depth_scale: of stored counts: below 1 metres a count (0.001), else counts a metre (1000). Integer maps need it.
        depth_offset: metres added to every count.
        invalid: the stored count that means "no depth"; 0 unless an offset gives count 0 a depth.
        border: pixels cut from every side.
        images, depths: glob patterns relative to `path`, paired in sorted order of equal stems.
        csv: a table of pairs relative to `path`; ``index.csv`` is found by itself.
        scene: ``auto`` (CSV column, else sub-folder, else each frame its own), ``frame``, or a regular expression whose
            first group, found in the frame's id, is the scene.
        skip_bad: leave out pairs that are incomplete instead of raising.
    """
    if not path.is_dir():
        raise DataError(path, "is not a folder", "name the folder that holds images and depth maps")
    table = path / csv if csv else path / "index.csv"
    rows = _read_table(table) if csv or table.is_file() else None
    skipped: list[str] = []
    if rows is not None and rows and "image" in rows[0] and "depth" in rows[0]:
        pairs = _pairs_from_table(path, table, rows, skipped if skip_bad else None)
        how = f"pairs from {table.name}"
    else:
        pairs, how = _find_pairs(path, images, depths, skipped if skip_bad else None)
        if rows is not None:
            pairs = _name_scenes(table, rows, pairs, skipped if skip_bad else None)
            how += f", scenes from {table.name}"
    pairs, said = _scenes(pairs, scene, rows is not None and "scene" in rows[0])
    if not pairs:
        raise DataError(path, "holds no pair of image and depth map", f"looked for {_looked_for()}")
    _refuse_duplicates(path, pairs)
    scale = None if depth_scale is None else metres_per_count(depth_scale)
    if scale is not None and scale <= 0:
        raise UsageError(f"--depth-scale {depth_scale} is not above 0.")
    if invalid is None and depth_offset == 0:
        invalid = 0
    facts = {
        "depth": "z-depth taken as stored; "
        + ("floating-point metres" if scale is None else f"depth = count x {scale:.6g} m + {depth_offset:g} m"),
        "pairing": how,
        "scene": said,
    }
    if border:
        facts["border"] = f"{border} pixels cut from every side"
    if skipped:
        facts["left out"] = f"{len(skipped)} incomplete: {'; '.join(skipped[:3])}"
    return FolderSource(str(path), pairs, scale, depth_offset, invalid, border, facts)


def _looked_for() -> str:
    return (
        "sub-folders rgb/ and depth/ (or image(s), color; depth(s)), names such as x_rgb.png + x_depth.png, "
        "or an index.csv with columns image, depth, scene"
    )


def _read_table(table: Path) -> list[dict[str, str]]:
    """Rows of a CSV with its columns brought to our names."""
    try:
        with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            names = {
                given: ours
                for given in reader.fieldnames or ()
                for ours, known in COLUMNS.items()
                if given.strip().lower() in known
            }
            rows = [{names[key]: value for key, value in row.items() if key in names and value} for row in reader]
    except FileNotFoundError:
        raise DataError(table, "does not exist", "check the name given as csv") from None
    except (OSError, csv.Error) as error:
        raise DataError(table, f"is not a readable table ({error})") from error
    if not rows or not rows[0]:
        raise DataError(table, "has no row under columns such as image, depth, frame, scene")
    return rows


def _pairs_from_table(
    root: Path, table: Path, rows: Iterable[Mapping[str, str]], skipped: list[str] | None
) -> list[Pair]:
    pairs = []
    for line, row in enumerate(rows, start=2):
        files = {key: root / row[key] for key in ("image", "depth", "labels") if row.get(key)}
        missing = next((file for file in files.values() if not file.is_file()), None)
        if missing is not None or len(files.keys() & {"image", "depth"}) < 2:
            problem = (
                f"line {line} names {missing}, which does not exist" if missing else f"line {line} lacks image or depth"
            )
            if skipped is None:
                raise DataError(table, problem, "mend the table or use --skip-bad")
            skipped.append(problem)
            continue
        id_ = row.get("id") or str(Path(row["image"]).with_suffix(""))
        pairs.append(Pair(id_, row.get("scene", ""), files["image"], files["depth"], files.get("labels")))
    return pairs


def _name_scenes(
    table: Path, rows: Sequence[Mapping[str, str]], pairs: Sequence[Pair], skipped: list[str] | None
) -> list[Pair]:
    """Scenes of a table of frames and scenes, given to pairs found by name."""
    scenes = {row["id"]: row.get("scene", "") for row in rows if "id" in row}
    by_stem = {Path(pair.id).name: pair for pair in pairs}
    absent = [id_ for id_ in scenes if id_ not in by_stem]
    if absent:
        if skipped is None:
            raise DataError(table, f"names frame '{absent[0]}', for which there is no image and depth map")
        skipped.extend(absent)
    return [
        Pair(pair.id, scenes[stem], pair.image, pair.depth, pair.labels)
        for stem, pair in by_stem.items()
        if stem in scenes
    ]


def _find_pairs(
    root: Path, images: str | None, depths: str | None, skipped: list[str] | None
) -> tuple[list[Pair], str]:
    if images or depths:
        if not (images and depths):
            raise UsageError("The options images and depths go together: give both patterns.")
        return _match(
            root, _keyed(root, sorted(root.glob(images))), _keyed(root, sorted(root.glob(depths))), {}, skipped
        ), "given patterns"
    found: list[Pair] = []
    for folder in sorted({root, *(p.parent for p in root.rglob("*") if p.is_dir())}):
        image_dir = next((folder / name for name in IMAGE_FOLDERS if (folder / name).is_dir()), None)
        depth_dir = next((folder / name for name in DEPTH_FOLDERS if (folder / name).is_dir()), None)
        if image_dir is None or depth_dir is None:
            continue
        label_dir = next((folder / name for name in LABEL_FOLDERS if (folder / name).is_dir()), None)
        listed = [
            _stems(directory, suffixes)
            for directory, suffixes in ((image_dir, IMAGE_SUFFIXES), (depth_dir, DEPTH_SUFFIXES))
        ]
        labels = _stems(label_dir, DEPTH_SUFFIXES) if label_dir else {}
        prefix = "" if folder == root else f"{folder.relative_to(root)}/"
        found += [
            Pair(prefix + pair.id, pair.scene or prefix.rstrip("/"), pair.image, pair.depth, pair.labels)
            for pair in _match(root, listed[0], listed[1], labels, skipped)
        ]
    if found:
        return found, "sub-folders of images and depth maps"
    return _marked(root, skipped), "names in one folder"


def _stems(directory: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files under `directory` by their path without suffix; two files of one stem are an error."""
    stems: dict[str, Path] = {}
    for file in sorted(directory.rglob("*")):
        if file.suffix.lower() in suffixes and file.is_file():
            stem = str(file.relative_to(directory).with_suffix(""))
            if stem in stems:
                raise DataError(file, f"has the same name as {stems[stem].name}", "keep one of the two")
            stems[stem] = file
    return stems


def _keyed(root: Path, files: Iterable[Path]) -> dict[str, Path]:
    """Files by their stem stripped of what marks images and depth maps."""
    keyed: dict[str, Path] = {}
    for file in files:
        key = re.sub(r"(_?(rgb|colors?|image|sync_depth|depth)_?)", "", file.stem, flags=re.IGNORECASE) or file.stem
        parent = file.parent.relative_to(root).parts
        key = "/".join([*(p for p in parent if p.lower() not in (*IMAGE_FOLDERS, *DEPTH_FOLDERS)), key])
        if key in keyed:
            raise DataError(
                file, f"pairs with the same frame as {keyed[key].name}", "give patterns that match one file a frame"
            )
        keyed[key] = file
    return keyed


def _match(
    root: Path,
    images: Mapping[str, Path],
    depths: Mapping[str, Path],
    labels: Mapping[str, Path],
    skipped: list[str] | None,
) -> list[Pair]:
    for one, other, what in ((images, depths, "depth map"), (depths, images, "image")):
        for stem in sorted(one.keys() - other.keys()):
            if skipped is None:
                raise DataError(one[stem], f"has no {what} beside it", "complete the pair or use --skip-bad")
            skipped.append(f"{one[stem].name} has no {what}")
    return [
        Pair(stem, str(Path(stem).parent) if "/" in stem else "", images[stem], depths[stem], labels.get(stem))
        for stem in sorted(images.keys() & depths.keys())
    ]


def _marked(root: Path, skipped: list[str] | None) -> list[Pair]:
    """Pairs in one folder, told apart by a mark in the name: x_rgb.png + x_depth.png, or x.jpg + x_depth.png."""
    files = [f for f in sorted(root.rglob("*")) if f.is_file() and f.suffix.lower() in IMAGE_SUFFIXES | DEPTH_SUFFIXES]
    depth_of: dict[str, Path] = {}
    images: dict[str, Path] = {}
    for file in files:
        folder = file.parent.relative_to(root)
        stem = file.stem
        if "depth" in stem.lower():
            key = re.sub(r"_?(sync_)?depth_?", "", stem, flags=re.IGNORECASE)
            depth_of[str(folder / key)] = file
        elif file.suffix.lower() in IMAGE_SUFFIXES:
            key = re.sub(r"^rgb_|_(rgb|colors?|image)$", "", stem, flags=re.IGNORECASE)
            images[str(folder / key)] = file
    if not depth_of:
        return []
    return _match(root, images, depth_of, {}, skipped)


def _scenes(pairs: Sequence[Pair], rule: str, from_table: bool) -> tuple[list[Pair], str]:
    def named(pair: Pair, scene: str) -> Pair:
        return Pair(pair.id, scene, pair.image, pair.depth, pair.labels)

    if rule == "frame":
        return [named(pair, pair.id) for pair in pairs], "every frame is a scene of its own, as asked"
    if rule != "auto":
        try:
            pattern = re.compile(rule)
        except re.error as error:
            raise UsageError(f"scene={rule} is no regular expression ({error}).") from error
        matches = [(pair, pattern.search(pair.id)) for pair in pairs]
        for pair, match in matches:
            if match is None:
                raise UsageError(f"scene={rule} does not match frame '{pair.id}'.")
        return [
            named(pair, match.group(match.lastindex or 0)) for pair, match in matches if match
        ], f"from ids by {rule}"
    if all(pair.scene for pair in pairs):
        return list(pairs), "column of the table" if from_table else "sub-folder"
    return (
        [named(pair, pair.scene or pair.id) for pair in pairs],
        "none is given: every frame counts as a scene of its own, which is wrong for video (give scene=REGEX or a CSV column)",
    )


def _refuse_duplicates(root: Path, pairs: Sequence[Pair]) -> None:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if pair.id in seen:
            raise DataError(
                root, f"two frames are called '{pair.id}' ({seen[pair.id].image} and {pair.image})", "rename one"
            )
        seen[pair.id] = pair
