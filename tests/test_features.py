"""Each feature against a scene whose answer is known on paper."""

from __future__ import annotations

import math

import pytest
import torch

from fathom.errors import FathomError, UsageError
from fathom.features import FEATURES, Feature, feature, labels_feature
from fathom.sample import Intrinsics, Sample

GRID = (4, 6)
CAMERA = Intrinsics(60.0, 60.0, 24.0, 16.0)


def frame(depth: torch.Tensor | None = None, **changes) -> Sample:
    height, width = 32, 48
    depth = torch.full((1, height, width), 2.5) if depth is None else depth
    image = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0))
    values = {
        "image": image,
        "depth": depth,
        "valid": torch.ones_like(depth, dtype=torch.bool),
        "scene": "s",
        "id": "f",
    }
    return Sample(**(values | {"intrinsics": CAMERA} | changes))


def tilted_plane(normal: tuple[float, float, float], distance: float) -> torch.Tensor:
    """Depth of the plane n·P + distance = 0 seen by CAMERA."""
    v = (torch.arange(32) + 0.5 - CAMERA.cy)[:, None] / CAMERA.fy
    u = (torch.arange(48) + 0.5 - CAMERA.cx)[None] / CAMERA.fx
    return (-distance / (normal[0] * u + normal[1] * v + normal[2]))[None]


def unit(*vector: float) -> tuple[float, float, float]:
    length = math.sqrt(sum(part * part for part in vector))
    return tuple(part / length for part in vector)


def test_depth_log_depth_and_disparity_of_a_flat_wall() -> None:
    for name, expected in (("depth", 2.5), ("log_depth", math.log(2.5)), ("disparity", 0.4)):
        values, valid = Feature(name).of(frame(), GRID)
        torch.testing.assert_close(values, torch.full((1, *GRID), expected))
        assert valid.all()


def test_to_depth_undoes_each_depth_feature() -> None:
    for name in ("depth", "log_depth", "disparity"):
        item = Feature(name)
        values, _ = item.of(frame(), GRID)
        torch.testing.assert_close(item.to_depth(values), torch.full((1, *GRID), 2.5))


def test_an_invalid_pixel_has_no_influence_even_if_nan() -> None:
    depth = torch.full((1, 32, 48), 2.5)
    valid = torch.ones_like(depth, dtype=torch.bool)
    depth[0, :3, :3], valid[0, :3, :3] = float("nan"), False
    for name in ("depth", "log_depth", "disparity", "depth_edges", "normals"):
        values, ok = Feature(name).of(frame(depth, valid=valid), GRID)
        assert torch.isfinite(values).all(), name
        assert ok[0, 2:, 2:].all(), name
    torch.testing.assert_close(Feature("depth").of(frame(depth, valid=valid), GRID)[0], torch.full((1, *GRID), 2.5))


def test_a_mostly_invalid_cell_is_invalid() -> None:
    valid = torch.ones(1, 32, 48, dtype=torch.bool)
    valid[0, :8, :5] = False
    _, ok = Feature("depth").of(frame(valid=valid), GRID)
    assert not ok[0, 0, 0]
    assert ok.sum() == 4 * 6 - 1


def test_normals_and_plane_offset_of_a_tilted_plane() -> None:
    normal = unit(0.3, -0.4, -1.0)
    depth = tilted_plane(normal, 3.0)
    values, valid = Feature("normals").of(frame(depth), GRID)
    assert valid[0, 1:-1, 1:-1].all()
    expected = torch.tensor(normal)[:, None, None].expand(3, *GRID)
    torch.testing.assert_close(torch.where(valid, values, expected), expected, atol=2e-3, rtol=0)
    offset, valid = Feature("plane_offset").of(frame(depth), GRID)
    torch.testing.assert_close(torch.where(valid, offset, 3.0), torch.full((1, *GRID), 3.0), atol=5e-3, rtol=0)


def test_curvature_of_a_plane_is_nothing_and_of_a_sphere_is_not() -> None:
    plane, ok = Feature("curvature").of(frame(tilted_plane(unit(0.2, 0.1, -1.0), 2.0)), GRID)
    assert float(plane[ok].max()) < 1e-3
    v = (torch.arange(32) + 0.5 - CAMERA.cy)[:, None] / CAMERA.fy
    u = (torch.arange(48) + 0.5 - CAMERA.cx)[None] / CAMERA.fx
    a, centre, radius = u**2 + v**2 + 1, 3.0, 2.0
    depth = ((2 * centre - torch.sqrt((4 * (centre**2 - a * (centre**2 - radius**2))).clamp(min=0))) / (2 * a))[None]
    sphere, ok = Feature("curvature").of(frame(depth), GRID)
    assert float(sphere[ok][len(sphere[ok]) // 2]) > 0.01


def test_depth_edges_of_a_step_are_where_the_step_is() -> None:
    depth = torch.full((1, 32, 48), 1.0)
    depth[..., 28:] = 3.0
    values, _ = Feature("depth_edges").of(frame(depth), GRID)
    assert values[0, :, 3].min() > 0.1
    assert values[0, :, [0, 1, 5]].max() == 0


def test_relative_depth_does_not_change_with_scale() -> None:
    depth = tilted_plane(unit(0.3, -0.4, -1.0), 3.0)
    a, b = (Feature("relative_depth").of(frame(d), GRID)[0] for d in (depth, depth * 7))
    torch.testing.assert_close(a, b, atol=1e-5, rtol=0)


def test_luminance_is_linear_in_the_averaged_colour() -> None:
    colour, luminance = (Feature(name).of(frame(), GRID)[0] for name in ("colour", "luminance"))
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((weights * colour).sum(0, keepdim=True), luminance)


def test_labels_are_class_shares_and_unlabelled_pixels_do_not_count() -> None:
    labels = torch.zeros(1, 32, 48, dtype=torch.int64)
    labels[..., :4], labels[..., 4:6] = 2, -1
    values, valid = labels_feature(3).of(frame(labels=labels), GRID)
    assert valid.all()
    torch.testing.assert_close(values[:, 0, 0], torch.tensor([2 / 6, 0.0, 4 / 6]))


def test_position_runs_from_minus_to_plus_one_at_cell_centres() -> None:
    values, _ = Feature("position").of(frame(), GRID)
    torch.testing.assert_close(values[1, 0], torch.linspace(-5 / 6, 5 / 6, 6))


def test_a_users_function_is_a_feature_and_its_nan_is_refused() -> None:
    def broken(sample: Sample, grid: tuple[int, int]):
        return torch.full((1, *grid), float("nan")), torch.ones(1, *grid, dtype=torch.bool)

    with pytest.raises(FathomError, match="'mine' of frame f is NaN"):
        Feature.from_function("mine", broken).of(frame(), GRID)
    with pytest.raises(FathomError, match="wanted"):
        Feature.from_function("mine", broken, channels=2).of(frame(), GRID)


def test_names_are_looked_up_and_the_nearest_is_offered() -> None:
    assert {Feature(name).name for name in FEATURES} == set(FEATURES)
    assert feature("labels:5").channels == 5
    with pytest.raises(UsageError, match="did you mean 'disparity'"):
        Feature("disparty")


def test_normals_without_camera_say_what_is_missing() -> None:
    with pytest.raises(UsageError, match="intrinsics"):
        Feature("normals").of(frame(intrinsics=None), GRID)
