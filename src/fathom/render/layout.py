"""Random furnished rooms: what stands where, from a seed alone. Nothing here knows of a renderer.

World coordinates: x along the width, y along the depth, z up, metres; the floor is z = 0 and a corner is the origin.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator

Vector = tuple[float, float, float]

CLASSES = (
    "wall", "floor", "ceiling", "window", "door", "picture", "rug", "lamp",
    "table", "chair", "sofa", "bed", "shelf", "cabinet", "plant", "crate",
)  # fmt: skip
"""What a surface can belong to; the label of a pixel is a place in this list. What stands on a thing belongs to it."""


@dataclass(frozen=True)
class Solid:
    """A box, cylinder (axis up) or sphere.

    Attributes:
        kind: ``box``, ``cylinder``, ``sphere`` or ``glow`` (it shines: a window pane or a lamp).
        centre: of the solid. size: full extents along its own axes. yaw: turn about the vertical, radians.
        material: a name known to `fathom.render.materials`.
        object: id of the thing it is part of; 0 is the room itself.
        label: the class of that thing, one of `CLASSES`.
    """

    kind: str
    centre: Vector
    size: Vector
    yaw: float
    material: str
    object: int
    label: str

    @property
    def key(self) -> int:
        """What tells this solid's looks from others of its material: its place for books, its object for the rest."""
        return int(1000 * sum(self.centre)) if self.material == "book" else self.object


@dataclass(frozen=True)
class Camera:
    """A pinhole at `origin` looking at `target`; `field_of_view` is horizontal, degrees; no roll."""

    origin: Vector
    target: Vector
    field_of_view: float


@dataclass
class Room:
    """A furnished room.

    Attributes:
        name: of the scene. size: width, depth, height. solids: walls included. cameras: one a view.
        footprints: floor rectangles (x0, y0, x1, y1, top) taken by furniture, for placement and cameras.
    """

    name: str
    seed: int
    size: Vector
    solids: list[Solid] = field(default_factory=list)
    cameras: list[Camera] = field(default_factory=list)
    footprints: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    objects: int = 0

    def free(self, x0: float, y0: float, x1: float, y1: float, gap: float = 0.06) -> bool:
        """Whether a floor rectangle lies in the room and meets no furniture."""
        if x0 < 0.02 or y0 < 0.02 or x1 > self.size[0] - 0.02 or y1 > self.size[1] - 0.02:
            return False
        return all(x1 + gap < a or x0 - gap > c or y1 + gap < b or y0 - gap > d for a, b, c, d, _ in self.footprints)


Parts = list[tuple[str, Vector, Vector, str]]
"""A piece of furniture in its own frame: (kind, centre, size, material); its back is towards +y, its middle at x = 0."""


def _table(g: Generator) -> tuple[Parts, Vector]:
    w, d, h = g.uniform(0.8, 1.8), g.uniform(0.6, 0.95), g.uniform(0.68, 0.78)
    parts: Parts = [("box", (0, 0, h), (w, d, 0.04), "wood")]
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.append(("box", (sx * (w / 2 - 0.05), sy * (d / 2 - 0.05), h / 2), (0.06, 0.06, h), "wood"))
    for _ in range(int(g.integers(1, 5))):
        x, y = g.uniform(-w / 2 + 0.15, w / 2 - 0.15), g.uniform(-d / 2 + 0.15, d / 2 - 0.15)
        parts.append(_trinket(g, x, y, h + 0.02))
    return parts, (w, d, h + 0.3)


def _trinket(g: Generator, x: float, y: float, z: float) -> tuple[str, Vector, Vector, str]:
    kind = str(g.choice(["box", "cylinder", "sphere"]))
    s, h = g.uniform(0.07, 0.2), g.uniform(0.06, 0.32)
    size = (s, s, s) if kind == "sphere" else (s, s * g.uniform(0.6, 1.4) if kind == "box" else s, h)
    return kind, (x, y, z + size[2] / 2), size, "accent"


def _chair(g: Generator) -> tuple[Parts, Vector]:
    s, h, back = g.uniform(0.4, 0.5), g.uniform(0.42, 0.48), g.uniform(0.35, 0.6)
    parts: Parts = [
        ("box", (0, 0, h), (s, s, 0.05), "fabric"),
        ("box", (0, s / 2 - 0.02, h + back / 2), (s, 0.04, back), "wood"),
    ]
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.append(("box", (sx * (s / 2 - 0.03), sy * (s / 2 - 0.03), h / 2), (0.04, 0.04, h), "wood"))
    return parts, (s, s, h + back)


def _sofa(g: Generator) -> tuple[Parts, Vector]:
    w, d, h = g.uniform(1.4, 2.3), g.uniform(0.8, 0.95), g.uniform(0.38, 0.45)
    parts: Parts = [
        ("box", (0, -0.05, h / 2), (w, d - 0.1, h), "fabric"),
        ("box", (0, d / 2 - 0.1, h + 0.2), (w, 0.2, 0.42), "fabric"),
    ]
    for sx in (-1, 1):
        parts.append(("box", (sx * (w / 2 - 0.09), 0, h + 0.08), (0.18, d, 0.2), "fabric"))
    for _ in range(int(g.integers(0, 4))):
        parts.append(("box", (g.uniform(-w / 2 + 0.4, w / 2 - 0.4), 0.12, h + 0.19), (0.4, 0.13, 0.36), "accent"))
    return parts, (w, d, h + 0.42)


def _bed(g: Generator) -> tuple[Parts, Vector]:
    w, d, h = g.uniform(1.0, 1.9), g.uniform(1.95, 2.15), g.uniform(0.4, 0.55)
    parts: Parts = [
        ("box", (0, 0, h * 0.3), (w, d, h * 0.6), "wood"),
        ("box", (0, -0.02, h * 0.8), (w - 0.06, d - 0.1, h * 0.4), "fabric"),
        ("box", (0, d / 2 - 0.03, h + 0.2), (w, 0.06, 0.9), "wood"),
    ]
    for sx in (-1, 1) if w > 1.3 else (0,):
        parts.append(("box", (sx * w / 4, d / 2 - 0.35, h + 0.06), (min(0.6, w / 2 - 0.1), 0.4, 0.14), "plain"))
    return parts, (w, d, 1.1)


def _shelf(g: Generator) -> tuple[Parts, Vector]:
    w, d, h = g.uniform(0.6, 1.6), g.uniform(0.25, 0.4), g.uniform(1.0, 2.1)
    rows = int(g.integers(3, 6))
    parts: Parts = [("box", (0, d / 2 - 0.01, h / 2), (w, 0.02, h), "wood")]
    parts += [("box", (sx * (w / 2 - 0.015), 0, h / 2), (0.03, d, h), "wood") for sx in (-1, 1)]
    for row in range(rows + 1):
        z = row * (h - 0.03) / rows + 0.015
        parts.append(("box", (0, 0, z), (w, d, 0.03), "wood"))
        x = -w / 2 + 0.06
        while row < rows and x < w / 2 - 0.12:
            thick, tall = g.uniform(0.02, 0.09), g.uniform(0.45, 0.9) * (h / rows - 0.05)
            if g.uniform() < 0.75:
                parts.append(("box", (x + thick / 2, 0.02, z + 0.015 + tall / 2), (thick, d * 0.7, tall), "book"))
            x += thick + (0.004 if g.uniform() < 0.8 else 0.12)
    return parts, (w, d, h)


def _cabinet(g: Generator) -> tuple[Parts, Vector]:
    w, d, h = g.uniform(0.5, 1.5), g.uniform(0.4, 0.6), g.uniform(0.6, 1.9)
    doors = max(1, round(w / 0.5))
    parts: Parts = [("box", (0, 0, h / 2), (w, d, h), "wood")]
    for i in range(doors):
        x = -w / 2 + (i + 0.5) * w / doors
        parts.append(("box", (x, -d / 2 - 0.008, h / 2), (w / doors - 0.03, 0.016, h - 0.08), "wood"))
        parts.append(("sphere", (x + w / doors * 0.35, -d / 2 - 0.03, h / 2), (0.035, 0.035, 0.035), "metal"))
    if h < 1.2:
        parts.append(_trinket(g, g.uniform(-w / 3, w / 3), 0, h))
    return parts, (w, d + 0.06, h + (0.3 if h < 1.2 else 0))


def _plant(g: Generator) -> tuple[Parts, Vector]:
    r, h = g.uniform(0.28, 0.42), g.uniform(0.7, 1.5)
    parts: Parts = [
        ("cylinder", (0, 0, 0.16), (r, r, 0.32), "accent"),
        ("cylinder", (0, 0, h / 2), (0.04, 0.04, h), "wood"),
    ]
    for _ in range(int(g.integers(5, 10))):
        s = g.uniform(0.15, 0.34)
        parts.append(
            ("sphere", (g.uniform(-0.16, 0.16), g.uniform(-0.16, 0.16), h + g.uniform(-0.3, 0.15)), (s, s, s), "leaf")
        )
    return parts, (0.5, 0.5, h + 0.3)


def _lamp(g: Generator) -> tuple[Parts, Vector]:
    h = g.uniform(1.3, 1.7)
    parts: Parts = [
        ("cylinder", (0, 0, 0.015), (0.3, 0.3, 0.03), "metal"),
        ("cylinder", (0, 0, h / 2), (0.03, 0.03, h), "metal"),
        ("glow", (0, 0, h + 0.1), (0.26, 0.26, 0.26), "warm"),
    ]
    return parts, (0.35, 0.35, h + 0.25)


def _crate(g: Generator) -> tuple[Parts, Vector]:
    w, d, h = g.uniform(0.3, 0.7), g.uniform(0.3, 0.6), g.uniform(0.25, 0.6)
    parts: Parts = [("box", (0, 0, h / 2), (w, d, h), "card")]
    if g.uniform() < 0.5:
        k = g.uniform(0.5, 0.85)
        parts.append(("box", (g.uniform(-0.05, 0.05), 0, h + h * k / 2), (w * k, d * k, h * k), "card"))
    return parts, (w, d, 2 * h)


WALL: dict[str, Callable[[Generator], tuple[Parts, Vector]]] = {
    "sofa": _sofa,
    "bed": _bed,
    "shelf": _shelf,
    "cabinet": _cabinet,
    "plant": _plant,
    "lamp": _lamp,
    "crate": _crate,
    "table": _table,
}
"""What stands against a wall, by its class."""


def _place(room: Room, label: str, parts: Parts, extent: Vector, x: float, y: float, yaw: float) -> None:
    """Add furniture with its middle at (x, y), turned by `yaw` (a multiple of 90 degrees up to a few)."""
    room.objects += 1
    c, s = math.cos(yaw), math.sin(yaw)
    for kind, (px, py, pz), size, material in parts:
        centre = (x + c * px - s * py, y + s * px + c * py, pz)
        room.solids.append(Solid(kind, centre, size, yaw, material, room.objects, label))
    w, d = abs(c) * extent[0] + abs(s) * extent[1], abs(s) * extent[0] + abs(c) * extent[1]
    room.footprints.append((x - w / 2, y - d / 2, x + w / 2, y + d / 2, extent[2]))


def _against_wall(g: Generator, room: Room, label: str) -> bool:
    parts, extent = WALL[label](g)
    width, depth, _ = room.size
    for _ in range(12):
        wall = int(g.integers(4))
        yaw = (0.0, -math.pi / 2, math.pi, math.pi / 2)[wall]
        w, d = (extent[0], extent[1]) if wall % 2 == 0 else (extent[1], extent[0])
        along = width if wall % 2 == 0 else depth
        reach = w if wall % 2 == 0 else d
        if along < reach + 0.2:
            continue
        at = g.uniform(reach / 2 + 0.05, along - reach / 2 - 0.05)
        off = extent[1] / 2 + 0.03
        x, y = ((at, depth - off), (width - off, at), (at, off), (off, at))[wall]
        if room.free(x - w / 2, y - d / 2, x + w / 2, y + d / 2):
            _place(room, label, parts, extent, x, y, yaw)
            return True
    return False


def _dining(g: Generator, room: Room) -> None:
    """A table with chairs somewhere in the middle."""
    parts, extent = _table(g)
    width, depth, _ = room.size
    for _ in range(12):
        x, y = g.uniform(0.3, 0.7) * width, g.uniform(0.3, 0.7) * depth
        if not room.free(
            x - extent[0] / 2 - 0.5, y - extent[1] / 2 - 0.5, x + extent[0] / 2 + 0.5, y + extent[1] / 2 + 0.5
        ):
            continue
        _place(room, "table", parts, extent, x, y, 0.0)
        for side in (-1, 1):
            seats = max(1, int(extent[0] // 0.65))
            for i in range(seats):
                chair, size = _chair(g)
                cx = x + (i - (seats - 1) / 2) * 0.65
                cy = y + side * (extent[1] / 2 + g.uniform(0.1, 0.3))
                if g.uniform() < 0.85:
                    _place(room, "chair", chair, size, cx, cy, (0.0 if side > 0 else math.pi) + g.uniform(-0.25, 0.25))
        return


def _wall_point(room: Room, wall: int, along: float, z: float, off: float) -> tuple[Vector, float]:
    width, depth, _ = room.size
    points = ((along, depth - off, z), (width - off, along, z), (along, off, z), (off, along, z))
    return points[wall], (0.0, -math.pi / 2, math.pi, math.pi / 2)[wall]


def _shell(g: Generator, room: Room) -> None:
    """Floor, ceiling, walls, skirting, windows, a door, pictures, a rug, the ceiling lamp."""
    width, depth, height = room.size
    t = 0.1
    solids = room.solids
    solids.append(
        Solid("box", (width / 2, depth / 2, -t / 2), (width + 2 * t, depth + 2 * t, t), 0, "floor", 0, "floor")
    )
    solids.append(
        Solid(
            "box", (width / 2, depth / 2, height + t / 2), (width + 2 * t, depth + 2 * t, t), 0, "ceiling", 0, "ceiling"
        )
    )
    for wall in range(4):
        along = width if wall % 2 == 0 else depth
        centre, yaw = _wall_point(room, wall, along / 2, height / 2, -t / 2)
        solids.append(
            Solid("box", centre, (along + 2 * t, t, height), yaw, "wall" if wall else "feature-wall", 0, "wall")
        )
        centre, yaw = _wall_point(room, wall, along / 2, 0.05, 0.008)
        solids.append(Solid("box", centre, (along, 0.016, 0.1), yaw, "trim", 0, "wall"))
    walls = list(g.permutation(4))
    for wall in walls[: int(g.integers(1, 3))]:
        along = width if wall % 2 == 0 else depth
        w, h = min(g.uniform(0.8, 2.2), along * 0.6), min(g.uniform(0.9, 1.5), height - 1.2)
        at, z = g.uniform(w / 2 + 0.2, along - w / 2 - 0.2), g.uniform(0.95, 1.1) + h / 2
        centre, yaw = _wall_point(room, int(wall), at, z, 0.012)
        solids.append(Solid("glow", centre, (w, 0.02, h), yaw, "daylight", 0, "window"))
        for dx, dz, sx, sz in (
            (0, h / 2, w + 0.12, 0.06),
            (0, -h / 2, w + 0.12, 0.06),
            (w / 2, 0, 0.06, h),
            (-w / 2, 0, 0.06, h),
            (0, 0, 0.04, h),
        ):
            bar, _ = _wall_point(room, int(wall), at + dx, z + dz, 0.035)
            solids.append(Solid("box", bar, (sx, 0.07, sz), yaw, "trim", 0, "window"))
    door = int(walls[2])
    along = width if door % 2 == 0 else depth
    if along > 1.4:
        at = g.uniform(0.6, along - 0.6)
        centre, yaw = _wall_point(room, door, at, 1.0, 0.02)
        room.objects += 1
        solids.append(Solid("box", centre, (0.85, 0.04, 2.0), yaw, "wood", room.objects, "door"))
        knob, _ = _wall_point(room, door, at + 0.34, 1.0, 0.07)
        solids.append(Solid("sphere", knob, (0.06, 0.06, 0.06), yaw, "metal", room.objects, "door"))
        x, y, _ = centre
        room.footprints.append((x - 0.5, y - 0.5, x + 0.5, y + 0.5, 0.0))
    for _ in range(int(g.integers(1, 5))):
        wall = int(g.integers(4))
        along = width if wall % 2 == 0 else depth
        w, h = g.uniform(0.3, 1.0), g.uniform(0.3, 0.8)
        if along < w + 0.4 or wall in walls[:2]:
            continue
        centre, yaw = _wall_point(room, wall, g.uniform(w / 2 + 0.2, along - w / 2 - 0.2), g.uniform(1.4, 1.8), 0.02)
        room.objects += 1
        solids.append(Solid("box", centre, (w + 0.06, 0.03, h + 0.06), yaw, "trim", room.objects, "picture"))
        front, _ = _wall_point(room, wall, centre[0] if wall % 2 == 0 else centre[1], centre[2], 0.04)
        solids.append(Solid("box", front, (w, 0.02, h), yaw, "picture", room.objects, "picture"))
    if g.uniform() < 0.6:
        rw, rd = g.uniform(0.3, 0.6) * width, g.uniform(0.3, 0.6) * depth
        room.objects += 1
        centre = (g.uniform(0.4, 0.6) * width, g.uniform(0.4, 0.6) * depth, 0.006)
        solids.append(Solid("box", centre, (rw, rd, 0.012), 0, "rug", room.objects, "rug"))
    lamps = 1 + int(width * depth > 20)
    for i in range(lamps):
        x, drop = width * (i + 1) / (lamps + 1), g.uniform(0.05, 0.5)
        s = g.uniform(0.22, 0.4)
        room.objects += 1
        solids.append(
            Solid("cylinder", (x, depth / 2, height - drop / 2), (0.02, 0.02, drop), 0, "metal", room.objects, "lamp")
        )
        solids.append(Solid("glow", (x, depth / 2, height - drop - s / 2), (s, s, s), 0, "warm", room.objects, "lamp"))


def _clear(room: Room, x: float, y: float, z: float) -> bool:
    margin = 0.25
    if not (margin < x < room.size[0] - margin and margin < y < room.size[1] - margin):
        return False
    return all(
        not (a - margin < x < c + margin and b - margin < y < d + margin and z < top + margin)
        for a, b, c, d, top in room.footprints
    )


def _cameras(g: Generator, room: Room, views: int) -> None:
    """Views from clear spots in different directions, with varied height, pitch and field of view."""
    width, depth, height = room.size
    first = g.uniform(0, 2 * math.pi)
    tries = 0
    while len(room.cameras) < views and tries < 4000:
        tries += 1
        z = float(np.clip(g.normal(1.35, 0.3), 0.5, height - 0.4))
        x, y = g.uniform(0.25, width - 0.25), g.uniform(0.25, depth - 0.25)
        if not _clear(room, x, y, z):
            continue
        # Into the room rather than at the nearest wall, each view from another side.
        side = first + 2 * math.pi * len(room.cameras) / views
        aim = width * (0.5 + g.uniform(-0.3, 0.3)), depth * (0.5 + g.uniform(-0.3, 0.3))
        yaw = math.atan2(aim[1] - y, aim[0] - x) + g.uniform(-0.35, 0.35)
        if math.cos(yaw - side) < 0.3 and tries < 2000:
            continue
        pitch = g.normal(-0.2, 0.18)
        if _free_ahead(room, x, y, yaw) < (0.45 if tries < 2000 else 0.2) * max(width, depth):
            continue
        direction = (math.cos(yaw) * math.cos(pitch), math.sin(yaw) * math.cos(pitch), math.sin(pitch))
        target = (x + direction[0], y + direction[1], z + direction[2])
        room.cameras.append(Camera((x, y, z), target, float(g.uniform(52, 78))))


def _free_ahead(room: Room, x: float, y: float, yaw: float) -> float:
    """How far one can walk ahead before furniture at eye height or a wall."""
    for step in range(1, 120):
        px, py = x + 0.1 * step * math.cos(yaw), y + 0.1 * step * math.sin(yaw)
        if not (0.05 < px < room.size[0] - 0.05 and 0.05 < py < room.size[1] - 0.05):
            return 0.1 * step
        if any(a < px < c and b < py < d and top > 0.9 for a, b, c, d, top in room.footprints):
            return 0.1 * step
    return 12.0


def furnish(name: str, seed: int, views: int) -> Room:
    """The room of that seed: the same always, whatever other rooms are made."""
    g = np.random.default_rng(seed)
    long, short = g.uniform(2.8, 9.0), g.uniform(2.4, 6.0)
    width, depth = (long, short) if g.uniform() < 0.5 else (short, long)
    room = Room(name, seed, (float(width), float(depth), float(g.uniform(2.3, 3.3))))
    _shell(g, room)
    area = width * depth
    if area > 9 and g.uniform() < 0.65:
        _dining(g, room)
    names = list(WALL)
    for _ in range(int(np.clip(area * g.uniform(0.35, 0.8), 3, 14))):
        _against_wall(g, room, str(g.choice(names)))
    _cameras(g, room, views)
    return room
