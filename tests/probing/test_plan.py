"""Blocks and folds keep scenes whole, are balanced, and depend on names alone."""

from __future__ import annotations

import pytest

from fathom.data.dataset import Dataset, Frame
from fathom.errors import FathomError
from fathom.probing.plan import BLOCKS, SAMPLE, Blocks, default_grid, default_size, plan_blocks


class Listed:
    """A source of nothing but names."""

    kind, location = "test", "memory"
    facts: dict[str, str] = {}  # noqa: RUF012
    official: dict[str, list[int]] = {}  # noqa: RUF012

    def __init__(self, scenes: list[str]) -> None:
        self.frames = [Frame(f"{scene}/{i}", scene) for i, scene in enumerate(scenes)]

    def read(self, index: int):
        raise AssertionError("planning reads no frame")


def dataset(sizes: dict[str, int]) -> Dataset:
    return Dataset.whole(Listed([scene for scene, size in sizes.items() for _ in range(size)]))


SIZES = {f"room{i:02d}": 1 + (i * 7) % 12 for i in range(40)}


FEW = dict(list(SIZES.items())[:BLOCKS])


def test_few_scenes_are_blocks_of_their_own() -> None:
    blocks = plan_blocks(dataset(FEW), 5, seed=0)
    assert blocks.count == len(FEW)
    assert sorted(blocks.of_scene.values()) == list(range(len(FEW)))


def test_many_scenes_share_blocks_of_like_size() -> None:
    blocks = plan_blocks(dataset(SIZES), 4, seed=0)
    assert blocks.count == BLOCKS + 1
    frames = [sum(SIZES[s] for s, b in blocks.of_scene.items() if b == block) for block in range(blocks.count)]
    assert sum(frames) == sum(SIZES.values())
    frames.pop(blocks.sample)
    assert max(frames) <= min(frames) + max(SIZES.values())


def test_folds_hold_every_block_once_and_are_balanced() -> None:
    blocks = plan_blocks(dataset(SIZES), 5, seed=0)
    assert sorted(block for fold in blocks.folds for block in fold) == list(range(blocks.count))
    frames = [sum(SIZES[s] for s, b in blocks.of_scene.items() if b in fold) for fold in blocks.folds]
    assert len(frames) == 5 and max(frames) <= min(frames) + max(SIZES.values())


@pytest.mark.parametrize("sizes", [SIZES, FEW, {"a": 900, "b": 40, "c": 700}])
def test_the_sample_is_few_frames_of_whole_scenes(sizes: dict[str, int]) -> None:
    blocks = plan_blocks(dataset(sizes), 3, seed=0)
    frames = sum(size for scene, size in sizes.items() if blocks.of_scene[scene] == blocks.sample)
    inside = [size for scene, size in sizes.items() if blocks.of_scene[scene] in blocks.folds[0]]
    assert 1 <= frames <= max(SAMPLE, min(inside))


@pytest.mark.parametrize("sizes", [SIZES, FEW, {"a": 3, "b": 4}])
def test_blocks_by_fold_keep_the_folds_and_the_sample(sizes: dict[str, int]) -> None:
    fine = plan_blocks(dataset(sizes), 5, seed=0)
    coarse = fine.by_fold()

    def scenes(blocks: Blocks, fold: tuple[int, ...]) -> set[str]:
        return {scene for scene, block in blocks.of_scene.items() if block in fold}

    assert [scenes(fine, f) for f in fine.folds] == [scenes(coarse, f) for f in coarse.folds]
    assert scenes(fine, (fine.sample,)) == scenes(coarse, (coarse.sample,))
    assert coarse.count <= len(coarse.folds) + 1
    assert sorted(set(coarse.of_scene.values())) == list(range(coarse.count))
    # Frames that are read block by block run through the coarse blocks one after the other too.
    data = dataset(sizes)
    runs = [coarse.of_scene[scene] for scene in data.subset(fine.order(data)).frame_scenes]
    assert runs == sorted(runs)


def test_the_plan_depends_on_names_not_on_order() -> None:
    turned = dict(reversed(SIZES.items()))
    assert plan_blocks(dataset(SIZES), 4, 0) == plan_blocks(dataset(turned), 4, 0)
    assert plan_blocks(dataset(SIZES), 4, 0) != plan_blocks(dataset(SIZES), 4, 1)


def test_frames_are_read_block_by_block() -> None:
    data = dataset(SIZES)
    blocks = plan_blocks(data, 4, 0)
    ordered = data.subset(blocks.order(data))
    runs = [blocks.of_scene[scene] for scene in ordered.frame_scenes]
    assert runs == sorted(runs)
    assert sorted(ordered.ids) == sorted(data.ids)


def test_one_scene_cannot_choose_a_penalty() -> None:
    with pytest.raises(FathomError, match="has 1 scene; at least 2"):
        plan_blocks(dataset({"only": 5}), 4, 0)


def test_default_sizes_follow_the_frames() -> None:
    assert default_size((480, 640)) == (240, 320)
    assert default_grid((240, 320)) == (30, 40)
    assert default_size((120, 160)) == (120, 160)
    assert default_grid((256, 256)) == (32, 32)
