"""SUN RGB-D: rotated bits, and scenes that are places rather than types."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from fathom.data.formats.benchmarks.mat5 import read_texts
from fathom.data.formats.benchmarks.official_nyu import official_run, official_test, official_train
from fathom.data.formats.benchmarks.sun_rgbd import place_of
from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture


def rotated(millimetres: np.ndarray) -> np.ndarray:
    """As the benchmark stores them: the 16 bits turned to the left by three."""
    values = millimetres.astype(np.uint32) << 3
    return ((values & 0xFFFF) | (values >> 16)).astype(np.uint16)


def frame(folder: Path, millimetres: np.ndarray, kind: str = "bedroom") -> Path:
    picture(folder / "image" / f"{folder.name}.jpg", 12, 16)
    counts(folder / "depth" / f"{folder.name}.png", rotated(millimetres))
    counts(folder / "depth_bfx" / f"{folder.name}.png", rotated(np.maximum(millimetres, 500)))
    (folder / "intrinsics.txt").write_text("20.5 0 8.1 0 20.6 6.2 0 0 1 \n")
    (folder / "scene.txt").write_text(kind)
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "SUNRGBD"
    values = np.arange(192).reshape(12, 16) * 60  # up to 11.46 m: the rotation's carry is used beyond 8.192 m
    for name in (
        "kv1/NYUdata/NYU0003",
        "kv1/NYUdata/NYU0009",
        "kv2/kinect2data/000002_2014-05-26_14-23-37_260595134347_rgbf000103-resize",
        "kv2/kinect2data/000003_2014-05-26_14-25-00_260595134347_rgbf000050-resize",
        "realsense/lg/2014_10_21-18_16_12-1311000073",
        "xtion/sun3ddata/hotel_nips2012/nips_4/0000001",
        "xtion/sun3ddata/hotel_nips2012/nips_5/0000090",
    ):
        frame(root / name, values)
    return root


def test_bits_are_turned_back_and_what_the_sensors_cannot_reach_is_unknown(root: Path) -> None:
    data = load(f"sun-rgbd:{root}?depth=raw")
    depth, valid = data[0].depth[0].numpy(), data[0].valid[0].numpy()
    metres = np.arange(192).reshape(12, 16) * 0.06
    assert np.array_equal(valid, (metres > 0) & (metres <= 8))
    assert depth[valid] == pytest.approx(metres[valid], abs=1e-6)
    assert float(load(root)[0].depth[0, 0, 0]) == 0.5, "in-painted by default"


def test_camera_and_recognition(root: Path) -> None:
    data = load(root)
    camera = data[0].intrinsics
    assert data.source.kind == "sun-rgbd" and len(data) == 7 and camera is not None
    assert (camera.fx, camera.fy, camera.cx, camera.cy) == (20.5, 20.6, 8.1, 6.2)
    assert load(root / "kv2").source.kind == "sun-rgbd"


def test_a_scene_is_a_place_and_not_the_type_in_scene_txt(root: Path) -> None:
    scenes = dict(zip(load(root).ids, load(root).frame_scenes, strict=True))
    assert set(scenes.values()) == {
        f"NYU/{official_run(2)}",
        f"NYU/{official_run(8)}",
        "kv2/kinect2data/2014-05-26",
        "realsense/lg/2014-10-21",
        "sun3d/hotel_nips2012",
    }
    # The same whether all of it or a part is opened.
    inside = load(root / "xtion")
    assert set(inside.frame_scenes) == {"sun3d/hotel_nips2012"}
    assert place_of(root / "kv1/b3dodata/img_0063") == "kv1/b3dodata"


def test_runs_never_cross_the_official_split() -> None:
    runs = {}
    for part, indices in (("train", official_train()), ("test", official_test())):
        for index in indices[::7]:
            assert runs.setdefault(official_run(index), part) == part
    assert len(runs) > 50


def test_bad_frames_are_named(root: Path) -> None:
    folder = root / "kv1/NYUdata/NYU0003/depth_bfx"
    counts(folder / "NYU0003.png", np.full((12, 16), 9, np.uint8))
    with pytest.raises(DataError, match=r"NYU0003\.png: has 8 bits where SUN RGB-D has 16"):
        load(root)[0]
    picture(folder / "second.png")
    with pytest.raises(DataError, match=r"depth_bfx: holds 2 images where a frame of SUN RGB-D has one"):
        load(root)
    assert len(load(root, skip_bad=True)) == 6


def allsplit(path: Path, train: list[str], test: list[str], *, packed: bool = True) -> None:
    """As the toolbox has it: rows of cells that hold folders on the authors' machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    home = "/n/fs/sun3d/data/SUNRGBD/"
    rows = {}
    for name, frames in (("alltrain", train), ("alltest", test), ("trainspl", [])):
        rows[name] = np.empty((1, len(frames)), dtype=object)
        rows[name][0] = [f"{home}{frame}" for frame in frames]
    savemat(path, rows, do_compression=packed)


@pytest.mark.parametrize("place", ["allsplit.mat", "SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat"])
def test_the_official_split_is_that_of_allsplit(root: Path, place: str) -> None:
    nyu, realsense, hotel = (
        "kv1/NYUdata/NYU0003",
        "realsense/lg/2014_10_21-18_16_12-1311000073",
        "xtion/sun3ddata/hotel_nips2012/",
    )
    allsplit(root.parent / place, [realsense, f"{hotel}nips_5/0000090/"], [nyu])
    data = load(root)
    sides = {part: [data.ids[i] for i in indices] for part, indices in data.source.official.items()}
    assert sides == {"train": [realsense, f"{hotel}nips_5/0000090"], "test": [nyu]}
    assert load(f"{root}?part=test").ids == (nyu,)
    assert load(f"{root / 'xtion'}?part=train").ids == ("sun3ddata/hotel_nips2012/nips_5/0000090",)
    train, test = data.official_split()
    assert (len(train), len(test)) == (2, 1)


def test_a_part_needs_a_sound_table(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no allsplit\.mat to tell the part test; give 'PATH\?split=FILE'"):
        load(f"{root}?part=test")
    table = tmp_path / "other" / "mine.mat"
    allsplit(table, ["kv1/NYUdata/NYU0003"], ["kv1/NYUdata/NYU0009"])
    assert len(load(f"{root}?split={table}&part=train")) == 1
    data = table.read_bytes()
    table.write_bytes(data[:200])
    with pytest.raises(DataError, match=r"mine\.mat: (is not a MATLAB v5 file|has no cell array of text called)"):
        load(f"{root}?split={table}")
    savemat(table, {"alltrain": np.arange(3.0), "alltest": np.arange(2.0)})
    with pytest.raises(DataError, match=r"alltrain is not a cell array"):
        load(f"{root}?split={table}")


def test_text_of_16_bits_a_character_is_read_as_matlab_writes_it(tmp_path: Path) -> None:
    """scipy writes UTF-8; MATLAB itself writes two bytes a character, up to four bytes of content in the tag."""

    def element(kind: int, content: bytes) -> bytes:
        if len(content) <= 4:
            return struct.pack("<HH4s", kind, len(content), content)
        return struct.pack("<II", kind, len(content)) + content + b"\0" * (-len(content) % 8)

    def array(name: bytes, kind: int, columns: int, content: bytes) -> bytes:
        head = element(6, struct.pack("<II", kind, 0)) + element(5, struct.pack("<ii", 1, columns)) + element(1, name)
        return element(14, head + content)

    texts = ["/n/data/SUNRGBD/kv1/a", "ü"]
    cells = b"".join(array(b"", 4, len(text), element(4, text.encode("utf-16-le"))) for text in texts)
    path = tmp_path / "allsplit.mat"
    path.write_bytes(
        b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + array(b"alltest", 1, 2, cells)
    )
    assert read_texts(path, ("alltest",), "mend it") == {"alltest": texts}
    with pytest.raises(DataError, match="has no cell array of text called alltrain; mend it"):
        read_texts(path, ("alltrain",), "mend it")
