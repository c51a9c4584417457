"""One frame as the members of a WebDataset shard, and back.

A frame's members share a key; what follows its dot says what they hold:

==============  ==========================================================================================
``image.png``   uint8 colour, lossless; ``image.jpg`` where JPEG was chosen, ``image.npy`` for float images
``depth.npz``   ``depth`` (float32 metres, every bit kept) and ``valid``, ``(1, h, w)``, deflated
``depth.png``   16-bit millimetres and ``valid.png`` in its place, where that was chosen
``labels.npz``  ``labels``, ``(1, h, w)``, the smallest integer type that holds them
``normals.npz`` ``normals``, ``(3, h, w)`` float32
``target.npz``  ``target``, ``(C, h, w)`` float32
``json``        ``id``, ``scene``, ``intrinsics`` as [fx, fy, cx, cy] or null, ``pose`` as 4x4 or null,
                ``timestamp`` in seconds or null
==============  ==========================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import torch

from fathom.data.camera import read_intrinsics, read_pose
from fathom.data.formats.files import read_counts, read_rgb
from fathom.data.formats.npy import from_stream
from fathom.errors import DataError
from fathom.files import limits
from fathom.files.archives import open_archive
from fathom.files.inputs import parse_json
from fathom.sample import Sample

ImageFormat = Literal["png", "jpeg"]
DepthFormat = Literal["float32", "mm16"]


class _Record(msgspec.Struct):
    """The member ``json``."""

    id: str
    scene: str
    intrinsics: tuple[float, float, float, float] | None = None
    pose: list[list[float]] | None = None
    timestamp: float | None = None


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
        "timestamp": sample.timestamp,
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

    if "json" not in members:
        raise DataError(name("json"), "is missing", _FIX)
    record = parse_json(members["json"], name("json"), _Record, what="a description of a frame", fix=_FIX)
    view = None if record.intrinsics is None else read_intrinsics(record.intrinsics, name("json"))
    pose = None if record.pose is None else read_pose(record.pose, name("json"))
    depth, valid = _depth(members, name)
    labels = normals = target = None
    if "labels.npz" in members:
        labels = _arrays(members["labels.npz"], name("labels.npz"), "labels")["labels"].to(torch.int64)
    if "normals.npz" in members:
        normals = _arrays(members["normals.npz"], name("normals.npz"), "normals")["normals"]
    if "target.npz" in members:
        target = _arrays(members["target.npz"], name("target.npz"), "target")["target"]
    time = record.timestamp
    sample = Sample(
        _image(members, name), depth, valid, record.scene, record.id, view, labels, normals, pose, target, time
    )
    _check_shapes(sample, where)
    return sample


def _check_shapes(sample: Sample, where: Path) -> None:
    """Refuse arrays whose shape or type is not what `encode` writes."""
    depth = sample.depth
    size = tuple(depth.shape[-2:])
    wanted = {
        "image": (sample.image, 3, None, (torch.uint8, torch.float32)),
        "depth": (depth, 1, size, (torch.float32,)),
        "valid": (sample.valid, 1, size, (torch.bool,)),
        "labels": (sample.labels, 1, size, (torch.int64,)),
        "normals": (sample.normals, 3, size, (torch.float32,)),
        "target": (sample.target, None, None, (torch.float32,)),
    }
    for name, (tensor, channels, grid, types) in wanted.items():
        if tensor is not None and (
            tensor.ndim != 3
            or 0 in tensor.shape
            or tensor.dtype not in types
            or (channels is not None and len(tensor) != channels)
            or (grid is not None and tuple(tensor.shape[-2:]) != grid)
        ):
            raise DataError(where, f"has a {name} of {tensor.dtype} and shape {tuple(tensor.shape)}", _FIX)


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
    """Arrays of an ``.npz`` in memory; the limit of a member is that of the values of a map, of up to 8 bytes."""
    with open_archive(path, f"a NumPy archive of {' and '.join(wanted)}", _FIX, data) as archive:
        for name in wanted:
            if (info := archive.members.get(f"{name}.npy")) is not None:
                limits.check("values", info.file_size // 8, path)
        return {name: _array(archive.read(f"{name}.npy", limit="index-bytes"), path) for name in wanted}


def _array(data: bytes, path: Path) -> torch.Tensor:
    """An NPY file in memory."""
    array = from_stream(BytesIO(data), len(data), path)
    if array.dtype.newbyteorder("=") in (np.dtype("uint16"), np.dtype("uint32"), np.dtype("uint64")):
        array = array.astype(np.int64)
    return torch.from_numpy(np.ascontiguousarray(array))
