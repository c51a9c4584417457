"""Cameras and poses as text files write them, and what belongs together in time.

Poses are camera-to-world, ``(4, 4)`` float32, for camera axes x right, y down, z forward.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.camera import read_intrinsics, read_pose
from fathom.errors import DataError, UsageError
from fathom.files.inputs import read_bytes
from fathom.sample import Intrinsics

SKIP = "replace the file or leave it out with --skip-bad"

Y_UP_TO_Y_DOWN = (1.0, -1.0, -1.0)
"""Of the camera axes of ARKit and OpenGL (x right, y up, z backward) to ours: the factors of a rotation's columns."""


def read_text(path: Path) -> str:
    """A text file, whatever its encoding: names come back as they are on disk."""
    return read_bytes(path, "index-bytes").decode("utf-8", "surrogateescape")


def table_rows(path: Path) -> list[list[str]]:
    """Rows of a text file by its white space or commas, without ``#`` comments and empty lines."""
    lines = (line.partition("#")[0].replace(",", " ").split() for line in read_text(path).splitlines())
    return [fields for fields in lines if fields]


def read_numbers(path: Path) -> list[float]:
    """All numbers of a text file, in order."""
    try:
        return [float(field) for row in table_rows(path) for field in row]
    except ValueError as error:
        raise DataError(path, f"holds something else than numbers ({error})", "replace the file") from error


def camera_of(numbers: Sequence[float], path: Path) -> Intrinsics:
    """The camera in a 3x3 (9 numbers), 3x4 (12) or 4x4 (16) matrix by rows, or in ``fx fy cx cy`` (4)."""
    places = {4: (0, 1, 2, 3), 9: (0, 4, 2, 5), 12: (0, 5, 2, 6), 16: (0, 5, 2, 6)}.get(len(numbers))
    if places is None:
        raise DataError(path, f"holds {len(numbers)} numbers, no camera matrix of 3x3, 3x4 or 4x4", "replace the file")
    return read_intrinsics([numbers[place] for place in places], path)


def read_camera(path: Path) -> Intrinsics:
    """The camera that a text file states; see `camera_of`."""
    return camera_of(read_numbers(path), path)


def given_camera(text: str | None) -> Intrinsics | None:
    """The option ``intrinsics=fx,fy,cx,cy``."""
    if text is None:
        return None
    try:
        fx, fy, cx, cy = (float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"intrinsics={text} is not fx,fy,cx,cy, four numbers in pixels.") from None
    try:
        return Intrinsics(fx, fy, cx, cy, origin="given")
    except UsageError as error:
        raise UsageError(f"intrinsics={text}: {error}") from None


def matrix_pose(numbers: Sequence[float], path: Path) -> Float[Tensor, "4 4"] | None:
    """The pose in 12 or 16 numbers by rows; None where one is not finite, which is how tracking says that it was lost."""
    if len(numbers) not in (12, 16):
        raise DataError(path, f"holds {len(numbers)} numbers, no 4x4 matrix", "replace the file")
    if not all(map(math.isfinite, numbers)):
        return None
    values = [*numbers, 0.0, 0.0, 0.0, 1.0][:16]
    return read_pose([values[row : row + 4] for row in range(0, 16, 4)], path)


def quaternion_pose(
    quaternion: Sequence[float],
    translation: Sequence[float],
    path: Path | str,
    axes: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> Float[Tensor, "4 4"]:
    """The pose of the quaternion ``(qx, qy, qz, qw)``, of any length but 0, and a translation, which the file `path` states.

    `axes` are factors of the rotation's columns, which turn camera axes to ours.
    """
    if not all(abs(value) < 1e15 for value in (*quaternion, *translation)):  # NaN too
        raise DataError(path, "states a pose that is not finite", SKIP)
    length = math.sqrt(sum(q * q for q in quaternion))
    if length < 1e-6:
        raise DataError(path, "states a pose whose rotation is the quaternion zero", SKIP)
    x, y, z, w = (q / length for q in quaternion)
    rotation = torch.tensor(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    pose = torch.eye(4)
    pose[:3, :3] = rotation * torch.tensor(axes)
    pose[:3, 3] = torch.tensor([float(value) for value in translation])
    return pose


def nearest(times: Sequence[float], time: float, within: float) -> int | None:
    """Index of the entry of ascending `times` nearest to `time`, None where it is more than `within` away."""
    right = bisect_left(times, time)
    candidates = [i for i in (right - 1, right) if 0 <= i < len(times)]
    best = min(candidates, key=lambda i: abs(times[i] - time), default=None)
    # A microsecond for what is lost in writing times since 1970 as decimals.
    return best if best is not None and abs(times[best] - time) <= within + 1e-6 else None


def pair_in_time(first: Sequence[float], second: Sequence[float], within: float) -> list[tuple[int, int]]:
    """Pairs of indices of two lists of times at most `within` apart, each used once, the nearest pairs first; in order of `first`."""
    order = sorted(range(len(second)), key=second.__getitem__)
    ascending = [second[i] for i in order]
    close = []
    for i, time in enumerate(first):
        low, high = bisect_left(ascending, time - within - 1e-6), bisect_left(ascending, time + within + 1e-6)
        close += [(abs(ascending[k] - time), i, order[k]) for k in range(low, high)]
    pairs: dict[int, int] = {}
    taken: set[int] = set()
    for _, i, j in sorted(close):
        if i not in pairs and j not in taken:
            pairs[i] = j
            taken.add(j)
    return sorted(pairs.items())
