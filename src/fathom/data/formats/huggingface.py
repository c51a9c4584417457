"""``hf:`` — data sets of the Hugging Face ``datasets`` library, on disk or on the hub, with an image and a depth column.

Nothing of a data set is executed: scripts are not run, and images are decoded by Fathom's own readers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fathom.data.dataset import Frame
from fathom.data.formats.files import SKIP, UnknownUnitError, clean_depth, decode_image, metres_per_count, read_rgb
from fathom.data.formats.poses import given_camera
from fathom.errors import DataError, MissingExtraError, UsageError, nearest
from fathom.files.inputs import inside, plain_name, read_json
from fathom.sample import Intrinsics, Sample

PARTS = {"train": "train", "validation": "val", "val": "val", "dev": "val", "test": "test"}
SCENE_COLUMNS = ("scene", "scene_id", "room", "sequence", "video")
_BROKEN_TABLE = (OSError, ValueError, KeyError, IndexError, TypeError, SystemError)
"""What Arrow and the library raise for damaged tables; Arrow's own errors are among them."""
IMAGE_COLUMNS = ("image", "rgb", "color", "img", "rgb_image")


@dataclass
class HubSource:
    """Frames of a `datasets.Dataset` or of several splits; see `open_hf`.

    Attributes:
        tables: each split's data set, image columns undecoded. rows: (split, row) of each frame.
    """

    location: str
    tables: Mapping[str, Any]
    rows: Sequence[tuple[str, int]]
    frames: Sequence[Frame]
    image: str
    depth: str
    scale: float | None
    invalid: float | None
    camera: Intrinsics | None
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "hf"

    def read(self, index: int) -> Sample:
        """One frame."""
        split, row = self.rows[index]
        frame = self.frames[index]
        path = Path(f"{self.location}:{frame.id}")
        try:
            record = self.tables[split][row]
        except _BROKEN_TABLE as error:
            raise DataError(path, f"cannot be read ({_first_line(error)})", SKIP) from error
        pixels = record[self.image]
        image = read_rgb(path / self.image, _encoded(pixels, path / self.image))
        depth, valid = clean_depth(self._metres(record[self.depth], path / self.depth), path / self.depth)
        return Sample(image, depth, valid, frame.scene, frame.id, self.camera)

    def _metres(self, value: Any, path: Path) -> np.ndarray:
        array = decode_image(path, _encoded(value, path)) if isinstance(value, dict) else np.asarray(value)
        if array.ndim == 3 and 1 in (array.shape[0], array.shape[-1]):
            array = array[0] if array.shape[0] == 1 else array[..., 0]
        if array.ndim != 2 or array.dtype.kind not in "iuf":
            raise DataError(
                path, f"holds {array.dtype} values of shape {array.shape}; wanted one depth map (H, W)", SKIP
            )
        if array.dtype.kind in "iu" and self.scale is None:
            raise UnknownUnitError.of_counts(path, array.dtype)
        metres = array.astype(np.float32) * np.float32(1 if self.scale is None else self.scale)
        if self.invalid is not None:
            metres[array == self.invalid] = 0
        return metres


def _encoded(value: Any, path: Path) -> bytes:
    """The bytes of an undecoded image cell."""
    data = value.get("bytes") if isinstance(value, dict) else None
    if not isinstance(data, bytes):
        raise DataError(path, "holds no image of its own", "save the data set with its images ('save_to_disk')")
    return data


def recognise(path: Path) -> bool:
    """Whether a folder was written by ``save_to_disk``, or holds parquet files."""
    return path.is_dir() and (
        (path / "dataset_dict.json").is_file()
        or ((path / "dataset_info.json").is_file() and (path / "state.json").is_file())
        or any(next(path.glob(pattern), None) is not None for pattern in ("*.parquet", "data/*.parquet"))
    )


def open_hf(
    path: Path,
    *,
    image: str | None = None,
    depth: str | None = None,
    scene: str | None = None,
    split: str | None = None,
    depth_scale: float | None = None,
    invalid: float | None = None,
    intrinsics: str | None = None,
    every: int = 1,
) -> HubSource:
    """Open a data set on disk, or ``ORG/NAME`` on the hub.

    Args:
        path: a folder that ``save_to_disk`` wrote, a folder of parquet files, or a name on the hub.
        image, depth: their columns; recognised where there is one of each.
        scene: the column that names the scene; without one every frame counts as its own.
        split: one split alone; by default all of them.
        depth_scale: of stored counts: below 1 metres a count, else counts a metre. Integer depth needs it.
        invalid: the stored value that means "no depth", beside 0 and NaN.
        intrinsics: ``fx,fy,cx,cy`` of the stored images.
        every: keep each n-th frame.
    """
    if every < 1:
        raise UsageError(f"every={every} is not 1 or more.")
    tables = _load(path, split)
    first = next(iter(tables.values()))
    kinds = {name: _kind(feature) for name, feature in first.features.items()}
    image_column = _column(path, "image", image, kinds, {"image"})
    others = {name: kind for name, kind in kinds.items() if name != image_column}
    depth_column = _column(path, "depth", depth, others, {"image", "array"})
    scene_column = scene or next((name for name in SCENE_COLUMNS if name in kinds), None)
    if scene_column is not None and scene_column not in kinds:
        raise UsageError(f"{path} has no column '{scene_column}'{nearest(scene_column, kinds)}.")
    rows: list[tuple[str, int]] = []
    frames: list[Frame] = []
    ready = {}
    for name, table in tables.items():
        scenes = None if scene_column is None else [str(value) for value in table[scene_column]]
        files = tuple(Path(entry["filename"]) for entry in table.cache_files)
        for row in range(0, len(table), every):
            id_ = f"{name}/{row}"
            rows.append((name, row))
            frames.append(Frame(id_, scenes[row] if scenes else id_, files))
        ready[name] = _undecoded(table, image_column, depth_column, kinds[depth_column])
    scale = None if depth_scale is None else metres_per_count(depth_scale)
    facts = {
        "depth": f"z-depth taken as stored in column '{depth_column}'; "
        + ("floating-point metres" if scale is None else f"value x {scale:.6g} m"),
        "image": f"column '{image_column}'",
        "scene": f"column '{scene_column}'"
        if scene_column
        else "none is given: every frame counts as a scene of its own, which is wrong for video (give scene=COLUMN)",
    }
    return HubSource(
        str(path),
        ready,
        rows,
        tuple(frames),
        image_column,
        depth_column,
        scale,
        invalid,
        given_camera(intrinsics),
        facts,
        _official(rows),
    )


def _official(rows: Sequence[tuple[str, int]]) -> dict[str, Sequence[int]]:
    """Frames by official part; a validation split serves as the test set where there is no other."""
    sides: dict[str, list[int]] = {}
    for index, (split, _) in enumerate(rows):
        if split in PARTS:
            sides.setdefault(PARTS[split], []).append(index)
    if "test" not in sides and "val" in sides:
        sides["test"] = sides.pop("val")
    return dict(sides) if {"train", "test"} <= sides.keys() else {}


def _load(path: Path, split: str | None) -> dict[str, Any]:
    """Splits by name."""
    try:
        import datasets
    except ImportError:
        raise MissingExtraError(f"Reading {path}", "datasets") from None
    on_disk = (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()
    if on_disk:
        _check_names(path)
    try:
        found = datasets.load_from_disk(str(path)) if on_disk else datasets.load_dataset(str(path))
    except Exception as error:
        # The library raises whatever the file system, Arrow, fsspec and the hub raise.
        reason = _first_line(error)
        fix = (
            "save it again with 'save_to_disk'"
            if path.exists()
            else "check the name and the network, or download the data set first"
        )
        raise DataError(path, f"cannot be opened as a data set of Hugging Face ({reason.rstrip('.')})", fix) from error
    tables = dict(found) if isinstance(found, dict) else {str(found.split or "all"): found}
    if split is not None:
        if split not in tables:
            raise UsageError(f"{path} has no split '{split}'{nearest(split, tables)}.")
        tables = {split: tables[split]}
    if not any(len(table) for table in tables.values()):
        raise DataError(path, "holds no row", "name a data set with images and depth")
    try:
        for table in tables.values():
            table.data.validate(full=True)  # Arrow itself trusts what it reads, and a wrong offset ends the process
            if table._indices is not None:
                table._indices.validate(full=True)
    except _BROKEN_TABLE as error:
        fix = "copy the data set again, or save it again with 'save_to_disk'"
        raise DataError(path, f"holds a damaged table ({_first_line(error)})", fix) from error
    return {name: table.with_format(None) for name, table in tables.items()}


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class _File(msgspec.Struct):
    filename: str


class _State(msgspec.Struct):
    """The files of a split, as ``save_to_disk`` lists them."""

    files: list[_File] = msgspec.field(name="_data_files")
    indices: list[_File] | None = msgspec.field(name="_indices_data_files", default=None)


class _Splits(msgspec.Struct):
    splits: list[str]


def _check_names(path: Path) -> None:
    """Refuse a data set on disk whose files or splits lie outside of its folder."""
    fix = "save it again with 'save_to_disk'"
    folders = [path]
    if (path / "dataset_dict.json").is_file():
        file = path / "dataset_dict.json"
        found = read_json(file, _Splits, what="a data set of Hugging Face", fix=fix)
        folders = [path / plain_name(name, file) for name in found.splits]
    for folder in folders:
        state = read_json(folder / "state.json", _State, what="a data set of Hugging Face", fix=fix)
        for entry in (*state.files, *(state.indices or ())):
            inside(folder, entry.filename, folder / "state.json")


def _kind(feature: Any) -> str:
    """``image``, ``array`` (numbers in two or three axes), or ``other``."""
    import datasets

    if isinstance(feature, datasets.Image):
        return "image"
    if isinstance(feature, datasets.Array2D | datasets.Array3D):
        return "array"
    axes = 0
    while isinstance(inner := getattr(feature, "feature", None), object) and inner is not None:
        feature, axes = inner, axes + 1
    return "array" if axes in (2, 3) and isinstance(feature, datasets.Value) else "other"


def _column(path: Path, what: str, given: str | None, kinds: Mapping[str, str], fitting: set[str]) -> str:
    """The column given, or the only one that fits; depth has ``depth`` in its name, images have not."""
    if given is not None:
        if given not in kinds:
            raise UsageError(f"{path} has no column '{given}'{nearest(given, kinds)}.")
        if kinds[given] not in fitting:
            raise UsageError(f"Column '{given}' of {path} holds no {what}.")
        return given
    named = [name for name, kind in kinds.items() if kind in fitting and ("depth" in name.lower()) == (what == "depth")]
    if len(named) > 1 and what == "image":
        usual = [name for name in named if name.lower() in IMAGE_COLUMNS]
        named = usual if len(usual) == 1 else named
    if len(named) != 1:
        columns = ", ".join(f"{name} ({kind})" for name, kind in kinds.items())
        raise DataError(
            path,
            f"has {'no column' if not named else 'several columns'} that can be the {what} (columns: {columns})",
            f"give 'PATH?{what}=COLUMN'",
        )
    return named[0]


def _undecoded(table: Any, image: str, depth: str, kind: str) -> Any:
    """The two columns, images as the bytes they are stored as, arrays as NumPy's."""
    import datasets

    table = table.select_columns([image, depth]).cast_column(image, datasets.Image(decode=False))
    if kind == "image":
        return table.cast_column(depth, datasets.Image(decode=False))
    return table.with_format("numpy", columns=[depth], output_all_columns=True)
