"""Data sets of Hugging Face: on disk, parquet, arrays; columns and units by option where they are not certain."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fathom.data.sources import load
from fathom.errors import DataError, MissingExtraError, UsageError

datasets = pytest.importorskip("datasets")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def depth_of(row: int) -> np.ndarray:
    return np.random.default_rng(row).uniform(1, 9, (12, 16))


def table(rows: int, stored: str) -> "datasets.Dataset":
    """Rows of an image and a depth map stored as 16-bit millimetres, floating-point image, or array."""
    records = []
    for row in range(rows):
        pixels = np.random.default_rng(100 + row).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        metres = depth_of(row)
        depth = {
            "counts": lambda m=metres: Image.fromarray((m * 1000).astype(np.uint16)),
            "float": lambda m=metres: Image.fromarray(m.astype(np.float32)),
            "array": lambda m=metres: m.astype(np.float32),
        }[stored]()
        records.append(
            {"image": Image.fromarray(pixels), "depth_map": depth, "scene": f"room{row // 2}", "caption": "a"}
        )
    kind = datasets.Array2D((12, 16), "float32") if stored == "array" else datasets.Image()
    text = datasets.Value("string")
    features = datasets.Features({"image": datasets.Image(), "depth_map": kind, "scene": text, "caption": text})
    return datasets.Dataset.from_list(records, features=features)


@pytest.mark.parametrize("stored", ["float", "array"])
def test_floating_point_depth_is_metres(tmp_path: Path, stored: str) -> None:
    table(3, stored).save_to_disk(str(tmp_path / "d"))
    data = load(tmp_path / "d")
    assert data.source.kind == "hf" and data.scenes == ("room0", "room1")
    sample = pickle.loads(pickle.dumps(data))[2]
    assert sample.depth[0].numpy() == pytest.approx(depth_of(2), rel=1e-6)
    expected = np.random.default_rng(102).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), expected)


def test_counts_need_a_unit(tmp_path: Path) -> None:
    table(2, "counts").save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"depth_map: holds uint16 counts.*'PATH\?depth-scale="):
        load(tmp_path / "d")[0]
    sample = load(f"{tmp_path / 'd'}?depth-scale=1000")[1]
    assert sample.depth[0].numpy() == pytest.approx(depth_of(1), abs=1e-3)


def test_splits_become_parts(tmp_path: Path) -> None:
    data = datasets.DatasetDict({"train": table(2, "float"), "validation": table(4, "float").select([2, 3])})
    data.save_to_disk(str(tmp_path / "d"))
    whole = load(tmp_path / "d")
    train, test = whole.official_split()
    assert train.ids == ("train/0", "train/1") and test.ids == ("validation/0", "validation/1")
    assert load(f"{tmp_path / 'd'}?split=validation").ids == test.ids
    with pytest.raises(UsageError, match=r"has no split 'trian' \(did you mean 'train'\?\)"):
        load(f"{tmp_path / 'd'}?split=trian")


def test_parquet_files_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "d" / "data").mkdir(parents=True)
    table(2, "float").to_parquet(str(tmp_path / "d" / "data" / "train-00000-of-00001.parquet"))
    data = load(tmp_path / "d")
    assert data.source.kind == "hf" and data[1].depth[0].numpy() == pytest.approx(depth_of(1), rel=1e-6)


def test_columns_that_are_not_certain_are_asked_for(tmp_path: Path) -> None:
    plain = table(2, "float")
    plain.rename_column("depth_map", "truth").save_to_disk(str(tmp_path / "named"))
    with pytest.raises(DataError, match=r"can be the depth \(columns: truth \(image\), .*give 'PATH\?depth=COLUMN'"):
        load(tmp_path / "named")
    data = load(f"{tmp_path / 'named'}?image=image&depth=truth&scene=caption")
    assert data.scenes == ("a",) and data[0].valid.all()
    plain.remove_columns("depth_map").save_to_disk(str(tmp_path / "without"))
    with pytest.raises(DataError, match=r"has no column that can be the depth .*give 'PATH\?depth=COLUMN'"):
        load(tmp_path / "without")
    with pytest.raises(UsageError, match="has no column 'dpeth'"):
        load(f"{tmp_path / 'without'}?depth=dpeth")


def test_a_name_on_the_hub_without_network_is_one_sentence() -> None:
    with pytest.raises(DataError, match=r"nobody/nothing: cannot be opened .*check the name and the network"):
        load("hf:nobody/nothing")


def test_without_the_extra_one_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table(2, "float").save_to_disk(str(tmp_path / "d"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'fathom-depth\[datasets\]'"):
        load(tmp_path / "d")


def test_a_damaged_table_is_one_sentence_and_not_the_end_of_the_process(tmp_path: Path) -> None:
    table(2, "float").save_to_disk(str(tmp_path / "d"))
    (file,) = (tmp_path / "d").glob("*.arrow")
    whole = file.read_bytes()
    at = whole.index(b"room0room0") - 64  # the offsets of the scenes' names
    found = 0
    for place in range(at, at + 64, 4):
        file.write_bytes(whole[:place] + b"\xff\xff\xff\x7f" + whole[place + 4 :])
        try:
            load(tmp_path / "d")
        except DataError as error:
            found += "holds a damaged table" in str(error)
    assert found
    file.write_bytes(whole.replace(b"room0room0", b"room0\xff\xffom0"))
    with pytest.raises(DataError, match="holds a damaged table"):
        load(tmp_path / "d")


@pytest.mark.parametrize("name", ["../data-00000-of-00001.arrow", "/etc/passwd"])
def test_files_of_a_data_set_stay_in_its_folder(name: str, tmp_path: Path) -> None:
    whole = datasets.DatasetDict({"train": table(2, "float")})
    whole.save_to_disk(str(tmp_path / "d"))
    state = tmp_path / "d" / "train" / "state.json"
    (tmp_path / "d" / "data-00000-of-00001.arrow").write_bytes(next(state.parent.glob("*.arrow")).read_bytes())
    state.write_text(state.read_text().replace("data-00000-of-00001.arrow", name))
    with pytest.raises(DataError, match="outside of its folder"):
        load(tmp_path / "d")
    (tmp_path / "d" / "dataset_dict.json").write_text('{"splits": ["../d/train"]}')
    with pytest.raises(DataError, match="not the plain name of a file"):
        load(tmp_path / "d")
