"""Blocks and folds keep scenes whole, are balanced, and depend on names alone."""

from __future__ import annotations

import pytest

from fathom.data.dataset import Dataset, Frame
from fathom.errors import FathomError
from fathom.probing.plan import block_limit, default_grid, default_size, plan_blocks


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


@pytest.mark.parametrize("limit", [40, 100])
def test_few_scenes_are_blocks_of_their_own(limit: int) -> None:
    blocks = plan_blocks(dataset(SIZES), limit, 5, seed=0)
    assert blocks.count == 40
    assert sorted(blocks.of_scene.values()) == list(range(40))


def test_many_scenes_share_blocks_of_like_size() -> None:
    blocks = plan_blocks(dataset(SIZES), 8, 4, seed=0)
    frames = [sum(SIZES[s] for s, b in blocks.of_scene.items() if b == block) for block in range(8)]
    assert sum(frames) == sum(SIZES.values())
    assert max(frames) <= min(frames) + max(SIZES.values())


def test_folds_hold_every_block_once() -> None:
    blocks = plan_blocks(dataset(SIZES), 40, 5, seed=0)
    assert sorted(block for fold in blocks.folds for block in fold) == list(range(40))
    assert len(blocks.folds) == 5


def test_the_plan_depends_on_names_not_on_order() -> None:
    turned = dict(reversed(SIZES.items()))
    assert plan_blocks(dataset(SIZES), 8, 4, 0) == plan_blocks(dataset(turned), 8, 4, 0)
    assert plan_blocks(dataset(SIZES), 8, 4, 0) != plan_blocks(dataset(SIZES), 8, 4, 1)


def test_frames_are_read_block_by_block() -> None:
    data = dataset(SIZES)
    blocks = plan_blocks(data, 8, 4, 0)
    ordered = data.subset(blocks.order(data))
    runs = [blocks.of_scene[scene] for scene in ordered.frame_scenes]
    assert runs == sorted(runs)
    assert sorted(ordered.ids) == sorted(data.ids)


def test_one_scene_cannot_choose_a_penalty() -> None:
    with pytest.raises(FathomError, match="has 1 scene; at least 2"):
        plan_blocks(dataset({"only": 5}), 8, 4, 0)


def test_default_sizes_follow_the_frames() -> None:
    assert default_size((480, 640)) == (240, 320)
    assert default_grid((240, 320)) == (30, 40)
    assert default_size((120, 160)) == (120, 160)
    assert default_grid((256, 256)) == (32, 32)


def test_memory_bounds_the_blocks() -> None:
    assert block_limit(100) > 1000
    assert block_limit(4096) == 10
