"""The labelled NYU file, in its exact layout."""

from __future__ import annotations

import pickle
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

from fathom.data.dataset import Dataset
from fathom.data.formats.benchmarks.nyu_mat import open_nyu_mat
from fathom.data.formats.benchmarks.official_nyu import FRAMES, official_test, official_train
from fathom.data.loading import batches
from fathom.data.sources import load
from fathom.errors import DataError
from tests.data.files import nyu_mat


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    path = tmp_path_factory.mktemp("nyu") / "nyu_depth_v2_labeled.mat"
    return path, nyu_mat(path)


def test_frame_is_transposed_to_rows_and_columns(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, truth = written
    source = open_nyu_mat(path, border=0)
    sample = source.read(3)
    assert sample.image_size == (480, 640)
    assert np.array_equal(sample.image.permute(1, 2, 0).numpy(), truth["images"][3])
    assert np.array_equal(sample.depth[0].numpy(), truth["depths"][3])
    assert np.array_equal(sample.labels[0].numpy(), truth["labels"][3].astype(np.int64) - 1)


def test_scene_names_are_read_and_parts_of_one_room_are_one_scene(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    dataset = Dataset.whole(open_nyu_mat(written[0]))
    assert dataset.frame_scenes == (
        "kitchen_0004",
        "living_room_0012",
        "living_room_0012",
        "office_0003",
        "office_0003",
    )


def test_border_is_cut_by_default_and_moves_the_camera(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, truth = written
    sample = open_nyu_mat(path).read(0)
    assert sample.image_size == sample.depth_size == (464, 624)
    assert np.array_equal(sample.depth[0].numpy(), truth["depths"][0][8:-8, 8:-8])
    assert sample.intrinsics is not None and sample.intrinsics.cx == pytest.approx(325.58244941119034 - 0.5 - 8)


def test_raw_depth_has_holes_that_are_invalid(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    path, truth = written
    sample = open_nyu_mat(path, depth="raw", border=0).read(1)
    assert np.array_equal(sample.valid[0].numpy(), truth["rawDepths"][1] > 0)
    assert 0.7 < sample.valid.float().mean() < 0.9


def test_worker_processes_read_what_one_process_reads(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    dataset = load(f"nyu-mat:{written[0]}")
    dataset[0]  # opens the file here before the workers fork
    plain = [pair[0].depth for group in batches(dataset, None, batch_size=2) for pair in group]
    forked = [pair[0].depth for group in batches(dataset, None, batch_size=2, workers=2) for pair in group]
    assert all(torch.equal(a, b) for a, b in zip(plain, forked, strict=True))


def test_source_crosses_to_another_process(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    source = open_nyu_mat(written[0])
    here = source.read(2).depth
    with ProcessPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(pickle.loads(pickle.dumps(source)).read, 2).result().depth, here)


def test_reading_holds_few_frames_in_memory(written: tuple[Path, dict[str, np.ndarray]]) -> None:
    source = open_nyu_mat(written[0])
    source.read(0)
    tracemalloc.start()
    for index in range(5):
        source.read(index)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    frame = 480 * 640 * (3 + 4 + 2 + 8)
    assert peak < 3 * frame


def test_split_of_splits_mat_beside_the_file(written: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    table = tmp_path / "splits.mat"
    scipy.io.savemat(
        table, {"trainNdxs": np.array([[2], [3]], np.uint16), "testNdxs": np.array([[1], [4], [5]], np.uint16)}
    )
    train, test = load(f"nyu-mat:{written[0]}?splits={table}").official_split()
    assert (train.ids, test.ids) == (("0002", "0003"), ("0001", "0004", "0005"))


def test_builtin_split_is_a_partition_of_795_and_654() -> None:
    train, test = official_train(), official_test()
    assert (len(train), len(test)) == (795, 654)
    assert sorted(train + test) == list(range(FRAMES))
    # The first training frames of splits.mat are 3, 4, 5 (1-based).
    assert train[:3] == (2, 3, 4)


def test_file_that_is_not_hdf5_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "nyu_depth_v2_labeled.mat"
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600))
    with pytest.raises(DataError, match=r"nyu_depth_v2_labeled\.mat: is not an HDF5 file"):
        load(path)


@pytest.mark.parametrize("share", [0.02, 0.6, 0.999])
def test_file_cut_short_is_refused_by_name(
    written: tuple[Path, dict[str, np.ndarray]], tmp_path: Path, share: float
) -> None:
    whole = written[0].read_bytes()
    path = tmp_path / "cut.mat"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.mat: is (broken or cut short|not an HDF5 file)"):
        Dataset.whole(open_nyu_mat(path))[4]


def test_folder_that_holds_the_file_is_recognised(written: tuple[Path, dict[str, np.ndarray]], tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"nyu_depth_v2_labeled\.mat: does not exist; name nyu_depth_v2_labeled\.mat or"
    ):
        load(f"nyu-mat:{tmp_path}")
    (tmp_path / "nyu_depth_v2_labeled.mat").symlink_to(written[0])
    assert load(tmp_path).source.kind == "nyu-mat" and load(tmp_path).ids == load(written[0]).ids


def test_foreign_hdf5_is_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "other.mat"
    with h5py.File(path, "w") as file:
        file["x"] = np.zeros(3)
    with pytest.raises(DataError, match=r"other\.mat: lacks depths, images, labels, scenes"):
        open_nyu_mat(path)
