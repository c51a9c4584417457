"""What a rendered frame promises: z-depth, intrinsics, normals, pose and colours of one and the same camera."""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fathom.errors import MissingExtraError
from fathom.render.layout import CLASSES, Camera, Room, Solid, furnish
from fathom.render.renderer import (
    UNLABELLED,
    View,
    denoise,
    geometry,
    load_mitsuba,
    render_view,
    tone_map,
    without_fireflies,
)
from fathom.render.renderer import build_scene as build
from fathom.render.rooms import VARIANTS, palette_of
from fathom.signals import signals_later

SIZE = (24, 32)
SEED = 2028


@pytest.fixture(scope="module")
def mi() -> Any:
    pytest.importorskip("mitsuba", reason="rendering needs Mitsuba, the extra [render]")
    return load_mitsuba()


def view(mi: Any, seed: int = SEED, camera: int = 0, variant: str = "base", spp: int = 2) -> View:
    room = furnish("room", seed, 4)
    return render_view(mi, build(mi, room, palette_of(seed, variant)), room.cameras[camera], SIZE, spp, seed)


def rays(frame: View) -> np.ndarray:
    """Directions through pixel centres with z = 1, ``(H, W, 3)``."""
    k = frame.intrinsics
    v, u = np.mgrid[0 : SIZE[0], 0 : SIZE[1]] + 0.5
    return np.stack([(u - k.cx) / k.fx, (v - k.cy) / k.fy, np.ones(SIZE)], -1)


def in_world(frame: View, depth: np.ndarray) -> np.ndarray:
    """Points of the frame in the room's coordinates, ``(H, W, 3)``."""
    return (rays(frame) * depth[..., None]) @ frame.pose[:3, :3].T + frame.pose[:3, 3]


def on_floor(frame: View) -> np.ndarray:
    """Pixels of the bare floor, by object and normal alone, ``(H, W)``."""
    upward = (frame.normals @ frame.pose[:3, :3].T)[..., 2]
    low = in_world(frame, frame.depth)[..., 2] < 0.05  # not a window sill, which faces up too
    return (frame.objects == 0) & (upward > 0.999) & low


def fit_plane(points: np.ndarray) -> tuple[np.ndarray, float]:
    """Normal and largest distance, metres, of the least-squares plane through ``(N, 3)`` points."""
    centred = points - points.mean(0)
    normal = np.linalg.svd(centred, full_matrices=False)[2][2]
    return normal, float(np.abs(centred @ normal).max())


def test_z_depth_camera_and_normals_agree_on_a_plane(mi: Any) -> None:
    checked = 0
    for seed in range(SEED, SEED + 4):
        frame = view(mi, seed)
        floor = on_floor(frame)
        if floor.sum() < 40:
            continue
        checked += 1
        points = (rays(frame) * frame.depth[..., None])[floor]
        normal, furthest = fit_plane(points)
        assert furthest < 1e-3
        assert abs(normal @ frame.normals[floor].mean(0)) == pytest.approx(1, abs=1e-5)
        # The same numbers taken for distances along the ray are no plane.
        along_ray = points / np.linalg.norm(rays(frame)[floor], axis=-1, keepdims=True)
        assert fit_plane(along_ray)[1] > 0.02
        # And with the pose, the floor is where it was built.
        assert np.abs(in_world(frame, frame.depth)[floor][:, 2]).max() < 1e-3
    assert checked >= 2


def test_every_visible_point_lies_in_the_room(mi: Any) -> None:
    frame, size = view(mi), furnish("room", SEED, 4).size
    points = in_world(frame, frame.depth)
    assert (frame.depth > 0).all()
    assert (points > -1e-3).all() and (points < np.array(size) + 1e-3).all()


def test_normals_have_unit_length_and_face_the_camera(mi: Any) -> None:
    frame = view(mi)
    assert np.allclose(np.linalg.norm(frame.normals, axis=-1), 1, atol=1e-5)
    assert ((frame.normals * rays(frame)).sum(-1) < 0).all()


def test_colours_and_depth_belong_to_one_camera(mi: Any) -> None:
    """A shining ball left of and above the middle is bright in the very pixels in which the geometry has it."""
    ball = Solid("glow", (3.0, 2.9, 1.8), (0.8, 0.8, 0.8), 0, "warm", 7, "lamp")
    wall = Solid("box", (5.0, 2.0, 1.0), (0.1, 12, 12), 0, "wall", 0, "wall")
    room = Room("test", 0, (5.0, 4.0, 3.0), [ball, wall], [Camera((0.5, 2.0, 1.2), (1.5, 2.0, 1.2), 70.0)])
    frame = render_view(mi, build(mi, room, palette_of(0, "base")), room.cameras[0], (48, 64), 8, 1)
    seen = frame.objects == 7
    rows, columns = np.nonzero(seen)
    # y grows to the left for a viewer who looks along x.
    assert 20 < seen.sum() < 400 and rows.mean() < 20 and columns.mean() < 28
    assert 2.0 < frame.depth[seen].min() < 2.2 and frame.depth[~seen].min() > 4.3
    bright = frame.rgb.astype(int).sum(-1) > 0.9 * frame.rgb.astype(int).sum(-1).max()
    assert (bright & seen).sum() / (bright | seen).sum() > 0.75
    assert (bright[:, ::-1] & seen).sum() == 0


def test_labels_are_the_classes_of_what_is_seen(mi: Any) -> None:
    """A ball is a lamp where the geometry has the ball; up is the floor, down the ceiling; an object has one class."""
    ball = Solid("glow", (3.0, 2.9, 1.8), (0.8, 0.8, 0.8), 0, "warm", 7, "lamp")
    wall = Solid("box", (5.0, 2.0, 1.0), (0.1, 12, 12), 0, "wall", 0, "wall")
    room = Room("test", 0, (5.0, 4.0, 3.0), [ball, wall], [Camera((0.5, 2.0, 1.2), (1.5, 2.0, 1.2), 70.0)])
    frame = render_view(mi, build(mi, room, palette_of(0, "base")), room.cameras[0], SIZE, 1, 1)
    assert (frame.labels == np.where(frame.objects == 7, CLASSES.index("lamp"), CLASSES.index("wall"))).all()
    above: list[int] = []
    for furnished in (view(mi, seed, camera, spp=1) for seed in range(SEED, SEED + 3) for camera in range(2)):
        upward = (furnished.normals @ furnished.pose[:3, :3].T)[..., 2]
        assert (furnished.labels[on_floor(furnished)] == CLASSES.index("floor")).all()
        above += furnished.labels[(furnished.objects == 0) & (upward < -0.999)].tolist()
        for thing in set(furnished.objects[furnished.objects > 0].tolist()):
            assert len(set(furnished.labels[furnished.objects == thing].tolist())) == 1
    assert above.count(CLASSES.index("ceiling")) > 0.9 * len(above) > 9


def test_a_ray_that_hits_nothing_has_no_label(mi: Any) -> None:
    ball = Solid("sphere", (3.0, 2.0, 1.2), (0.5, 0.5, 0.5), 0, "accent", 1, "plant")
    room = Room("test", 0, (5.0, 4.0, 3.0), [ball], [Camera((0.5, 2.0, 1.2), (1.5, 2.0, 1.2), 70.0)])
    _, _, _, labels = geometry(mi, build(mi, room, palette_of(0, "base")), room.cameras[0], SIZE)
    assert set(labels.ravel().tolist()) == {CLASSES.index("plant"), UNLABELLED}


def test_the_same_seed_gives_the_same_bytes(mi: Any) -> None:
    # Two windows: the order of several lights decides which path a random number becomes.
    room = furnish("room", 6, 1)
    assert sum(solid.material == "daylight" for solid in room.solids) == 2
    one, *again = (view(mi, 6) for _ in range(6))
    for same in again:
        for name in ("rgb", "depth", "normals", "objects", "labels", "pose"):
            assert getattr(one, name).tobytes() == getattr(same, name).tobytes(), name
    assert one.depth.tobytes() != view(mi, 7).depth.tobytes()


def test_variants_share_geometry_exactly_and_change_looks(mi: Any) -> None:
    base = view(mi, spp=8)
    for variant in VARIANTS:
        other = view(mi, variant=variant, spp=8)
        for name in ("depth", "normals", "objects", "labels", "pose"):
            assert getattr(base, name).tobytes() == getattr(other, name).tobytes(), (variant, name)
        assert base.intrinsics == other.intrinsics
        assert np.abs(base.rgb.astype(int) - other.rgb).mean() > 2, variant


def test_views_of_a_room_differ_in_pose_and_share_the_world(mi: Any) -> None:
    frames = [view(mi, camera=index) for index in range(4)]
    assert len({frame.pose.tobytes() for frame in frames}) == 4
    assert len({frame.depth.tobytes() for frame in frames}) == 4
    for frame in frames:
        rotation = frame.pose[:3, :3]
        assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-6) and np.linalg.det(rotation) > 0


def test_frames_are_exposed_to_be_seen(mi: Any) -> None:
    for seed in range(SEED, SEED + 3):
        rgb = view(mi, seed, spp=8).rgb
        assert 60 < np.median(rgb) < 200
        assert rgb.std() > 15


def test_a_firefly_is_taken_out_and_an_edge_is_kept() -> None:
    light = np.ones((9, 9, 3))
    light[4, 4] = 500.0
    assert without_fireflies(light)[4, 4].max() == pytest.approx(1)
    edge = np.ones((9, 9, 3))
    edge[:, 5:] = 3.0
    assert np.allclose(without_fireflies(edge), edge)


def test_denoising_smooths_a_surface_and_not_across_depth() -> None:
    noise = np.random.default_rng(0).normal(1, 0.1, (20, 20, 1)).repeat(3, 2)
    normals = np.zeros((20, 20, 3), np.float32)
    normals[..., 2] = -1
    flat = np.full((20, 20), 2.0, np.float32)
    smooth = denoise(noise, flat, normals)
    assert smooth.std() < 0.6 * noise.std() and smooth.mean() == pytest.approx(noise.mean(), abs=0.02)
    step, light = flat.copy(), np.full((20, 20, 3), 0.5)
    step[:, 8:14] = 3.0
    light[:, 8:14] = 0.55
    # Nearly the same brightness on two surfaces: only depth tells them apart, and nothing is mixed.
    assert np.allclose(denoise(light, step, normals), light, atol=1e-6)


def test_exposure_follows_the_median() -> None:
    light = np.random.default_rng(1).uniform(0.2, 2, (12, 12, 3))
    assert np.array_equal(tone_map(light), tone_map(7 * light))
    assert tone_map(light).max() < 255 and tone_map(light).min() > 0


def test_without_mitsuba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(MissingExtraError, match=r"Rendering rooms needs an optional package.*\[render\]"):
        load_mitsuba()


def test_a_palette_changes_one_thing_at_a_time() -> None:
    base = palette_of(5, "base")
    assert palette_of(5, "colours") == replace(base, colour_seed=5 + 1_000_003)
    assert palette_of(5, "textures") == replace(base, texture_seed=5 + 1_000_003)
    assert palette_of(5, "light") == replace(base, light_seed=5 + 1_000_003)
    assert np.ptp(palette_of(5, "grey").texture("rug", 3)) == 0 and np.ptp(base.texture("rug", 3)) > 0.1


def test_a_signal_during_the_import_of_the_renderer_waits_for_its_end() -> None:
    ended = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), signals_later():
            signal.raise_signal(signal.SIGINT)
            ended.append(True)
        assert ended and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
