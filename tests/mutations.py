"""Damaged files of every format, made from whole ones: for the property tests, and for ten thousand cases in ``benchmarks/soak.py``."""

from __future__ import annotations

import json
import random
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from fathom.data.dataset import Dataset
from fathom.data.formats.rooms import EMBEDDED
from fathom.data.packed.pack import pack
from fathom.data.sources import load
from fathom.data.splits import load_split, save_split
from fathom.data.tools.export import export
from fathom.errors import FathomError
from fathom.files.atomic import write_json
from fathom.models import build
from fathom.models.saved import load_model, write_checkpoint, write_manifest
from fathom.training.recipe import load_recipe
from tests.data.files import diode, nyu_mat, pairs, r3d

Rng = random.Random


@dataclass(frozen=True)
class Format:
    """A format and how it is read.

    Attributes:
        file: the file that is damaged, below the folder.
        make: writes whole data into the folder.
        read: reads all of it, as a command would; returns what can be compared with the whole (values, cameras).
        mutate: damages the file's bytes; returns the new content.
        sealed: whether damage is always found, because a checksum covers the file.
        seal: makes checksums fit the damaged file again, so that what lies behind them is tested too.
    """

    file: str
    make: Callable[[Path], object]
    read: Callable[[Path], Any]
    mutate: Callable[[bytes, Rng], bytes]
    sealed: bool = False
    seal: Callable[[Path], object] | None = None


def flip_bytes(data: bytes, rng: Rng) -> bytes:
    """Some bytes changed, a piece cut out, doubled or filled, or bytes beyond the end."""
    content = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 8])):
        at = rng.randrange(max(len(content), 1))
        match rng.randrange(7):
            case 0 | 1:
                if content:
                    content[at] ^= 1 << rng.randrange(8)
            case 2:
                del content[at:]
            case 3:
                del content[at : at + rng.randrange(1, 64)]
            case 4:
                content[at:at] = content[at : at + rng.randrange(1, 64)]
            case 5:
                content[at : at + 4] = rng.choice([b"\xff" * 4, b"\0" * 4, struct.pack("<I", 2**31), b"9999"])
            case 6:
                content += rng.randbytes(rng.randrange(1, 40))
    return bytes(content)


def mutate_head(data: bytes, rng: Rng) -> bytes:
    """As `flip_bytes`, most often within the header, where the structure is."""
    size = rng.choice([16, 128, 128, 512])
    return flip_bytes(data[:size], rng) + data[size:] if rng.random() < 0.7 else flip_bytes(data, rng)


def mutate_hdf5(data: bytes, rng: Rng) -> bytes:
    """Most often the structure, which stands at the beginning and at the end of these files, not the pixels."""
    part = rng.random()
    if part < 0.7:
        return flip_bytes(data[:6000], rng) + data[6000:]
    return data[:-8000] + flip_bytes(data[-8000:], rng) if part < 0.9 else flip_bytes(data, rng)


ODD = (
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**30, 0.0, -0.5, 1e308, 1e-320, float("nan"), float("inf"), "", "a", "²", "../x",
    "/etc/passwd", "a\0b", "\ud800", "x" * 5000, "[/red]", [], {}, [[]], [None], {"a": 1}, ["a", "a"], "1e9",
)  # fmt: skip
"""Values that belong nowhere."""


def mutate_json(data: bytes, rng: Rng) -> bytes:
    """A value changed for an odd one, a key lost, renamed or doubled, a list shuffled; sometimes bytes instead."""
    if rng.random() < 0.15:
        return flip_bytes(data, rng)
    value = json.loads(data)
    places: list[tuple[Any, Any]] = []
    pending = [value]
    while pending and len(places) < 3000:
        node = pending.pop(rng.randrange(len(pending)))
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, inner in items:
            places.append((node, key))
            if isinstance(inner, dict | list):
                pending.append(inner)
    node, key = rng.choice(places)
    match rng.randrange(6):
        case 0 if isinstance(node, dict):
            del node[key]
        case 1 if isinstance(node, dict):
            node[rng.choice(["x", "ids", key.upper() if isinstance(key, str) else "k"])] = node.pop(key)
        case 2 if isinstance(node, list):
            node.insert(key, node[key])
        case 3:
            for _ in range(rng.choice([3, 200])):
                node[key] = [node[key]]
        case _:
            node[key] = rng.choice(ODD)
    return json.dumps(value, indent=2).encode()


def mutate_text(data: bytes, rng: Rng) -> bytes:
    """Lines swapped, doubled, lost, given odd fields; sometimes bytes instead."""
    if rng.random() < 0.3:
        return flip_bytes(data, rng)
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            lines.insert(at, lines[at])
        case 1:
            del lines[at]
        case 2:
            lines[at] = rng.choice(
                [b"../../etc/passwd,/etc/passwd,s,s", b'"', b"a" * 200_000, b",,,,,,", b"\xff\xfe", b"[" * 300]
            )
        case _:
            fields = lines[at].split(b",") if b"," in lines[at] else lines[at].split(b" = ")
            fields[rng.randrange(len(fields))] = rng.choice(
                [b"", b"/etc/passwd", b"inf", b"nan", b"-1", b"1e400", b"[2, 3]", b"9" * 400, b"{a = 1}", b"\xc3\x28"]
            )
            lines[at] = (b"," if b"," in lines[at] else b" = ").join(fields)
    return b"\n".join(lines)


def mutate_zip(data: bytes, rng: Rng) -> bytes:
    """Bytes of the archive damaged, or a member swapped, lost, damaged, encrypted, of another method or a bomb."""
    kind = rng.randrange(8)
    if kind < 3:
        return flip_bytes(data, rng)
    if kind < 5:  # flags and methods of the directory and the local headers
        content = bytearray(data)
        mark = rng.choice([b"PK\x01\x02", b"PK\x03\x04"])
        places = [at for at in range(len(content) - 4) if content[at : at + 4] == mark]
        at = rng.choice(places) + (8 if mark == b"PK\x01\x02" else 6) + rng.choice([0, 2, 12, 14, 16, 18, 20])
        content[at : at + 2] = struct.pack("<H", rng.choice([1, 9, 12, 14, 99, 8, 0, 0xFFFF]))
        return bytes(content)
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    names = list(members)
    one, two = rng.choice(names), rng.choice(names)
    if kind == 5:
        members[one], members[two] = members[two], members[one]
    elif kind == 6:
        damage = mutate_json if _is_json(members[one]) else rng.choice([flip_bytes, mutate_head])
        members[one] = damage(members[one], rng)
    else:
        members[rng.choice([f"../{one}", f"/{one}", one + "\n", "rgbd/" + "9" * 400 + ".depth"])] = members.pop(one)
    buffer = BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def _is_json(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data), dict)
    except ValueError:
        return False


def seal_json(path: Path) -> None:
    """Give a JSON file of ours the checksum that fits what it holds now, where it is still JSON."""
    try:
        value = json.loads(path.read_bytes())
        if isinstance(value, dict):
            value.pop("checksum", None)
            write_json(path, value, checksum=True)
    except (ValueError, RecursionError, FathomError):
        pass


def _frames(dataset: Dataset) -> list[tuple[Any, ...]]:
    """Everything that was read, for comparison."""
    found = []
    for sample in dataset:
        camera = sample.intrinsics
        parts = (sample.image, sample.depth, sample.valid, sample.labels, sample.normals, sample.pose, sample.target)
        found.append((
            sample.id, sample.scene,
            None if camera is None else (camera.fx, camera.fy, camera.cx, camera.cy),
            *(None if part is None else (part.dtype, tuple(part.shape), part.numpy().tobytes()) for part in parts),
        ))  # fmt: skip
    return found


def _rooms(folder: Path) -> None:
    record = json.loads((EMBEDDED / "rooms.json").read_text())
    record.pop("checksum")
    record["rooms"] = record["rooms"][2:4]
    folder.mkdir(parents=True)
    for room in record["rooms"]:
        (folder / f"{room['name']}.zip").write_bytes((EMBEDDED / f"{room['name']}.zip").read_bytes())
    write_json(folder / "rooms.json", record, checksum=True)


def _metres(folder: Path) -> None:
    pairs(folder, 1, 2, 8, 12)
    for path in sorted((folder / "depth").rglob("*.png")):
        np.save(path.with_suffix(".npy"), np.linspace(1, 4, 96, dtype=np.float32).reshape(8, 12))
        path.unlink()


def _exr(folder: Path) -> None:
    import OpenEXR

    pairs(folder, 1, 2, 8, 12)
    for path in sorted((folder / "depth").rglob("*.png")):
        channels = {"Z": np.linspace(1, 4, 96, dtype=np.float32).reshape(8, 12)}
        OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, channels).write(
            str(path.with_suffix(".exr"))
        )
        path.unlink()


def _splits_mat(folder: Path, compressed: bool = True) -> None:
    folder.mkdir(parents=True)
    nyu_mat(folder / "nyu_depth_v2_labeled.mat", 5, 24, 32)
    scipy.io.savemat(
        folder / "splits.mat",
        {"trainNdxs": np.array([[1.0], [2], [3]]), "testNdxs": np.array([[4], [5]], np.uint16), "z": ["a"]},
        do_compression=compressed,
    )


def _packed(folder: Path) -> None:
    source = pairs(folder.with_name(folder.name + "-source"), 2, 2, 8, 12)
    pack(load(f"{source}?depth-scale=1000"), folder)


def _exported(folder: Path) -> None:
    source = pairs(folder.with_name(folder.name + "-source"), 2, 2, 8, 12)
    export(load(f"{source}?depth-scale=1000"), folder)


def _split(folder: Path) -> None:
    data = load(f"{pairs(folder / 'data', 3, 2, 8, 12)}?depth-scale=1000")
    train, test = data.split(0.3)
    save_split(folder / "split.json", {"train": train, "test": test}, 0)


def _read_split(folder: Path) -> Any:
    parts = load_split(folder / "split.json", load(f"{folder / 'data'}?depth-scale=1000"))
    return {name: sorted(part.ids) for name, part in parts.items()}


def _table(folder: Path) -> None:
    pairs(folder, 2, 2, 8, 12)
    rows = [f"s{s}f{n},rgb/scene{s}/{n}.png,depth/scene{s}/{n}.png,room{s}" for s in range(2) for n in range(2)]
    (folder / "index.csv").write_text("\n".join(["id,image,depth,scene", *rows]) + "\n")


CONFIG = {"k": 2, "width": 4, "groups": 2, "blocks": 1, "bottleneck": 4}


def _checkpoint(folder: Path) -> None:
    model = build("autoencoder", CONFIG)
    config = {
        "schema_version": 1, "model": "autoencoder", "target": "image", "input_size": [16, 16], "train_scenes": ["a"],
        "recipe": {"name": "r", "model": {"name": "autoencoder", **CONFIG}, "train": {"seed": 0}}, "step": 1,
        "versions": {"fathom": "0"}, "parameters": 1,
    }  # fmt: skip
    write_checkpoint(folder, {"model.safetensors": model.state_dict(), "config.json": config}, 1)


def _read_checkpoint(folder: Path) -> Any:
    trained = load_model(folder)
    return trained.train_scenes, trained.input_size, [p.detach().numpy().tobytes() for p in trained.model.parameters()]


def _remanifest(folder: Path) -> None:
    write_manifest(folder, ["model.safetensors", "config.json"], 1)


def _recipe(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "r.toml").write_text(load_recipe("tiny-unet").to_toml())


MM = "?depth-scale=1000"

FORMATS: dict[str, Format] = {
    "npy": Format("depth/scene0/0.npy", _metres, lambda f: _frames(load(f)), mutate_head),
    "diode mask": Format(
        "val/indoors/scene_00019/scan_00183/00019_00183_indoors_150_000_depth_mask.npy",
        diode, lambda f: _frames(load(f)), mutate_head,
    ),
    "png depth": Format("depth/scene0/0.png", lambda f: pairs(f, 1, 2, 8, 12), lambda f: _frames(load(f"{f}{MM}")), flip_bytes),
    "exr": Format("depth/scene0/0.exr", _exr, lambda f: _frames(load(f)), mutate_head),
    "csv": Format("index.csv", _table, lambda f: _frames(load(f"{f}{MM}")), mutate_text),
    "r3d": Format("a.r3d", lambda f: (f.mkdir(parents=True), r3d(f / "a.r3d", 2)), lambda f: _frames(load(f)), mutate_zip),
    "rooms.json": Format("rooms.json", _rooms, lambda f: _frames(load(f)), mutate_json, sealed=True),
    "rooms.json, resealed": Format(
        "rooms.json", _rooms, lambda f: _frames(load(f)), mutate_json, seal=lambda f: seal_json(f / "rooms.json")
    ),
    "rooms zip": Format("room_0003.zip", _rooms, lambda f: _frames(load(f"rooms:{f}?variant=colours")), mutate_zip, sealed=True),
    "pack.json": Format("pack.json", _packed, lambda f: _frames(load(f)), mutate_json, sealed=True),
    "pack.json, resealed": Format(
        "pack.json", _packed, lambda f: _frames(load(f)), mutate_json, seal=lambda f: seal_json(f / "pack.json")
    ),
    "shard": Format("shard-000000.tar", _packed, lambda f: _frames(load(f"packed:{f}?check=true")), flip_bytes, sealed=True),
    "export": Format("rgb/000001.png", _exported, lambda f: _frames(load(f"{f}{MM}")), flip_bytes, sealed=True),
    "export.json": Format("export.json", _exported, lambda f: _frames(load(f"{f}{MM}")), mutate_json, sealed=True),
    "nyu mat": Format(
        "x.mat", lambda f: (f.mkdir(parents=True), nyu_mat(f / "x.mat", 1)), lambda f: _frames(load(f / "x.mat")), mutate_hdf5
    ),
    "splits.mat": Format("splits.mat", _splits_mat, lambda f: dict(load(f).source.official), flip_bytes),
    "splits.mat, plain": Format(
        "splits.mat", lambda f: _splits_mat(f, compressed=False), lambda f: dict(load(f).source.official), mutate_head
    ),
    "split": Format("split.json", _split, _read_split, mutate_json),
    "checkpoint weights": Format("model.safetensors", _checkpoint, _read_checkpoint, mutate_head, sealed=True),
    "checkpoint config": Format("config.json", _checkpoint, _read_checkpoint, mutate_json, sealed=True),
    "checkpoint config, resealed": Format("config.json", _checkpoint, _read_checkpoint, mutate_json, seal=_remanifest),
    "checkpoint manifest": Format("manifest.json", _checkpoint, _read_checkpoint, mutate_json),
    "recipe": Format("r.toml", _recipe, lambda f: load_recipe(f / "r.toml").table(), mutate_text),
}  # fmt: skip


CLEAN, ACCEPTED, SAME, SILENT, TRACEBACK = "clean", "accepted", "same", "silently wrong", "traceback"


class Mutant:
    """Whole data of one format, and the verdict on each damaged copy of its file."""

    def __init__(self, form: Format, folder: Path) -> None:
        self.form, self.folder = form, folder / "data"
        self.form.make(self.folder)
        self.path = self.folder / self.form.file
        self.whole = self.path.read_bytes()
        self.others = {path: path.read_bytes() for path in self.folder.glob("*.json") if path != self.path}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.expected = self.form.read(self.folder)

    def case(self, rng: Rng) -> tuple[str, str]:
        """Damage the file once and read; what came of it, and the message.

        ``same``: what was read is what the whole file gives. ``accepted``: it is not, and no checksum could have told.
        """
        data = self.form.mutate(self.whole, rng)
        if data == self.whole:
            return SAME, ""
        for path, content in self.others.items():
            path.write_bytes(content)
        self.path.write_bytes(data)
        if self.form.seal is not None:
            self.form.seal(self.folder)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.form.read(self.folder)
        except FathomError as error:
            return (CLEAN, str(error)) if "\n" not in str(error).strip() else (TRACEBACK, f"several lines: {error}")
        except MemoryError:
            return TRACEBACK, "MemoryError"
        except Exception as error:
            import traceback

            return TRACEBACK, "".join(traceback.format_exception(error)[-3:])
        finally:
            self.path.write_bytes(self.whole)
        if found == self.expected:
            return SAME, ""
        return (SILENT if self.form.sealed else ACCEPTED), repr(data[:80])


def seeds(start: int, count: int) -> Iterator[Rng]:
    """Generators of single cases, each repeatable by its number."""
    return (random.Random(number) for number in range(start, start + count))
