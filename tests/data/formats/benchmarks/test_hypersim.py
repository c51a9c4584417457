"""Hypersim: distance along the ray becomes depth along the axis; the official split."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import picture

SPLIT = "metadata_images_split_scene_v1.csv"


def scene(root: Path, frames: range = range(2), size: tuple[int, int] = (24, 32)) -> np.ndarray:
    """A wall at 3 m across the view, as distances along the rays of a camera of 60 degrees; the first pixel unknown."""
    height, width = size
    focal = 886.81 * width / 1024
    y, x = np.mgrid[:height, :width] + 0.5
    distance = 3.0 * np.sqrt(((x - width / 2) / focal) ** 2 + ((y - height / 2) / focal) ** 2 + 1)
    distance[0, 0] = np.nan
    for number in frames:
        picture(root / "images/scene_cam_00_final_preview" / f"frame.{number:04d}.tonemap.jpg", height, width, number)
        folder = root / "images/scene_cam_00_geometry_hdf5"
        folder.mkdir(parents=True, exist_ok=True)
        with h5py.File(folder / f"frame.{number:04d}.depth_meters.hdf5", "w") as file:
            file["dataset"] = distance.astype(np.float16)
    return distance


def test_ray_distance_becomes_z(tmp_path: Path) -> None:
    distance = scene(tmp_path / "ai_001_001")
    data = load(tmp_path)
    sample = data[0]
    assert data.source.kind == "hypersim" and data.ids[0] == "ai_001_001/cam_00/0000"
    assert distance[0, -1] > 3.5, "the corner is farther along its ray"
    assert sample.depth[sample.valid].numpy() == pytest.approx(3.0, abs=0.002)
    assert not sample.valid[0, 0, 0] and int(sample.valid.sum()) == 24 * 32 - 1


def test_the_camera_is_that_of_the_published_field_of_view(tmp_path: Path) -> None:
    scene(tmp_path / "ai_001_001", range(1), (768, 1024))
    camera = load(tmp_path)[0].intrinsics
    assert camera is not None and (camera.fx, camera.cx, camera.cy) == (886.81, 512, 384)
    assert np.degrees(2 * np.arctan(512 / camera.fx)) == pytest.approx(60, abs=0.01)


def test_the_camera_follows_the_size_of_the_image(tmp_path: Path) -> None:
    scene(tmp_path / "ai_001_001")
    camera = load(tmp_path)[0].intrinsics
    assert camera is not None and (camera.fx, camera.cx, camera.cy) == pytest.approx((886.81 / 32, 16, 12))


def test_official_split_without_what_was_not_released(tmp_path: Path) -> None:
    for name in ("ai_001_001", "ai_001_002"):
        scene(tmp_path / name, range(3))
    lines = ["scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"]
    for frame in range(3):
        lines.append(f"ai_001_001,cam_00,{frame},{frame != 1},,{'train'}")
        lines.append(f"ai_001_002,cam_00,{frame},True,,test")
    (tmp_path / SPLIT).write_text("\n".join(lines))
    data = load(tmp_path)
    assert len(data) == 5 and "ai_001_001/cam_00/0001" not in data.ids
    train, test = data.official_split()
    assert train.scenes == ("ai_001_001",) and test.scenes == ("ai_001_002",)
    assert load(f"{tmp_path}?part=test").scenes == ("ai_001_002",)


def test_bad_input_is_named(tmp_path: Path) -> None:
    scene(tmp_path / "ai_001_001")
    with pytest.raises(DataError, match=rf"has no {SPLIT} to tell the part test; give 'PATH\?split=FILE'"):
        load(f"{tmp_path}?part=test")
    broken = next(tmp_path.rglob("frame.0000.depth_meters.hdf5"))
    broken.write_bytes(b"\x89HDF")
    with pytest.raises(DataError, match=r"frame\.0000\.depth_meters\.hdf5: is not a readable HDF5 file"):
        load(tmp_path)[0]


@pytest.mark.parametrize("line", ["ai_001_001,cam_00,0", "ai_001_001,cam_00,0,True,,train,more", "a" * 200_000])
def test_a_damaged_line_of_the_split_is_one_sentence(tmp_path: Path, line: str) -> None:
    scene(tmp_path / "ai_001_001", range(1))
    head = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"
    (tmp_path / SPLIT).write_text(f"{head}\n{line}\n")
    with pytest.raises(DataError, match=r"split_scene_v1\.csv: (has another number|is no readable)"):
        load(tmp_path)
