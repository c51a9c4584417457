"""Writing any source as a plain folder: ``rgb/``, ``depth/`` in 16-bit millimetres, and ``index.csv`` with scenes.

``export.json``, written last, has the CRC-32 of every file; `folder:` compares them when it reads. While an export is under
way, and after one that was interrupted, the folder holds a marker, and no reader takes it for data.
"""

from __future__ import annotations

import csv
import os
import shutil
import zlib
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np

from fathom.data.dataset import Dataset
from fathom.data.formats.folders.exported import SUMMARY, UNFINISHED
from fathom.data.loading import Skipped, read_each
from fathom.errors import DataError, UsageError
from fathom.files.atomic import atomic_path, write_json, write_text
from fathom.files.lock import NAME as LOCK
from fathom.files.lock import output_lock
from fathom.sample import Sample

MOST_METRES = 65.535
"""The largest depth of a 16-bit map in millimetres."""


def export(dataset: Dataset, out: Path, *, skipped: Skipped | None = None, overwrite: bool = False) -> int:
    """Write `dataset` to folder `out`, to be read as ``folder:OUT?depth-scale=1000``; returns the number of frames.

    Invalid pixels are 0. Depth beyond 65.535 m does not fit and raises `DataError`, and so does a target, which has no place.

    Args:
        dataset: what to write.
        out: a new or empty folder, or one with an export that was interrupted.
        skipped: collects frames that cannot be read; without it the first one raises its `DataError`.
        overwrite: replace a finished export in `out`.

    Raises:
        UsageError: `out` holds something else, or is where the data are read from.
        DataError: a frame is broken or does not fit, or `out` cannot be written.
    """
    _refuse_own_input(dataset, out)
    with output_lock(out, "an export"):
        _clear(out, overwrite)
        write_text(out / UNFINISHED, "An export into this folder has begun and has not ended.\n")
        table, sums = _write_frames(dataset, out, skipped)
        # As `folder:` reads it: bytes of names that are not UTF-8 come back as they were.
        content = table.encode("utf-8", "surrogateescape")
        sums["index.csv"] = _write(out / "index.csv", content)
        frames = len(sums) // 2
        write_json(out / SUMMARY, {"schema_version": 1, "frames": frames, "files": sums}, checksum=True)
        (out / UNFINISHED).unlink()
        return frames


def _refuse_own_input(dataset: Dataset, out: Path) -> None:
    """Refuse a folder that holds files of the data, or lies among them: frames would change under their own names."""
    target = Path(os.path.realpath(out))
    source = Path(os.path.realpath(dataset.source.location))
    read = {Path(os.path.realpath(file)) for index in dataset.indices for file in dataset.source.frames[index].files}
    if (source.exists() and target.is_relative_to(source)) or any(file.is_relative_to(target) for file in read):
        raise UsageError(f"{out} is where {dataset.source.location} is read from; choose another --out.")


def _clear(out: Path, overwrite: bool) -> None:
    """Remove an export that was interrupted, or with `overwrite` a finished one; all else is refused."""
    held = {entry.name for entry in out.iterdir()} - {LOCK}
    if not held:
        return
    foreign = held - {"rgb", "depth", "index.csv", SUMMARY, UNFINISHED}
    if foreign or not held & {SUMMARY, UNFINISHED}:
        raise UsageError(f"{out} is not empty and holds no export ({min(foreign or held)}); choose a new folder.")
    if UNFINISHED not in held and not overwrite:
        raise UsageError(f"{out} holds an export; replace it with --overwrite, or choose a new folder.")
    write_text(out / UNFINISHED, "An export into this folder is being replaced.\n")
    for name in (SUMMARY, "index.csv"):
        (out / name).unlink(missing_ok=True)
    for name in ("rgb", "depth"):
        shutil.rmtree(out / name, ignore_errors=True)


def _write_frames(dataset: Dataset, out: Path, skipped: Skipped | None) -> tuple[str, dict[str, int]]:
    """Write the pictures; returns the table of frames and the CRC-32 of each file."""
    table, sums = StringIO(), dict[str, int]()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "image", "depth", "scene"])
    for position, sample in read_each(dataset, "exporting", skipped):
        names = [f"{folder}/{position:06d}.png" for folder in ("rgb", "depth")]
        for name, array in zip(names, _pictures(dataset, sample), strict=True):
            sums[name] = _write(out / name, _png(array))
        writer.writerow([sample.id, *names, sample.scene])
    return table.getvalue(), sums


def _pictures(dataset: Dataset, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
    """Colour as uint8 ``(H, W, 3)`` and depth as uint16 millimetres ``(H, W)``."""
    if sample.target is not None:
        raise DataError(
            dataset.source.location,
            "has targets, for which the exported form has no place",
            "pack the data instead ('fathom data pack'), which keeps them",
        )
    metres = np.where(sample.valid[0].numpy(), sample.depth[0].numpy(), 0.0)
    if metres.max(initial=0.0) > MOST_METRES:
        raise DataError(
            dataset.source.location,
            f"frame {sample.id} reaches {metres.max():.1f} m, beyond the {MOST_METRES} m of 16-bit millimetres",
            "pack the data instead ('fathom data pack'), which keeps float depth",
        )
    pixels = (sample.float_image() * 255).round().byte().permute(1, 2, 0).numpy()
    return pixels, (metres * 1000).round().astype(np.uint16)


def _png(array: np.ndarray) -> bytes:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> int:
    """Write a file; returns its CRC-32."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)
    return zlib.crc32(content)
