"""Normals, plane offset and curvature against surfaces whose geometry is known: planes, a ball, a hollow, a pillar."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from fathom.errors import UsageError
from fathom.features import feature, normals_from_depth
from fathom.sample import Intrinsics, Sample

SIZE = (72, 96)
CAMERA = Intrinsics(80.0, 84.0, 50.0, 33.0)
"""Neither square pixels nor a centred principal point: a formula that forgets either fails."""


def rays() -> tuple[Tensor, Tensor]:
    v = ((torch.arange(SIZE[0], dtype=torch.float64) + 0.5 - CAMERA.cy) / CAMERA.fy)[:, None].expand(SIZE)
    u = ((torch.arange(SIZE[1], dtype=torch.float64) + 0.5 - CAMERA.cx) / CAMERA.fx)[None].expand(SIZE)
    return u, v


def frame(depth: Tensor, **changes) -> Sample:
    depth = depth.float()[None]
    values = {"valid": torch.isfinite(depth), "scene": "s", "id": "f", "intrinsics": CAMERA}
    return Sample(torch.zeros(3, *SIZE), depth, **(values | changes))


def plane(normal: tuple[float, float, float], offset: float) -> Tensor:
    """Depth of the plane n·X + offset = 0."""
    u, v = rays()
    return -offset / (normal[0] * u + normal[1] * v + normal[2])


def ball(centre: tuple[float, float, float], radius: float, inside: bool = False) -> Tensor:
    """Depth of a sphere, NaN beside it; seen from `inside`, its far side."""
    u, v = rays()
    a, b = u * u + v * v + 1, u * centre[0] + v * centre[1] + centre[2]
    root = (b * b - a * (sum(c * c for c in centre) - radius**2)).sqrt()
    return (b + root) / a if inside else (b - root) / a


def unit(*vector: float) -> tuple[float, float, float]:
    length = math.sqrt(sum(part * part for part in vector))
    return vector[0] / length, vector[1] / length, vector[2] / length


@pytest.mark.parametrize("normal", [unit(0.3, -0.4, -1.0), unit(0, -1, -0.2), unit(-1, 0, -0.4)])
def test_a_plane_has_its_normal_its_offset_and_no_curvature(normal: tuple[float, float, float]) -> None:
    depth = plane(normal, 1.5)
    seen = torch.where((depth > 0) & (depth < 30), depth, torch.nan)
    sample = frame(seen)
    values, ok = feature("normals").of(sample, (9, 12))
    assert ok.sum() > 40
    expected = torch.tensor(normal)[:, None, None].expand(3, 9, 12)
    torch.testing.assert_close(torch.where(ok, values, expected), expected, atol=1e-5, rtol=0)
    offset, ok = feature("plane_offset").of(sample, (9, 12))
    torch.testing.assert_close(offset[ok], torch.full_like(offset[ok], 1.5), atol=1e-4, rtol=0)
    bend, ok = feature("curvature").of(sample, (9, 12))
    assert ok.sum() > 40 and float(bend.abs().max()) < 1e-3


def test_a_ball_has_the_curvature_of_its_radius_and_a_hollow_the_negative() -> None:
    for radius, inside, expected in ((1.0, False, 1.0), (2.0, False, 0.5), (2.0, True, -0.5)):
        depth = ball((0.3, -0.2, 1.2 if inside else 3.5), radius, inside)
        values, ok = feature("curvature").of(frame(depth), (24, 32))
        assert ok.sum() > 50
        assert float(values[ok].median()) == pytest.approx(expected, rel=0.02), (radius, inside)


def test_a_pillar_has_half_the_curvature_of_a_ball_and_its_own_normals() -> None:
    u, _ = rays()
    a, b = u * u + 1, 0.4 * u + 3
    depth = (b - (b * b - a * (0.4**2 + 3**2 - 0.5**2)).sqrt()) / a
    values, ok = feature("curvature").of(frame(depth), SIZE)
    assert ok.sum() > 1000 and float(values[ok].median()) == pytest.approx(1.0, rel=0.05)
    normals, ok = feature("normals").of(frame(depth), SIZE)
    expected = torch.stack([u * depth - 0.4, torch.zeros(SIZE), depth - 3]).float() / 0.5
    angle = torch.rad2deg(torch.acos((normals * expected).sum(0).clamp(-1, 1)))[ok[0]]
    assert float(angle.max()) < 5 and float(angle.median()) < 0.5


def test_stored_normals_are_taken_before_those_of_the_depth_map() -> None:
    stored = torch.zeros(3, *SIZE)
    stored[0, :, 48:] = -1.0
    values, ok = feature("normals").of(frame(plane(unit(0, 0, -1), 2.0), normals=stored), (9, 12))
    assert not ok[..., :6].any() and ok[..., 6:].all()
    assert (values[:, ok[0]] == torch.tensor([-1.0, 0.0, 0.0])[:, None]).all()


def test_two_surfaces_in_one_window_have_no_normal_and_no_curvature() -> None:
    depth = torch.full(SIZE, 2.0)
    depth[:, 48:] = 3.0
    for name, reach in (("normals", 2), ("plane_offset", 2), ("curvature", 2)):
        values, ok = feature(name).of(frame(depth), SIZE)
        assert not ok[..., 48 - reach : 48 + reach].any(), name
        assert ok[0, 20:40, 10:44].all() and ok[0, 20:40, 52:86].all(), name
        assert float((values - values[:, 30, 20][:, None, None])[:, 20:40, 10:44].abs().max()) < 1e-5, name


def test_normals_survive_depth_in_steps_of_three_centimetres() -> None:
    """Differences of neighbouring pixels would see flat steps with cliffs between them."""
    depth = plane(unit(0.4, 0, -1.0), 2.5)
    stored = (depth / 0.03).round() * 0.03
    values, ok = feature("normals").of(frame(stored), (9, 12))
    cosine = (values * torch.tensor(unit(0.4, 0, -1.0))[:, None, None]).sum(0)[ok[0]]
    assert ok.sum() > 60 and float(torch.rad2deg(torch.acos(cosine.clamp(max=1))).mean()) < 5


def test_the_camera_belongs_to_the_image_and_is_brought_to_the_depth_map() -> None:
    normal = unit(0.3, -0.4, -1.0)
    sample = frame(plane(normal, 2.0), intrinsics=CAMERA.scaled(2, 2))
    large = Sample(torch.zeros(3, 144, 192), sample.depth, sample.valid, "s", "f", intrinsics=sample.intrinsics)
    for name, expected in (("normals", torch.tensor(normal)), ("plane_offset", torch.tensor([2.0]))):
        values, ok = feature(name).of(large, (9, 12))
        assert float((values - expected[:, None, None])[:, ok[0]].abs().max()) < 1e-4, name


def test_a_map_smaller_than_the_window_has_nothing_known() -> None:
    depth = torch.full((1, 4, 4), 2.0)
    values, ok = normals_from_depth(depth, torch.ones(1, 4, 4, dtype=torch.bool), 4.0, 4.0, 2.0, 2.0)
    assert not ok.any() and not values.any()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("normals", "Normals of frame f cannot be had without camera intrinsics or stored normals"),
        ("plane_offset", "The plane offset of frame f cannot be had without camera intrinsics,"),
        ("curvature", r"The curvature of frame f .* folder data take the option intrinsics=fx,fy,cx,cy"),
    ],
)
def test_without_a_camera_the_sentence_says_what_is_missing(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        feature(name).of(frame(plane(unit(0, 0, -1), 2.0), intrinsics=None), (9, 12))
