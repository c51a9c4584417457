"""Record3D captures: archives, exports, and what can be wrong with them."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch

from fathom.data.formats.poses import Y_UP_TO_Y_DOWN, quaternion_pose
from fathom.data.sources import load
from fathom.errors import DataError, UsageError
from fathom.files.limits import most
from tests.data.files import counts, picture, r3d


def rewrite(path: Path, changes: dict[str, bytes | None]) -> None:
    """Replace (or with None drop) members of an archive."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members |= {name: data for name, data in changes.items() if data is not None}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if changes.get(name, b"") is not None:
                archive.writestr(name, data)


def export(root: Path, numbers: tuple[int, ...] = (0, 12, 24)) -> Path:
    """The EXR export: gaps in the numbers, none in the poses."""
    for number in numbers:
        picture(root / "rgb" / f"{number}.jpg", 32, 24, number)
        depth = np.full((8, 6), 1 + number / 100, np.float16)
        (root / "depth").mkdir(exist_ok=True)
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, {"R": depth}).write(
            str(root / "depth" / f"{number}.exr")
        )
    metadata = {"w": 24, "h": 32, "dw": 6, "dh": 8, "K": [20, 0, 0, 0, 21, 0, 12.5, 16.5, 1]}
    metadata["poses"] = [[0, 0, 0, 1, float(n), 0, 0] for n in range(max(numbers) + 1)]
    (root / "metadata.json").write_text(json.dumps(metadata))
    return root


def test_archive_frames_come_in_the_order_of_numbers(tmp_path: Path) -> None:
    maps = r3d(tmp_path / "room.r3d")
    dataset = load(tmp_path / "room.r3d")
    assert dataset.ids == tuple(f"room/{n}" for n in range(12)) and dataset.scenes == ("room",)
    for number in (2, 10, 11):
        assert np.array_equal(dataset[number].depth[0].numpy(), maps[number])


def test_sizes_differ_and_the_camera_belongs_to_the_colour_image(tmp_path: Path) -> None:
    r3d(tmp_path / "room.r3d")
    sample = load(tmp_path / "room.r3d")[3]
    assert (sample.image_size, sample.depth_size) == ((32, 24), (8, 6))
    camera = sample.intrinsics
    # K is stored by columns: fx, 0, 0, 0, fy, 0, cx, cy, 1.
    assert camera is not None and (camera.fx, camera.fy, camera.cx, camera.cy) == (20, 21, 12.5, 16.5)
    assert sample.pose is not None and sample.pose[:3, 3].tolist() == [3, 0, 0]


def test_nan_and_zero_depth_are_invalid(tmp_path: Path) -> None:
    r3d(tmp_path / "room.r3d")
    sample = load(tmp_path / "room.r3d")[0]
    assert not sample.valid[0, 0, :2].any() and sample.valid.sum() == 46
    assert torch.isfinite(sample.depth).all()


@pytest.mark.parametrize(("least", "share"), [(0, 1.0), (1, 2 / 3), (2, 1 / 3)])
def test_low_confidence_is_invalid_by_option(tmp_path: Path, least: int, share: float) -> None:
    r3d(tmp_path / "room.r3d")
    sample = load(f"record3d:{tmp_path / 'room.r3d'}?confidence={least}")[5]
    assert float(sample.valid.float().mean()) == pytest.approx(share)


@pytest.mark.parametrize("raw", [False, True])
def test_depth_size_is_inferred_where_older_files_leave_it_out(tmp_path: Path, raw: bool) -> None:
    maps = r3d(tmp_path / "old.r3d", named_size=False, raw=raw, confidence=False)
    assert np.array_equal(load(tmp_path / "old.r3d")[7].depth[0].numpy(), maps[7])


@pytest.mark.parametrize("size", [(192, 256), (480, 640), (720, 960)])
def test_all_sizes_that_the_app_writes_are_inferred(tmp_path: Path, size: tuple[int, int]) -> None:
    maps = r3d(tmp_path / "a.r3d", 1, size, (720, 960), named_size=False, confidence=False)
    assert np.array_equal(load(tmp_path / "a.r3d").source.read(0).depth[0].numpy()[1:], maps[0][1:])


def test_confidence_of_no_size_is_none(tmp_path: Path) -> None:
    r3d(tmp_path / "room.r3d")
    rewrite(tmp_path / "room.r3d", {"rgbd/5.conf": b""})
    assert bool(load(f"record3d:{tmp_path / 'room.r3d'}?confidence=2")[5].valid.all())


def test_depth_that_fits_no_size_is_refused(tmp_path: Path) -> None:
    r3d(tmp_path / "odd.r3d", named_size=False, raw=True, confidence=False)
    rewrite(tmp_path / "odd.r3d", {"rgbd/3.depth": np.ones(47, np.float32).tobytes()})
    with pytest.raises(DataError, match=r"3\.depth: holds 47 depth values, which fit no map"):
        load(tmp_path / "odd.r3d")[3]


def test_per_frame_intrinsics_go_before_the_common_ones(tmp_path: Path) -> None:
    r3d(tmp_path / "new.r3d")
    with zipfile.ZipFile(tmp_path / "new.r3d") as archive:
        metadata = json.loads(archive.read("metadata"))
    metadata["perFrameIntrinsicCoeffs"] = [[30.0 + n, 31.0, 12.0, 16.0] for n in range(12)]
    rewrite(tmp_path / "new.r3d", {"metadata": json.dumps(metadata).encode()})
    camera = load(tmp_path / "new.r3d")[4].intrinsics
    assert camera is not None and camera.fx == 34.0


def test_pose_turns_the_axes_of_arkit_to_ours() -> None:
    # A camera at rest: ours looks along +z with y down, ARKit's along -z with y up.
    assert torch.equal(
        quaternion_pose([0, 0, 0, 1], [0, 0, 0], "capture", Y_UP_TO_Y_DOWN)[:3, :3],
        torch.diag(torch.tensor([1.0, -1, -1])),
    )
    half = 2**-0.5
    turned = quaternion_pose([0, half, 0, half], [0, 0, 0], "capture", Y_UP_TO_Y_DOWN)[:3, :3] @ torch.tensor(
        [0.0, 0, 1]
    )
    assert torch.allclose(turned, torch.tensor([-1.0, 0, 0]), atol=1e-6)


def test_folder_of_archives_has_a_scene_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        r3d(tmp_path / f"{name}.r3d", frames=3)
    assert load(tmp_path).scenes == ("a", "b")
    assert len(load(f"record3d:{tmp_path}?every=2")) == 4


def test_export_numbers_have_gaps_and_index_the_poses(tmp_path: Path) -> None:
    dataset = load(export(tmp_path / "capture"))
    assert dataset.source.kind == "record3d" and dataset.ids == ("capture/0", "capture/12", "capture/24")
    sample = dataset[1]
    assert sample.depth.unique().tolist() == [pytest.approx(1.12, abs=1e-3)]
    assert sample.pose is not None and sample.pose[0, 3] == 12


def test_16_bit_pairs_need_a_scale(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "7.png", 960, 720)
    counts(tmp_path / "depth" / "7.png", np.full((960, 720), 32768, np.uint16))
    with pytest.raises(DataError, match=r"7\.png: holds uint16 counts.*depth-scale="):
        load(f"record3d:{tmp_path}")[0]
    sample = load(f"record3d:{tmp_path}?depth-scale=13107")[0]
    assert sample.depth_size == (960, 720) and float(sample.depth.mean()) == pytest.approx(2.5, abs=1e-3)


def test_archive_without_frames_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "empty.r3d", "w") as archive:
        archive.writestr("metadata", "{}")
    with pytest.raises(DataError, match=r"empty\.r3d: has metadata but no frame"):
        load(tmp_path / "empty.r3d")


def test_archive_with_path_traversal_is_refused(tmp_path: Path) -> None:
    r3d(tmp_path / "evil.r3d", frames=2)
    with zipfile.ZipFile(tmp_path / "evil.r3d", "a") as archive:
        archive.writestr("../../outside", "x")
    with pytest.raises(DataError, match=r"evil\.r3d: has a member named '../../outside', outside of itself"):
        load(tmp_path / "evil.r3d")


def test_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    r3d(tmp_path / "bomb.r3d", frames=2)
    with zipfile.ZipFile(tmp_path / "bomb.r3d") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["rgbd/0.depth"] = bytes(most("member-bytes") + 1)
    with zipfile.ZipFile(tmp_path / "bomb.r3d", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    assert (tmp_path / "bomb.r3d").stat().st_size < 200_000
    with pytest.raises(DataError, match=r"bomb\.r3d: has a member rgbd/0\.depth of 67,108,865 bytes"):
        load(tmp_path / "bomb.r3d")[0]


def test_archive_that_is_no_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.r3d").write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"x\.r3d: is not a readable \.r3d archive"):
        load(tmp_path / "x.r3d")


def test_torn_lzfse_stream_is_refused(tmp_path: Path) -> None:
    r3d(tmp_path / "torn.r3d")
    with zipfile.ZipFile(tmp_path / "torn.r3d") as archive:
        packed = archive.read("rgbd/1.depth")
    rewrite(tmp_path / "torn.r3d", {"rgbd/1.depth": packed[: len(packed) // 2]})
    with pytest.raises(DataError, match=r"torn\.r3d"):
        load(tmp_path / "torn.r3d")[1]


def test_metadata_that_are_not_json_are_refused(tmp_path: Path) -> None:
    r3d(tmp_path / "m.r3d", frames=2)
    rewrite(tmp_path / "m.r3d", {"metadata": b"\xff{"})
    with pytest.raises(DataError, match=r"m\.r3d: is not a description of a capture"):
        load(tmp_path / "m.r3d")


def test_broken_archive_among_others_is_left_out_on_request(tmp_path: Path) -> None:
    r3d(tmp_path / "a.r3d", frames=2)
    (tmp_path / "b.r3d").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"b\.r3d"):
        load(tmp_path)
    left = load(tmp_path, skip_bad=True)
    assert len(left) == 2 and "b.r3d" in left.source.facts["left out"]


def test_unpaired_numbers_of_an_export_are_named(tmp_path: Path) -> None:
    root = export(tmp_path / "c")
    (root / "depth" / "12.exr").unlink()
    with pytest.raises(DataError, match="has an image 12 without depth map"):
        load(root)
    assert len(load(root, skip_bad=True)) == 2


def test_confidence_out_of_range_is_refused(tmp_path: Path) -> None:
    r3d(tmp_path / "a.r3d", frames=2)
    with pytest.raises(UsageError, match="confidence=3 is not 0, 1 or 2"):
        load(f"record3d:{tmp_path / 'a.r3d'}?confidence=3")
