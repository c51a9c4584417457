"""Splits by scene: never a scene on both sides, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fathom.data.dataset import Dataset, Frame
from fathom.data.splits import kfold_split, load_split, save_split
from fathom.errors import DataError, UsageError


class Listed:
    """A source of names alone."""

    kind, location, facts, official = "listed", "listed", {}, {}

    def __init__(self, scenes: list[str]) -> None:
        self.frames = tuple(Frame(f"{scene}/{i}", scene) for i, scene in enumerate(scenes))

    def read(self, index: int) -> None:
        raise AssertionError("a split reads no frame")


def dataset(sizes: list[int]) -> Dataset:
    return Dataset.whole(Listed([f"s{n}" for n, size in enumerate(sizes) for _ in range(size)]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=40), st.floats(0.05, 0.9), st.integers(0, 5))
def test_fraction_split_parts_the_scenes(sizes: list[int], fraction: float, seed: int) -> None:
    whole = dataset(sizes)
    train, test = whole.split(fraction, seed)
    assert not set(train.scenes) & set(test.scenes)
    assert sorted(train.ids + test.ids) == sorted(whole.ids)
    assert len(train) and len(test)


def test_share_of_frames_is_about_what_was_asked_for() -> None:
    _, test = dataset([5] * 40).split(0.25, 0)
    assert len(test) == 50


def test_split_depends_on_seed_and_names_not_on_order() -> None:
    whole = dataset([3] * 20)
    backwards = whole.subset(list(reversed(range(len(whole)))))
    assert set(whole.split(0.3, 1)[1].scenes) == set(backwards.split(0.3, 1)[1].scenes)
    assert set(whole.split(0.3, 1)[1].scenes) != set(whole.split(0.3, 2)[1].scenes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 20), min_size=5, max_size=30), st.integers(2, 5))
def test_each_scene_is_tested_in_exactly_one_fold(sizes: list[int], folds: int) -> None:
    whole = dataset(sizes)
    parts = kfold_split(whole, folds, 0)
    assert sorted(scene for _, test in parts for scene in test.scenes) == sorted(whole.scenes)
    assert all(not set(train.scenes) & set(test.scenes) for train, test in parts)


def test_one_scene_cannot_be_split() -> None:
    with pytest.raises(UsageError, match="has 1 scene, too few for 2 parts"):
        dataset([9]).split(0.5, 0)
    with pytest.raises(UsageError, match="has 3 scenes, too few for 5 parts"):
        kfold_split(dataset([1, 1, 1]), 5, 0)


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 2])
def test_fraction_outside_0_and_1_is_refused(fraction: float) -> None:
    with pytest.raises(UsageError, match="not between 0 and 1"):
        dataset([1, 1]).split(fraction, 0)


def test_saved_split_comes_back(tmp_path: Path) -> None:
    whole = dataset([2] * 10)
    train, test = whole.split(0.3, 0)
    save_split(tmp_path / "split.json", {"train": train, "test": test}, 0)
    parts = load_split(tmp_path / "split.json", whole)
    assert parts["train"].ids == train.ids and parts["test"].ids == test.ids


def test_split_of_other_data_and_a_broken_file_are_refused(tmp_path: Path) -> None:
    train, test = dataset([2] * 10).split(0.3, 0)
    save_split(tmp_path / "split.json", {"train": train, "test": test}, 0)
    with pytest.raises(DataError, match=r"names frame .*, which listed lacks"):
        load_split(tmp_path / "split.json", dataset([2]))
    (tmp_path / "split.json").write_text(json.dumps({"parts": 3}))
    with pytest.raises(DataError, match=r"split\.json: is not a split that fathom wrote"):
        load_split(tmp_path / "split.json", dataset([2]))


def test_a_scene_in_two_parts_is_not_saved(tmp_path: Path) -> None:
    whole = dataset([4, 4])
    with pytest.raises(UsageError, match="Scene 's0' is in both"):
        save_split(tmp_path / "split.json", {"train": whole.subset([0]), "test": whole.subset([1])})
    assert not (tmp_path / "split.json").exists()
