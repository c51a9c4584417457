"""``rooms`` — the rendered rooms that come with the package, and any folder that `fathom.render.render_rooms` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import msgspec
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.camera import read_intrinsics, read_pose
from fathom.data.dataset import Dataset, Frame
from fathom.data.formats.files import clean_depth, decode_image, read_rgb
from fathom.errors import DataError, UsageError
from fathom.files import limits
from fathom.files.archives import open_archive
from fathom.files.inputs import plain_name, read_json
from fathom.sample import Intrinsics, Sample

EMBEDDED = Path(__file__).parent / "rooms_data"
"""Where the wheel keeps its rooms."""

INDEX = "rooms.json"

Variant = Literal["base", "colours", "textures", "grey", "light"]


SCHEMA_VERSION = 3
UNLABELLED = 255
"""In a map of labels: the ray hit nothing."""

_AGAIN = "render the rooms again with 'fathom data render', which keeps rooms that are whole"


class _Camera(msgspec.Struct):
    fx: float
    fy: float
    cx: float
    cy: float


class _View(msgspec.Struct):
    """A frame in ``rooms.json``: the camera of the image, and camera-to-world."""

    intrinsics: _Camera
    pose: list[list[float]]


class _Room(msgspec.Struct):
    """A room in ``rooms.json``; `members` has the CRC-32 of each member of its archive."""

    name: str
    part: Literal["train", "test"]
    frames: list[_View]
    variants: list[Variant]
    members: dict[str, int]


class _Index(msgspec.Struct):
    """``rooms.json``."""

    depth_unit: float
    size: tuple[int, int]
    spp: int
    mitsuba: str
    classes: list[str]
    rooms: list[_Room]


@dataclass(frozen=True)
class _Entry:
    archive: Path
    index: int
    intrinsics: Intrinsics
    pose: Float[Tensor, "4 4"]
    members: Mapping[str, int]


@dataclass
class RoomsSource:
    """Frames of rendered rooms; see `open_rooms`."""

    location: str
    entries: Sequence[_Entry]
    frames: Sequence[Frame]
    unit: float
    variant: str
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "rooms"

    def read(self, index: int) -> Sample:
        """One frame. The archive is opened for each read: cheap for a stored zip, and safe in threads and processes."""
        entry, frame = self.entries[index], self.frames[index]
        suffix = "" if self.variant == "base" else f".{self.variant}"
        names = [f"{entry.index}{end}" for end in (f"{suffix}.jpg", ".depth.png", ".normals.png", ".labels.png")]
        with open_archive(entry.archive, "an archive of a rendered room", _AGAIN) as archive:
            image, counts, normals, classes = (archive.read(name, crc32=entry.members.get(name, -1)) for name in names)
        maps = [
            decode_image(entry.archive / name, data)
            for name, data in zip(names[1:], (counts, normals, classes), strict=True)
        ]
        for name, found, axes in zip(names[1:], maps, (2, 3, 2), strict=True):
            if found.ndim != axes or found.shape[:2] != maps[0].shape[:2] or found.dtype.kind != "u":
                raise DataError(entry.archive / name, f"holds {found.dtype} values of shape {found.shape}", _AGAIN)
        depth, valid = clean_depth(maps[0].astype(np.float32) * np.float32(self.unit), entry.archive)
        facing = torch.from_numpy(maps[1][..., :3].astype(np.float32) / 127.5 - 1).permute(2, 0, 1)
        labels = torch.from_numpy(maps[2].astype(np.int64))[None]
        labels[labels == UNLABELLED] = -1
        return Sample(
            image=read_rgb(entry.archive / names[0], image),
            depth=depth,
            valid=valid,
            scene=frame.scene,
            id=frame.id,
            intrinsics=entry.intrinsics,
            labels=labels,
            normals=torch.where(valid, facing / facing.norm(dim=0, keepdim=True).clamp(min=1e-6), 0.0),
            pose=entry.pose,
        )


def open_rooms(
    path: Path | None = None, *, part: Literal["all", "train", "test"] = "all", variant: Variant = "base"
) -> RoomsSource:
    """Open rendered rooms.

    Args:
        path: a folder with ``rooms.json``; the embedded rooms by default.
        part: all rooms, or those of one side of the official split.
        variant: how the rooms look; any but ``base`` holds only the test rooms it was rendered for, with the same ids.
    """
    folder = path or EMBEDDED
    index = _read_index(folder)
    entries: list[_Entry] = []
    frames: list[Frame] = []
    sides: dict[str, list[int]] = {"train": [], "test": []}
    for room in index.rooms:
        if (part != "all" and room.part != part) or (variant != "base" and variant not in room.variants):
            continue
        archive = folder / f"{room.name}.zip"
        for number, view in enumerate(room.frames):
            sides[room.part].append(len(frames))
            camera = read_intrinsics(msgspec.structs.astuple(view.intrinsics), folder / INDEX)
            entries.append(_Entry(archive, number, camera, read_pose(view.pose, folder / INDEX), room.members))
            frames.append(Frame(f"{room.name}/{number}", room.name, (archive,)))
    if not frames:
        raise UsageError(f"{folder} has no room rendered as variant '{variant}' in part '{part}'.")
    height, width = index.size
    facts = {
        "depth": f"z-depth, rendered exactly at pixel centres; count x {index.depth_unit:g} m",
        "size": f"{height}x{width}",
        "labels": "classes: " + ", ".join(index.classes),
        "renderer": f"Mitsuba {index.mitsuba}, {index.spp} samples a pixel",
    }
    if variant != "base":
        facts["variant"] = variant
    complete = {name: tuple(indices) for name, indices in sides.items()} if all(sides.values()) else {}
    return RoomsSource(
        str(folder) if path else "rooms", entries, tuple(frames), index.depth_unit, variant, facts, complete
    )


def _read_index(folder: Path) -> _Index:
    """``rooms.json``, with everything in it that decides what is read checked."""
    table = folder / INDEX
    if not table.exists():
        raise DataError(folder, "has no rooms.json", "render rooms into it with 'fathom data render'")
    index = read_json(
        table, _Index, what="an index of rendered rooms", fix=_AGAIN, version=SCHEMA_VERSION, checksum=True,
        limit="index-bytes",
    )  # fmt: skip
    names = [plain_name(room.name, table) for room in index.rooms]
    if len(set(names)) < len(names):
        raise DataError(table, "names a room twice", _AGAIN)
    if not 0 < index.depth_unit < 1e6:
        raise DataError(table, f"states a depth unit of {index.depth_unit:g} metres", _AGAIN)
    limits.check("frames", sum(len(room.frames) for room in index.rooms), table, "lists")
    return index


def variants_of(dataset: Dataset) -> dict[str, Dataset]:
    """The re-renderings of rendered rooms, by variant: frames of the same ids, the same geometry and camera.

    Only frames of `dataset` that were rendered in a variant are in it, in the order of `dataset`; a variant without any is left
    out. Data of other kinds have none.
    """
    source = dataset.source
    if not isinstance(source, RoomsSource) or source.variant != "base":
        return {}
    folder = source.entries[0].archive.parent
    found = {}
    for variant in get_args(Variant)[1:]:
        try:
            other = open_rooms(None if folder == EMBEDDED else folder, variant=variant)
        except UsageError:
            continue  # no room has this variant
        index = {frame.id: position for position, frame in enumerate(other.frames)}
        chosen = tuple(index[id_] for id_ in dataset.ids if id_ in index)
        if chosen:
            found[variant] = Dataset(other, chosen, dataset.part)
    return found
