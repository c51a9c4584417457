"""The order of training is a function of seed and step; the stored one reads shards from front to back."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from fathom.data.packed.pack import pack
from fathom.data.sources import load
from fathom.errors import UsageError
from fathom.training.frames.feed import Portion
from fathom.training.frames.order import WINDOW, Order, shards_of
from fathom.training.recipe import from_table
from fathom.training.train import train
from tests.training import painted

FRAMES, SHARD = 1000, 30
SHARDS = [list(range(i, min(i + SHARD, FRAMES))) for i in range(0, FRAMES, SHARD)]


@pytest.mark.parametrize("shards", [None, [[3, 4, 5, 6, 7, 8], [0, 1, 2], list(range(9, 21))]])
def test_every_epoch_shows_every_frame_once_in_another_order(shards: list[list[int]] | None) -> None:
    made = Order(21, 0, shards)
    order = [position for step in range(9) for position, _ in made.draws(step, 7)]
    epochs = [order[i : i + 21] for i in range(0, 63, 21)]
    assert all(sorted(epoch) == list(range(21)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    other = Order(21, 1, shards)
    assert [position for step in range(9) for position, _ in other.draws(step, 7)] != order


@pytest.mark.parametrize("shards", [None, [[0, 1], [2, 3]]])
def test_a_batch_may_hold_more_than_one_epoch(shards: list[list[int]] | None) -> None:
    drawn = Order(4, 0, shards).draws(1, 10)
    assert [number for _, number in drawn] == list(range(10, 20))
    assert sorted(position for position, _ in drawn[2:6]) == list(range(4))


def test_a_step_is_the_same_wherever_one_starts() -> None:
    steadily = Order(FRAMES, 2, SHARDS)
    steps = [steadily.draws(step, 8) for step in range(300)]
    for step in (299, 0, 125):  # 125 begins the second epoch
        assert Order(FRAMES, 2, SHARDS).draws(step, 8) == steps[step]


def test_a_lane_reads_shards_of_its_own_from_front_to_back() -> None:
    batch = 8
    order = Order(FRAMES, 5, SHARDS)
    steps = [[position for position, _ in order.draws(step, batch)] for step in range(FRAMES // batch)]
    held = []
    for lane in range(batch):
        shards = [step[lane] // SHARD for step in steps]
        windows = [shards[i : i + WINDOW] for i in range(0, len(shards), WINDOW)]
        for number, window in enumerate(windows):
            assert len(set(window)) <= WINDOW // SHARD + 2
            for later in windows[number + 2 :]:
                assert not set(window) & set(later), "a shard is read again after it was left"
        held.append(set(shards))
        assert [step[lane] for step in steps] != sorted(step[lane] for step in steps)
    # Neighbouring lanes share at most the shard in which one ends and the other begins.
    assert sum(len(shards) for shards in held) <= len(SHARDS) + batch


def test_processes_read_lanes_of_their_own_without_loss_or_double() -> None:
    order, batch, world = Order(FRAMES, 5, SHARDS), 8, 2
    read: list[list[int]] = [[], []]
    for step in range(FRAMES // batch):
        for rank in range(world):
            parts = Portion(batch, 2, rank, world).parts(order.draws(step, batch))
            read[rank] += [position for part in parts for position, _ in part]
    assert sorted(read[0] + read[1]) == list(range(FRAMES))
    shared = {p // SHARD for p in read[0]} & {p // SHARD for p in read[1]}
    assert len(shared) <= batch


def test_packed_data_train_as_a_stream_resume_and_give_the_same_weights_from_worker_processes(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    pack(painted.painted(), folder, shard_mb=0.008)
    data = load(f"packed:{folder}")
    assert len(shards_of(data)) > 3
    assert sorted(position for shard in shards_of(data) for position in shard) == list(range(len(data)))
    settings = {"validation": {"every": 0}, "schedule": {"name": "constant"}}
    streamed = {"stream": True, "cache": "never"}
    table = painted.recipe(6, data=streamed, **settings)
    train(from_table(table), data, out=tmp_path / "whole", device="cpu")
    short = painted.recipe(3, data=streamed, **settings)
    train(from_table(short), data, out=tmp_path / "again", device="cpu", workers=2)
    train(from_table(table), data, out=tmp_path / "again", device="cpu", resume=True)
    a, b = (load_file(tmp_path / name / "checkpoints/6/model.safetensors") for name in ("whole", "again"))
    assert all(bool((a[name] == b[name]).all()) for name in a)
    mixed = painted.recipe(6, data={"cache": "never"}, **settings)
    train(from_table(mixed), data, out=tmp_path / "mixed", device="cpu")
    c = load_file(tmp_path / "mixed/checkpoints/6/model.safetensors")
    assert any(not bool((a[name] == c[name]).all()) for name in a)


def test_only_packed_data_can_be_streamed(tmp_path: Path) -> None:
    table = from_table(painted.recipe(3, data={"stream": True}))
    with pytest.raises(UsageError, match=r"data\.stream reads packed data, not painted \(painted\)"):
        train(table, painted.painted(), out=tmp_path / "run", device="cpu")


def test_a_run_older_than_a_setting_resumes_with_its_default(tmp_path: Path) -> None:
    table = painted.recipe(3)
    train(from_table(table), painted.painted(), out=tmp_path, device="cpu")
    folder = tmp_path / "checkpoints" / "3"
    config = json.loads((folder / "config.json").read_text())
    del config["recipe"]["data"]["stream"]
    text = json.dumps(config)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["config.json"] = {
        "bytes": len(text.encode()),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
    }
    (folder / "config.json").write_text(text)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    train(from_table(painted.recipe(6)), painted.painted(), out=tmp_path, resume=True, device="cpu")
    assert json.loads((tmp_path / "summary.json").read_text())["steps"] == 6
    streamed = from_table(painted.recipe(9, data={"stream": True}))
    with pytest.raises(UsageError, match=r"data\.stream \(False there, True here\)"):
        train(streamed, painted.painted(), out=tmp_path, resume=True, device="cpu")
