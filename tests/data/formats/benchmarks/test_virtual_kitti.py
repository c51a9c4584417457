"""Virtual KITTI 2: centimetres, sky, variants of one scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture


def drive(images: Path, depths: Path, scene: str, variant: str) -> None:
    for number in range(2):
        for root, kind, suffix in ((images, "rgb", "jpg"), (depths, "depth", "png")):
            folder = root / scene / variant / "frames" / kind / "Camera_1"
            if kind == "rgb":
                picture(folder / f"rgb_{number:05d}.{suffix}", 38, 124, number)
            else:
                values = np.full((38, 124), 1234 + number, np.uint16)
                values[0] = 65535
                counts(folder / f"depth_{number:05d}.{suffix}", values)


@pytest.fixture
def kitti2(tmp_path: Path) -> Path:
    for scene in ("Scene01", "Scene20"):
        for variant in ("clone", "fog"):
            drive(tmp_path, tmp_path, scene, variant)
            home = tmp_path / scene / variant
            (home / "intrinsic.txt").write_text(
                "frame cameraID K[0,0] K[1,1] K[0,2] K[1,2]\n"
                + "".join(f"{n} {c} 72.5 72.5 {61.5 + c} 18.2\n" for n in range(2) for c in range(2))
            )
            # World to camera: a shift of (-n, 0, -5).
            rows = "".join(f"{n} {c} 1 0 0 {-n} 0 1 0 0 0 0 1 -5 0 0 0 1\n" for n in range(2) for c in range(2))
            (home / "extrinsic.txt").write_text("frame cameraID r1,1 r1,2 r1,3 t1 r2,1 ...\n" + rows)
    return tmp_path


def test_centimetres_sky_camera_and_pose(kitti2: Path) -> None:
    data = load(kitti2)
    sample = data[1]
    assert data.source.kind == "virtual-kitti" and data.ids[1] == "Scene01/clone/Camera_1/00001"
    assert not sample.valid[0, 0].any() and sample.depth[0, 1:].numpy() == pytest.approx(12.35)
    camera = sample.intrinsics
    assert camera is not None and (camera.fx, camera.cx, camera.cy) == pytest.approx((72.5, 63.0, 18.7))
    assert sample.pose is not None and sample.pose[:3, 3].tolist() == [1, 0, 5]


def test_variants_of_a_scene_are_one_scene(kitti2: Path) -> None:
    assert load(kitti2).scenes == ("Scene01", "Scene20") and len(load(kitti2)) == 8
    fog = load(f"{kitti2}?variant=fog")
    assert len(fog) == 4 and all("/fog/" in id_ for id_ in fog.ids)
    with pytest.raises(DataError, match=r"looked for SceneXX/rain/frames"):
        load(f"{kitti2}?variant=rain")


def test_images_and_depth_unpacked_into_folders_of_their_own(tmp_path: Path) -> None:
    drive(tmp_path / "vkitti_2.0.3_rgb", tmp_path / "vkitti_2.0.3_depth", "Scene01", "clone")
    data = load(tmp_path)
    assert len(data) == 2 and data.scenes == ("Scene01",)


@pytest.mark.parametrize("line", ["inf 1 72.5 72.5 61.5 18.2", "0 nan 72.5 72.5 61.5 18.2", "0", "0 1 72.5"])
def test_a_damaged_line_of_a_table_is_one_sentence(kitti2: Path, line: str) -> None:
    table = kitti2 / "Scene01" / "clone" / "intrinsic.txt"
    table.write_text(f"frame cameraID ...\n{line}\n")
    with pytest.raises(DataError, match=r"intrinsic\.txt: has a"):
        load(kitti2)
