"""Every frame's metrics and the frames that the page shows; both are stored beside ``evaluation.json`` and read back."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from fathom.data.formats.npy import NUMBERS, from_stream
from fathom.errors import DataError
from fathom.files import limits
from fathom.files.archives import Archive, open_archive
from fathom.files.atomic import atomic_path
from fathom.files.inputs import read_bytes
from fathom.metrics.groups import ALL

PER_IMAGE = "per_image.csv"
PICTURES = "pictures.npz"
FIX = "evaluate again"
COLUMNS = ("data", "id", "scene", "pixels", "model")
"""Of `PER_IMAGE`, before the metrics."""
MOST_PIXELS = 320
"""Of the longer side of a shown frame: what a page has room for."""


@dataclass(frozen=True)
class FrameScores:
    """One frame of one data set.

    Attributes:
        id, scene: of the frame. pixels: that count under the protocol.
        metrics: by result and metric; empty where no pixel counts; NaN where a metric is not defined for the frame.
    """

    id: str
    scene: str
    pixels: int
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Shown:
    """A frame for the page, as it was compared, with every n-th pixel of it.

    Attributes:
        table: number of the data set. place: such as ``best 1``. scores: of the frame.
        image: float in [0, 1]. depth: true metres. valid: the pixels that count.
        predictions: metres by model.
    """

    table: int
    place: str
    scores: FrameScores
    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "1 h w"]
    valid: Bool[Tensor, "1 h w"]
    predictions: dict[str, Float[Tensor, "h w"]]


def thinned(values: Shaped[Tensor, "*c H W"]) -> Shaped[Tensor, "*c h w"]:
    """Every n-th pixel, so that the longer side is at most `MOST_PIXELS`."""
    step = -(-max(values.shape[-2:]) // MOST_PIXELS)
    return values[..., ::step, ::step].contiguous()


def write_frames(
    path: Path, names: Sequence[tuple[str, Sequence[str]]], frames: Sequence[Sequence[FrameScores]]
) -> Path:
    """Write `PER_IMAGE`: a line for each frame and result; `names` are the location and the results of each data set."""
    scores = [found for part in frames for frame in part for found in frame.metrics.values()]
    metrics = [name for name in ALL if any(name in found for found in scores)]
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, *metrics])
        for (location, results), part in zip(names, frames, strict=True):
            for frame in part:
                for result in results:
                    values = frame.metrics.get(result, {})
                    numbers = (values.get(name, math.nan) for name in metrics)
                    cells = ["" if math.isnan(value) else repr(float(value)) for value in numbers]
                    writer.writerow([location, frame.id, frame.scene, frame.pixels, result, *cells])
    return path


def read_frames(
    path: Path, results: Sequence[Sequence[str]], frames: Sequence[int]
) -> tuple[tuple[FrameScores, ...], ...]:
    """What `write_frames` wrote.

    Args:
        path: the file.
        results: names of the results of each data set. frames: how many frames it has.

    Raises:
        DataError: it cannot be read, or belongs to another evaluation.
    """
    try:
        text = read_bytes(path, "index-bytes").decode("utf-8", "surrogateescape")
        rows = csv.reader(StringIO(text, newline=""))
        header = next(rows, [])
        if tuple(header[: len(COLUMNS)]) != COLUMNS or not set(header[len(COLUMNS) :]) <= ALL.keys():
            raise DataError(path, "is no table of frames that fathom wrote", FIX)
        found = tuple(
            tuple(_read_frame(path, rows, header[len(COLUMNS) :], names) for _ in range(count))
            for names, count in zip(results, frames, strict=True)
        )
        if next(rows, None) is not None:
            raise DataError(path, "holds more frames than its evaluation", FIX)
    except csv.Error as error:
        raise DataError(path, f"is no readable table ({error})", FIX) from error
    return found


def _read_frame(path: Path, rows: Iterator[list[str]], columns: Sequence[str], names: Sequence[str]) -> FrameScores:
    """The next frame: a row of each result."""
    metrics: dict[str, dict[str, float]] = {}
    about = ("", "", 0)
    for name in names:
        row = next(rows, [])
        if len(row) != len(COLUMNS) + len(columns) or row[4].encode("utf-8", "replace").decode() != name:
            raise DataError(path, f"lacks a row of {name}, so it belongs to another evaluation", FIX)
        try:
            own = (row[1], row[2], int(row[3]))
            values = {
                metric: float(cell) if cell else math.nan
                for metric, cell in zip(columns, row[len(COLUMNS) :], strict=True)
            }
        except ValueError as error:
            raise DataError(path, f"holds something else than numbers ({error})", FIX) from error
        if metrics and own != about:
            raise DataError(path, f"mixes the frames {about[0]} and {own[0]}", FIX)
        metrics[name], about = values, own
    return FrameScores(*about, metrics if about[2] else {})


def save_pictures(path: Path, shown: Sequence[Shown]) -> Path:
    """Write the shown frames as arrays alone, no pickle.

    Keys: ``tables``, ``places``, ``ids``, and for frame i ``image_i`` uint8 ``(H, W, 3)``, ``depth_i`` float32 metres ``(h, w)``
    with NaN where a pixel does not count, ``models_i``, and ``predictions_i`` float32 metres ``(models, h, w)``.
    """
    arrays: dict[str, np.ndarray] = {
        "tables": np.array([one.table for one in shown], dtype=np.int64),
        "places": np.array([one.place for one in shown], dtype=np.str_),
        "ids": np.array([_text(one.scores.id) for one in shown], dtype=np.str_),
    }
    for index, one in enumerate(shown):
        arrays[f"image_{index}"] = (one.image * 255).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        arrays[f"depth_{index}"] = torch.where(one.valid, one.depth, torch.nan)[0].float().numpy()
        arrays[f"models_{index}"] = np.array([_text(name) for name in one.predictions], dtype=np.str_)
        arrays[f"predictions_{index}"] = torch.stack(list(one.predictions.values())).float().numpy()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


def load_pictures(path: Path, frames: Sequence[Sequence[FrameScores]]) -> tuple[Shown, ...]:
    """What `save_pictures` wrote, with the scores of `frames`.

    Raises:
        DataError: it cannot be read, or belongs to another evaluation.
    """
    with open_archive(path, "the pictures of an evaluation", FIX) as archive:
        limits.check("index-bytes", sum(info.file_size for info in archive.members.values()), path, "unpacks to")
        tables, places, ids = _array(archive, "tables"), _array(archive, "places", "U"), _array(archive, "ids", "U")
        if not tables.shape == places.shape == ids.shape or tables.ndim != 1 or tables.dtype.kind not in "iu":
            raise DataError(path, "names frames that do not belong together", FIX)
        return tuple(
            _read_shown(archive, index, int(table), str(place), str(id_), frames)
            for index, (table, place, id_) in enumerate(zip(tables, places, ids, strict=True))
        )


def _read_shown(
    archive: Archive, index: int, table: int, place: str, id_: str, frames: Sequence[Sequence[FrameScores]]
) -> Shown:
    own = frames[table] if 0 <= table < len(frames) else ()
    scores = next((frame for frame in own if _text(frame.id) == id_), None)
    image, depth, maps = (_array(archive, f"{kind}_{index}") for kind in ("image", "depth", "predictions"))
    names = [str(name) for name in _array(archive, f"models_{index}", "U").ravel()]
    fits = (
        (image.ndim, depth.ndim, maps.ndim) == (3, 2, 3)
        and image.shape[2] == 3
        and maps.shape == (len(names), *depth.shape)
        and 0 not in (image.size, depth.size, maps.size)
        and image.dtype == np.uint8
        and {depth.dtype, maps.dtype} == {np.dtype(np.float32)}
    )
    if scores is None or not fits or not set(names) <= set(scores.metrics):
        raise DataError(archive.path, f"holds something else for frame {id_} than its evaluation", FIX)
    metres = torch.from_numpy(depth)[None]
    valid = torch.isfinite(metres)
    return Shown(
        table,
        place,
        scores,
        torch.from_numpy(image).permute(2, 0, 1).float() / 255,
        torch.where(valid, metres, 0.0),
        valid,
        dict(zip(names, torch.from_numpy(maps), strict=True)),
    )


def _array(archive: Archive, name: str, kinds: str = NUMBERS) -> np.ndarray:
    data = archive.read(f"{name}.npy")
    return from_stream(BytesIO(data), len(data), archive.path / name, kinds)


def _text(value: str) -> str:
    """`value` as NumPy and JSON can hold it, whatever bytes a file's name is made of."""
    return value.encode("utf-8", "replace").decode()
