"""Which files of a folder belong to one frame: by sub-folder, by name, by patterns, or by a CSV file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from fathom.data.formats.files import DEPTH_SUFFIXES, IMAGE_SUFFIXES
from fathom.data.formats.folders.folder_names import (
    TABLE,
    by_frame,
    describe,
    frame_key,
    names_image,
    names_truth,
    suggestion,
    unique,
    wildcard_key,
)
from fathom.data.formats.folders.target_files import TARGET_SUFFIXES
from fathom.errors import DataError, UsageError
from fathom.files.inputs import below, inside, matching, read_bytes

IMAGE_FOLDERS = (
    "rgb",
    "rgbs",
    "image",
    "images",
    "color",
    "colors",
    "colour",
    "colours",
    "img",
    "imgs",
    "photo",
    "photos",
)
DEPTH_FOLDERS = (
    "depth", "depths", "depth_map", "depth_maps", "depthmap", "depthmaps", "depth_gt", "gt_depth", "sync_depth", "gt",
    "disparity_free_depth",
)  # fmt: skip
TARGET_FOLDERS = ("target", "targets")
LABEL_FOLDERS = ("labels40", "labels", "label", "semantic")
COLUMNS = {
    "image": ("image", "rgb", "color", "colour", "img"),
    "depth": ("depth", "gt"),
    "target": ("target", "targets"),
    "scene": ("scene", "room", "sequence"),
    "labels": ("labels", "label", "semantic"),
    "id": ("frame", "id", "name"),
}
"""CSV columns by any sensible name."""


TRUTHS = {"depth": "depth map", "target": "target"}
"""Kinds of ground truth of which a frame needs one; every frame has the same."""


@dataclass(frozen=True)
class Pair:
    """The files of one frame: an image, and a depth map, a target or both."""

    id: str
    scene: str
    image: Path
    depth: Path | None = None
    labels: Path | None = None
    target: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(file for file in (self.image, self.depth, self.labels, self.target) if file is not None)


@dataclass(frozen=True)
class Pairing:
    """The frames of a folder.

    Attributes:
        pairs: in order. how: they were found. scene: what a scene is.
        skipped: what was incomplete and left out: file and problem, each.
    """

    pairs: tuple[Pair, ...]
    how: str
    scene: str
    skipped: tuple[str, ...] = ()


def find_pairs(
    root: Path,
    patterns: Mapping[str, str] | None = None,
    table: str | None = None,
    scene: str = "auto",
    skip_bad: bool = False,
    outside: bool = False,
) -> Pairing:
    """The frames of a folder, complete and of distinct names.

    Args:
        root: the folder.
        patterns: glob patterns relative to `root` by kind: ``image``, and ``depth``, ``target`` or both.
        table: name of a CSV file in `root`; ``index.csv`` is found by itself.
        scene: see `fathom.data.formats.folders.folder.open_folder`.
        skip_bad: leave out what is incomplete instead of raising.
        outside: the table may name files outside of `root`.
    """
    csv_file = root / table if table else root / "index.csv"
    rows = _read_table(csv_file) if table or csv_file.is_file() else None
    skipped: list[str] | None = [] if skip_bad else None
    kinds = {key for row in rows or () for key in row}
    if rows is not None and "image" in kinds and kinds & TRUTHS.keys():
        pairs, how = _pairs_from_table(root, csv_file, rows, skipped, outside), f"pairs from {csv_file.name}"
    else:
        pairs, how = _found(root, patterns or {}, skipped)
        if rows is not None:
            pairs = _name_scenes(csv_file, rows, pairs, skipped)
            how += f", scenes from {csv_file.name}"
    pairs, said = _scenes(pairs, scene, rows is not None and "scene" in rows[0])
    if not pairs:
        raise no_pairs(root, patterns or {}, skipped)
    _refuse_duplicates(root, pairs)
    return Pairing(tuple(pairs), how, said, tuple(skipped or ()))


_OUTSIDE = "where the table is your own, allow it by the option outside=true"

_SUFFIXES = IMAGE_SUFFIXES | DEPTH_SUFFIXES


def no_pairs(root: Path, patterns: Mapping[str, str] | None = None, skipped: Sequence[str] | None = None) -> DataError:
    """What to say of a folder without a pair: what it holds, and the option that would pair it."""
    if skipped:
        return DataError(root, f"holds no complete pair ({skipped[0]})", "complete the data")
    if patterns:
        counts = ", ".join(f"{pattern} {len(list(root.glob(pattern)))} files" for pattern in patterns.values())
        return DataError(
            root, f"holds no pair of image and depth map: {counts}", f"it holds {describe(root, _SUFFIXES)}"
        )
    return DataError(
        root,
        f"holds no pair of image and depth map that names tell: {describe(root, _SUFFIXES)}",
        suggestion(root, _SUFFIXES),
    )


def looks_like_pairs(root: Path) -> bool:
    """Whether a folder has a table of pairs, or a name at most three levels down that says depth map or target."""
    if not root.is_dir():
        return False
    levels = ("*/" * level + "*" for level in range(3))
    return (root / "index.csv").is_file() or any(
        names_truth(path.stem) or "depth" in path.name.lower() for pattern in levels for path in root.glob(pattern)
    )


def holds_images(root: Path) -> bool:
    """Whether there is an image at most two folders down."""
    return any(
        file.suffix.lower() in _SUFFIXES for pattern in ("*.*", "*/*.*", "*/*/*.*") for file in root.glob(pattern)
    )


def _read_table(table: Path) -> list[dict[str, str]]:
    """Rows of a CSV with its columns brought to our names."""
    try:
        data = read_bytes(table, "index-bytes").decode("utf-8-sig", "surrogateescape")
        with StringIO(data, newline="") as file:
            reader = csv.DictReader(file)
            names = {
                given: ours
                for given in reader.fieldnames or ()
                for ours, known in COLUMNS.items()
                if given.strip().lower() in known
            }
            rows = [{names[key]: value for key, value in row.items() if key in names and value} for row in reader]
    except (csv.Error, AttributeError) as error:  # AttributeError: a line of more fields than the first
        raise DataError(table, f"is not a readable table ({error})") from error
    if not rows or not rows[0]:
        raise DataError(table, "has no row under columns such as image, depth, frame, scene")
    return rows


def _pairs_from_table(
    root: Path, table: Path, rows: Sequence[Mapping[str, str]], skipped: list[str] | None, outside: bool
) -> list[Pair]:
    needed = ["image", *(kind for kind in TRUTHS if any(kind in row for row in rows))]
    pairs = []
    for line, row in enumerate(rows, start=2):
        files = {
            key: root / row[key] if outside else inside(root, row[key], f"{table}: line {line}", _OUTSIDE)
            for key in ("image", "depth", "target", "labels")
            if row.get(key)
        }
        absent = next((file for file in files.values() if not file.is_file()), None)
        lacking = [kind for kind in needed if kind not in files]
        if absent is not None or lacking:
            problem = (
                f"line {line} names {absent}, which does not exist"
                if absent
                else f"line {line} lacks {' and '.join(lacking)}"
            )
            if skipped is None:
                raise DataError(table, problem, "mend the table or use --skip-bad")
            skipped.append(f"{table}: {problem}")
            continue
        id_ = row.get("id") or str(Path(row["image"]).with_suffix(""))
        pairs.append(Pair(id_, row.get("scene", ""), **files))
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
            raise DataError(table, f"names frame '{absent[0]}', for which there is no image and ground truth")
        skipped.extend(f"{table}: names frame '{id_}', for which there is no image and ground truth" for id_ in absent)
    return [replace(pair, scene=scenes[stem]) for stem, pair in by_stem.items() if stem in scenes]


def _found(root: Path, patterns: Mapping[str, str], skipped: list[str] | None) -> tuple[list[Pair], str]:
    """Pairs by patterns where some are given, else by sub-folders, else by marks in the names."""
    if patterns:
        if "image" not in patterns or len(patterns) < 2:
            raise UsageError("The options images and depths (or targets) go together: give both patterns.")
        keyed = {kind: _keyed(root, pattern, patterns.values()) for kind, pattern in patterns.items()}
        if not set.intersection(*map(set, keyed.values())):
            keyed = {kind: _by_wildcards(root, pattern) for kind, pattern in patterns.items()}
        return _match(keyed, skipped), "given patterns"
    found: list[Pair] = []
    for folder in sorted({root, *(p.parent for p in below(root) if p.is_dir())}):
        files = {
            kind: _stems(directory, suffixes)
            for kind, names, suffixes in _SUB_FOLDERS
            for directory in [_one_of(folder, kind, names)]
            if directory is not None
        }
        if "image" not in files or not files.keys() & TRUTHS.keys():
            continue
        prefix = "" if folder == root else f"{folder.relative_to(root)}/"
        found += [
            replace(pair, id=prefix + pair.id, scene=pair.scene or prefix.rstrip("/"))
            for pair in _match(_aligned(files), skipped)
        ]
    if found:
        truths = "depth maps" if found[0].target is None else "depth maps and targets" if found[0].depth else "targets"
        return found, f"sub-folders of images and {truths}"
    return _marked(root, skipped), "names in one folder"


_SUB_FOLDERS = (
    ("image", IMAGE_FOLDERS, IMAGE_SUFFIXES),
    ("depth", DEPTH_FOLDERS, DEPTH_SUFFIXES),
    ("target", TARGET_FOLDERS, TARGET_SUFFIXES),
    ("labels", LABEL_FOLDERS, DEPTH_SUFFIXES),
)


def _one_of(folder: Path, kind: str, names: Sequence[str]) -> Path | None:
    """The sub-folder of the first of `names` that is there, in upper or lower case; else the only one that names the kind."""
    held = {child.name.lower(): child for child in sorted(folder.iterdir()) if child.is_dir()}
    exact = next((held[name] for name in names if name in held), None)
    if exact is not None or kind not in ("image", "depth"):
        return exact
    telling = [child for name, child in held.items() if "target" not in name and _names_kind(name) == kind]
    return telling[0] if len(telling) == 1 else None


def _names_kind(name: str) -> str | None:
    """What a folder called ``my_images`` or ``depth_images`` holds."""
    return "depth" if names_truth(name) else "image" if names_image(name) else None


def _stems(directory: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Files under `directory` by their path without suffix; two files of one stem are an error."""
    stems: dict[str, Path] = {}
    for file in sorted(below(directory)):
        if file.suffix.lower() in suffixes and file.is_file():
            stem = str(file.relative_to(directory).with_suffix(""))
            if stem in stems:
                raise DataError(file, f"has the same name as {stems[stem].name}", "keep one of the two")
            stems[stem] = file
    return stems


def _keyed(root: Path, pattern: str, patterns: Collection[str]) -> dict[str, Path]:
    """Files of one of the glob patterns by the frame their names tell, without the folders that tell kinds apart."""
    kinds = (*IMAGE_FOLDERS, *DEPTH_FOLDERS, *TARGET_FOLDERS)
    spelt = [Path(other).parts[:-1] for other in patterns]
    wild = [
        any(sign in part for sign in "*?[") or all(other[i : i + 1] == (part,) for other in spelt)
        for i, part in enumerate(Path(pattern).parts[:-1])
    ]
    keyed = []
    for file in matching(root, pattern):
        folders = file.parent.relative_to(root).parts
        if "**" in pattern or len(wild) != len(folders):
            kept = [name for name in folders if name.lower() not in kinds]
        else:
            # A folder that this pattern alone spells out tells the kind and not the frame.
            kept = [name for name, free in zip(folders, wild, strict=True) if free]
        keyed.append(("/".join([*kept, frame_key(file.stem)]), file))
    return unique(keyed)


def _by_wildcards(root: Path, pattern: str) -> dict[str, Path]:
    """Files of a glob pattern by what its wildcards stand for."""
    return unique((wildcard_key(pattern, file.relative_to(root)), file) for file in matching(root, pattern))


def _aligned(files: dict[str, dict[str, Path]]) -> dict[str, dict[str, Path]]:
    """Files by kind and stem as they are where equal stems pair them, else by the frame that their names tell.

    Frames are then called after their images.
    """
    needed = [files[kind] for kind in ("image", *TRUTHS) if kind in files]
    whole = set.intersection(*(set(named) for named in needed))
    if all(len(whole) == len(named) for named in needed):
        return files
    keyed = {kind: by_frame(named) for kind, named in files.items()}
    told = {kind: named for kind, named in keyed.items() if named is not None}
    required = [kind for kind in ("image", *TRUTHS) if kind in files]
    if not all(kind in told for kind in required) or len(set.intersection(*(set(told[k]) for k in required))) <= len(
        whole
    ):
        return files
    names = {frame_key(stem): stem for stem in files["image"]}
    return {kind: {names.get(key, key): file for key, file in named.items()} for kind, named in told.items()}


def _in_order(stem: str) -> list[tuple[int, str]]:
    """Sorts numbers in names by their value: 9 before 10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", stem)]


def _match(files: Mapping[str, Mapping[str, Path]], skipped: list[str] | None) -> list[Pair]:
    """Frames of files by kind and stem: every kind but ``labels`` must be there."""
    images = files["image"]
    whole = set(images)
    for kind in TRUTHS:
        if kind not in files:
            continue
        if skipped is None and images and files[kind] and images.keys().isdisjoint(files[kind]):
            raise _strangers(images, files[kind], TRUTHS[kind])
        for one, other, what in ((images, files[kind], TRUTHS[kind]), (files[kind], images, "image")):
            for stem in sorted(one.keys() - other.keys()):
                if skipped is None:
                    raise DataError(one[stem], f"has no {what} beside it", "complete the pair or use --skip-bad")
                skipped.append(f"{one[stem]}: has no {what} beside it")
        whole &= files[kind].keys()
    return [
        Pair(
            stem,
            str(Path(stem).parent) if "/" in stem else "",
            **{kind: named[stem] for kind, named in files.items() if stem in named},
        )
        for stem in sorted(whole, key=_in_order)
    ]


def _strangers(images: Mapping[str, Path], truths: Mapping[str, Path], what: str) -> DataError:
    """What to say where no image has the name of any depth map."""
    said = [
        f"{len(files)} {noun}s such as {' and '.join(file.name for file in list(files.values())[:2])}"
        for files, noun in ((images, "image"), (truths, what))
    ]
    folder = Path(os.path.commonpath([next(iter(files.values())).parent for files in (images, truths)]))
    return DataError(folder, f"holds {said[0]}, and {said[1]}: no names agree", f"rename them, or {TABLE}")


def _marked(root: Path, skipped: list[str] | None) -> list[Pair]:
    """Pairs in one folder, told apart by a mark in the name: x_rgb.png + x_depth.png, or x.jpg + x_target.npy."""
    suffixes = IMAGE_SUFFIXES | DEPTH_SUFFIXES | TARGET_SUFFIXES
    files: dict[str, list[tuple[str, Path]]] = {"image": []}
    marked = False
    for file in sorted(below(root)):
        if not file.is_file() or file.suffix.lower() not in suffixes:
            continue
        key = str(file.parent.relative_to(root) / frame_key(file.stem))
        kind = "target" if "target" in file.stem.lower() else "depth" if names_truth(file.stem) else "image"
        if kind == "image" and file.suffix.lower() in IMAGE_SUFFIXES and names_image(file.stem) and not marked:
            # Where some names say that they are images, others (masks, previews) are none.
            marked, files["image"] = True, []
        if kind != "image" or (file.suffix.lower() in IMAGE_SUFFIXES and (names_image(file.stem) or not marked)):
            files.setdefault(kind, []).append((key, file))
    return _match({kind: unique(named) for kind, named in files.items()}, skipped) if len(files) > 1 else []


UNNAMED = "none is given: every frame counts as a scene of its own"
"""How the facts of a source begin to speak of its scenes where nothing says which frames belong together."""


def _scenes(pairs: Sequence[Pair], rule: str, from_table: bool) -> tuple[list[Pair], str]:
    if rule == "frame":
        return [replace(pair, scene=pair.id) for pair in pairs], "every frame is a scene of its own, as asked"
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
            replace(pair, scene=match.group(match.lastindex or 0)) for pair, match in matches if match
        ], f"from ids by {rule}"
    if all(pair.scene for pair in pairs):
        return list(pairs), "column of the table" if from_table else "sub-folder"
    return (
        [replace(pair, scene=pair.scene or pair.id) for pair in pairs],
        f"{UNNAMED}, which is wrong for video (give scene=REGEX or a CSV column)",
    )


def _refuse_duplicates(root: Path, pairs: Sequence[Pair]) -> None:
    seen: dict[str, Pair] = {}
    for pair in pairs:
        if pair.id in seen:
            raise DataError(
                root, f"two frames are called '{pair.id}' ({seen[pair.id].image} and {pair.image})", "rename one"
            )
        seen[pair.id] = pair
