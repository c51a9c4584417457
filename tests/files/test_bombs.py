"""Small files that claim or unpack to far more than they hold: refused before memory is taken."""

from __future__ import annotations

import hashlib
import json
import resource
import tarfile
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import h5py
import numpy as np
import pytest

from fathom.data.formats.exr import read_exr_channels
from fathom.data.packed.pack import pack
from fathom.data.sources import load
from fathom.errors import DataError
from fathom.files.inputs import seal
from tests.data.files import pairs, picture


def hdf5_map(folder: Path) -> str:
    """A depth map of 900 million pixels, none of which is stored."""
    with h5py.File(folder / "train" / "hall_0001" / "00001.h5", "w") as file:
        file.create_dataset("rgb", (3, 30_000, 30_000), np.uint8, chunks=(1, 100, 100), compression="gzip")
        file.create_dataset("depth", (30_000, 30_000), np.float32, chunks=(100, 100), compression="gzip")
    return f"nyu-hdf5:{folder}"


def hdf5_chunk(folder: Path) -> str:
    """A map of few pixels in a storage block of 4 GB."""
    with h5py.File(folder / "train" / "hall_0001" / "00001.h5", "w") as file:
        file.create_dataset(
            "rgb", (3, 48, 64), np.uint8, maxshape=(3, None, None), chunks=(3, 20_000, 60_000), compression="gzip"
        )
        file.create_dataset(
            "depth", (48, 64), np.float32, maxshape=(None, None), chunks=(30_000, 30_000), compression="gzip"
        )
    return f"nyu-hdf5:{folder}"


@pytest.mark.parametrize("make", [hdf5_map, hdf5_chunk])
def test_hdf5(make: Callable[[Path], str], tmp_path: Path) -> None:
    (tmp_path / "train" / "hall_0001").mkdir(parents=True)
    spec = make(tmp_path)
    assert sum(file.stat().st_size for file in tmp_path.rglob("*.h5")) < 100_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"00001\.h5: .* beyond the limit of"):
        load(spec)[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"


def test_exr_of_many_channels(tmp_path: Path) -> None:
    import OpenEXR

    flat = np.zeros((1200, 1200), np.float16)
    channels = {f"c{index:03d}": flat for index in range(300)}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, channels).write(str(tmp_path / "a.exr"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"a\.exr: claims 432,000,000 values .* beyond the limit"):
        read_exr_channels(tmp_path / "a.exr")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kB"


def test_packed_member_that_unpacks_to_far_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FATHOM_LIMITS", "index-bytes=100000,pixels=10000,values=10000")
    root = pairs(tmp_path / "d", 1, 1)
    pack(load(f"{root}?depth-scale=1000"), tmp_path / "p")
    big = BytesIO()
    np.savez_compressed(big, depth=np.zeros((400, 400), np.float32), valid=np.ones((400, 400), bool))
    picture(tmp_path / "big.png", 400, 400)
    for suffix, content in (("npz", big.getvalue()), ("png", (tmp_path / "big.png").read_bytes())):
        folder = tmp_path / f"p-{suffix}"
        swap(tmp_path / "p", folder, suffix, content)
        with pytest.raises(DataError, match=r"beyond the limit"):
            load(f"packed:{folder}")[0]


def swap(source: Path, target: Path, suffix: str, content: bytes) -> None:
    """Packed data with another content of the member that ends so, and checksums that fit it."""
    target.mkdir()
    index = json.loads((source / "pack.json").read_bytes())
    index.pop("checksum")
    shard = index["shards"][0]
    buffer = BytesIO()
    with (
        tarfile.open(source / shard["file"]) as old,
        tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as new,
    ):
        for member in old.getmembers():
            read = old.extractfile(member)
            assert read is not None
            data = content if member.name.endswith(suffix) else read.read()
            member.size = len(data)
            new.addfile(member, BytesIO(data))
            shard["frames"][0]["members"][member.name.partition(".")[2]][1:] = [len(data), zlib.crc32(data)]
    with tarfile.open(fileobj=BytesIO(buffer.getvalue())) as again:
        for member in again.getmembers():
            shard["frames"][0]["members"][member.name.partition(".")[2]][0] = member.offset_data
    shard |= {"bytes": len(buffer.getvalue()), "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()}
    (target / shard["file"]).write_bytes(buffer.getvalue())
    (target / "pack.json").write_text(seal(json.dumps(index, indent=2) + "\n"))
