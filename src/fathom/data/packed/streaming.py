"""Packed frames as a stream: shards read from front to back, divided among processes and their workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.data.packed.source import PackedSource
from fathom.errors import DataError, UsageError
from fathom.sample import Sample

Item = tuple[str, Sample | DataError]
"""A frame's id, and the frame or why it cannot be read."""

_READ_AHEAD = 1 << 20
"""Bytes asked of the file system at a time: shards are read from front to back."""


class Stream(IterableDataset[Sample]):
    """The frames of a packed data set, for ``DataLoader(stream, batch_size=None, num_workers=N)``.

    All workers of all ranks together give every frame exactly once an epoch. Each reads one contiguous stretch of the
    shards' order, so that their shares differ by one frame at most, however few the shards.

    Args:
        data: packed data, or a part of them such as a side of a split.
        rank, world: this process and the number of processes.
        shuffle: None reads in the order of storage. A number mixes: the shards come in an order that depends on `seed`
            and the epoch, and each frame given is drawn from a buffer of `shuffle` frames (as samples in memory).
        seed: of the order.
    """

    def __init__(
        self, data: Dataset, *, rank: int = 0, world: int = 1, shuffle: int | None = None, seed: int = 0
    ) -> None:
        if not isinstance(data.source, PackedSource):
            raise UsageError(f"Only packed data can be streamed, not {data.source.kind}; use 'fathom data pack' first.")
        if not 0 <= rank < world:
            raise UsageError(f"There is no process {rank} of {world}.")
        if shuffle is not None and shuffle < 1:
            raise UsageError(f"A shuffle buffer of {shuffle} frames holds none.")
        self.source, self.indices = data.source, data.indices
        self.rank, self.world, self.shuffle, self.seed = rank, world, shuffle, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of epoch `epoch`; call it in every process, before workers start."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Frames that this process's workers give together, where all processes have equally many workers."""
        total = len(self.indices)
        return total * (self.rank + 1) // self.world - total * self.rank // self.world

    def __iter__(self) -> Iterator[Sample]:
        for _, item in self.outcomes():
            if isinstance(item, DataError):
                raise item
            yield item

    def outcomes(self) -> Iterator[Item]:
        """This worker's frames with their ids; a broken one is its `DataError`."""
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return self._mixed(self._read(self._share(worker, workers)), worker)

    def read(self, workers: int = 0, skipped: Skipped | None = None) -> Iterator[Sample]:
        """This process's frames, read by `workers` processes.

        `skipped` collects frames that cannot be read; without it the first one raises its `DataError`, which a plain
        `DataLoader` with workers would turn into another kind of error.
        """
        loader: DataLoader[Item] = DataLoader(_Items(self), None, num_workers=workers, collate_fn=_as_is)
        for id_, item in loader:
            if isinstance(item, Sample):
                yield item
            elif skipped is None:
                raise item
            else:
                skipped.frames.append((id_, str(item)))

    def _order(self) -> list[int]:
        """Indices of the source in the order in which they are read by everyone together."""
        entries = self.source.entries
        ordered = sorted(self.indices, key=lambda i: (entries[i].shard, entries[i].key))
        if self.shuffle is None:
            return ordered
        by_shard: dict[int, list[int]] = {}
        for index in ordered:
            by_shard.setdefault(entries[index].shard, []).append(index)
        shards = list(by_shard.values())
        mixed = torch.randperm(len(shards), generator=self._generator(0)).tolist()
        return [index for number in mixed for index in shards[number]]

    def _share(self, worker: int, workers: int) -> list[int]:
        """The stretch of this worker: first cut among ranks, then among the rank's workers."""
        order = self._order()
        start, end = (len(order) * r // self.world for r in (self.rank, self.rank + 1))
        count = end - start
        return order[start + count * worker // workers : start + count * (worker + 1) // workers]

    def _read(self, indices: list[int]) -> Iterator[Item]:
        file: BinaryIO | None = None
        opened = -1
        try:
            for index in indices:
                shard = self.source.entries[index].shard
                id_ = self.source.frames[index].id
                try:
                    if file is None or shard != opened:
                        if file is not None:
                            file.close()
                        file, opened = self.source.shards[shard].open("rb", buffering=_READ_AHEAD), shard
                    yield id_, self.source.read_from(file, index)
                except OSError as error:
                    yield id_, DataError(self.source.shards[shard], f"cannot be read ({error.strerror})")
                except DataError as error:
                    yield id_, error
        finally:
            if file is not None:
                file.close()

    def _mixed(self, items: Iterator[Item], worker: int) -> Iterator[Item]:
        if self.shuffle is None:
            yield from items
            return
        generator = self._generator(1 + self.rank + self.world * worker)
        buffer: list[Item] = []
        for item in items:
            buffer.append(item)
            if len(buffer) >= self.shuffle:
                yield _draw(buffer, generator)
        while buffer:
            yield _draw(buffer, generator)

    def _generator(self, number: int) -> torch.Generator:
        words = (self.seed * 1_000_003 + self.epoch) * 1_000_003 + number
        return torch.Generator().manual_seed(words % (1 << 63))


def _draw(buffer: list[Item], generator: torch.Generator) -> Item:
    place = int(torch.randint(len(buffer), (), generator=generator))
    buffer[place], buffer[-1] = buffer[-1], buffer[place]
    return buffer.pop()


class _Items(IterableDataset[Item]):
    """What crosses from a worker process: errors as values, since raised ones lose their type."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def __iter__(self) -> Iterator[Item]:
        return self.stream.outcomes()


def _as_is(item: Any) -> Any:
    return item
