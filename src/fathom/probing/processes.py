"""A probe run in several processes, which ``torchrun`` started: each reads its part of the frames, and sums are added up.

Every process opens the same run and calls the functions below in the same order. In a run of one process they do nothing. Only
sums by block and by scene travel, and gloo carries them, between processes of GPUs as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor

from fathom.devices import rank, world_size
from fathom.errors import FathomError
from fathom.progress import track

T = TypeVar("T")
S = TypeVar("S")

SILENT = timedelta(minutes=30)
"""How long one process waits for another, which may read slower disks."""

_joined = False


@contextmanager
def joined() -> Iterator[None]:
    """Take part in the run of all processes of this job; without ``torchrun`` a run is this process's own.

    Raises `FathomError` where another process has ended.
    """
    global _joined
    if world_size() == 1:
        yield
        return
    try:
        torch.distributed.init_process_group("gloo", timeout=SILENT)
        _joined = True
        yield
        torch.distributed.barrier()
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise FathomError(
            f"Process {rank()} of {world_size()} lost contact with the others: one ended, or was silent for "
            f"{SILENT.seconds // 60} minutes; start the same command again ({str(error).splitlines()[0][:150]})."
        ) from error
    finally:
        _joined = False
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def count() -> int:
    """Processes of this run."""
    return world_size() if _joined else 1


def number() -> int:
    """Which of them this one is, from 0."""
    return rank() if _joined else 0


def share(items: Sequence[T]) -> Sequence[T]:
    """The part of this process: neighbours stay together, and sizes differ by one at most.

    Raises `FathomError` where a process would have nothing to do.
    """
    if len(items) < count():
        raise FathomError(f"{len(items)} frames cannot be shared among {count()} processes; start fewer.")
    return items[len(items) * number() // count() : len(items) * (number() + 1) // count()]


def add(tensors: Iterable[Tensor]) -> None:
    """Replace each tensor by its sum over all processes."""
    if count() > 1:
        for tensor in tensors:
            torch.distributed.all_reduce(tensor)


def gathered(items: Sequence[T]) -> list[T]:
    """The items of all processes, in the order of these."""
    if count() == 1:
        return list(items)
    parts: list[list[T]] = [[] for _ in range(count())]
    torch.distributed.all_gather_object(parts, list(items))
    return list(chain.from_iterable(parts))


def divided(function: Callable[[T], S], items: Sequence[T], description: str) -> list[S]:
    """`function` of every item, with progress; each process computes every so many-th."""
    turn = range(number(), len(items), count())
    own = [(position, function(items[position])) for position in track(turn, description)]
    return [value for _, value in sorted(gathered(own), key=lambda pair: pair[0])]
