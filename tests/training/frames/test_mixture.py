"""Several data sets as one: shares of the draws, scenes of one name, the same bits after an interruption."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fathom.data.dataset import Dataset
from fathom.errors import UsageError
from fathom.training.frames.holdout import divide
from fathom.training.frames.mixture import allotted, mixed, mixed_parts, shares
from fathom.training.frames.order import Order
from fathom.training.recipe import from_table
from fathom.training.train import train
from tests.training import painted


def named(prefix: str, scenes: int = 5, views: int = 3) -> Dataset:
    """Painted rooms under other names."""
    source = painted.Painted(scenes=scenes, views=views, location=prefix)
    source.frames = [
        replace(frame, scene=f"{prefix}{frame.scene}", id=f"{prefix}{frame.id}") for frame in source.frames
    ]
    return Dataset.whole(source)


def test_the_mixture_reads_each_frame_from_its_own_set() -> None:
    first, second = named("a", 2), named("b")
    both = mixed([first, second.subset([4, 1])])
    assert both.ids == (*first.ids, second.ids[4], second.ids[1])
    assert torch.equal(both[len(first)].image, second[4].image) and both[3].id == first[3].id
    assert mixed([first]) is first
    assert both.source.location == "a + b"


def test_draws_follow_the_shares_and_every_set_is_gone_through_before_it_repeats() -> None:
    lengths, wanted = [30, 10], [0.25, 0.75]
    order = Order(40, 3, sets=list(zip(lengths, wanted, strict=True)))
    draws = [position for step in range(20) for position, _ in order.draws(step, 8)]  # four epochs of 40
    for epoch in range(4):
        small = sum(position >= 30 for position in draws[epoch * 40 : epoch * 40 + 40])
        assert small == 30
    first, second = [p for p in draws if p < 30], [p for p in draws if p >= 30]
    assert sorted(first[:30]) == list(range(30))
    for i in range(0, 120, 10):
        assert sorted(second[i : i + 10]) == list(range(30, 40))
    assert first[:10] != sorted(first[:10])


def test_a_step_of_the_mixture_is_the_same_wherever_one_starts() -> None:
    sets = [(23, 0.1), (7, 0.9)]
    steadily = Order(30, 1, sets=sets)
    steps = [steadily.draws(step, 4) for step in range(40)]
    assert [Order(30, 1, sets=sets).draws(step, 4) for step in (39, 7, 8)] == [steps[39], steps[7], steps[8]]
    assert Order(30, 2, sets=sets).draws(0, 4) != steps[0]


@pytest.mark.parametrize(("weights", "draws"), [([1.0, 1.0, 1.0], 10), ([0.7, 0.3], 7), ([1e-9, 1.0], 5)])
def test_allotted_draws_are_whole_and_within_one_of_their_share(weights: list[float], draws: int) -> None:
    wanted = shares(weights, [1] * len(weights))
    counts = allotted(wanted, draws)
    assert sum(counts) == draws
    assert all(abs(count - share * draws) < 1 for count, share in zip(counts, wanted, strict=True))


def test_each_set_holds_out_its_own_scenes_and_a_name_in_two_sets_is_one_scene() -> None:
    parts = mixed_parts([divide(named(name), 0.3, 0.2) for name in "ab"])
    for name in "ab":
        assert any(scene.startswith(name) for scene in parts.unseen.scenes)
        assert any(scene.startswith(name) for scene in parts.train.scenes)
    assert not set(parts.unseen.scenes) & set(parts.train.scenes)
    assert sum(parts.lengths) == len(parts.train)
    # The same names, other sizes: what one holds out, the other must not train on.
    clash = mixed_parts(
        [divide(painted.painted(scenes=6), 0.3, 0.0), divide(painted.painted(scenes=9), 0.3, 0.0, seed=4)]
    )
    assert not set(clash.unseen.scenes) & set(clash.train.scenes)
    assert any("another data set holds out" in line for line in clash.notes)


def test_weights_must_be_one_for_each_set(tmp_path: Path) -> None:
    recipe = from_table(painted.recipe(2, data={"weights": [1.0]}))
    with pytest.raises(UsageError, match="--weights names 1, and 2 data sets are given"):
        train(recipe, [named("a"), named("b")], out=tmp_path, device="cpu")


def test_an_interrupted_mixture_ends_in_the_same_bits(tmp_path: Path) -> None:
    def fit(steps: int, out: str, **options: Any) -> dict[str, torch.Tensor]:
        table = painted.recipe(
            steps, data={"weights": [0.8, 0.2]}, schedule={"name": "constant"}, train={"ema": 0.9, "save_every": 2}
        )
        data = [named("a"), named("b")]
        return train(from_table(table), data, out=tmp_path / out, device="cpu", **options).model.state_dict()

    whole = fit(6, "whole")
    fit(4, "part")
    again = fit(6, "part", resume=True)
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    with pytest.raises(UsageError, match=r"data\.weights"):
        other = from_table(
            painted.recipe(6, data={"weights": [0.5, 0.5]}, schedule={"name": "constant"}, train={"ema": 0.9})
        )
        train(other, [named("a"), named("b")], out=tmp_path / "part", device="cpu", resume=True)


def test_draws_of_an_uneven_mixture_are_counted() -> None:
    order = Order(12, 0, sets=[(4, 1.0), (4, 0.0), (4, 0.0)])
    assert set(Counter(p for step in range(6) for p, _ in order.draws(step, 4))) == {0, 1, 2, 3}
