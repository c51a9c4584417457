"""One frame as the members of a WebDataset shard, and back.

A frame's members share a key; what follows its dot says what they hold:

==============  ==========================================================================================
``image.png``   uint8 colour, lossless; ``image.jpg`` where JPEG was chosen, ``image.npy`` for float images
``depth.npz``   ``depth`` (float32 metres, every bit kept) and ``valid``, ``(1, h, w)``, deflated
``depth.png``   16-bit millimetres and ``valid.png`` in its place, where that was chosen
``labels.npz``  ``labels``, ``(1, h, w)``, the smallest integer type that holds them
``normals.npz`` ``normals``, ``(3, h, w)`` float32
``target.npz``  ``target``, ``(C, h, w)`` float32
``json``        ``id``, ``scene``, ``intrinsics`` as [fx, fy, cx, cy] or null, ``pose`` as 4x4 or null
==============  ==========================================================================================
"""

from __future__ import annotations

import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fathom.data.formats.files import read_counts, read_rgb
from fathom.data.limits import MOST_PIXELS
from fathom.errors import DataError
from fathom.sample import Intrinsics, Sample

ImageFormat = Literal["png", "jpeg"]
DepthFormat = Literal["float32", "mm16"]

Members = dict[str, bytes]
"""What follows the key's dot -> content."""

_PNG_LEVEL = 3
"""Of compression: a third of level 6's time for a tenth more bytes on photographs."""

_FIX = "run 'fathom data pack' again, which writes damaged shards anew"


def encode(sample: Sample, *, image: ImageFormat = "png", quality: int = 95, depth: DepthFormat = "float32") -> Members:
    """The members of one frame; everything comes back bit for bit with the defaults."""
    members: Members = {}
    if sample.image.dtype == torch.uint8 or image == "jpeg":
        members["image.jpg" if image == "jpeg" else "image.png"] = _picture(sample, image, quality)
    else:
        members["image.npy"] = _npy(sample.image.numpy())
    if depth == "mm16":
        members["depth.png"], members["valid.png"] = _millimetres(sample), _png(sample.valid[0].numpy() * np.uint8(255))
    else:
        members["depth.npz"] = _npz(depth=sample.depth.numpy(), valid=sample.valid.numpy())
    if sample.labels is not None:
        labels = sample.labels.numpy()
        small = np.result_type(np.min_scalar_type(labels.min()), np.min_scalar_type(labels.max()))
        members["labels.npz"] = _npz(labels=labels.astype(small))
    if sample.normals is not None:
        members["normals.npz"] = _npz(normals=sample.normals.numpy())
    if sample.target is not None:
        members["target.npz"] = _npz(target=sample.target.numpy())
    view = sample.intrinsics
    record = {
        "id": sample.id,
        "scene": sample.scene,
        "intrinsics": None if view is None else [view.fx, view.fy, view.cx, view.cy],
        "pose": None if sample.pose is None else sample.pose.tolist(),
    }
    members["json"] = json.dumps(record).encode("ascii")
    return members


def _picture(sample: Sample, image: ImageFormat, quality: int) -> bytes:
    pixels = sample.image if sample.image.dtype == torch.uint8 else (sample.image * 255).round().clamp(0, 255).byte()
    array = np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())
    if image == "png":
        return _png(array)
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def _png(array: np.ndarray) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return buffer.getvalue()


def _millimetres(sample: Sample) -> bytes:
    metres = np.where(sample.valid[0].numpy(), sample.depth[0].numpy(), 0).astype(np.float64)
    if metres.max(initial=0.0) > 65.535:
        raise DataError(
            sample.id, f"reaches {metres.max():.1f} m, beyond the 65.535 m of 16-bit millimetres", "pack float32 depth"
        )
    return _png((metres * 1000).round().astype(np.uint16))


def _npy(array: np.ndarray) -> bytes:
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _npz(**arrays: np.ndarray) -> bytes:
    """Deflated arrays; NumPy dates the entries 1980, so that equal arrays are equal bytes."""
    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def decode(members: Mapping[str, bytes], where: Path) -> Sample:
    """The frame that `members` hold; `DataError` naming the broken one, with `where` (shard and key) before its name."""

    def name(member: str) -> Path:
        return where.with_name(f"{where.name}.{member}")

    try:
        record = json.loads(members["json"])
        id_, scene = str(record["id"]), str(record["scene"])
        view = None if record["intrinsics"] is None else Intrinsics(*map(float, record["intrinsics"]))
        pose = None if record["pose"] is None else torch.tensor(record["pose"], dtype=torch.float32).reshape(4, 4)
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise DataError(name("json"), f"does not describe a frame ({error})", _FIX) from error
    depth, valid = _depth(members, name)
    labels = normals = target = None
    if "labels.npz" in members:
        labels = _arrays(members["labels.npz"], name("labels.npz"), "labels")["labels"].to(torch.int64)
    if "normals.npz" in members:
        normals = _arrays(members["normals.npz"], name("normals.npz"), "normals")["normals"]
    if "target.npz" in members:
        target = _arrays(members["target.npz"], name("target.npz"), "target")["target"]
    return Sample(_image(members, name), depth, valid, scene, id_, view, labels, normals, pose, target)


def _image(members: Mapping[str, bytes], name: Any) -> torch.Tensor:
    for member in ("image.png", "image.jpg"):
        if member in members:
            return read_rgb(name(member), members[member])
    if "image.npy" not in members:
        raise DataError(name("image.png"), "is missing", _FIX)
    return _array(members["image.npy"], name("image.npy"))


def _depth(members: Mapping[str, bytes], name: Any) -> tuple[torch.Tensor, torch.Tensor]:
    if "depth.npz" in members:
        arrays = _arrays(members["depth.npz"], name("depth.npz"), "depth", "valid")
        return arrays["depth"], arrays["valid"]
    if "depth.png" not in members or "valid.png" not in members:
        raise DataError(name("depth.npz"), "is missing", _FIX)
    counts = read_counts(name("depth.png"), members["depth.png"]).astype(np.float32)
    valid = read_counts(name("valid.png"), members["valid.png"]) > 0
    return torch.from_numpy(counts / np.float32(1000))[None], torch.from_numpy(valid)[None]


def _arrays(data: bytes, path: Path, *wanted: str) -> dict[str, torch.Tensor]:
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            entries = {name: archive.getinfo(f"{name}.npy") for name in wanted}
            if max(entry.file_size for entry in entries.values()) > 12 * MOST_PIXELS + 1024:
                raise DataError(path, "claims more pixels than any frame has", _FIX)
            if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries.values()):
                raise DataError(path, "is compressed in a way that NumPy does not use", _FIX)
            return {name: _array(archive.read(entry), path) for name, entry in entries.items()}
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        KeyError,
        EOFError,
        OSError,
        ValueError,
        RuntimeError,
    ) as error:
        raise DataError(path, f"is no NumPy archive of {' and '.join(wanted)} ({error})", _FIX) from error


def _array(data: bytes, path: Path) -> torch.Tensor:
    """An NPY file in memory, of no more elements than it has bytes for."""
    try:
        stream = BytesIO(data)
        np.lib.format.read_magic(stream)
        shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
        array = np.frombuffer(data, kind, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(array.copy())
    except (ValueError, TypeError) as error:
        raise DataError(path, f"is not a NumPy array ({error})", _FIX) from error
