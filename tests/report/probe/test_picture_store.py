"""The pictures of a run come back from its folder as they were, and only to the run that they are of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.errors import DataError
from fathom.probing.evidence.evidence import Evidence
from fathom.report.probe.picture_store import load_pictures, save_pictures
from tests.report.material import evidence


def test_pictures_come_back_with_the_evidence(tmp_path: Path) -> None:
    made = evidence()
    path = save_pictures(made, tmp_path)
    made.save(tmp_path)
    found = load_pictures(Evidence.load(tmp_path), tmp_path)
    assert path == tmp_path / "pictures.npz"
    assert [(item.id, item.scene, item.intrinsics) for item in found] == [
        (item.id, item.scene, item.intrinsics) for item in made.pictures
    ]
    for read, given in zip(found, made.pictures, strict=True):
        assert torch.equal(read.image, given.image)  # of 8-bit colours nothing is lost
        assert torch.equal(read.valid, given.valid)
        assert torch.equal(read.depth[read.valid], given.depth[given.valid])
        assert torch.isfinite(read.depth).all()
        assert list(read.predictions) == list(given.predictions)
        assert all(torch.equal(read.predictions[name], given.predictions[name]) for name in given.predictions)


def test_the_file_holds_no_pickle(tmp_path: Path) -> None:
    path = save_pictures(evidence(), tmp_path)
    assert path is not None
    with np.load(path, allow_pickle=False) as arrays:
        assert {arrays[key].dtype.kind for key in arrays} == {"U", "f", "u"}


def test_a_run_without_pictures_removes_those_of_the_run_before(tmp_path: Path) -> None:
    save_pictures(evidence(), tmp_path)
    assert save_pictures(evidence(drawn=False), tmp_path) is None
    assert load_pictures(evidence(), tmp_path) == []


def test_pictures_of_another_run_are_refused(tmp_path: Path) -> None:
    made = evidence()
    save_pictures(made, tmp_path)
    other = replace(made, rows=(replace(made.rows[0], errors=made.rows[1].errors), *made.rows[1:]))
    with pytest.raises(DataError, match=r"pictures\.npz: holds the pictures of another run"):
        load_pictures(other, tmp_path)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.98])
def test_a_torn_file_is_one_sentence(kept: float, tmp_path: Path) -> None:
    made = evidence()
    path = save_pictures(made, tmp_path)
    assert path is not None
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"pictures\.npz: is not the pictures of a run"):
        load_pictures(made, tmp_path)


def test_a_damaged_array_is_one_sentence(tmp_path: Path) -> None:
    made = evidence()
    path = save_pictures(made, tmp_path)
    assert path is not None
    content = bytearray(path.read_bytes())
    start = content.index(b"image_0.npy") + 200
    content[start : start + 400] = bytes(400)
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"pictures\.npz: has a damaged member"):
        load_pictures(made, tmp_path)
