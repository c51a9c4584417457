"""Recordings in TUM's layout: pairing, poses, cameras, and a unit that is never guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture


def recording(root: Path, times: dict[str, str], *, value: int = 5000) -> Path:
    """Colour and depth named by time, with ``rgb.txt`` and ``depth.txt``; `times` maps colour to depth times."""
    for name, chosen in (("rgb", times.keys()), ("depth", times.values())):
        lines = ["# color images", "# file: 'x.bag'", "# timestamp filename"]
        for index, time in enumerate(chosen):
            if name == "rgb":
                picture(root / "rgb" / f"{time}.png", seed=index)
            else:
                counts(root / "depth" / f"{time}.png", np.full((12, 16), value * (index + 1), np.uint16))
            lines.append(f"{time} {name}/{time}.png")
        (root / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


T = "1305031102."


def test_pairs_are_nearest_in_time_and_at_most_20_ms_apart(tmp_path: Path) -> None:
    root = recording(
        tmp_path / "mine", {f"{T}175304": f"{T}160407", f"{T}211214": f"{T}226738", f"{T}275326": f"{T}300000"}
    )
    data = load(f"{root}?depth-scale=5000")
    assert data.source.kind == "tum" and data.scenes == ("mine",)
    # 24.7 ms apart: no pair.
    assert data.ids == (f"mine/{T}175304", f"mine/{T}211214")
    assert [float(sample.depth.max()) for sample in data] == [1.0, 2.0]
    assert data[0].timestamp == pytest.approx(1305031102.175304)


def test_the_unit_of_an_unknown_recording_is_asked_for(tmp_path: Path) -> None:
    root = recording(tmp_path / "mine", {f"{T}1": f"{T}1"})
    with pytest.raises(
        DataError, match=r"does not settle the unit of depth; give 'PATH\?depth-scale=5000'.*depth-scale=1000"
    ):
        load(root)
    assert float(load(f"{root}?depth-scale=1000")[0].depth.max()) == 5.0


@pytest.mark.parametrize(
    ("name", "focal", "centre"),
    [
        ("rgbd_dataset_freiburg1_xyz", 517.3, 319.1),
        ("rgbd_dataset_freiburg2_desk", 520.9, 325.6),
        ("rgbd_dataset_freiburg3_long_office_household", 535.4, 320.6),
        ("rgbd_bonn_balloon", 542.822841, 316.09352),
        ("living_room_traj2_frei_png", 481.2, 320.0),
    ],
)
def test_names_of_the_benchmarks_tell_unit_and_camera(tmp_path: Path, name: str, focal: float, centre: float) -> None:
    root = recording(tmp_path / name, {f"{T}1": f"{T}1"})
    source = load(root).source
    sample = source.read(0)
    assert sample.depth[0, 0, 0] == 1.0 and sample.intrinsics is not None
    assert (sample.intrinsics.fx, sample.intrinsics.cx) == pytest.approx((focal, centre))
    assert "5000 counts a metre" in source.facts["depth"]


def test_settings_of_orb_slam_tell_unit_and_camera(tmp_path: Path) -> None:
    root = recording(tmp_path / "mine", {f"{T}1": f"{T}1"}, value=1250)
    (root / "camera.yaml").write_text(
        "%YAML:1.0\nCamera.fx: 10.5\nCamera.fy: 11\nCamera.cx: 7.5\nCamera.cy: 5.5\nRGBD.DepthMapFactor: 1000.0\n"
    )
    sample = load(root)[0]
    assert sample.depth[0, 0, 0] == 1.25 and sample.intrinsics is not None
    assert (sample.intrinsics.fx, sample.intrinsics.cx, sample.intrinsics.cy) == (10.5, 8.0, 6.0)


@pytest.mark.parametrize("order", ["rgb first", "depth first"])
@pytest.mark.parametrize("folder", ["depths", "range"])
def test_associations_in_either_order_whatever_the_folders_are_called(tmp_path: Path, order: str, folder: str) -> None:
    lines = []
    for index in (2, 14):
        picture(tmp_path / "r" / "rgb" / f"rgb{index:05d}.png", seed=index)
        counts(tmp_path / "r" / folder / f"depth{index:05d}.png", np.full((12, 16), 100 * index, np.uint16))
        halves = [f"0{index}.5 rgb/rgb{index:05d}.png", f"0{index}.75 {folder}/depth{index:05d}.png"]
        lines.append(" ".join(halves if order == "rgb first" else halves[::-1]))
    if folder == "range":
        for file in (tmp_path / "r" / folder).iterdir():
            file.rename(file.with_name(file.name.replace("depth", "z")))
        lines = [line.replace("/depth0", "/z0") for line in lines]
    (tmp_path / "r" / "associations.txt").write_text("\n".join(lines))
    data = load(f"{tmp_path / 'r'}?depth-scale=1000")
    assert [float(s.depth.max()) for s in data] == pytest.approx([0.2, 1.4])
    assert [s.timestamp for s in data] == [2.5, 14.5]


def test_poses_are_those_nearest_in_time(tmp_path: Path) -> None:
    root = recording(tmp_path / "mine", {f"{T}100": f"{T}100", f"{T}900": f"{T}900"})
    half = 2**-0.5
    (root / "groundtruth.txt").write_text(
        f"# timestamp tx ty tz qx qy qz qw\n{T}105 1 2 3 0 {half} 0 {half}\n{T}095 9 9 9 0 0 0 1\n{T}101 4 5 6 0 {half} 0 {half}\n"
    )
    first, second = (load(f"{root}?depth-scale=5000")[i] for i in (0, 1))
    assert first.pose is not None and first.pose[:3, 3].tolist() == [4, 5, 6]
    # A quarter turn about y takes z (forward) to x.
    assert first.pose[:3, :3] @ first.pose.new_tensor([0.0, 0, 1]) == pytest.approx([1, 0, 0], abs=1e-6)
    assert second.pose is None


def test_zero_and_saturated_counts_are_unknown(tmp_path: Path) -> None:
    root = recording(tmp_path / "mine", {f"{T}1": f"{T}1"})
    values = np.full((12, 16), 1000, np.uint16)
    values[0, :2] = 0, 65535
    counts(root / "depth" / f"{T}1.png", values)
    valid = load(f"{root}?depth-scale=1000")[0].valid
    assert not valid[0, 0, :2].any() and int(valid.sum()) == 12 * 16 - 2


def test_a_folder_of_recordings_has_a_scene_each(tmp_path: Path) -> None:
    for name in ("a", "b"):
        recording(tmp_path / name, {f"{T}1": f"{T}1", f"{T}2": f"{T}2"})
    assert load(f"{tmp_path}?depth-scale=1000").scenes == ("a", "b")
    assert len(load(f"{tmp_path}?depth-scale=1000&every=2")) == 2


def test_bad_lists_are_refused_by_name(tmp_path: Path) -> None:
    root = recording(tmp_path / "mine", {f"{T}1": f"{T}1", f"{T}2": f"{T}2"})
    (root / "depth" / f"{T}2.png").unlink()
    with pytest.raises(DataError, match=r"2\.png: is named by the lists of mine and does not exist"):
        load(f"{root}?depth-scale=1000")
    assert len(load(f"{root}?depth-scale=1000", skip_bad=True)) == 1
    (root / "rgb.txt").write_text("yesterday rgb/a.png\n")
    with pytest.raises(DataError, match=r"rgb\.txt: has 'yesterday' where a time in seconds is wanted"):
        load(f"{root}?depth-scale=1000")


def test_without_lists_the_names_of_the_files_are_the_times(tmp_path: Path) -> None:
    root = recording(tmp_path / "mine", {f"{T}175304": f"{T}160407", f"{T}275326": f"{T}300000"})
    (root / "rgb.txt").unlink()
    (root / "depth.txt").unlink()
    data = load(f"{root}?depth-scale=5000")
    assert data.source.kind == "tum" and data.ids == (f"mine/{T}175304",)
    assert data[0].timestamp == pytest.approx(1305031102.175304)
    with pytest.raises(DataError, match="does not settle the unit of depth"):
        load(root)
