"""Depth files on a disk that is full."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fathom.errors import DataError
from fathom.media.depth_files import save_npy, save_png16, save_sidecar
from fathom.media.pointcloud import save_ply

METRES = np.linspace(1, 4, 768, dtype=np.float32).reshape(24, 32)


@pytest.mark.parametrize("most", [0, 60, 500, 1000])
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_npy(METRES, path),
        lambda path: save_png16(METRES * np.random.default_rng(0).random((24, 32), np.float32), path.with_suffix(".png")),
        lambda path: save_ply(path, np.ones((300, 3), np.float32), np.zeros((300, 3), np.uint8)),
        lambda path: save_sidecar({"key": list(range(1000))}, path),
    ],
)  # fmt: skip
def test_a_full_disk_is_one_sentence_and_leaves_no_part(
    write: Callable[[Path], object], most: int, tmp_path: Path
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        with pytest.raises(DataError, match="cannot be written"):
            write(tmp_path / "a.npy")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())
