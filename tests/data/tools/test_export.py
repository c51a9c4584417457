"""Exported data read back are the same to the millimetre."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.data.sources import load
from fathom.data.tools.export import export
from fathom.errors import DataError
from tests.data.files import picture


def test_export_of_rooms_reads_back(tmp_path: Path) -> None:
    rooms = load("rooms").subset(range(0, 40, 9))
    assert export(rooms, tmp_path / "out") == len(rooms)
    back = load(f"folder:{tmp_path / 'out'}?depth-scale=1000")
    assert back.ids == rooms.ids and back.frame_scenes == rooms.frame_scenes
    for one, two in zip(rooms, back, strict=True):
        assert torch.equal(one.image, two.image)
        assert float((one.depth - two.depth).abs().max()) < 1e-3


def test_depth_beyond_16_bit_millimetres_is_refused(tmp_path: Path) -> None:
    picture(tmp_path / "rgb" / "a.png")
    (tmp_path / "depth").mkdir()
    np.save(tmp_path / "depth" / "a.npy", np.full((12, 16), 70, np.float32))
    with pytest.raises(DataError, match=r"reaches 70\.0 m, beyond the 65\.535 m"):
        export(load(tmp_path), tmp_path / "out")
