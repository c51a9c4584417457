"""Packed frames come back bit for bit, a killed packing ends with the same bytes, and damage is named."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fathom
from fathom.data.dataset import Dataset, Frame
from fathom.data.loading import Skipped
from fathom.data.packed.members import decode, encode
from fathom.data.packed.pack import pack
from fathom.data.packed.source import PackedSource, open_packed, verify
from fathom.errors import DataError, UsageError
from fathom.files.atomic import write_json
from fathom.sample import Intrinsics, Sample

FIELDS = ("image", "depth", "valid", "labels", "normals", "pose")


@dataclass
class Noise:
    """Frames of every kind of content, some of them broken on request."""

    count: int = 12
    broken: Sequence[int] = ()
    far: float = 9.0
    kind: str = "noise"
    location: str = "noise"
    facts: Mapping[str, str] = field(default_factory=lambda: {"depth": "z-depth, made up"})
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    frames: Sequence[Frame] = ()

    def __post_init__(self) -> None:
        self.frames = [Frame(f"room {i // 3}/frame.{i} é", f"room {i // 3}") for i in range(self.count)]
        self.official = {"train": range(0, self.count - 3), "test": range(self.count - 3, self.count)}

    def read(self, index: int) -> Sample:
        if index in self.broken:
            raise DataError(f"{index}.png", "is broken")
        generator = np.random.default_rng(index)
        depth = generator.uniform(1e-3, self.far, (1, 6, 8)).astype(np.float32)
        depth[0, 0, :2] = [np.float32(1e-42), np.nextafter(np.float32(2), np.float32(3))]
        valid = generator.random((1, 6, 8)) > 0.3
        rich = index % 2 == 0
        image = torch.from_numpy(generator.integers(0, 255, (3, 9, 12), dtype=np.uint8))
        return Sample(
            image=image if index % 3 else image.float() / 254,
            depth=torch.from_numpy(depth),
            valid=torch.from_numpy(valid),
            scene=self.frames[index].scene,
            id=self.frames[index].id,
            intrinsics=Intrinsics(*generator.uniform((1, 1, 5, 4), (500, 500, 7, 5)).tolist()) if rich else None,
            labels=torch.from_numpy(generator.integers(-1, 300 if index % 4 else 5, (1, 6, 8))) if rich else None,
            normals=torch.from_numpy(generator.normal(size=(3, 6, 8)).astype(np.float32)) if rich else None,
            pose=rigid(generator) if rich else None,
            timestamp=1.3e9 + index / 30 if rich else None,
        )


def rigid(generator: np.random.Generator) -> torch.Tensor:
    """A random rotation and translation."""
    rotation = np.linalg.qr(generator.normal(size=(3, 3)))[0]
    pose = torch.eye(4)
    pose[:3, :3] = torch.from_numpy(rotation * np.sign(np.linalg.det(rotation)))
    pose[:3, 3] = torch.from_numpy(generator.normal(size=3))
    return pose


def noise(**options: Any) -> Dataset:
    return Dataset.whole(Noise(**options))


def same(a: Sample, b: Sample) -> None:
    assert (a.id, a.scene, a.intrinsics) == (b.id, b.scene, b.intrinsics)
    for name in FIELDS:
        x, y = getattr(a, name), getattr(b, name)
        assert (x is None) == (y is None), name
        if x is not None:
            assert x.dtype == y.dtype and x.shape == y.shape, name
            assert x.numpy().tobytes() == y.numpy().tobytes(), name


def content(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


TINY = {"shard_mb": 0.02}
"""About three frames a shard."""


def test_every_frame_comes_back_bit_for_bit_by_random_access(tmp_path: Path) -> None:
    data = noise()
    packed = pack(data, tmp_path / "p", **TINY)
    assert packed.frames == 12 and packed.shards > 2 and packed.kept == 0 and packed.left_out == ()
    again = fathom.load(f"packed:{tmp_path / 'p'}")
    assert again.ids == data.ids and again.frame_scenes == data.frame_scenes
    for position in (7, 0, 11, 7, *range(12)):
        same(again[position], data[position])
    assert fathom.load(tmp_path / "p").source.kind == "packed"
    assert again.source.facts["depth"] == "z-depth, made up"


def test_the_official_split_is_kept_also_of_a_part(tmp_path: Path) -> None:
    data = noise()
    pack(data, tmp_path / "all")
    for side, expected in zip(fathom.load(tmp_path / "all").official_split(), data.official_split(), strict=True):
        assert side.ids == expected.ids
    part = data.subset([11, 2, 10])
    pack(part, tmp_path / "part")
    train, test = fathom.load(tmp_path / "part").official_split()
    assert train.ids == (data.ids[2],) and set(test.ids) == {data.ids[10], data.ids[11]}
    pack(data.subset([0, 1]), tmp_path / "train")
    with pytest.raises(UsageError, match="no official split"):
        fathom.load(tmp_path / "train").official_split()


def test_a_source_crosses_to_worker_processes(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "p", **TINY)
    source = pickle.loads(pickle.dumps(open_packed(tmp_path / "p")))
    same(source.read(5), noise()[5])


def test_packing_twice_and_with_other_threads_gives_the_same_bytes(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "a", threads=1, **TINY)
    pack(noise(), tmp_path / "b", threads=4, **TINY)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    before = {f: f.stat().st_mtime_ns for f in (tmp_path / "a").glob("*.tar")}
    assert pack(noise(), tmp_path / "a", **TINY).kept == len(before)
    assert before == {f: f.stat().st_mtime_ns for f in (tmp_path / "a").glob("*.tar")}


def _pack_and_die(out: Path, event: int) -> None:
    """Pack, and be killed at the `event`-th moment at which something reaches the disk."""
    torch.set_num_threads(1)
    left = event

    def mortal(module: Any, name: str) -> None:
        real = getattr(module, name)

        def wrapped(*given: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*given, **options)

        setattr(module, name, wrapped)

    mortal(os, "fsync")
    mortal(Path, "replace")
    mortal(tarfile.TarFile, "addfile")
    mortal(shutil, "rmtree")
    pack(noise(), out, **TINY)


@pytest.mark.skipif(sys.platform == "win32", reason="forks")
def test_a_packing_killed_at_any_moment_ends_with_the_same_bytes(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "whole", **TINY)
    expected = content(tmp_path / "whole")
    context = multiprocessing.get_context("fork")
    events = kept = 0
    while True:
        events += 3
        out = tmp_path / f"killed-{events}"
        child = context.Process(target=_pack_and_die, args=(out, events))
        child.start()
        child.join(60)
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        kept += pack(noise(), out, **TINY).kept
        assert content(out) == expected
    assert events > 40 and kept > 10


def test_a_packing_killed_twice_still_ends_with_the_same_bytes(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "whole", **TINY)
    context = multiprocessing.get_context("fork")
    for events in (30, 25, 20):
        child = context.Process(target=_pack_and_die, args=(tmp_path / "out", events))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
    with pytest.raises(DataError, match="was not finished"):
        open_packed(tmp_path / "out")
    pack(noise(), tmp_path / "out", **TINY)
    assert content(tmp_path / "out") == content(tmp_path / "whole")


@pytest.mark.parametrize("damage", ["flipped", "cut", "missing"])
def test_a_damaged_shard_is_named_and_written_anew(damage: str, tmp_path: Path) -> None:
    pack(noise(), tmp_path / "p", **TINY)
    expected = content(tmp_path / "p")
    assert verify(tmp_path / "p") == len(expected) - 1
    shard = tmp_path / "p" / "shard-000001.tar"
    if damage == "flipped":
        data = bytearray(shard.read_bytes())
        data[len(data) // 3] ^= 1
        shard.write_bytes(data)
    elif damage == "cut":
        shard.write_bytes(shard.read_bytes()[:-600])
    else:
        shard.unlink()
    with pytest.raises(DataError, match=r"shard-000001\.tar: .*(checksum|cut short|missing)"):
        verify(tmp_path / "p")
    with pytest.raises(DataError, match=r"shard-000001\.tar"):
        fathom.load(f"packed:{tmp_path / 'p'}?check=true")
    if damage != "flipped":
        with pytest.raises(DataError, match=r"shard-000001\.tar"):
            fathom.load(tmp_path / "p")
    assert pack(noise(), tmp_path / "p", **TINY).kept == len(expected) - 2
    assert content(tmp_path / "p") == expected


def test_a_frame_is_never_read_altered(tmp_path: Path) -> None:
    pack(noise(count=1), tmp_path / "p")
    source = open_packed(tmp_path / "p")
    shard = tmp_path / "p" / "shard-000000.tar"
    whole = shard.read_bytes()
    for offset, size, _ in source.entries[0].members.values():
        for at in range(offset, offset + size, 29):
            shard.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
            with pytest.raises(DataError, match=r"shard-000000\.tar: is damaged"):
                source.read(0)


def test_altered_members_give_one_kind_of_error() -> None:
    """Past the checksums (a file made by others), whatever byte is altered: a frame, or an error naming the member."""
    members = encode(noise()[2])
    for name, data in members.items():
        for at in range(0, len(data), 5):
            try:
                decode({**members, name: data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :]}, Path("shard.tar/0"))
            except DataError as error:
                assert f"shard.tar/0.{name}" in str(error)


def test_broken_frames_end_the_packing_or_are_left_out(tmp_path: Path) -> None:
    data = noise(broken=(0, 4, 5, 11))
    with pytest.raises(DataError, match=r"0\.png: is broken"):
        pack(data, tmp_path / "p", **TINY)
    skipped = Skipped()
    packed = pack(data, tmp_path / "p", skipped=skipped, **TINY)
    assert packed.frames == 8 and len(skipped) == len(packed.left_out) == 4
    again = fathom.load(tmp_path / "p")
    whole = [i for i in range(12) if i not in (0, 4, 5, 11)]
    assert again.ids == tuple(data.ids[i] for i in whole)
    train, test = again.official_split()
    assert len(train) == 6 and test.ids == (data.ids[9], data.ids[10])
    for position, index in enumerate(whole):
        same(again[position], data[index])
    repeated = Skipped()
    assert pack(data, tmp_path / "p", skipped=repeated, **TINY).kept == packed.shards
    assert repeated.frames == skipped.frames
    with pytest.raises(DataError, match="cannot be read"):
        pack(data, tmp_path / "p", **TINY)
    with pytest.raises(DataError, match="no frame that can be read"):
        pack(noise(count=3, broken=(0, 1, 2)), tmp_path / "none", skipped=Skipped())


def test_other_data_or_settings_do_not_mix_into_a_pack(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "p", **TINY)
    before = content(tmp_path / "p")
    for data, options in ((noise(count=9), TINY), (noise(), {"shard_mb": 1.0}), (noise(), {**TINY, "image": "jpeg"})):
        with pytest.raises(UsageError, match="other data or settings"):
            pack(data, tmp_path / "p", **options)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty"):
        pack(noise(), tmp_path / "full")
    assert content(tmp_path / "p") == before


@pytest.mark.usefixtures("unchecked")
def test_smaller_forms_keep_what_they_promise(tmp_path: Path) -> None:
    data = noise(far=65.0)
    pack(data, tmp_path / "p", image="jpeg", depth="mm16")
    for before, after in zip(data, fathom.load(tmp_path / "p"), strict=True):
        assert torch.equal(before.valid, after.valid)
        assert (before.depth - after.depth)[before.valid].abs().max() <= 0.000505
        assert after.image.dtype == torch.uint8
        assert torch.equal(before.labels, after.labels) if before.labels is not None else after.labels is None
    with pytest.raises(DataError, match=r"65\.535 m"):
        pack(noise(far=90.0), tmp_path / "far", depth="mm16")
    with pytest.raises(UsageError, match="did you mean 'jpeg'"):
        pack(data, tmp_path / "q", image="jpg")  # type: ignore[arg-type]


def test_frames_are_resized_as_everywhere(tmp_path: Path) -> None:
    from fathom.data.transforms import fit

    pack(noise(), tmp_path / "p", size=(6, 8))
    again = fathom.load(tmp_path / "p")
    for before, after in zip(noise(), again, strict=True):
        same(after, fit(before, (6, 8)))
    assert "6x8" in again.source.facts["size"]


def test_the_webdataset_library_reads_the_shards(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    data = noise()
    packed = pack(data, tmp_path / "p", **TINY)
    urls = f"{tmp_path}/p/shard-{{000000..{packed.shards - 1:06d}}}.tar"
    frames = list(wds.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [frame["json"]["id"] for frame in frames] == list(data.ids)
    for frame, sample in zip(frames, data, strict=True):
        np.testing.assert_array_equal(frame["depth.npz"]["depth"], sample.depth.numpy())
        np.testing.assert_array_equal(frame["depth.npz"]["valid"], sample.valid.numpy())
        if "image.png" in frame:
            np.testing.assert_array_equal(frame["image.png"].transpose(2, 0, 1), sample.image.numpy())


def test_offsets_agree_with_the_tar_files_own_headers(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "p", **TINY)
    source = open_packed(tmp_path / "p")
    assert isinstance(source, PackedSource)
    headers = {}
    for number, shard in enumerate(source.shards):
        with tarfile.open(shard) as tar:
            headers.update({(number, m.name): (m.offset_data, m.size) for m in tar.getmembers()})
    indexed = {(e.shard, f"{e.key}.{name}"): place[:2] for e in source.entries for name, place in e.members.items()}
    assert indexed == headers


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda index: index.update(schema_version=99), "schema_version 99"),
        (lambda index: index.pop("shards"), "not an index"),
        (lambda index: index["official"].update(train=[999]), "does not hold"),
        (lambda index: index["shards"][0].update(file="../../elsewhere.tar"), "not the plain name of a file"),
        (lambda index: index["shards"][0]["frames"][0].update(id="another"), "holds frame"),
        (lambda index: index["shards"][0]["frames"][0]["members"].update(json=[10**9, 50, 0]), "outside of its shard"),
        (lambda index: index["shards"][0]["frames"][0]["members"].update(json=[2**70, 50, 0]), "outside of its shard"),
        (lambda index: index["shards"][0]["frames"][0]["members"].update(json=["0", 50, 0]), "not an index"),
        (lambda index: index["shards"][0].update(frames=["a"]), "not an index"),
        (lambda index: index["shards"][0]["frames"].append(index["shards"][0]["frames"][0]), "two frames of one id"),
    ],
)
def test_an_index_that_cannot_be_right_is_refused(change: Any, words: str, tmp_path: Path) -> None:
    pack(noise(), tmp_path / "p")
    path = tmp_path / "p" / "pack.json"
    index = json.loads(path.read_text())
    change(index)
    index.pop("checksum")
    write_json(path, index, checksum=True)
    with pytest.raises(DataError, match=words):
        open_packed(tmp_path / "p").read(0)


def test_an_index_that_is_no_json_and_a_folder_without_one_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no pack\.json"):
        open_packed(tmp_path)
    (tmp_path / "pack.json").write_text("{")
    with pytest.raises(DataError, match=r"pack\.json: is not an index"):
        open_packed(tmp_path)


@pytest.mark.parametrize("member", ["image.png", "depth.npz", "labels.npz", "normals.npz", "json"])
def test_a_member_that_is_not_what_it_should_be_is_named(member: str) -> None:
    members = encode(noise()[2])
    for content_ in (b"", b"nonsense", members[member][: len(members[member]) // 2], members["depth.npz"][:-9]):
        with pytest.raises(DataError, match=r"shard\.tar/000000002\." + member):
            decode({**members, member: content_}, Path("shard.tar/000000002"))


def test_an_array_that_claims_more_than_it_holds_is_refused() -> None:
    import io
    import zipfile

    members = encode(noise()[1])
    header = (
        b"\x93NUMPY\x01\x00\x76\x00"
        + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1, 90000, 90000), }".ljust(117)
        + b"\n"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("depth.npy", header)
        archive.writestr("valid.npy", header)
    with pytest.raises(DataError, match="claims 8,100,000,000 values"):
        decode({**members, "depth.npz": buffer.getvalue()}, Path("shard.tar/0"))


def test_a_pack_of_a_pack_is_the_same_frames(tmp_path: Path) -> None:
    pack(noise(), tmp_path / "a")
    pack(fathom.load(tmp_path / "a"), tmp_path / "b", **TINY)
    for before, after in zip(noise(), fathom.load(tmp_path / "b"), strict=True):
        same(before, after)
