"""Rendering a whole data set of rooms into a folder, room by room, so that an interrupted run goes on where it was.

The folder holds one ``room_NNNN.zip`` a room (stored, not compressed: its members are) and, last of all, ``rooms.json``.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fathom.errors import DataError, UsageError, nearest
from fathom.files.archives import open_archive
from fathom.files.atomic import atomic_path, write_json
from fathom.files.inputs import parse_json
from fathom.files.lock import output_lock
from fathom.progress import track
from fathom.render.layout import CLASSES, furnish
from fathom.render.materials import Palette
from fathom.render.renderer import View, build_scene, load_mitsuba, render_view
from fathom.sample import Grid

DEPTH_UNIT = 0.001
"""Metres of one count of the stored z-depth; 0 is "nothing was hit"."""

TEST_EVERY = 4
"""Every fourth room is a test room."""

VARIANTS = ("colours", "textures", "grey", "light")
"""Same room, same cameras, same geometry: other colours; other patterns; one grey everywhere; other light."""


def palette_of(seed: int, variant: str) -> Palette:
    """How the room of `seed` looks in a variant (``base`` for its own looks)."""
    other = seed + 1_000_003
    if variant not in ("base", *VARIANTS):
        raise UsageError(f"There is no variant '{variant}'{nearest(variant, VARIANTS)}.")
    return Palette(
        colour_seed=other if variant == "colours" else seed,
        texture_seed=other if variant == "textures" else seed,
        light_seed=other if variant == "light" else seed,
        textured=variant != "grey",
    )


def render_rooms(
    out: Path,
    rooms: int,
    views: int = 4,
    size: Grid = (96, 128),
    seed: int = 0,
    variants: Sequence[str] = (),
    spp: int = 32,
    variant_rooms: int = 20,
) -> None:
    """Render `rooms` rooms into folder `out`; rooms that are there already are kept.

    Args:
        out: the folder; open it afterwards as ``rooms:OUT``.
        rooms, views: how many, and views of each.
        size: (height, width) of a frame.
        seed: room number n has seed ``seed + n``, so more rooms leave the first ones as they are.
        variants: of `VARIANTS`, for the first `variant_rooms` test rooms.
        spp: samples a pixel.

    Raises:
        MissingExtraError: without Mitsuba.
        UsageError: for an unknown variant, or variants without a test room to show them.
    """
    for variant in variants:
        palette_of(seed, variant)
    numbers = list(range(rooms))
    varied = set([n for n in numbers if n % TEST_EVERY == TEST_EVERY - 1][:variant_rooms])
    if variants and not varied:
        raise UsageError(
            f"Variants are rendered of test rooms, and there is none: every {TEST_EVERY}th room is one; "
            f"ask for at least {TEST_EVERY} rooms and one variant room."
        )
    mi = load_mitsuba()
    with output_lock(out, "a rendering"):
        _render(mi, out, numbers, varied, {"views": views, "size": list(size), "seed": seed, "spp": spp}, variants)


def _render(
    mi: Any, out: Path, numbers: list[int], varied: set[int], settings: dict[str, Any], variants: Sequence[str]
) -> None:
    """Render what is missing, then write the index.

    Args:
        mi: Mitsuba.
        out: the folder.
        numbers: of all rooms. varied: of those that get the variants.
        settings: of the rendering, as the index has them.
        variants: names.
    """
    for number in track(numbers, f"rendering {len(numbers)} rooms"):
        path = out / f"room_{number:04d}.zip"
        if not _finished(path, settings, variants if number in varied else ()):
            _render_room(mi, path, settings["seed"] + number, settings, variants if number in varied else ())
    index = {
        "schema_version": 3,
        "depth_unit": DEPTH_UNIT,
        "mitsuba": mi.__version__,
        **settings,
        "variants": list(variants),
        "classes": list(CLASSES),
        "rooms": [
            {
                "name": f"room_{n:04d}",
                "part": "test" if n % TEST_EVERY == TEST_EVERY - 1 else "train",
                **_described(out / f"room_{n:04d}.zip"),
                "variants": list(variants) if n in varied else [],
            }
            for n in numbers
        ],
    }
    write_json(out / "rooms.json", index, checksum=True)


def _described(path: Path) -> dict[str, Any]:
    """The frames of a finished room, and the CRC-32 of each member of its archive."""
    with open_archive(path, "an archive of a rendered room", "remove it and render again") as archive:
        members = {name: info.CRC for name, info in archive.members.items()}
        record = parse_json(archive.read("room.json"), path / "room.json", dict[str, Any])
    return {"frames": record["frames"], "members": members}


def _finished(path: Path, settings: dict[str, Any], variants: Sequence[str]) -> bool:
    """Whether the room was rendered with these very settings."""
    if not path.is_file():
        return False
    try:
        with open_archive(path, "an archive of a rendered room", "") as archive:
            record = parse_json(archive.read("room.json"), path, dict[str, Any])
            for name in archive.members:
                archive.read(name)  # compares its checksum
            complete = "0.labels.png" in archive.members
    except DataError:
        return False
    return complete and record.get("settings") == settings and set(variants) <= set(record.get("variants", ()))


def _render_room(mi: Any, path: Path, seed: int, settings: dict[str, Any], variants: Sequence[str]) -> None:
    room = furnish(path.stem, seed, settings["views"])
    members: dict[str, bytes] = {}
    frames: list[dict[str, Any]] = []
    for variant in ("base", *variants):
        scene = build_scene(mi, room, palette_of(seed, variant))
        for index, camera in enumerate(room.cameras):
            view = render_view(mi, scene, camera, tuple(settings["size"]), settings["spp"], seed * 100 + index)
            suffix = "" if variant == "base" else f".{variant}"
            members[f"{index}{suffix}.jpg"] = _jpeg(view.rgb)
            if variant == "base":
                members.update(_ground_truth(index, view))
                frames.append(
                    {
                        "intrinsics": {key: getattr(view.intrinsics, key) for key in ("fx", "fy", "cx", "cy")},
                        "pose": view.pose.round(6).tolist(),
                    }
                )
    record = {"settings": settings, "variants": list(variants), "seed": seed, "size": room.size, "frames": frames}
    members["room.json"] = json.dumps(record).encode()
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members.items():
            # A fixed date: the same room gives the same bytes.
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data)


def _jpeg(rgb: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=92, subsampling=0)
    return buffer.getvalue()


def _png(array: NDArray[np.integer]) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _ground_truth(index: int, view: View) -> dict[str, bytes]:
    counts = np.round(view.depth / DEPTH_UNIT).clip(0, 65535).astype(np.uint16)
    normals = np.round((view.normals + 1) * 127.5).astype(np.uint8)
    return {
        f"{index}.depth.png": _png(counts),
        f"{index}.normals.png": _png(normals),
        f"{index}.objects.png": _png(view.objects),
        f"{index}.labels.png": _png(view.labels),
    }
