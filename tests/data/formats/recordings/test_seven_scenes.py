"""7-Scenes: sequences, a flat folder, poses, unknown counts, the official split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError, UsageError
from tests.data.files import counts, picture


def frames(folder: Path, numbers: range = range(2), suffix: str = "png") -> None:
    for number in numbers:
        stem = f"frame-{number:06d}"
        picture(folder / f"{stem}.color.{suffix}", 480, 640, seed=number)
        values = np.full((480, 640), 1500 + number, np.uint16)
        values[0, :2] = 0, 65535
        counts(folder / f"{stem}.depth.png", values)
        pose = np.eye(4)
        pose[:3, 3] = number, 2, 3
        np.savetxt(folder / f"{stem}.pose.txt", pose, delimiter="\t")


@pytest.fixture
def rooms(tmp_path: Path) -> Path:
    for room, sequences in (("chess", (1, 2)), ("heads", (1, 2))):
        for number in sequences:
            frames(tmp_path / room / f"seq-{number:02d}", range(1))
        (tmp_path / room / "TrainSplit.txt").write_text("sequence1\n")
        (tmp_path / room / "TestSplit.txt").write_text("sequence2\n")
    return tmp_path


def test_all_sequences_of_a_room_are_one_scene(rooms: Path) -> None:
    data = load(rooms)
    assert data.source.kind == "seven-scenes" and data.scenes == ("chess", "heads")
    assert data.ids[0] == "chess/seq-01/frame-000000"
    assert load(rooms / "heads").scenes == ("heads",) and load(rooms / "heads" / "seq-02").scenes == ("heads",)


def test_millimetres_unknown_counts_pose_and_camera(rooms: Path) -> None:
    sample = load(rooms)[0]
    assert (
        float(sample.depth[0, 5, 5]) == pytest.approx(1.5)
        and not sample.valid[0, 0, :2].any()
        and sample.valid[0, 1:].all()
    )
    assert sample.pose is not None and sample.pose[:3, 3].tolist() == [0, 2, 3]
    assert sample.intrinsics is not None and (sample.intrinsics.fx, sample.intrinsics.cx) == (585, 320)


def test_a_flat_folder_with_jpeg_and_its_own_camera(tmp_path: Path) -> None:
    frames(tmp_path / "office", suffix="jpg")
    np.savetxt(tmp_path / "office" / "camera-intrinsics.txt", [[500, 0, 321], [0, 501, 241], [0, 0, 1]])
    data = load(tmp_path / "office")
    assert data.scenes == ("office",) and data.ids == ("office/frame-000000", "office/frame-000001")
    camera = data[1].intrinsics
    assert camera is not None and (camera.fx, camera.fy, camera.cx, camera.cy) == (500, 501, 321, 241)


def test_parts_are_those_of_the_lists_and_never_a_split_by_themselves(rooms: Path) -> None:
    data = load(rooms)
    assert {part: len(indices) for part, indices in data.source.official.items()} == {"train": 2, "test": 2}
    assert not data.has_official_split
    with pytest.raises(UsageError, match=r"has scene 'chess' in both parts.*\?part=train"):
        data.official_split()
    test = load(f"seven-scenes:{rooms}?part=test")
    assert test.ids == ("chess/seq-02/frame-000000", "heads/seq-02/frame-000000")
    with pytest.raises(DataError, match=r"looked for .* of sequences that TrainSplit.txt lists"):
        load(f"seven-scenes:{rooms / 'chess' / 'seq-02'}?part=train")


def test_incomplete_frames_are_named(tmp_path: Path) -> None:
    frames(tmp_path / "r")
    (tmp_path / "r" / "frame-000001.depth.png").unlink()
    with pytest.raises(DataError, match=r"frame-000001\.color\.png: has no depth map"):
        load(tmp_path / "r")
    data = load(tmp_path / "r", skip_bad=True)
    assert len(data) == 1 and "frame-000001" in data.left_out[0]


def test_lost_tracking_and_broken_poses(tmp_path: Path) -> None:
    frames(tmp_path / "r")
    pose = tmp_path / "r" / "frame-000000.pose.txt"
    pose.write_text("-inf " * 16)
    assert load(tmp_path / "r")[0].pose is None
    pose.write_text("1 2 3")
    with pytest.raises(DataError, match=r"pose\.txt: holds 3 numbers, no 4x4 matrix"):
        load(tmp_path / "r")[0]
    pose.write_text("1 " * 16)
    with pytest.raises(DataError, match="a pose that is not a rotation"):
        load(tmp_path / "r")[0]


def test_a_camera_of_another_image_size_is_refused(tmp_path: Path) -> None:
    frames(tmp_path / "r")
    with pytest.raises(DataError, match=r"480x640 .*is that of an image of about 968x1296"):
        load(f"{tmp_path / 'r'}?intrinsics=1170,1170,648,484")[0]
    with pytest.raises(DataError, match=r"is that of an image of about 640x480"):
        load(f"{tmp_path / 'r'}?intrinsics=585,585,240,320")[0]
