"""iBims-1."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import counts, picture


@pytest.fixture
def ibims(tmp_path: Path) -> Path:
    root = tmp_path / "ibims1_core_raw"
    for index, name in enumerate(("corridor_01", "office_04")):
        picture(root / "rgb" / f"{name}.png", seed=index)
        depth = np.full((12, 16), 65535 // 5 * (index + 1), np.uint16)
        depth[0, 0] = 0
        counts(root / "depth" / f"{name}.png", depth)
        (root / "calib").mkdir(exist_ok=True)
        (root / "calib" / f"{name}.txt").write_text("20.5,20.6,8.1,6.2")
        for kind, column in (("mask_invalid", 3), ("mask_transp", 5), ("edges", 7)):
            mask = np.ones((12, 16), bool)
            mask[:, column] = False
            (root / kind).mkdir(exist_ok=True)
            Image.fromarray(mask if kind != "edges" else ~mask).save(root / kind / f"{name}.png")
    (tmp_path / "imagelist.txt").write_text("corridor_01\noffice_04\n")
    return tmp_path


def test_counts_masks_camera_and_scenes(ibims: Path) -> None:
    data = load(ibims)
    sample = data[1]
    assert data.source.kind == "ibims" and data.scenes == data.ids == ("corridor_01", "office_04")
    assert sample.depth[sample.valid].numpy() == pytest.approx(20)
    assert int(sample.valid.sum()) == 12 * 14 - 1 and not sample.valid[0, :, [3, 5]].any()
    camera = sample.intrinsics
    assert camera is not None and (camera.fx, camera.fy, camera.cx, camera.cy) == (20.5, 20.6, 8.1, 6.2)
    assert load(ibims / "ibims1_core_raw").ids == data.ids


def test_edges_are_among_the_files_of_a_frame(ibims: Path) -> None:
    from fathom.data.formats.benchmarks.ibims import edges_path

    path = edges_path(load(ibims).frame(0).files)
    assert path is not None and path.name == "corridor_01.png" and path.parent.name == "edges"


def test_a_missing_calibration_is_named(ibims: Path) -> None:
    (ibims / "ibims1_core_raw/calib/office_04.txt").unlink()
    with pytest.raises(DataError, match=r"calib/office_04\.txt: does not exist"):
        load(ibims)
    assert load(ibims, skip_bad=True).ids == ("corridor_01",)
