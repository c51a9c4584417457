"""Points lie where the camera saw them, and files are what PLY readers expect."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.camera import assumed, from_fov
from fathom.depth_models.prediction import Prediction, given_camera
from fathom.errors import UsageError
from fathom.media.pointcloud import save_ply, unproject
from fathom.sample import Intrinsics


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """An independent reader of the one form that is written."""
    content = path.read_bytes()
    header, _, body = content.partition(b"end_header\n")
    lines = header.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    count = int(next(line for line in lines if line.startswith("element vertex")).split()[-1])
    assert [line.split()[1:] for line in lines if line.startswith("property")] == [
        ["float", "x"], ["float", "y"], ["float", "z"], ["uchar", "red"], ["uchar", "green"], ["uchar", "blue"],
    ]  # fmt: skip
    assert len(body) == 15 * count
    rows = np.frombuffer(body, np.uint8).reshape(count, 15)
    return rows[:, :12].copy().view("<f4"), rows[:, 12:]


def test_points_project_back_to_the_centres_of_their_pixels() -> None:
    depth = np.random.default_rng(0).uniform(0.5, 9, (12, 17)).astype(np.float32)
    depth[3, 4] = np.nan
    view = Intrinsics(20.0, 22.0, 8.0, 6.5)
    points, known = unproject(depth, view)
    assert len(points) == 12 * 17 - 1 and not known[3, 4]
    u = view.fx * points[:, 0] / points[:, 2] + view.cx
    v = view.fy * points[:, 1] / points[:, 2] + view.cy
    rows, columns = np.nonzero(known)
    np.testing.assert_allclose(u, columns + 0.5, atol=1e-4)
    np.testing.assert_allclose(v, rows + 0.5, atol=1e-4)
    np.testing.assert_array_equal(points[:, 2], depth[known])


def test_the_field_of_view_is_the_angle_between_the_sides() -> None:
    view = from_fov((480, 640), 90)
    assert view.fx == view.fy == pytest.approx(320)
    assert (view.cx, view.cy) == (320, 240)
    # A wall at one metre seen under 90 degrees is two metres wide.
    points, _ = unproject(np.ones((480, 640), np.float32), view)
    assert np.ptp(points[:, 0]) == pytest.approx(2 * 639 / 640, abs=1e-5)


def test_the_default_camera_is_sixty_degrees_across_the_longer_side() -> None:
    wide, tall = assumed((480, 640)), assumed((640, 480))
    assert wide.fx == tall.fy == pytest.approx(320 / np.tan(np.radians(30)))


def test_impossible_cameras_are_refused() -> None:
    for options in (
        {"fov": 0.0},
        {"fov": 180.0},
        {"fov": float("nan")},
        {"fov": 60.0, "intrinsics": Intrinsics(1, 1, 1, 1)},
    ):
        with pytest.raises(UsageError):
            given_camera((4, 5), **options)  # type: ignore[arg-type]


def test_a_ply_holds_points_and_their_colours(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    points = generator.normal(size=(7, 3)).astype(np.float32)
    colours = generator.integers(0, 255, (7, 3), dtype=np.uint8)
    got_points, got_colours = read_ply(save_ply(tmp_path / "a" / "x.ply", points, colours))
    np.testing.assert_array_equal(got_points, points)
    np.testing.assert_array_equal(got_colours, colours)


def test_a_prediction_gives_each_point_its_own_pixels_colour(tmp_path: Path) -> None:
    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    depth = np.full((4, 5), 2, np.float32)
    depth[0] = np.nan
    points, colours = read_ply(
        Prediction(image, depth, "metric", assumed((4, 5))).pointcloud(tmp_path / "p.ply", fov=60.0)
    )
    np.testing.assert_array_equal(colours, image[1:].reshape(-1, 3))
    assert (points[:, 2] == 2).all()
    assert points[0, 0] < 0 < points[4, 0] and points[0, 1] < points[-1, 1]
