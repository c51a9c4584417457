"""Polycam's raw export."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture

NAME = "2301400733"


def capture(root: Path, *, corrected: bool = True) -> Path:
    base = root / "keyframes"
    record = {"fx": 20.0, "fy": 21.0, "cx": 8.5, "cy": 6.5, "width": 16, "height": 12, "blur_score": 55.0}
    # The camera looks along the world's x: its -z axis, in the third column, is x.
    rows = [[0, 0, -1, 4], [0, 1, 0, 5], [1, 0, 0, 6]]
    record |= {f"t_{i}{j}": rows[i][j] for i in range(3) for j in range(4)}
    picture(base / "images" / f"{NAME}.jpg", seed=1)
    counts(base / "depth" / f"{NAME}.png", np.full((12, 16), 2500, np.uint16))
    counts(base / "confidence" / f"{NAME}.png", np.repeat(np.uint8([0, 54, 255]), 64).reshape(12, 16))
    for prefix in ("", "corrected_") if corrected else ("",):
        (base / f"{prefix}cameras").mkdir(parents=True)
        (base / f"{prefix}cameras" / f"{NAME}.json").write_text(json.dumps({**record, "fx": 30.0 if prefix else 20.0}))
        picture(base / f"{prefix}images" / f"{NAME}.jpg", seed=2)
    return root


def test_corrected_camera_pose_and_depth(tmp_path: Path) -> None:
    data = load(capture(tmp_path / "flat"))
    sample = data[0]
    assert data.source.kind == "polycam" and data.scenes == ("flat",) and data.ids == (f"flat/{NAME}",)
    assert sample.intrinsics is not None and sample.intrinsics.fx == 30 and float(sample.depth.min()) == 2.5
    assert sample.pose is not None and sample.pose[:3, 3].tolist() == [4, 5, 6]
    forward, down = sample.pose[:3, 2], sample.pose[:3, 1]
    assert forward.tolist() == [1, 0, 0] and down.tolist() == [0, -1, 0]


def test_an_export_without_corrections(tmp_path: Path) -> None:
    camera = load(capture(tmp_path / "flat", corrected=False))[0].intrinsics
    assert camera is not None and camera.fx == 20


def test_confidence_is_a_threshold_on_the_stored_counts(tmp_path: Path) -> None:
    root = capture(tmp_path / "flat")
    shares = [float(load(f"polycam:{root}?confidence={c}")[0].valid.float().mean()) for c in (0, 54, 255)]
    assert shares == pytest.approx([1, 2 / 3, 1 / 3])


def test_a_damaged_camera_is_named(tmp_path: Path) -> None:
    root = capture(tmp_path / "flat")
    (root / "keyframes" / "corrected_cameras" / f"{NAME}.json").write_text('{"fx": 1}')
    with pytest.raises(DataError, match=r"json: is no camera of Polycam"):
        load(root)
