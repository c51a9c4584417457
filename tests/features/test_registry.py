"""Each feature against a scene whose answer is known on paper."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.data.transforms import fit
from fathom.errors import UsageError
from fathom.features import FEATURES, Feature, feature, labels_feature, target_feature
from fathom.grids import masked_average
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


def test_depth_log_depth_and_disparity_of_a_flat_wall() -> None:
    for name, expected in (("depth", 2.5), ("log_depth", math.log(2.5)), ("disparity", 0.4)):
        values, valid = feature(name).of(frame(), GRID)
        torch.testing.assert_close(values, torch.full((1, *GRID), expected))
        assert valid.all()


def test_to_depth_undoes_each_depth_feature() -> None:
    for name in ("depth", "log_depth", "disparity"):
        item = feature(name)
        values, _ = item.of(frame(), GRID)
        torch.testing.assert_close(item.to_depth(values), torch.full((1, *GRID), 2.5))


def test_an_invalid_pixel_has_no_influence_even_if_nan() -> None:
    depth = torch.full((1, 32, 48), 2.5)
    valid = torch.ones_like(depth, dtype=torch.bool)
    depth[0, :3, :3], valid[0, :3, :3] = float("nan"), False
    for name in ("depth", "log_depth", "disparity", "depth_edges", "normals", "plane_offset", "curvature"):
        values, ok = feature(name).of(frame(depth, valid=valid), GRID)
        assert torch.isfinite(values).all(), name
        assert ok[0, 2:-1, 2:-1].all(), name
    torch.testing.assert_close(feature("depth").of(frame(depth, valid=valid), GRID)[0], torch.full((1, *GRID), 2.5))


def test_a_mostly_invalid_cell_is_invalid() -> None:
    valid = torch.ones(1, 32, 48, dtype=torch.bool)
    valid[0, :8, :5] = False
    _, ok = feature("depth").of(frame(valid=valid), GRID)
    assert not ok[0, 0, 0]
    assert ok.sum() == 4 * 6 - 1


def test_depth_edges_of_a_step_are_where_the_step_is() -> None:
    depth = torch.full((1, 32, 48), 1.0)
    depth[..., 28:] = 3.0
    values, _ = feature("depth_edges").of(frame(depth), GRID)
    assert values[0, :, 3].min() > 0.1
    assert values[0, :, [0, 1, 5]].max() == 0


def ramp() -> torch.Tensor:
    """Depth that grows from left to right and differs from row to row."""
    return 1 + torch.linspace(0, 3, 48)[None, None] * torch.linspace(0.5, 1, 32)[None, :, None]


def test_depth_edges_of_a_ramp_are_its_slope_and_unknown_beside_a_hole() -> None:
    depth = (1 + 0.02 * torch.arange(48.0)).expand(1, 32, 48).clone()
    valid = torch.ones_like(depth, dtype=torch.bool)
    depth[0, 8:16, 8:16], valid[0, 8:16, 8:16] = float("nan"), False
    values, ok = feature("depth_edges").of(frame(depth, valid=valid), GRID)
    torch.testing.assert_close(values[ok], torch.full_like(values[ok], 0.02))
    assert not ok[0, 1, 1] and ok.sum() == 23


def test_relative_depth_is_median_and_mean_deviation_as_numpy_has_them() -> None:
    depth = ramp()
    valid = torch.ones_like(depth, dtype=torch.bool)
    valid[0, :, :8] = False
    values, ok = feature("relative_depth").of(frame(torch.where(valid, depth, torch.nan), valid=valid), GRID)
    inside = depth[valid].double().numpy()
    median = np.sort(inside)[(len(inside) - 1) // 2]
    expected = (depth[0].double().numpy() - median) / np.abs(inside - median).mean()
    cells = expected.reshape(4, 8, 6, 8).mean((1, 3))
    assert not ok[0, :, 0].any() and ok[0, :, 1:].all()
    np.testing.assert_allclose(values[0, :, 1:].numpy(), cells[:, 1:], atol=1e-5)


def test_relative_depth_does_not_change_with_scale_and_shift() -> None:
    a, b = (feature("relative_depth").of(frame(depth), GRID)[0] for depth in (ramp(), 7 * ramp() + 5))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
    assert float(a.max() - a.min()) > 2


def test_relative_depth_of_a_wall_that_faces_the_camera_is_unknown() -> None:
    values, ok = feature("relative_depth").of(frame(), GRID)
    assert not ok.any() and not values.any()


def test_luminance_is_linear_in_the_averaged_colour() -> None:
    colour, luminance = (feature(name).of(frame(), GRID)[0] for name in ("colour", "luminance"))
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close((weights * colour).sum(0, keepdim=True), luminance)


def test_colour_is_the_mean_of_each_channel_in_the_cell() -> None:
    sample = frame()
    values, ok = feature("colour").of(sample, GRID)
    torch.testing.assert_close(values, sample.image.reshape(3, 4, 8, 6, 8).mean((2, 4)))
    assert ok.all()


def test_labels_are_class_shares_and_unlabelled_pixels_do_not_count() -> None:
    labels = torch.zeros(1, 32, 48, dtype=torch.int64)
    labels[..., :4], labels[..., 4:6] = 2, -1
    values, valid = labels_feature(3).of(frame(labels=labels), GRID)
    assert valid.all()
    torch.testing.assert_close(values[:, 0, 0], torch.tensor([2 / 6, 0.0, 4 / 6]))


def test_position_runs_from_minus_to_plus_one_at_cell_centres() -> None:
    values, _ = feature("position").of(frame(), GRID)
    torch.testing.assert_close(values[1, 0], torch.linspace(-5 / 6, 5 / 6, 6))


def test_a_users_function_is_a_feature() -> None:
    def red_and_green(sample: Sample, grid: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        known = torch.ones(1, *sample.image_size, dtype=torch.bool)
        known[:, :8] = False
        return masked_average(sample.float_image()[:2].double(), known, grid)

    mine = Feature.from_function("mine", red_and_green, channels=2, unit="share")
    values, ok = mine.of(frame(), GRID)
    assert (mine.unit, mine.channels, mine.to_depth, mine.classes) == ("share", 2, None, False)
    assert values.dtype == torch.float32 and not ok[:, 0].any() and ok[:, 1:].all()
    torch.testing.assert_close(values[:, 1:], feature("colour").of(frame(), GRID)[0][:2, 1:])


def test_a_target_of_several_channels_is_averaged_from_its_own_resolution_where_all_channels_are_known() -> None:
    target = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(1))
    target[1, :4, :4], target[2, 4, 4] = torch.nan, torch.nan
    values, ok = target_feature(3, "mT").of(fit(frame(target=target), (64, 96)), GRID)
    known = torch.isfinite(target).all(0)
    cells = torch.where(known, target, 0.0).reshape(3, 4, 4, 6, 4).sum((2, 4))
    counts = known.reshape(4, 4, 6, 4).sum((1, 3))
    assert ok[0].tolist() == (counts >= 8).tolist() and not ok[0, 0, 0] and ok[0, 1, 1]
    torch.testing.assert_close(values, torch.where(ok, cells / counts.clamp(min=1), 0.0))
    with pytest.raises(UsageError, match="Frame f has no target"):
        target_feature(3).of(frame(), GRID)


def test_names_are_looked_up_and_the_nearest_is_offered() -> None:
    assert {feature(name).name for name in FEATURES} == set(FEATURES)
    assert feature("labels:5").channels == 5 and feature("labels:5").classes
    assert feature("target:4").channels == 4
    with pytest.raises(UsageError, match="did you mean 'disparity'"):
        feature("disparty")
    with pytest.raises(UsageError, match=r"'labels' needs its number of classes; write labels:40"):
        feature("labels")
    with pytest.raises(UsageError, match=r"'target' needs its number of channels; write target:3"):
        feature("target")
    for name in ("labels:x", "target:0"):
        with pytest.raises(UsageError, match=f"'{name}': a number of"):
            feature(name)


def test_every_feature_says_its_shape_and_unit_and_stands_in_the_docs() -> None:
    rows = {}
    for line in (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            rows.setdefault(cells[0].strip("`"), cells)
    for name, item in FEATURES.items():
        assert f"``({item.channels}, h, w)``" in (item.target.__doc__ or ""), name
        assert rows[name][1] == str(item.channels) and rows[name][2] == (item.unit or "–"), name
    assert {"labels", "target"} <= rows.keys()
