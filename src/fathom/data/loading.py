"""Reading frames in batches, ahead of the computation, in an order and with a content that no setting changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import cast

from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fathom.data.dataset import Dataset
from fathom.data.transforms import fit
from fathom.errors import DataError
from fathom.progress import track
from fathom.sample import Batch, Grid, Sample
from fathom.signals import signals_later

READERS = 2
"""Threads that decode when no worker process is asked for: JPEG and PNG decoding let go of the interpreter's lock."""

Pair = tuple[Sample, Sample]
"""A frame brought to the input size, and the same frame as its source gave it."""


@dataclass
class Skipped:
    """Frames that could not be read, with the reason."""

    frames: list[tuple[str, str]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    def add(self, dataset: Dataset, position: int, error: DataError) -> None:
        """Note a frame."""
        self.frames.append((dataset.frame(position).id, str(error)))

    def describe(self, most: int = 3) -> str:
        """The first few in words."""
        shown = "; ".join(reason for _, reason in self.frames[:most])
        return shown + (f"; and {len(self) - most} more" if len(self) > most else "")


def read_each(dataset: Dataset, label: str, skipped: Skipped | None) -> Iterator[tuple[int, Sample]]:
    """Position and frame of all that can be read, with progress; without `skipped` the first that cannot raises its `DataError`."""
    for position in track(range(len(dataset)), label):
        try:
            sample = dataset[position]
        except DataError as error:
            if skipped is None:
                raise
            skipped.add(dataset, position, error)
        else:
            yield position, sample


class _Reader:
    """Reads one frame; a broken one becomes a value, since errors lose their type between processes."""

    def __init__(self, dataset: Dataset, size: Grid | None) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Pair | DataError:
        try:
            sample = self.dataset[position]
        except DataError as error:
            return error
        return (fit(sample, self.size) if self.size else sample), sample


@dataclass(frozen=True)
class collate:  # noqa: N801 - a function with one setting, as DataLoader's worker processes can take it along
    """``collate_fn`` for PyTorch's DataLoader over a `Dataset`: frames of any size to one `Batch`.

    ``DataLoader(fathom.load("rooms"), batch_size=8, collate_fn=fathom.collate(size=(96, 128)))``

    Attributes:
        size: (height, width) that image and ground truth are brought to.
    """

    size: Grid

    def __call__(self, samples: Sequence[Sample]) -> Batch:
        return Batch.of([fit(sample, self.size) for sample in samples])


def batches(
    dataset: Dataset,
    size: Grid | None,
    *,
    batch_size: int,
    workers: int = 0,
    skipped: Skipped | None = None,
) -> Iterator[list[Pair]]:
    """Yield lists of at most `batch_size` (fitted, original) frames in the order of `dataset`.

    Args:
        dataset: what to read.
        size: input (height, width), or None to leave frames as they are.
        batch_size: frames a list; lists are full but for the last.
        workers: processes that read; 0 reads in threads of this one.
        skipped: collects frames that cannot be read; without it the first one raises its `DataError`.
    """
    buffer: list[Pair] = []
    for position, item in enumerate(_stream(_Reader(dataset, size), workers, ahead=2 * batch_size)):
        if isinstance(item, DataError):
            if skipped is None:
                raise item
            skipped.add(dataset, position, item)
            continue
        buffer.append(item)
        if len(buffer) == batch_size:
            yield buffer
            buffer = []
    if buffer:
        yield buffer


def readable(dataset: Dataset, positions: Iterable[int], skip_bad: bool) -> Iterator[Sample]:
    """The frames at `positions`, read one by one; with `skip_bad` without those that cannot be read."""
    for position in positions:
        try:
            yield dataset[position]
        except DataError:
            if not skip_bad:
                raise


def first_frame(dataset: Dataset, skip_bad: bool) -> Sample:
    """The first frame that can be read; raises the first one's `DataError` where none can."""
    found = next(readable(dataset, range(len(dataset)), skip_bad), None)
    return dataset[0] if found is None else found


def _only(items: Sequence[Pair | DataError]) -> Pair | DataError:
    return items[0]


def _stream(reader: _Reader, workers: int, ahead: int) -> Iterator[Pair | DataError]:
    if workers:
        loader: DataLoader[Pair | DataError] = DataLoader(
            cast("TorchDataset[Pair | DataError]", reader),
            batch_size=1,
            num_workers=workers,
            collate_fn=_only,
            prefetch_factor=max(2, ahead // workers),
        )
        with signals_later():
            items = iter(loader)
        yield from items
        return
    pending: deque[Future[Pair | DataError]] = deque()
    with ThreadPoolExecutor(READERS) as pool:
        try:
            for position in range(len(reader)):
                pending.append(pool.submit(reader.__getitem__, position))
                if len(pending) > ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
