"""NYU Depth V2 as HDF5 files, in folders and in tar shards."""

from __future__ import annotations

import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError


def frame(path: Path, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rgb = rng.integers(0, 256, (3, 48, 64), dtype=np.uint8)
    depth = rng.uniform(1, 9, (48, 64)).astype(np.float32)
    depth[0, 0] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["rgb"], file["depth"] = rgb, depth
    return rgb, depth


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    for index, name in enumerate(
        (
            "train/kitchen_0004a/00001",
            "train/kitchen_0004b/00011",
            "train/cafe_0001/00003",
            "val/official/00001",
            "val/official/00002",
            "val/official/00009",
        )
    ):
        frame(tmp_path / f"{name}.h5", index)
    return tmp_path


def test_frames_rooms_and_parts(fast: Path) -> None:
    data = load(fast)
    assert data.source.kind == "nyu-hdf5" and len(data) == 6
    train, test = data.official_split()
    assert train.scenes == ("cafe_0001", "kitchen_0004"), "parts a and b of one room are one scene"
    # Test frames 1 and 2 are neighbours in the labelled set, 9 is another room.
    assert len(test.scenes) == 2 and test.frame_scenes[0] == test.frame_scenes[1]


def test_pixels_depth_and_camera(fast: Path) -> None:
    rgb, depth = frame(fast / "train/cafe_0001/00003.h5", 2)
    sample = load(fast)[0]
    assert np.array_equal(sample.image.numpy(), rgb) and np.array_equal(sample.depth[0].numpy(), depth)
    assert not sample.valid[0, 0, 0] and sample.valid.sum() == 48 * 64 - 1
    assert sample.intrinsics is not None and sample.intrinsics.fx == pytest.approx(51.8857901)


def test_shards_hold_the_same_frames(fast: Path, tmp_path: Path) -> None:
    shards = tmp_path / "hub" / "data"
    shards.mkdir(parents=True)
    for part in ("train", "val"):
        with tarfile.open(shards / f"{part}-000000.tar", "w") as tar:
            for file in sorted((fast / part).rglob("*.h5")):
                tar.add(file, file.relative_to(fast / part))
    packed, plain = load(tmp_path / "hub"), load(fast)
    assert packed.source.kind == "nyu-hdf5" and packed.frame_scenes == plain.frame_scenes
    assert all(a.depth.equal(b.depth) and a.image.equal(b.image) for a, b in zip(packed, plain, strict=True))
    assert packed.has_official_split


def test_broken_files_and_shards_are_named(fast: Path, tmp_path: Path) -> None:
    (fast / "train/cafe_0001/00003.h5").write_bytes(b"\x89HDF\r\n")
    with pytest.raises(DataError, match=r"00003\.h5: is not a readable HDF5 file"):
        load(f"nyu-hdf5:{fast}")[0]
    with h5py.File(fast / "train/cafe_0001/00003.h5", "w") as file:
        file["rgb"] = np.zeros((3, 4, 5), np.uint8)
    with pytest.raises(DataError, match=r"00003\.h5: has no array 'depth' \(it has rgb\)"):
        load(f"nyu-hdf5:{fast}")[0]
    shard = tmp_path / "s" / "train-000000.tar"
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as tar:
        tar.add(fast / "train/kitchen_0004a/00001.h5", "kitchen_0004a/00001.h5")
    data = load(shard)
    shard.write_bytes(shard.read_bytes()[:4000])
    with pytest.raises(DataError, match=r"train-000000\.tar: ends within kitchen_0004a/00001"):
        data[0]
