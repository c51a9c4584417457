"""Every kind of broken input, as a user meets it: one sentence that names the file, a non-zero exit, no traceback.

With --skip-bad the command goes on with the rest and says what it left out.
"""

from __future__ import annotations

import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathom.cli.main import main
from fathom.data.sources import load
from tests.data.files import counts, diode, nyu_mat, pairs, picture, r3d

MILLIMETRES = "?depth-scale=1000"
Case = tuple[str, str]
"""(DATA spec, what the sentence must name)."""


def in_metres(root: Path, scenes: int = 2) -> Path:
    """The folder of pairs with depth as float32 NPY."""
    pairs(root, scenes)
    for path in sorted((root / "depth").rglob("*.png")):
        np.save(path.with_suffix(".npy"), np.linspace(1, 4, 24 * 32, dtype=np.float32).reshape(24, 32))
        path.unlink()
    return root


def truncated_png(root: Path) -> Case:
    file = pairs(root, 2) / "rgb" / "scene0" / "1.png"
    file.write_bytes(file.read_bytes()[:900])
    return f"{root}{MILLIMETRES}", f"{file}: cannot be read as an image"


def truncated_depth(root: Path) -> Case:
    file = pairs(root, 2) / "depth" / "scene1" / "0.png"
    file.write_bytes(file.read_bytes()[:400])
    return f"{root}{MILLIMETRES}", f"{file}: cannot be read as an image"


def jpeg_that_is_none(root: Path) -> Case:
    file = pairs(root, 2) / "rgb" / "scene0" / "1.jpg"
    file.with_suffix(".png").unlink()
    file.write_bytes(b"GIF? no")
    return f"{root}{MILLIMETRES}", f"{file}: is not an image"


def wrong_shape(root: Path) -> Case:
    file = in_metres(root) / "depth" / "scene0" / "1.npy"
    np.save(file, np.ones((24, 32, 5), np.float32))
    return str(root), f"{file}: has shape (24, 32, 5)"


def no_depth_values(root: Path) -> Case:
    file = in_metres(root) / "depth" / "scene0" / "1.npy"
    np.save(file, np.ones((24, 32), np.complex64))
    return str(root), f"{file}: holds complex64 values, no depth"


def huge_png_header(root: Path) -> Case:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    file = pairs(root, 2) / "rgb" / "scene0" / "1.png"
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)))
    return f"{root}{MILLIMETRES}", f"{file}: claims 2,500,000,000 pixels"


def huge_npy_header(root: Path) -> Case:
    file = in_metres(root) / "depth" / "scene0" / "1.npy"
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (50000, 50000), }".ljust(117) + b"\n"
    file.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 400)
    return str(root), f"{file}: claims 2,500,000,000 values"


def half_a_pair(root: Path) -> Case:
    (pairs(root, 2) / "depth" / "scene1" / "2.png").unlink()
    return f"{root}{MILLIMETRES}", "2.png: has no depth map beside it"


def mismatched_pair(root: Path) -> Case:
    file = pairs(root, 2) / "rgb" / "scene1" / "2.png"
    picture(file, 32, 24)
    return f"{root}{MILLIMETRES}", f"{file}: is 32x24 (height x width) and its depth map 24x32"


def table_with_a_missing_file(root: Path) -> Case:
    rows = [f"{n},rgb/scene0/{n}.png,depth/scene0/{n}.png,s" for n in (0, 77, 2)]
    table = pairs(root, 1) / "index.csv"
    table.write_text("\n".join(["id,image,depth,scene", *rows]))
    return f"{root}{MILLIMETRES}", f"{table}: line 3 names {root / 'rgb' / 'scene0' / '77.png'}, which does not exist"


def name_that_is_not_utf8(root: Path) -> Case:
    pairs(root, 2)
    for side in ("rgb", "depth"):
        (root / side / "scene0").rename(root / side / os.fsdecode(b"s\xe9ance"))
    (root / "rgb" / os.fsdecode(b"s\xe9ance") / "1.png").write_bytes(b"x")
    return f"{root}{MILLIMETRES}", "ance/1.png: is not an image"


def zip_bomb(root: Path) -> Case:
    root.mkdir()
    r3d(root / "small.r3d", 2)
    bomb = root / "bomb.r3d"
    with zipfile.ZipFile(root / "small.r3d") as small, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in small.namelist():
            archive.writestr(name, b"\0" * (70 << 20) if name == "rgbd/1.depth" else small.read(name))
    (root / "small.r3d").unlink()
    return str(bomb), f"{bomb}: has a member rgbd/1.depth of 73,400,320 bytes of one archive member"


def damaged_member(root: Path) -> Case:
    root.mkdir()
    r3d(root / "a.r3d", 3)
    with zipfile.ZipFile(root / "a.r3d") as archive:
        place = archive.getinfo("rgbd/1.depth").header_offset + 60
    data = bytearray((root / "a.r3d").read_bytes())
    data[place] ^= 0xFF
    (root / "a.r3d").write_bytes(data)
    return str(root / "a.r3d"), "a.r3d: has a damaged member rgbd/1.depth (Bad CRC-32"


def broken_capture_among_others(root: Path) -> Case:
    root.mkdir()
    r3d(root / "a.r3d", 2)
    (root / "b.r3d").write_bytes(b"no zip")
    return str(root), f"{root / 'b.r3d'}: is not a readable .r3d archive"


def diode_without_mask(root: Path) -> Case:
    diode(root)
    mask = min(root.rglob("*_000_depth_mask.npy"))
    mask.unlink()
    return str(root), f"{mask}: is missing"


FRAMES: tuple[Callable[[Path], Case], ...] = (
    truncated_png,
    truncated_depth,
    jpeg_that_is_none,
    wrong_shape,
    no_depth_values,
    huge_png_header,
    huge_npy_header,
    half_a_pair,
    mismatched_pair,
    table_with_a_missing_file,
    name_that_is_not_utf8,
    zip_bomb,
    damaged_member,
    broken_capture_among_others,
    diode_without_mask,
)
"""What breaks one frame or capture of several: the rest is still of use."""


@pytest.mark.parametrize("make", FRAMES, ids=lambda make: make.__name__)
def test_a_broken_frame_ends_the_command_or_is_left_out(
    make: Callable[[Path], Case], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, sentence = make(tmp_path / "d")
    out = tmp_path / "out"
    assert main(["data", "export", spec, "-o", str(out), "-q"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and sentence in said and said.count("\n") == 1
    assert main(["data", "export", spec, "-o", str(out), "-q", "--skip-bad"]) == 0
    reported = capsys.readouterr()
    assert "left out 1" in reported.err and "Written: " in reported.out
    assert len(load(f"folder:{out}?depth-scale=1000")) >= 1
    assert main(["data", "check", spec, "-q"]) == 1


def missing(root: Path) -> Case:
    return str(root), f"{root}: does not exist"


def empty(root: Path) -> Case:
    root.mkdir()
    return str(root), f"{root}: is empty"


def mat_that_is_not_hdf5(root: Path) -> Case:
    root.mkdir()
    (root / "x.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(600))
    return str(root / "x.mat"), "x.mat: is not an HDF5 file"


def mat_cut_short(root: Path) -> Case:
    root.mkdir()
    nyu_mat(root / "x.mat", 2, 48, 64)
    whole = (root / "x.mat").read_bytes()
    (root / "x.mat").write_bytes(whole[: len(whole) // 2])
    return str(root / "x.mat"), "x.mat: is broken or cut short"


def r3d_without_frames(root: Path) -> Case:
    root.mkdir()
    with zipfile.ZipFile(root / "x.r3d", "w") as archive:
        archive.writestr("metadata", json.dumps({"w": 24, "h": 32}))
    return str(root / "x.r3d"), "x.r3d: has metadata but no frame"


def r3d_with_path_traversal(root: Path) -> Case:
    root.mkdir()
    r3d(root / "x.r3d", 2)
    with zipfile.ZipFile(root / "x.r3d", "a") as archive:
        archive.writestr("../../evil.txt", "x")
    return str(root / "x.r3d"), "x.r3d: has a member named '../../evil.txt'"


def r3d_encrypted(root: Path) -> Case:
    root.mkdir()
    r3d(root / "x.r3d", 1)
    data, at = bytearray((root / "x.r3d").read_bytes()), 0
    while (at := data.find(b"PK\x01\x02", at)) >= 0:
        data[at + 8] |= 1
        at += 4
    (root / "x.r3d").write_bytes(data)
    return str(root / "x.r3d"), "x.r3d: has a damaged member metadata"


def two_images_of_one_name(root: Path) -> Case:
    picture(pairs(root, 2) / "rgb" / "scene0" / "1.jpg", 24, 32)
    return f"{root}{MILLIMETRES}", "1.png: has the same name as 1.jpg"


def two_frames_of_one_name(root: Path) -> Case:
    rows = [f"a,rgb/scene0/{n}.png,depth/scene0/{n}.png,s" for n in (0, 1)]
    (pairs(root, 1) / "index.csv").write_text("\n".join(["id,image,depth,scene", *rows]))
    return f"{root}{MILLIMETRES}", f"{root}: two frames are called 'a'"


def every_frame_broken(root: Path) -> Case:
    for file in (pairs(root, 1) / "rgb").rglob("*.png"):
        file.write_bytes(b"x")
    return f"{root}{MILLIMETRES}", str(root)


WHOLE: tuple[Callable[[Path], Case], ...] = (
    missing,
    empty,
    mat_that_is_not_hdf5,
    mat_cut_short,
    r3d_without_frames,
    r3d_with_path_traversal,
    r3d_encrypted,
    two_images_of_one_name,
    two_frames_of_one_name,
    every_frame_broken,
)
"""What leaves nothing to go on with."""


@pytest.mark.parametrize("make", WHOLE, ids=lambda make: make.__name__)
@pytest.mark.parametrize("skip", [False, True])
def test_data_that_are_broken_as_a_whole_end_in_one_sentence(
    make: Callable[[Path], Case], skip: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, sentence = make(tmp_path / "d")
    out = tmp_path / "out"
    assert main(["data", "info", spec, "-o", str(out), "-q", *(["--skip-bad"] if skip else [])]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and sentence in last
    assert not out.exists()


def test_depth_of_zeros_is_named_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pairs(tmp_path / "d", 1)
    file = root / "depth" / "scene0" / "1.png"
    counts(file, np.zeros((24, 32), np.uint16))
    assert main(["data", "check", f"{root}{MILLIMETRES}", "-q"]) == 1
    said = capsys.readouterr().out
    assert f"{file}: has no valid depth in frame scene0/1." in said and "1 without valid depth" in said
    for other in (root / "depth").rglob("*.png"):
        counts(other, np.zeros((24, 32), np.uint16))
    assert main(["data", "info", f"{root}{MILLIMETRES}", "-o", str(tmp_path / "out"), "-q"]) == 1
    assert f"error: {root}: has no valid pixel in any frame" in capsys.readouterr().err


def test_nan_and_infinite_depth_is_invalid_and_a_map_of_them_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = in_metres(tmp_path / "d", 1)
    depth = np.full((24, 32), 2, np.float32)
    depth[0], depth[1], depth[2] = np.nan, np.inf, -np.inf
    np.save(root / "depth" / "scene0" / "0.npy", depth)
    sample = load(root)[0]
    assert int(sample.valid.sum()) == 21 * 32 and bool(sample.depth.isfinite().all())
    assert main(["data", "check", str(root), "-q"]) == 0
    np.save(root / "depth" / "scene0" / "0.npy", np.full((24, 32), np.nan, np.float32))
    assert main(["data", "check", str(root), "-q"]) == 1
    assert f"{root / 'depth' / 'scene0' / '0.npy'}: has no valid depth" in capsys.readouterr().out


def test_millimetres_read_as_metres_are_warned_of_once_a_frame(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = in_metres(tmp_path / "d", 1)
    for file in (root / "depth").rglob("*.npy"):
        np.save(file, 1000 * np.load(file))
    assert main(["data", "check", str(root), "-q"]) == 1
    said = capsys.readouterr().out
    assert said.count("look like millimetres read as metres: give 'PATH?depth-scale=1000'.") == 3
    assert f"warning: {root / 'depth' / 'scene0' / '0.npy'}" in said and "3 with a doubtful unit" in said
    assert main(["data", "info", str(root), "-o", str(tmp_path / "out"), "-q"]) == 0
    said_info = capsys.readouterr()
    assert said_info.err.count("look like millimetres") == 3 and "hardly metres" in said_info.out


def test_names_that_are_not_utf8_pass_through_every_command(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d", 2)
    for side in ("rgb", "depth"):
        folder = (root / side / "scene0").rename(root / side / os.fsdecode(b"s\xe9ance"))
        (folder / "0.png").rename(folder / os.fsdecode(b"\xff.png"))
    spec, name = f"{root}{MILLIMETRES}", os.fsdecode(b"s\xe9ance/\xff")
    assert name in load(spec).ids
    out = tmp_path / "out"
    assert main(["data", "info", spec, "-o", str(out), "--json", str(out / "info.json"), "-q"]) == 0
    assert main(["data", "split", spec, "-o", str(out / "split.json"), "--leak-check", "-q"]) == 0
    parts = json.loads((out / "split.json").read_text("utf-8"))["parts"]
    assert name in parts["train"]["ids"] + parts["test"]["ids"]
    assert main(["data", "export", spec, "-o", str(tmp_path / "e"), "-q"]) == 0
    assert name in load(f"folder:{tmp_path / 'e'}{MILLIMETRES}").ids
    assert main(["data", "pack", spec, "-o", str(tmp_path / "p"), "-q"]) == 0
    assert name in load(tmp_path / "p").ids


@pytest.mark.parametrize("scale", ["0", "-1", "nan", "inf"])
def test_a_scale_that_is_no_length_is_refused(scale: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", str(pairs(tmp_path / "d", 1)), "--depth-scale", scale, "-q"]) == 2
    assert "depth-scale" in capsys.readouterr().err


def test_a_view_that_was_rounded_or_cropped_is_no_mismatch(tmp_path: Path) -> None:
    root = pairs(tmp_path / "d", 1)
    picture(root / "rgb" / "scene0" / "0.png", 97, 129)
    picture(root / "rgb" / "scene0" / "1.png", 24 * 4 - 3, 32 * 4 - 4)
    assert [sample.depth_size for sample in load(f"{root}{MILLIMETRES}")] == [(24, 32)] * 3
