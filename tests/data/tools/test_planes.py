"""Distance along the ray is told from depth along the axis by what is flat."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fathom.data.sources import load
from fathom.data.tools.planes import describe_rays, ray_exponents
from fathom.sample import Intrinsics, Sample


def wall(noise: float = 0.0) -> Sample:
    """A slanted wall seen by a camera of 60 degrees."""
    camera = Intrinsics(110.9, 110.9, 64.0, 48.0)
    u = (torch.arange(128) + 0.5 - camera.cx) / camera.fx
    v = ((torch.arange(96) + 0.5 - camera.cy) / camera.fy)[:, None]
    depth = 1 / (0.4 + 0.1 * u + 0.05 * v)
    depth = depth * (1 + noise * torch.randn(96, 128, generator=torch.Generator().manual_seed(0)))
    image = torch.zeros(3, 96, 128, dtype=torch.uint8)
    return Sample(image, depth[None], depth[None] > 0, "s", "i", camera)


def along_rays(sample: Sample) -> Sample:
    camera = sample.intrinsics
    assert camera is not None
    height, width = sample.depth_size
    u = (torch.arange(width) + 0.5 - camera.cx) / camera.fx
    v = ((torch.arange(height) + 0.5 - camera.cy) / camera.fy)[:, None]
    return replace(sample, depth=sample.depth * (1 + u**2 + v**2).sqrt())


def test_a_wall_tells_axis_from_ray() -> None:
    axis, ray = ray_exponents(wall())[:, 0], ray_exponents(along_rays(wall()))[:, 0]
    assert len(axis) >= 12 and float(axis.abs().max()) < 0.02
    # The logarithm stands for the power: it is right to some percent at the edge of a field of 60 degrees.
    assert ray.numpy() == pytest.approx(1, abs=0.15)


def test_rooms_are_right_and_their_ray_distances_are_noticed() -> None:
    data = load("rooms")
    rooms = [data[i] for i in range(0, 200, 8)]
    assert describe_rays([ray_exponents(sample) for sample in rooms]) is None
    found = describe_rays([ray_exponents(along_rays(sample)) for sample in rooms])
    assert found is not None and "distance along the ray rather than along the optical axis" in found


def test_noise_as_of_a_sensor_does_not_hide_it() -> None:
    noisy = [wall(0.01)] * 5
    assert describe_rays([ray_exponents(sample) for sample in noisy]) is None
    assert describe_rays([ray_exponents(along_rays(sample)) for sample in noisy]) is not None


@pytest.mark.parametrize("change", [{"intrinsics": None}, {"intrinsics": Intrinsics(900, 900, 64, 48)}])
def test_without_a_camera_or_with_a_narrow_one_nothing_is_said(change: dict[str, Intrinsics | None]) -> None:
    assert len(ray_exponents(replace(wall(), **change))) == 0
