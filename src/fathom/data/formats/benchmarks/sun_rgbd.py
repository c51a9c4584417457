"""``sun-rgbd:`` — SUN RGB-D (Song et al. 2015): four sensors, a folder a frame.

Depth PNGs hold millimetres whose 16 bits are rotated to the left by three. ``scene.txt`` names the *type* of the scene
("bedroom"), which many rooms share; what tells rooms apart is the path, see `place_of`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from fathom.data.formats.benchmarks.mat5 import read_texts
from fathom.data.formats.benchmarks.official_nyu import official_run
from fathom.data.formats.files import SKIP, read_counts
from fathom.data.formats.poses import read_camera
from fathom.data.formats.views import View, ViewSource, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching

SENSORS = ("kv1", "kv2", "realsense", "xtion")

SPLIT, TOOLBOX = "allsplit.mat", "SUNRGBDtoolbox/traintestSUNRGBD"
"""The official split, and where the toolbox has it."""

MOST_METRES = 8.0
"""The benchmark's toolbox sets what is deeper to this; here it is unknown."""

FOLDERS = {"in-painted": "depth_bfx", "raw": "depth"}


def recognise(path: Path) -> bool:
    """Whether a folder is SUN RGB-D, one of its sensors or parts, or a frame."""
    if not path.is_dir():
        return False
    named = any((path / sensor).is_dir() for sensor in SENSORS) or not set(SENSORS).isdisjoint(path.resolve().parts)
    return named and next(_frame_folders(path, Path.glob), None) is not None


def _frame_folders(path: Path, find: Callable[[Path, str], Iterable[Path]] = matching) -> Iterator[Path]:
    for level in range(6):
        for table in find(path, "*/" * level + "intrinsics.txt"):
            if (table.parent / "image").is_dir() and any((table.parent / name).is_dir() for name in FOLDERS.values()):
                yield table.parent


@dataclass(frozen=True)
class RotatedDepth:
    """Millimetres whose bits are rotated: ``metres = ((v >> 3) | (v << 13)) / 1000`` in 16 bits."""

    def __call__(self, view: View) -> np.ndarray:
        counts = read_counts(view.depth)
        if counts.dtype != np.uint16:
            raise DataError(view.depth, "has 8 bits where SUN RGB-D has 16", SKIP)
        metres = ((counts >> 3) | (counts << 13)).astype(np.float32) / np.float32(1000)
        metres[metres > MOST_METRES] = 0
        return metres


def place_of(frame: Path) -> str:
    """The scene of a frame's folder, as far as its path tells places apart; never more than one scene for one room.

    SUN3D's frames lie in folders of their sequence; NYU's are numbered as in the labelled set, whose rooms are contiguous and
    never cross a border of the official split; dated recordings of one sensor and day are one scene; B3DO's photos tell
    nothing and are one scene together.
    """
    parts = frame.resolve().parts
    start = next((i for i, part in enumerate(parts) if part in SENSORS), max(len(parts) - 3, 0))
    above, name = parts[start:-1], parts[-1]
    nyu = re.fullmatch(r"NYU(\d+)", name)
    if nyu:
        return f"NYU/{official_run(int(nyu[1]) - 1)}"
    if "sun3ddata" in above:
        place = above[above.index("sun3ddata") + 1 :]
        return "/".join(("sun3d", place[0] if place else name))
    day = re.search(r"(20\d\d)[-_](\d\d)[-_](\d\d)", name)
    return "/".join(above) + (f"/{'-'.join(day.groups())}" if day else "")


def open_sun_rgbd(
    path: Path,
    *,
    depth: Literal["in-painted", "raw"] = "in-painted",
    split: Path | None = None,
    part: Literal["all", "train", "test"] = "all",
    every: int = 1,
    skip_bad: bool = False,
) -> ViewSource:
    """Open SUN RGB-D at any level of its folders.

    Args:
        path: the folder that holds ``kv1``, ``kv2``, ``realsense`` and ``xtion``, or one below it.
        depth: holes filled as published (``depth_bfx``), or left invalid (``depth``).
        split: the toolbox's table of the official split, ``allsplit.mat``; found by itself next to the data.
        part: frames of one part of the official split.
        every: keep each n-th frame of a scene.
        skip_bad: leave out incomplete frames.
    """
    table = split or _table(path)
    if part != "all" and table is None:
        raise DataError(path, f"has no {SPLIT} to tell the part {part}", "give 'PATH?split=FILE'")
    listed = _listed(table) if table else {}
    parts: dict[str, str] = {}
    left_out: list[str] | None = [] if skip_bad else None
    views: list[View] = []
    for frame in sorted(_frame_folders(path)):
        side = listed.get(_below_sensor(frame.resolve().parts))
        if part not in ("all", side):
            continue
        image = _only(frame / "image", left_out)
        counts = _only(frame / FOLDERS[depth], left_out)
        if image is None or counts is None:
            continue
        name = str(frame.relative_to(path)) if frame != path else frame.resolve().name
        views.append(View(name, place_of(frame), image, counts, read_camera(frame / "intrinsics.txt")))
        if side is not None:
            parts[name] = side
    facts = {
        "depth": f"z-depth; 16-bit millimetres, bits rotated by 3; {depth}; beyond {MOST_METRES:g} m unknown",
        "scene": "place as far as the path tells: SUN3D's building, NYU's run of neighbours, else the day of a sensor; "
        "scene.txt is the type of a scene and not used",
    }
    if table:
        facts["official split"] = f"{table.name}; {part}"
    return view_source(
        "sun-rgbd",
        path,
        views,
        RotatedDepth(),
        facts,
        wanted=f"<sensor>/.../<frame>/image/ with {FOLDERS[depth]}/ and intrinsics.txt"
        + ("" if part == "all" else f" of part {part}"),
        left_out=left_out,
        parts=parts,
        every=every,
    )


def _table(path: Path) -> Path | None:
    """``allsplit.mat`` in the folder of the sensors, next to it, or in the toolbox next to it."""
    whole = path.resolve()
    top = next((one.parent for one in (whole, *whole.parents) if one.name in SENSORS), whole)
    places = [place / below / SPLIT for place in (top, top.parent) for below in ("", TOOLBOX)]
    return next((place for place in places if place.is_file()), None)


def _below_sensor(parts: Sequence[str]) -> str:
    """What is left of a frame's path from the name of its sensor on: the same on every machine."""
    start = next((i for i, part in enumerate(parts) if part in SENSORS), len(parts))
    return "/".join(part for part in parts[start:] if part)


def _listed(table: Path) -> dict[str, str]:
    """The official part of each frame, by its path below the sensors."""
    names = {"alltrain": "train", "alltest": "test"}
    texts = read_texts(table, names, f"name the toolbox's {SPLIT}")
    return {_below_sensor(text.split("/")): part for name, part in names.items() for text in texts[name]}


def _only(folder: Path, left_out: list[str] | None) -> Path | None:
    """The one file of a folder; a frame without it is incomplete."""
    files = (
        sorted(p for p in matching(folder, "*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        if folder.is_dir()
        else []
    )
    if len(files) == 1:
        return files[0]
    problem = f"holds {len(files)} images where a frame of SUN RGB-D has one"
    if left_out is None:
        raise DataError(folder, problem, "complete the data or use --skip-bad")
    left_out.append(f"{folder}: {problem}")
    return None
