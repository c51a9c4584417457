"""NYU as folders: bit depths told apart, the doubtful refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fathom.data.sources import load, recognise
from fathom.errors import DataError
from tests.data.files import counts, picture

MILLIMETRES = np.linspace(500, 9000, 12 * 16).reshape(12, 16).astype(np.uint16)
EIGHT_BITS = np.linspace(10, 250, 12 * 16).reshape(12, 16).astype(np.uint8)


def kaggle(root: Path) -> Path:
    """The Kaggle copy as unpacked: nyu_data/data/..., lists whose paths begin with data/."""
    base = root / "nyu_data" / "data"
    lines = {"train": [], "test": []}
    for scene in ("basement_0001a", "basement_0001b", "kitchen_0028"):
        for number in (1, 37):
            picture(base / "nyu2_train" / f"{scene}_out" / f"{number}.jpg")
            counts(base / "nyu2_train" / f"{scene}_out" / f"{number}.png", EIGHT_BITS)
            lines["train"].append(f"data/nyu2_train/{scene}_out/{number}.jpg,data/nyu2_train/{scene}_out/{number}.png")
    for number in range(2):
        picture(base / "nyu2_test" / f"{number:05d}_colors.png")
        counts(base / "nyu2_test" / f"{number:05d}_depth.png", MILLIMETRES)
        lines["test"].append(f"data/nyu2_test/{number:05d}_colors.png,data/nyu2_test/{number:05d}_depth.png")
    for part, rows in lines.items():
        (base / f"nyu2_{part}.csv").write_text("\n".join(rows) + "\n")
    return root


def bts(root: Path) -> Path:
    for scene in ("kitchen_0028a", "kitchen_0028b", "bedroom_0010"):
        for number in (0, 45):
            picture(root / scene / f"rgb_{number:05d}.jpg")
            counts(root / scene / f"sync_depth_{number:05d}.png", MILLIMETRES)
    return root


def test_kaggle_training_maps_are_8_bit_of_10_metres_and_test_maps_millimetres(tmp_path: Path) -> None:
    dataset = load(f"nyu-folder:{kaggle(tmp_path)}")
    train, test = dataset.official_split()
    assert (len(train), len(test)) == (6, 2)
    assert np.allclose(train[0].depth[0].numpy(), EIGHT_BITS * (10 / 255), atol=1e-5)
    assert np.allclose(test[0].depth[0].numpy(), MILLIMETRES / 1000, atol=1e-5)
    assert train.scenes == ("basement_0001", "kitchen_0028")


@pytest.mark.parametrize("below", [".", "nyu_data", "nyu_data/data"])
def test_kaggle_copy_is_recognised_at_each_level(tmp_path: Path, below: str) -> None:
    path = kaggle(tmp_path) / below
    assert len(load(f"nyu-folder:{path}")) == 8
    if below != ".":
        assert recognise(path) == "nyu-folder"


def test_kaggle_copy_without_its_lists_is_read_from_the_folders(tmp_path: Path) -> None:
    base = kaggle(tmp_path) / "nyu_data" / "data"
    for table in base.glob("*.csv"):
        table.unlink()
    train, test = load(base).official_split()
    assert (len(train), len(test)) == (6, 2)


def test_bts_folders_are_recognised_and_read_as_millimetres(tmp_path: Path) -> None:
    dataset = load(bts(tmp_path))
    assert dataset.source.kind == "nyu-folder" and len(dataset) == 6
    assert np.allclose(dataset[0].depth[0].numpy(), MILLIMETRES / 1000, atol=1e-5)
    assert dataset.scenes == ("bedroom_0010", "kitchen_0028")


def test_list_file_names_the_frames(tmp_path: Path) -> None:
    root = bts(tmp_path)
    table = tmp_path / "nyudepthv2_train_files_with_gt.txt"
    table.write_text("/kitchen_0028a/rgb_00045.jpg /kitchen_0028a/sync_depth_00045.png 518.8579\n")
    assert load(f"nyu-folder:{root}?pairs={table}").ids == ("kitchen_0028a/rgb_00045",)


def test_list_naming_a_missing_file_says_line_and_file(tmp_path: Path) -> None:
    table = tmp_path / "list.txt"
    table.write_text("a/rgb_00001.jpg a/sync_depth_00001.png 518.8579\n")
    bts(tmp_path)
    with pytest.raises(DataError, match=r"rgb_00001\.jpg: is missing \(.*list\.txt: line 1 names it\)"):
        load(f"nyu-folder:{tmp_path}?pairs={table}")
    with pytest.raises(DataError, match="holds no NYU frame"):
        load(f"nyu-folder:{tmp_path}?pairs={table}", skip_bad=True)


def test_8_bits_in_the_16_bit_form_are_refused_naming_the_option(tmp_path: Path) -> None:
    root = bts(tmp_path)
    counts(root / "bedroom_0010" / "sync_depth_00000.png", EIGHT_BITS)
    with pytest.raises(DataError, match=r"sync_depth_00000\.png: has 8 bits .*depth-scale="):
        load(root)[0]
    assert load(f"nyu-folder:{root}?depth-scale=0.0392157")[0].depth.max() < 10


def test_16_bit_counts_too_large_for_millimetres_are_refused(tmp_path: Path) -> None:
    root = bts(tmp_path)
    counts(
        root / "bedroom_0010" / "sync_depth_00000.png",
        (MILLIMETRES.astype(np.int64) * 7).clip(0, 65535).astype(np.uint16),
    )
    with pytest.raises(DataError, match=r"counts up to \d+, which as millimetres would be .*depth-scale="):
        load(root)[0]


def test_8_bit_values_stored_in_16_bits_are_refused(tmp_path: Path) -> None:
    root = bts(tmp_path)
    counts(root / "bedroom_0010" / "sync_depth_00000.png", EIGHT_BITS.astype(np.uint16))
    with pytest.raises(DataError, match=r"median of \d+ counts, 8-bit values it seems; give 'PATH\?depth-scale="):
        load(root)[0]


def test_image_without_depth_is_named_or_left_out(tmp_path: Path) -> None:
    root = bts(tmp_path)
    (root / "bedroom_0010" / "sync_depth_00045.png").unlink()
    with pytest.raises(DataError, match=r"sync_depth_00045\.png: is missing beside rgb_00045\.jpg"):
        load(root)
    left = load(root, skip_bad=True)
    assert len(left) == 5 and "sync_depth_00045.png" in left.source.facts["left out"]
