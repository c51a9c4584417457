"""Batches for the loop, read ahead in the order of `fathom.training.frames.order`.

Whatever the number of workers, threads or processes, and wherever a run was interrupted: step `s` sees the
same frames with the same augmentation. Nothing about the order needs saving but the step.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from fathom.data.dataset import Dataset
from fathom.progress import track
from fathom.sample import Batch, Grid, Sample
from fathom.signals import signals_later
from fathom.training.frames.order import Draw, Order, generator

Augment = Callable[[Sample, torch.Generator], Sample]


@dataclass(frozen=True)
class Portion:
    """Which part of every step's batch this process computes, and in how many parts."""

    batch: int
    accumulate: int = 1
    rank: int = 0
    world: int = 1

    def parts(self, drawn: Sequence[Draw]) -> list[list[Draw]]:
        """This process's share of a step's draws, in `accumulate` parts of nearly equal size, none empty."""
        own = drawn[self.rank :: self.world]
        count = min(self.accumulate, len(own))
        return [list(own[i::count]) for i in range(count)]


def fit_sample(sample: Sample, size: Grid) -> Sample:
    """The frame at `size`, as training and scoring see it, without what they do not use."""
    from fathom.data.transforms import fit

    fitted = fit(sample, size)
    image = fitted.image
    if image.dtype != torch.uint8:  # a quarter of the memory, and no finer than the file was
        image = (image * 255).round().clamp(0, 255).to(torch.uint8)
    return Sample(image, fitted.depth, fitted.valid, fitted.scene, fitted.id, fitted.intrinsics)


class Frames(TorchDataset[Sample]):
    """Frames of a data set at one size, read when asked for, or read once and kept in memory."""

    def __init__(self, data: Dataset, size: Grid) -> None:
        self.data, self.size = data, size
        self.kept: list[Sample] | None = None

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, position: int) -> Sample:
        if self.kept is not None:
            return self.kept[position]
        return fit_sample(self.data[position], self.size)

    def megabytes(self) -> float:
        """What keeping all frames takes: 3 bytes of colour, 4 of depth, 1 of validity a pixel."""
        return len(self) * self.size[0] * self.size[1] * 8 / 1e6

    def keep(self, workers: int, description: str) -> None:
        """Read every frame once, by `workers` processes where more than one is asked for, and keep them."""
        if self.kept is not None:
            return
        # One block a kind: tensors that came from another process would each hold a file of shared memory
        # open.
        image = torch.empty(len(self), 3, *self.size, dtype=torch.uint8)
        depth, valid = (
            torch.empty(len(self), 1, *self.size),
            torch.empty(len(self), 1, *self.size, dtype=torch.bool),
        )
        kept = []
        for i, sample in enumerate(track(self.stream(workers), description, len(self))):
            image[i], depth[i], valid[i] = sample.image, sample.depth, sample.valid
            kept.append(replace(sample, image=image[i], depth=depth[i], valid=valid[i]))
        self.kept = kept

    def stream(self, workers: int = 0, positions: Sequence[int] | None = None) -> Iterator[Sample]:
        """The frames at `positions` (all of them) in order, read ahead by `workers` processes."""
        chosen = list(range(len(self))) if positions is None else list(positions)
        if self.kept is not None or workers == 0:
            return (self[position] for position in chosen)
        with signals_later():
            return iter(DataLoader(self, None, sampler=chosen, num_workers=workers, collate_fn=_as_is))


def _as_is(sample: Any) -> Any:
    return sample


def keep_in_memory(frames: Sequence[Frames], cache: Literal["auto", "always", "never"], cache_mb: int) -> bool:
    """Whether all of `frames` should be kept."""
    return cache == "always" or (cache == "auto" and sum(part.megabytes() for part in frames) <= cache_mb)


class _Drawn(TorchDataset[Sample]):
    """A map from draws to augmented frames, for worker processes."""

    def __init__(self, frames: Frames, augment: Augment | None, seed: int) -> None:
        self.frames, self.augment, self.seed = frames, augment, seed

    def __getitem__(self, draw: Draw) -> Sample:  # type: ignore[override]
        position, number = draw
        sample = self.frames[position]
        if self.augment is None:
            return sample
        # Offset, so that no augmentation shares its generator with an epoch's order.
        return self.augment(sample, generator(self.seed + 1, number))


def feed(
    frames: Frames,
    portion: Portion,
    steps: range,
    *,
    order: Order | None = None,
    seed: int = 0,
    augment: Augment | None = None,
    workers: int = 0,
    pin: bool = False,
) -> Iterator[list[Batch]]:
    """The parts of each step's batch that this process computes, prepared ahead of time.

    `order` is the shuffled one of `seed` unless given; `seed` draws the augmentation too.
    Frames in memory are prepared by a thread, since decoding is done; others by `workers` processes, or by
    the thread where there are none.
    """
    drawn = _Drawn(frames, augment, seed)
    ordered = Order(len(frames), seed) if order is None else order
    plan = (portion.parts(ordered.draws(step, portion.batch)) for step in steps)
    if frames.kept is not None or workers == 0:
        return _ahead((_stack(drawn, parts, pin) for parts in plan), depth=3)
    return _from_workers(drawn, plan, portion, workers, pin)


def _stack(drawn: _Drawn, parts: Sequence[Sequence[Draw]], pin: bool) -> list[Batch]:
    return [_pinned(Batch.of([drawn[draw] for draw in part]), pin) for part in parts]


def _pinned(batch: Batch, pin: bool) -> Batch:
    if not pin:
        return batch
    camera = None if batch.camera is None else batch.camera.pin_memory()
    tensors = (batch.image.pin_memory(), batch.depth.pin_memory(), batch.valid.pin_memory())
    return Batch(*tensors, batch.scenes, batch.ids, camera)


def _from_workers(
    drawn: _Drawn, plan: Iterator[list[list[Draw]]], portion: Portion, workers: int, pin: bool
) -> Iterator[list[Batch]]:
    """Every part is one worker's batch; they arrive in order and are put together to steps again."""
    count = len(portion.parts([(0, 0)] * portion.batch))
    parts = (part for step in plan for part in step)
    loader = DataLoader(drawn, batch_sampler=parts, num_workers=workers, collate_fn=Batch.of, prefetch_factor=2)
    with signals_later():
        arrived = iter(loader)
    while True:
        step = [_pinned(batch, pin) for _, batch in zip(range(count), arrived, strict=False)]
        if not step:
            return
        yield step


def _ahead(items: Iterator[list[Batch]], depth: int) -> Iterator[list[Batch]]:
    """Run `items` in a thread, `depth` ahead; its errors are raised here, and leaving early ends it."""
    ready: queue.Queue[tuple[list[Batch] | None, BaseException | None]] = queue.Queue(depth)
    stopped = threading.Event()

    def put(item: tuple[list[Batch] | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                return ready.put(item, timeout=0.1)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put((item, None))
                if stopped.is_set():
                    return
            put((None, None))
        except BaseException as error:
            put((None, error))

    thread = threading.Thread(target=work, daemon=True, name="fathom-feed")
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        stopped.set()
        thread.join(timeout=5)
