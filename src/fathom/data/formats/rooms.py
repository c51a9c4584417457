"""``rooms`` — the rendered rooms that come with the package, and any folder that `fathom.render.render_rooms` wrote."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch

from fathom.data.dataset import Dataset, Frame
from fathom.data.formats.files import clean_depth, decode_image, read_rgb
from fathom.errors import DataError, UsageError
from fathom.sample import Intrinsics, Sample

EMBEDDED = Path(__file__).parent / "rooms_data"
"""Where the wheel keeps its rooms."""

Variant = Literal["base", "colours", "textures", "grey", "light"]


@dataclass(frozen=True)
class _Entry:
    archive: Path
    index: int
    intrinsics: Intrinsics
    pose: tuple[tuple[float, ...], ...]


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
        names = [f"{entry.index}{end}" for end in (f"{suffix}.jpg", ".depth.png", ".normals.png", ".objects.png")]
        try:
            with zipfile.ZipFile(entry.archive) as archive:
                image, counts, normals, objects = (archive.read(name) for name in names)
        except FileNotFoundError:
            raise DataError(entry.archive, "does not exist", "render the rooms again") from None
        except (OSError, zipfile.BadZipFile, KeyError) as error:
            raise DataError(entry.archive, f"is broken ({error})", "render the room again") from error
        metres = decode_image(entry.archive / names[1], counts).astype(np.float32) * np.float32(self.unit)
        depth, valid = clean_depth(metres, entry.archive)
        facing = torch.from_numpy(decode_image(entry.archive / names[2], normals).astype(np.float32) / 127.5 - 1)
        facing = facing.permute(2, 0, 1)
        labels = torch.from_numpy(decode_image(entry.archive / names[3], objects).astype(np.int64))[None]
        return Sample(
            image=read_rgb(entry.archive / names[0], image),
            depth=depth,
            valid=valid,
            scene=frame.scene,
            id=frame.id,
            intrinsics=entry.intrinsics,
            labels=labels,
            normals=torch.where(valid, facing / facing.norm(dim=0, keepdim=True).clamp(min=1e-6), 0.0),
            pose=torch.tensor(entry.pose),
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
    table = folder / "rooms.json"
    try:
        record: dict[str, Any] = json.loads(table.read_text(encoding="utf-8"))
        rooms, unit = record["rooms"], float(record["depth_unit"])
    except FileNotFoundError:
        raise DataError(folder, "has no rooms.json", "render rooms into it with 'fathom data render'") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(table, f"is not an index of rendered rooms ({error})", "render the rooms again") from error
    entries: list[_Entry] = []
    frames: list[Frame] = []
    sides: dict[str, list[int]] = {"train": [], "test": []}
    for room in rooms:
        if (part != "all" and room["part"] != part) or (variant != "base" and variant not in room["variants"]):
            continue
        archive = folder / f"{room['name']}.zip"
        for index, view in enumerate(room["frames"]):
            sides[room["part"]].append(len(frames))
            entries.append(_Entry(archive, index, Intrinsics(**view["intrinsics"]), tuple(map(tuple, view["pose"]))))
            frames.append(Frame(f"{room['name']}/{index}", room["name"], (archive,)))
    if not frames:
        raise UsageError(f"{folder} has no room rendered as variant '{variant}' in part '{part}'.")
    height, width = record["size"]
    facts = {
        "depth": f"z-depth, rendered exactly at pixel centres; count x {unit:g} m",
        "size": f"{height}x{width}",
        "labels": "object ids within a room, 0 is the room itself",
        "renderer": f"Mitsuba {record['mitsuba']}, {record['spp']} samples a pixel",
    }
    if variant != "base":
        facts["variant"] = variant
    complete = {name: tuple(indices) for name, indices in sides.items()} if all(sides.values()) else {}
    return RoomsSource(str(folder) if path else "rooms", entries, tuple(frames), unit, variant, facts, complete)


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
