"""The order in which a training sees its frames: a function of the seed and the step alone.

Three orders. *Shuffled* draws a permutation of all frames for every epoch. *Weighted* is for several data sets: an epoch
has as many draws as there are frames, each set has its share of them, and goes through its own frames in permutations of
its own, as often as its share takes. *Stored* is for packed data on disks and networks
that seek slowly: an epoch's shards, in an order of its own, are laid end to end and cut into as many lanes as a batch has
images, and every batch takes the next frame of each lane. A lane reads its shards from front to back; the images of a
batch come from places far from one another; the processes of a job read lanes, and so shards, of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.packed.source import PackedSource
from fathom.errors import UsageError
from fathom.training.frames.mixture import allotted, interleaved

Draw = tuple[int, int]
"""Position in the data set, and how many frames the training drew before this one."""

WINDOW = 64
"""Frames of a lane that are read in mixed order: neighbours in a shard are often of one scene."""


class Order:
    """Which frame is drawn when.

    Args:
        frames: how many there are.
        seed: of every permutation.
        shards: for the stored order: the positions that each shard holds, in the order in which it holds them.
        sets: for the weighted order: how many frames each data set has, and its share of the draws; the sets lie one
            after another.
    """

    def __init__(
        self,
        frames: int,
        seed: int = 0,
        shards: Sequence[Sequence[int]] | None = None,
        sets: Sequence[tuple[int, float]] = (),
    ) -> None:
        self.frames, self.seed = frames, seed
        self.lengths = [length for length, _ in sets]
        self.counts = allotted([share for _, share in sets], frames) if sets else []
        self.shards = None if shards is None else [torch.tensor(shard) for shard in shards]
        self._last: tuple[tuple[int, int], Tensor] | None = None

    def draws(self, step: int, batch: int) -> list[Draw]:
        """The frames of step `step`: epochs of every frame once follow one another without a gap."""
        first = step * batch
        return [(int(self._epoch(n // self.frames, batch)[n % self.frames]), n) for n in range(first, first + batch)]

    def _epoch(self, epoch: int, batch: int) -> Int[Tensor, " frames"]:
        """The order of `epoch`; the last one is kept, since a step asks for it many times."""
        key = (epoch, batch)
        if self._last is None or self._last[0] != key:
            mixed = generator(self.seed, epoch)
            if self.counts:
                order = self._weighted(epoch, mixed)
            elif self.shards is None:
                order = torch.randperm(self.frames, generator=mixed)
            else:
                order = self._stored(batch, mixed)
            self._last = key, order
        return self._last[1]

    def _weighted(self, epoch: int, mixed: torch.Generator) -> Int[Tensor, " frames"]:
        """An epoch of the weighted order: draw n of set k is frame ``n mod length`` of its permutation ``n // length``."""
        labels, order, start = interleaved(self.counts, mixed), torch.empty(self.frames, dtype=torch.long), 0
        for place, (count, length) in enumerate(zip(self.counts, self.lengths, strict=True)):
            drawn = torch.arange(epoch * count, (epoch + 1) * count)
            passes = range(epoch * count // length, (epoch + 1) * count // length + 1)
            # Negative numbers: no permutation of a set shares its generator with an epoch.
            orders = [
                torch.randperm(length, generator=generator(self.seed, -1 - place - number * len(self.counts)))
                for number in passes
            ]
            order[labels == place] = start + torch.cat(orders)[drawn - passes[0] * length]
            start += length
        return order

    def _stored(self, lanes: int, mixed: torch.Generator) -> Int[Tensor, " frames"]:
        """An epoch of the stored order: place n of it is frame ``n // lanes`` of lane ``n % lanes``."""
        assert self.shards is not None
        laid = torch.cat([self.shards[i] for i in torch.randperm(len(self.shards), generator=mixed).tolist()])
        lengths = torch.tensor([len(range(lane, self.frames, lanes)) for lane in range(lanes)])
        lane = torch.repeat_interleave(torch.arange(lanes), lengths)
        row = torch.arange(self.frames) - torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        # Sorting a permutation by window, stably, leaves each window's frames in the permutation's order.
        window = lane * (self.frames // WINDOW + 1) + row // WINDOW
        shuffled = torch.randperm(self.frames, generator=mixed)
        shuffled = shuffled[torch.argsort(window[shuffled], stable=True)]
        order = torch.empty_like(laid)
        order[row * lanes + lane] = laid[shuffled]
        return order


def generator(seed: int, number: int) -> torch.Generator:
    """A generator for the pair; neighbouring pairs are unrelated (splitmix64's finaliser mixes the bits)."""
    mask = (1 << 64) - 1
    z = (seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 0x8CB92BA72F3D8DD7) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return torch.Generator().manual_seed(z ^ (z >> 31))


def shards_of(data: Dataset) -> list[list[int]]:
    """The positions of `data` that each shard holds, as they lie there; raises `UsageError` unless they are packed."""
    source = data.source
    if not isinstance(source, PackedSource):
        raise UsageError(
            f"data.stream reads packed data, not {source.kind} ({source.location}); use 'fathom data pack' first."
        )
    by_shard: dict[int, list[int]] = {}
    places = [(source.entries[index].shard, source.entries[index].key) for index in data.indices]
    for position in sorted(range(len(places)), key=places.__getitem__):
        by_shard.setdefault(places[position][0], []).append(position)
    return list(by_shard.values())
