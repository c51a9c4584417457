"""Furnished rooms: nothing stands in anything else, cameras see into the room, and a seed is a room."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from fathom.render.layout import CLASSES, Room, Solid, furnish

SEEDS = range(2026, 2056)
FIXTURES = {"trim", "picture", "rug", "leaf"}
"""What hangs on walls, lies under furniture, or is foliage: it may touch what stands before or on it."""


def corners(solid: Solid) -> np.ndarray:
    """The four corners of a solid's outline on the floor, ``(4, 2)``."""
    c, s = math.cos(solid.yaw), math.sin(solid.yaw)
    half = np.array([(x * solid.size[0] / 2, y * solid.size[1] / 2) for x, y in ((1, 1), (1, -1), (-1, -1), (-1, 1))])
    return half @ np.array([[c, s], [-s, c]]) + np.array(solid.centre[:2])


def depth_of_overlap(one: Solid, other: Solid) -> float:
    """Metres by which two boxes reach into each other along the least of their separating axes; 0 where they do not."""
    apart = math.dist(one.centre[:2], other.centre[:2])
    if apart > (math.hypot(*one.size[:2]) + math.hypot(*other.size[:2])) / 2:
        return 0.0
    low = max(one.centre[2] - one.size[2] / 2, other.centre[2] - other.size[2] / 2)
    least = min(one.centre[2] + one.size[2] / 2, other.centre[2] + other.size[2] / 2) - low
    for yaw in (one.yaw, other.yaw):
        for axis in ((math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))):
            a, b = corners(one) @ axis, corners(other) @ axis
            least = min(least, min(a.max(), b.max()) - max(a.min(), b.min()))
    return max(0.0, least)


def furniture(room: Room) -> list[Solid]:
    return [solid for solid in room.solids if solid.object > 0 and solid.material not in FIXTURES]


def holds(solid: Solid, point: tuple[float, float, float]) -> bool:
    """Whether a point lies in the solid's box."""
    c, s = math.cos(solid.yaw), math.sin(solid.yaw)
    x, y, z = (p - q for p, q in zip(point, solid.centre, strict=True))
    inside = (c * x + s * y, -s * x + c * y, z)
    return all(abs(value) < extent / 2 for value, extent in zip(inside, solid.size, strict=True))


def test_the_measure_of_overlap_itself() -> None:
    one = Solid("box", (0, 0, 0), (2, 2, 2), 0, "wood", 1, "table")
    assert depth_of_overlap(one, Solid("box", (1.5, 0, 0), (2, 2, 2), 0, "wood", 2, "table")) == pytest.approx(0.5)
    assert depth_of_overlap(one, Solid("box", (0, 0, 2.1), (2, 2, 2), 0, "wood", 2, "table")) == 0
    # Turned by 45 degrees its corner reaches sqrt(2) out.
    assert depth_of_overlap(
        one, Solid("box", (2.3, 0, 0), (2, 2, 2), math.pi / 4, "wood", 2, "table")
    ) == pytest.approx(1 + math.sqrt(2) - 2.3)
    assert holds(one, (0.9, -0.9, 0.9)) and not holds(one, (1.1, 0, 0))


def test_no_two_pieces_of_furniture_stand_in_each_other() -> None:
    pieces = 0
    for seed in SEEDS:
        found = furniture(furnish("room", seed, 1))
        pieces += len({solid.object for solid in found})
        for one, other in combinations(found, 2):
            if one.object != other.object:
                # A turned chair may touch the leg of its table.
                assert depth_of_overlap(one, other) < 0.02, (seed, one, other)
    assert pieces > 5 * len(SEEDS)


def test_furniture_stands_within_the_walls() -> None:
    for seed in SEEDS:
        room = furnish("room", seed, 1)
        for solid in furniture(room):
            low, high = corners(solid).min(0), corners(solid).max(0)
            assert (low > -0.001).all() and (high < np.array(room.size[:2]) + 0.001).all(), (seed, solid)
            assert solid.centre[2] - solid.size[2] / 2 > -0.001


def test_cameras_are_in_the_room_and_in_nothing_else() -> None:
    for seed in SEEDS:
        room = furnish("room", seed, 4)
        assert len(room.cameras) == 4
        for camera in room.cameras:
            assert all(0 < at < extent for at, extent in zip(camera.origin, room.size, strict=True))
            assert not any(holds(solid, camera.origin) for solid in room.solids)


def test_views_of_a_room_look_different_ways() -> None:
    for seed in SEEDS:
        cameras = furnish("room", seed, 4).cameras
        ahead = np.array([np.subtract(camera.target, camera.origin) for camera in cameras])
        cosines = (ahead @ ahead.T)[np.triu_indices(4, 1)]
        # Four views spread round the compass: some pair faces away from each other.
        assert cosines.min() < 0.2
        assert len({camera.origin for camera in cameras}) == 4


def test_a_seed_is_a_room_and_another_seed_another() -> None:
    one, same, other = furnish("a", 3, 2), furnish("a", 3, 2), furnish("a", 4, 2)
    assert one == same
    assert one.size != other.size and one.solids != other.solids


def test_sizes_vary_so_that_position_alone_explains_little() -> None:
    sizes = np.array([furnish("room", seed, 1).size for seed in SEEDS])
    assert sizes[:, :2].min() < 3 and sizes[:, :2].max() > 7
    assert np.ptp(sizes[:, 2]) > 0.7


def test_every_thing_has_one_class_and_the_room_itself_has_its_own() -> None:
    seen: set[str] = set()
    for seed in SEEDS:
        of: dict[int, set[str]] = {}
        for solid in furnish("room", seed, 1).solids:
            of.setdefault(solid.object, set()).add(solid.label)
        assert of.pop(0) == {"floor", "ceiling", "wall", "window"}
        assert all(len(labels) == 1 for labels in of.values())
        seen |= {"floor", "ceiling", "wall", "window"}.union(*of.values())
    assert seen == set(CLASSES)
