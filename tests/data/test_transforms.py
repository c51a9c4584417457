"""Geometry: image, depth, mask and camera move together, and an invalid pixel never bleeds."""

from __future__ import annotations

import pytest
import torch

from fathom.data.transforms import crop_border, fit
from fathom.errors import UsageError
from fathom.sample import Intrinsics, Sample


def sample(image: tuple[int, int] = (24, 32), depth: tuple[int, int] = (12, 16)) -> Sample:
    generator = torch.Generator().manual_seed(0)
    metres = torch.rand(1, *depth, generator=generator) * 4 + 1
    valid = torch.rand(1, *depth, generator=generator) < 0.6
    return Sample(
        torch.randint(0, 256, (3, *image), dtype=torch.uint8, generator=generator),
        torch.where(valid, metres, 1e6),
        valid,
        "s",
        "i",
        Intrinsics(20, 21, 16, 12),
        labels=torch.arange(depth[0] * depth[1]).reshape(1, *depth),
    )


def test_shrunk_depth_is_the_mean_of_valid_pixels_where_half_are_valid() -> None:
    whole = sample()
    small = fit(whole, (6, 8))
    for y, x in ((0, 0), (3, 5), (5, 7)):
        window = whole.valid[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        inside = whole.depth[0, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2][window]
        assert bool(small.valid[0, y, x]) == (int(window.sum()) >= 2)
        if window.sum() >= 2:
            assert float(small.depth[0, y, x]) == pytest.approx(float(inside.mean()), rel=1e-5)
    assert small.depth[small.valid].max() < 6


def test_enlarged_depth_takes_the_nearest_pixel() -> None:
    whole = sample()
    large = fit(whole, (24, 32))
    assert torch.equal(large.valid[:, ::2, ::2], whole.valid)
    assert torch.equal(large.depth[:, 1::2, 1::2][whole.valid], whole.depth[whole.valid])


def test_image_and_camera_scale_together() -> None:
    small = fit(sample(), (12, 8))
    assert small.image.shape == (3, 12, 8) and small.image.dtype == torch.uint8
    assert small.intrinsics == Intrinsics(5, 10.5, 4, 6)


def test_labels_are_chosen_never_mixed() -> None:
    whole = sample()
    assert set(fit(whole, (5, 7)).labels.unique().tolist()) <= set(whole.labels.unique().tolist())


def test_crop_takes_the_same_window_of_a_smaller_depth_map() -> None:
    whole = sample()
    cut = crop_border(whole, 4)
    assert cut.image_size == (16, 24) and cut.depth_size == (8, 12)
    assert torch.equal(cut.depth, whole.depth[:, 2:-2, 2:-2])
    assert cut.intrinsics == Intrinsics(20, 21, 12, 8)


def test_crop_larger_than_the_frame_names_the_frame() -> None:
    with pytest.raises(UsageError, match=r"Frame i: a .* window .* leaves the 24x32 image"):
        crop_border(sample(), 12)


def test_fitting_a_float_image_agrees_with_fitting_bytes() -> None:
    whole = sample()
    as_float = Sample(whole.float_image(), whole.depth, whole.valid, "s", "i")
    assert float((fit(as_float, (12, 16)).image - fit(whole, (12, 16)).float_image()).abs().max()) < 1.5 / 255
