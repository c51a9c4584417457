"""Every frame exactly once an epoch, however many processes and workers share the stream."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import fathom
from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.data.packed.pack import pack
from fathom.data.packed.streaming import Stream
from fathom.errors import DataError, UsageError

FRAMES = 23


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("data")
    generator = np.random.default_rng(0)
    for i in range(FRAMES):
        for kind, dtype in (("rgb", np.uint8), ("depth", np.uint16)):
            path = root / "in" / kind / f"room{i // 5}" / f"{i:02d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (8, 10, 3) if kind == "rgb" else (8, 10)
            Image.fromarray(generator.integers(1, 250, shape).astype(dtype)).save(path)
    packed = pack(fathom.load(f"folder:{root / 'in'}?depth-scale=10"), root / "out", shard_mb=0.015)
    assert packed.shards > 4
    return fathom.load(root / "out")


@pytest.mark.parametrize("shuffle", [None, 1, 6, 100])
@pytest.mark.parametrize("world", [1, 2, 3, 7, 30])
def test_ranks_share_all_frames_without_loss_or_double(data: Dataset, world: int, shuffle: int | None) -> None:
    shares = [[s.id for s in Stream(data, rank=rank, world=world, shuffle=shuffle)] for rank in range(world)]
    assert Counter(id_ for share in shares for id_ in share) == Counter(data.ids)
    sizes = [len(share) for share in shares]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == [len(Stream(data, rank=rank, world=world)) for rank in range(world)]


@pytest.mark.parametrize("workers", [1, 3, 5])
def test_workers_of_every_rank_share_its_frames(data: Dataset, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The arithmetic of many workers, without starting as many processes."""
    from types import SimpleNamespace

    from fathom.data.packed import streaming

    seen: Counter[str] = Counter()
    for rank in range(2):
        for worker in range(workers):
            info = SimpleNamespace(id=worker, num_workers=workers)
            monkeypatch.setattr(streaming, "get_worker_info", lambda info=info: info)
            seen.update(s.id for s in Stream(data, rank=rank, world=2, shuffle=4, seed=3))
    assert seen == Counter(data.ids)


def test_real_worker_processes_share_all_frames(data: Dataset) -> None:
    loaded = []
    for rank in range(2):
        stream = Stream(data, rank=rank, world=2, shuffle=4)
        loaded += [s.id for s in DataLoader(stream, batch_size=None, num_workers=2, collate_fn=_as_is)]
    assert Counter(loaded) == Counter(data.ids)


def _as_is(item: Any) -> Any:
    return item


def test_a_stream_gives_what_random_access_gives(data: Dataset) -> None:
    for streamed, read in zip(Stream(data), data, strict=True):
        assert streamed.id == read.id and streamed.scene == read.scene
        assert torch.equal(streamed.image, read.image) and torch.equal(streamed.depth, read.depth)


def test_only_the_chosen_part_is_streamed(data: Dataset) -> None:
    train, test = data.split(0.4, seed=1)
    streamed = [s.id for rank in range(3) for s in Stream(train, rank=rank, world=3, shuffle=5)]
    assert Counter(streamed) == Counter(train.ids)
    assert not set(streamed) & set(test.ids)


def test_the_order_is_a_function_of_seed_and_epoch(data: Dataset) -> None:
    def order(seed: int, epoch: int) -> list[str]:
        stream = Stream(data, shuffle=8, seed=seed)
        stream.set_epoch(epoch)
        return [s.id for s in stream]

    assert order(0, 0) == order(0, 0)
    orders = [order(0, 0), order(0, 1), order(1, 0), list(data.ids)]
    assert len({tuple(one) for one in orders}) == 4


def test_a_buffer_of_everything_mixes_evenly(data: Dataset) -> None:
    """With a buffer as large as the data, every frame is as likely first as any other."""
    small = data.subset(range(4))
    first: Counter[str] = Counter()
    for epoch in range(400):
        stream = Stream(small, shuffle=4)
        stream.set_epoch(epoch)
        order = [stream._order()[i] for i in range(4)]
        items = list(stream._mixed(iter([(str(i), DataError("x", "y")) for i in order]), 0))
        first[items[0][0]] += 1
    assert set(first) == {str(i) for i in small.indices}
    assert all(70 <= count <= 130 for count in first.values())  # 100 each; 3.5 standard deviations


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_frame_keeps_its_error_or_is_left_out(data: Dataset, workers: int, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(data.source.location, folder)
    copy = fathom.load(folder)
    offset, size, _ = copy.source.entries[9].members["depth.npz"]  # type: ignore[attr-defined]
    with copy.frame(9).files[0].open("rb+") as file:
        file.seek(offset)
        file.write(bytes(size))
    with pytest.raises(DataError, match=r"shard-\d+\.tar"):
        list(Stream(copy).read(workers))
    skipped = Skipped()
    read = [s.id for s in Stream(copy).read(workers, skipped)]
    assert [id_ for id_, _ in skipped.frames] == [copy.ids[9]]
    assert Counter(read) + Counter([copy.ids[9]]) == Counter(copy.ids)


def test_what_cannot_be_streamed_is_explained(data: Dataset) -> None:
    with pytest.raises(UsageError, match="Only packed data"):
        Stream(fathom.load("rooms"))
    for options in ({"rank": 2, "world": 2}, {"rank": -1}, {"shuffle": 0}):
        with pytest.raises(UsageError):
            Stream(data, **options)  # type: ignore[arg-type]
