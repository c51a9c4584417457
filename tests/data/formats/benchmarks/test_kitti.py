"""KITTI depth: drives with raw images elsewhere, and the official selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture

DRIVES = {"train": "2011_09_26_drive_0001_sync", "val": "2011_09_26_drive_0002_sync"}


def sparse(value: int) -> np.ndarray:
    depth = np.zeros((20, 60), np.uint16)
    depth[10:, ::5] = value
    return depth


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    for part, drive in DRIVES.items():
        for number in range(5, 8):
            for camera in ("image_02", "image_03"):
                truth = tmp_path / "depth" / part / drive / "proj_depth/groundtruth" / camera
                counts(truth / f"{number:010d}.png", sparse(256 * number))
        for number in range(12):
            for camera in ("image_02", "image_03"):
                picture(tmp_path / "raw" / drive[:10] / drive / camera / "data" / f"{number:010d}.png", 20, 60, number)
    (tmp_path / "raw" / "2011_09_26" / "calib_cam_to_cam.txt").write_text(
        "calib_time: 09-Jan-2012 13:57:47\nP_rect_02: 72.5 0 30.0 4.4 0 73.5 9.0 0.2 0 0 1 0.003\nP_rect_03: 70 0 29 0 0 70 9 0 0 0 1 0\n"
    )
    return tmp_path


def test_counts_cameras_and_drives(kitti: Path) -> None:
    data = load(f"{kitti / 'depth'}?raw={kitti / 'raw'}")
    assert data.source.kind == "kitti" and len(data) == 12 and data.scenes == tuple(DRIVES.values())
    assert data.ids[0] == "2011_09_26_drive_0001_sync/image_02/0000000005"
    sample = data[0]
    assert sample.depth[sample.valid].unique().tolist() == [5.0] and int(sample.valid.sum()) == 120
    camera = sample.intrinsics
    assert camera is not None and (camera.fx, camera.fy, camera.cx, camera.cy) == (72.5, 73.5, 30.5, 9.5)


def test_images_are_those_of_the_same_number(kitti: Path) -> None:
    data = load(f"{kitti / 'depth'}?raw={kitti / 'raw'}")
    expected = np.random.default_rng(6).integers(0, 256, (20, 60, 3), dtype=np.uint8)
    assert np.array_equal(data[1].image.permute(1, 2, 0).numpy(), expected)


def test_train_and_val_are_the_official_split(kitti: Path) -> None:
    train, test = load(f"{kitti / 'depth'}?raw={kitti / 'raw'}").official_split()
    assert train.scenes == (DRIVES["train"],) and test.scenes == (DRIVES["val"],)


def test_images_beside_the_depth_need_no_option(kitti: Path) -> None:
    for part, drive in DRIVES.items():
        (kitti / "raw" / drive[:10] / drive / "image_02").rename(kitti / "depth" / part / drive / "image_02")
        (kitti / "raw" / drive[:10] / drive / "image_03").rename(kitti / "depth" / part / drive / "image_03")
    data = load(kitti / "depth")
    assert len(data) == 12 and data[0].intrinsics is None


def test_missing_images_say_how_to_name_them(kitti: Path) -> None:
    with pytest.raises(DataError, match=r"drive_0001_sync: has depth and no images .*give 'PATH\?raw=FOLDER'"):
        load(kitti / "depth")


def test_the_official_selection(tmp_path: Path) -> None:
    root = tmp_path / "depth_selection" / "val_selection_cropped"
    for number in (5, 8):
        stem = "2011_09_26_drive_0002_sync_{}_000000000" + f"{number}_image_02"
        picture(root / "image" / (stem.format("image") + ".png"), 20, 60, number)
        counts(root / "groundtruth_depth" / (stem.format("groundtruth_depth") + ".png"), sparse(2560))
        (root / "intrinsics").mkdir(exist_ok=True)
        (root / "intrinsics" / (stem.format("image") + ".txt")).write_text("72.5 0.0 30.0 0.0 73.5 9.0 0.0 0.0 1.0")
    data = load(tmp_path)
    assert data.source.kind == "kitti" and len(data) == 2 and data.scenes == ("2011_09_26_drive_0002_sync",)
    sample = data[1]
    assert float(sample.depth.max()) == 10 and sample.intrinsics is not None and sample.intrinsics.fy == 73.5
