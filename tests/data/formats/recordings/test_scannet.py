"""ScanNet as exported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture

CAMERA = [[1169.6, 0, 646.3, 0], [0, 1167.1, 489.9, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def scan(root: Path, numbers: tuple[int, ...] = (0, 2, 10), *, flat: bool = False) -> Path:
    for number in numbers:
        picture(root / "color" / f"{number}.jpg", 968, 1296, seed=number)
        counts(root / "depth" / f"{number}.png", np.full((480, 640), 1000 + number, np.uint16))
        (root / "pose").mkdir(exist_ok=True)
        pose = np.eye(4) if number else np.full((4, 4), -np.inf)
        np.savetxt(root / "pose" / f"{number}.txt", pose)
    folder = root if flat else root / "intrinsic"
    folder.mkdir(exist_ok=True)
    np.savetxt(folder / ("intrinsics_color.txt" if flat else "intrinsic_color.txt"), CAMERA)
    np.savetxt(folder / ("intrinsics_depth.txt" if flat else "intrinsic_depth.txt"), np.eye(4))
    return root


@pytest.mark.parametrize("flat", [False, True])
def test_frames_in_order_of_number_with_camera_and_pose(tmp_path: Path, flat: bool) -> None:
    data = load(scan(tmp_path / "scene0001_00", flat=flat))
    assert data.source.kind == "scannet"
    assert data.ids == ("scene0001_00/0", "scene0001_00/2", "scene0001_00/10")
    first, last = data[0], data[2]
    assert first.image_size == (968, 1296) and first.depth_size == (480, 640)
    assert float(last.depth[0, 0, 0]) == pytest.approx(1.01) and last.pose is not None
    assert first.pose is None, "-inf is lost tracking"
    assert first.intrinsics is not None and (first.intrinsics.fx, first.intrinsics.cy) == (1169.6, 489.9)


def test_scans_of_one_room_are_one_scene(tmp_path: Path) -> None:
    for name in ("scene0000_00", "scene0000_01", "scene0002_00"):
        scan(tmp_path / "scans" / name, (1,))
    data = load(tmp_path)
    assert data.scenes == ("scene0000", "scene0002") and len(data) == 3


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    root = scan(tmp_path / "scene0001_00")
    (root / "color" / "2.jpg").unlink()
    with pytest.raises(DataError, match=r"depth/2\.png: has no image"):
        load(root)


def test_lists_of_scans_are_the_official_split(tmp_path: Path) -> None:
    for name in ("scene0000_00", "scene0000_01", "scene0002_00", "scene0004_00"):
        scan(tmp_path / "scans" / name, (1,))
    (tmp_path / "scannetv2_train.txt").write_text("scene0000_00\nscene0000_01\n")
    (tmp_path / "scannetv2_val.txt").write_text("scene0002_00\n")
    (tmp_path / "scannetv2_test.txt").write_text("scene0707_00\n")
    for path in (tmp_path, tmp_path / "scans"):
        official = load(path).source.official
        assert {part: len(indices) for part, indices in official.items()} == {"train": 2, "val": 1}
    assert load(f"{tmp_path}?part=val").ids == ("scene0002_00/1",)
    assert load(tmp_path / "scans" / "scene0002_00").source.official == {"val": (0,)}
    with pytest.raises(DataError, match=r"holds no frame; looked for .* of scans that scannetv2_test\.txt lists"):
        load(f"{tmp_path}?part=test")
    (tmp_path / "scannetv2_train.txt").unlink()
    with pytest.raises(DataError, match=r"has no scannetv2_train\.txt with a scan to tell the part train"):
        load(f"{tmp_path}?part=train")
