"""DIODE in its original layout."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import diode, picture


def test_frames_scenes_and_masks(tmp_path: Path) -> None:
    written = diode(tmp_path)
    dataset = load(tmp_path)
    assert dataset.source.kind == "diode"
    assert dataset.scenes == ("scene_00019", "scene_00022") and set(dataset.ids) == set(written)
    sample = dataset[0]
    assert not sample.valid[0, 0].any() and sample.valid[0, 1:].all()
    assert np.array_equal(sample.depth[0, 1:].numpy(), written[sample.id][1:, :, 0])


def test_normals_are_read_where_present(tmp_path: Path) -> None:
    diode(tmp_path)
    first, second = load(tmp_path)[0], load(tmp_path)[1]
    assert first.normals is not None and first.normals[:, 3, 3].tolist() == [0, 0, -1]
    assert second.normals is None


def test_indoors_and_outdoor_are_chosen_by_option(tmp_path: Path) -> None:
    diode(tmp_path)
    assert len(load(f"diode:{tmp_path}?where=indoors")) == 2
    assert load(f"diode:{tmp_path}?where=outdoor").scenes == ("scene_00022",)
    with pytest.raises(DataError, match="holds no DIODE frame of train"):
        load(f"diode:{tmp_path}?part=train")


def test_it_says_which_validation_set_it_found(tmp_path: Path) -> None:
    diode(tmp_path)
    assert "3 images: neither the kit's 612 nor the archive's 771" in load(tmp_path).source.facts["validation set"]


def test_development_kit_list_selects_images(tmp_path: Path) -> None:
    stems = list(diode(tmp_path / "d"))
    table = tmp_path / "diode_meta.json"
    table.write_text(json.dumps({"val": {"indoors": {"scene_00019": {"scan_00183": stems[:1]}}}}))
    chosen = load(f"diode:{tmp_path / 'd'}?listed={table}")
    assert chosen.ids == tuple(stems[:1]) and "lists" in chosen.source.facts["validation set"]


def test_two_dimensional_depth_reads_like_three_dimensional(tmp_path: Path) -> None:
    written = diode(tmp_path)
    stem = next(iter(written))
    path = next(tmp_path.rglob(f"{stem}_depth.npy"))
    np.save(path, written[stem][:, :, 0])
    assert np.array_equal(load(tmp_path)[0].depth[0, 1:].numpy(), written[stem][1:, :, 0])


def test_missing_mask_is_named_or_left_out(tmp_path: Path) -> None:
    stem = next(iter(diode(tmp_path)))
    next(tmp_path.rglob(f"{stem}_depth_mask.npy")).unlink()
    with pytest.raises(DataError, match=rf"{stem}_depth_mask\.npy: is missing beside"):
        load(tmp_path)
    assert len(load(tmp_path, skip_bad=True)) == 2


def test_image_of_another_size_is_refused(tmp_path: Path) -> None:
    stem = next(iter(diode(tmp_path)))
    picture(next(tmp_path.rglob(f"{stem}.png")), 13, 16)
    with pytest.raises(DataError, match=rf"{stem}\.png: is 13x16 for depth of 12x16"):
        load(tmp_path)[0]
