"""Augmentation keeps image, depth, mask, camera, labels and normals of one scene."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from torch import Tensor

from fathom.errors import UsageError
from fathom.sample import Intrinsics, Sample
from fathom.training.frames.augment import (
    adjust_colour,
    adjust_light,
    augment,
    cut_depth,
    flip,
    luma,
    turn,
    zoom,
    zoom_box,
)
from fathom.training.recipe import AugmentSection, from_table
from tests.training import painted

EVERYTHING = AugmentSection(zoom=2.0, brightness=0.2, contrast=0.2, saturation=0.3, hue=0.1, gamma=0.2)
NORMAL = torch.nn.functional.normalize(torch.tensor([0.3, -0.2, -1.0]), dim=0)


def plane(size: tuple[int, int] = (24, 32), depth_size: tuple[int, int] | None = None) -> Sample:
    """A plane seen by a pinhole camera. Image channels 0 and 1 hold each pixel's own x and y, divided by 100."""
    camera = Intrinsics(30.0, 28.0, 15.0, 13.0)
    v, u = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    image = torch.stack([u / 100, v / 100, torch.zeros(size)])
    h, w = depth_size or size
    dv, du = torch.meshgrid((torch.arange(h) + 0.5) * size[0] / h, (torch.arange(w) + 0.5) * size[1] / w, indexing="ij")
    ray = torch.stack([(du - camera.cx) / camera.fx, (dv - camera.cy) / camera.fy, torch.ones(h, w)])
    depth = (-3.0 / (ray * NORMAL.view(3, 1, 1)).sum(0))[None]
    return Sample(
        image=image, depth=depth, valid=torch.ones(1, h, w, dtype=torch.bool), scene="s", id="i", intrinsics=camera,
        labels=torch.arange(h * w).view(1, h, w), normals=NORMAL.view(3, 1, 1).expand(3, h, w).clone(), pose=torch.eye(4),
    )  # fmt: skip


def points(sample: Sample) -> Tensor:
    """Camera coordinates of every depth pixel, from the intrinsics as they stand."""
    camera = sample.intrinsics
    assert camera is not None
    (h, w), (height, width) = sample.depth_size, sample.image_size
    v, u = torch.meshgrid((torch.arange(h) + 0.5) * height / h, (torch.arange(w) + 0.5) * width / w, indexing="ij")
    z = sample.depth[0]
    return torch.stack([(u - camera.cx) / camera.fx * z, (v - camera.cy) / camera.fy * z, z])


def same(a: Sample, b: Sample, but: tuple[str, ...] = ()) -> bool:
    pairs = [(getattr(a, f.name), getattr(b, f.name)) for f in fields(Sample) if f.name not in but]
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in pairs)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_flip_is_its_own_inverse() -> None:
    sample = plane()
    once = flip(sample)
    assert not same(once, sample, but=("pose",))
    assert same(flip(once), sample, but=("pose",))
    assert once.pose is None


def test_a_flip_mirrors_points_and_normals() -> None:
    sample = plane()
    flipped = flip(sample)
    mirror = torch.tensor([-1.0, 1.0, 1.0]).view(3, 1, 1)
    torch.testing.assert_close(points(flipped), points(sample).flip(-1) * mirror, atol=1e-5, rtol=1e-5)
    assert flipped.normals is not None and sample.normals is not None
    torch.testing.assert_close(flipped.normals, sample.normals.flip(-1) * mirror)


@pytest.mark.parametrize("keep", ["depth", "focal"])
def test_after_a_zoom_the_camera_sees_each_point_where_the_image_shows_it(keep: str) -> None:
    sample, box = plane(), (3, 8, 12, 16)
    zoomed = zoom(sample, box, keep)
    before, after = sample.intrinsics, zoomed.intrinsics
    assert before is not None and after is not None
    # The image holds the place that each pixel came from; off the border the interpolation of a ramp is exact.
    u, v = (zoomed.image[:2] * 100)[:, 2:-2, 2:-2].unbind()
    row, column = torch.meshgrid(torch.arange(2, 22) + 0.5, torch.arange(2, 30) + 0.5, indexing="ij")
    scale = 1.0 if keep == "depth" else 2.0
    # A point X, Y at depth Z, Z / scale after the zoom.
    x, y = (u - before.cx) / before.fx, (v - before.cy) / before.fy
    torch.testing.assert_close(scale * x * after.fx + after.cx, column, atol=1e-3, rtol=0)
    torch.testing.assert_close(scale * y * after.fy + after.cy, row, atol=1e-3, rtol=0)
    assert (after.fx == before.fx) == (keep == "focal")


@pytest.mark.parametrize("keep", ["depth", "focal"])
def test_after_a_zoom_every_pixel_still_lies_on_the_plane_of_its_normal(keep: str) -> None:
    sample = plane()
    zoomed = zoom(sample, (2, 5, 12, 16), keep)
    assert zoomed.normals is not None and zoomed.labels is not None
    # Depth comes from the nearest pixel, whose own ray it lies on: rely on that pixel's coordinates.
    source = points(sample).flatten(1)[:, zoomed.labels.flatten()]
    stretch = torch.tensor([1.0, 1.0, 1.0 if keep == "depth" else 0.5]).view(3, 1)
    torch.testing.assert_close(zoomed.depth.flatten(), (source * stretch)[2])
    offsets = (source * stretch * zoomed.normals.flatten(1)).sum(0)
    torch.testing.assert_close(offsets, offsets[:1].expand_as(offsets), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(zoomed.normals.norm(dim=0), torch.ones(24, 32))
    assert (zoomed.pose is None) == (keep == "focal")


def test_the_whole_frame_zooms_to_itself() -> None:
    sample = plane()
    for keep in ("depth", "focal"):
        zoomed = zoom(sample, (0, 0, 24, 32), keep)
        assert same(zoomed, sample, but=("normals", "pose"))
        torch.testing.assert_close(zoomed.normals, sample.normals)


def test_maps_of_another_size_than_the_image_stay_in_register() -> None:
    sample = plane((24, 32), (12, 8))
    zoomed = zoom(sample, (0, 16, 12, 16))
    assert zoomed.depth_size == (12, 8)
    assert zoomed.labels is not None and sample.labels is not None
    expected = sample.labels[..., :6, 4:].repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.equal(zoomed.labels, expected)
    offsets = (points(zoomed) * NORMAL.view(3, 1, 1)).sum(0)
    # Nearest neighbour moves a pixel by half of one at most.
    assert float((offsets + 3.0).abs().max()) < 0.25


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), odd=st.booleans())
def test_valid_pixels_carry_only_values_that_were_valid_nearby(seed: int, odd: bool) -> None:
    size = (19, 27) if odd else (24, 32)
    sample = plane(size)
    generator = torch.Generator().manual_seed(seed)
    valid = torch.rand(1, *size, generator=generator) < 0.6
    number = torch.arange(1.0, size[0] * size[1] + 1).view(1, *size)
    sample = replace(sample, depth=torch.where(valid, number, float("nan")), valid=valid)
    result = augment(sample, generator, structs.replace(EVERYTHING, flip=0.0))
    values = result.depth[result.valid]
    # Never an average of two: only numbers that were there, each from the pixel that the image shows.
    assert torch.isfinite(values).all()
    assert set(values.tolist()) <= set(number[valid].tolist())
    box = zoom_box(sample, 2.0, torch.rand(9, generator=_again(seed, size), dtype=torch.float64).tolist()[1:4])
    rows, columns = (values.long() - 1) // size[1], (values.long() - 1) % size[1]
    at = result.valid[0].nonzero()
    assert ((at[:, 0] + 0.5) * box[2] / size[0] + box[0] - rows - 0.5).abs().max() <= 0.5 + 1e-4
    assert ((at[:, 1] + 0.5) * box[3] / size[1] + box[1] - columns - 0.5).abs().max() <= 0.5 + 1e-4


def _again(seed: int, size: tuple[int, int]) -> torch.Generator:
    """The generator as it was when `augment` was called."""
    generator = torch.Generator().manual_seed(seed)
    torch.rand(1, *size, generator=generator)
    return generator


def test_a_window_lies_in_the_frame_and_reaches_its_corners() -> None:
    sample = plane()
    generator = torch.Generator().manual_seed(0)
    boxes = [zoom_box(sample, 2.0, torch.rand(3, generator=generator).tolist()) for _ in range(2000)]
    for top, left, height, width in boxes:
        assert 0 <= top <= 24 - height and 0 <= left <= 32 - width
        assert 12 <= height <= 24 and 16 <= width <= 32
    assert min(box[0] for box in boxes) == 0 and max(box[0] + box[2] for box in boxes) == 24
    assert max(box[1] + box[3] for box in boxes) == 32
    middle = sum(box[2] < 24 / math.sqrt(2) for box in boxes) / 2000
    assert middle == pytest.approx(0.5, abs=0.05)


def test_a_frame_is_augmented_the_same_by_the_same_generator_whatever_came_before() -> None:
    sample = plane()
    first = augment(sample, seeded(3), EVERYTHING)
    torch.manual_seed(123)
    augment(sample, seeded(4), EVERYTHING)
    assert same(first, augment(sample, seeded(3), EVERYTHING))
    assert not any(same(first, augment(sample, seeded(other), EVERYTHING)) for other in (0, 1, 2, 4))


def test_switching_one_step_off_leaves_the_others_as_they_were() -> None:
    sample = plane()
    whole, bare = (augment(sample, seeded(5), config) for config in (EVERYTHING, structs.replace(EVERYTHING, hue=0.0)))
    assert same(whole, bare, but=("image",))
    assert not torch.equal(whole.image, bare.image)


def test_nothing_is_changed_when_nothing_is_asked_for() -> None:
    sample = plane()
    assert same(augment(sample, seeded(0), AugmentSection(flip=0.0)), sample)


def test_half_of_the_frames_are_flipped() -> None:
    sample = plane((4, 4))
    flipped = [not torch.equal(augment(sample, seeded(i), AugmentSection()).depth, sample.depth) for i in range(400)]
    assert sum(flipped) == pytest.approx(200, abs=40)


def test_recolouring_stays_in_range_and_leaves_the_geometry() -> None:
    generator = torch.Generator().manual_seed(0)
    sample = replace(plane(), image=(torch.rand(3, 24, 32, generator=generator) * 255).to(torch.uint8))
    config = AugmentSection(flip=0.0, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.3, gamma=0.5)
    for i in range(10):
        result = augment(sample, seeded(i), config)
        assert result.image.dtype == torch.float32
        assert 0 <= float(result.image.min()) < float(result.image.max()) <= 1
        assert same(result, sample, but=("image",))
        assert not torch.allclose(result.image, sample.float_image(), atol=1e-2)


def test_colour_changes_follow_their_definitions() -> None:
    image = torch.rand(3, 5, 6, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.2
    torch.testing.assert_close(adjust_light(image, 1.2, 1.0, 1.0), image * 1.2)
    torch.testing.assert_close(adjust_light(image, 1.0, 1.0, 2.0), image**2)
    flat = adjust_light(image, 1.0, 0.0, 1.0)
    torch.testing.assert_close(flat, luma(image).mean().expand(3, 5, 6))
    torch.testing.assert_close(adjust_colour(image, 0.0, 0.0), luma(image).expand(3, 5, 6))
    # A third of a turn takes red to green, green to blue, blue to red.
    torch.testing.assert_close(adjust_colour(image, 1.0, 1 / 3), image.roll(1, 0))
    torch.testing.assert_close(adjust_colour(adjust_colour(image, 1.0, 0.02), 1.0, -0.02), image)
    grey = torch.full((3, 2, 2), 0.4)
    torch.testing.assert_close(adjust_colour(grey, 1.7, 0.3), grey)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("flip", 1.5), ("zoom", 0.5), ("hue", 0.7), ("brightness", -0.1), ("gamma", float("nan")), ("keep", "size")],
)
def test_settings_out_of_range_are_refused_by_name(setting: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"augment\.{setting} should be"):
        from_table(painted.recipe(augment={setting: value}))


@pytest.mark.parametrize("depth_size", [None, (12, 16)])
def test_a_turned_camera_sees_the_same_plane_turned(depth_size: tuple[int, int] | None) -> None:
    sample = plane(depth_size=depth_size)
    turned = turn(sample, 8.0, -6.0, 5.0)
    assert turned.normals is not None and turned.pose is None
    assert turned.valid.float().mean() > 0.5 and not turned.valid.all()
    seen = turned.valid[0]
    normal = turned.normals[:, seen]
    # One plane: every point has the distance 3 along the turned normal, which is a unit and another one than before.
    assert torch.allclose(normal, normal[:, :1].expand_as(normal), atol=1e-6)
    assert (normal[:, 0] - NORMAL).abs().max() > 0.05
    # Depth is moved by nearest neighbour: up to half a pixel of the plane's slope.
    distance = (points(turned)[:, seen] * normal).sum(0)
    torch.testing.assert_close(distance, torch.full_like(distance, -3.0), atol=0.08, rtol=0)
    assert (distance + 3).mean().abs() < 0.01


def test_a_roll_of_a_quarter_about_the_centre_of_a_square_image_is_rot90() -> None:
    sample = plane((24, 24))
    sample = replace(sample, intrinsics=Intrinsics(30.0, 30.0, 12.0, 12.0))
    turned = turn(sample, 0.0, 0.0, 90.0)
    torch.testing.assert_close(turned.image, sample.image.rot90(-1, (1, 2)), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(turned.depth[turned.valid], sample.depth.rot90(-1, (1, 2))[turned.valid])


def test_a_yaw_moves_the_image_by_the_tangent_of_the_angle() -> None:
    sample = plane()
    camera = sample.intrinsics
    assert camera is not None
    turned = turn(sample, 0.0, math.degrees(math.atan(4 / camera.fx)), 0.0)
    # The pixel at the principal point shows what was 4 columns to the left; channel 0 is 100 times smaller than the column.
    assert turned.image[0, 13, 15] * 100 == pytest.approx(float(sample.image[0, 13, 15]) * 100 - 4, abs=0.05)


def test_a_frame_without_a_camera_is_not_turned() -> None:
    sample = replace(plane(), intrinsics=None)
    assert same(turn(sample, 5.0, 5.0, 5.0), sample)


def test_cut_depth_shows_the_depth_in_one_strip_and_leaves_the_truth() -> None:
    sample = plane()
    valid = sample.valid.clone()
    valid[0, 5, :] = False
    sample = replace(sample, valid=valid)
    cut = cut_depth(sample, 0.5, 2 / 3)
    assert same(cut, sample, but=("image",))
    changed = (cut.image != sample.image).any(0)
    columns = changed.any(0).nonzero().flatten()
    assert columns.tolist() == list(range(8, 24))  # 2/3 of 3/4 of 32, in the middle
    assert not changed[5].any()
    inside = changed[:, 8:24]
    grey = (sample.depth[0, :, 8:24] / 10).clamp(0, 1)
    torch.testing.assert_close(cut.image[1, :, 8:24][inside], grey[inside])


def test_new_steps_leave_the_draws_of_the_others_as_they_were() -> None:
    sample = plane()
    plain = augment(sample, seeded(3), EVERYTHING)
    with_depth = augment(sample, seeded(3), structs.replace(EVERYTHING, cut_depth=1.0))
    assert torch.equal(plain.depth, with_depth.depth) and not torch.equal(plain.image, with_depth.image)
    turned = augment(sample, seeded(3), structs.replace(EVERYTHING, turn=5.0))
    assert turned.intrinsics == plain.intrinsics and not torch.equal(turned.depth, plain.depth)
