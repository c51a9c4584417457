"""The order of training is a function of seed and step; reading ahead and caching change nothing."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from fathom.sample import Batch, Sample
from fathom.training.frames.augment import augment
from fathom.training.frames.feed import Frames, Portion, feed, keep_in_memory
from fathom.training.recipe import AugmentSection
from tests.training import painted

SIZE = (painted.H, painted.W)


def collect(frames: Frames, steps: range, **options: object) -> list[Batch]:
    change = partial(augment, config=AugmentSection(flip=0.5, brightness=0.3))
    fed = feed(frames, Portion(5), steps, seed=1, augment=change, **options)  # type: ignore[arg-type]
    return [batch for parts in fed for batch in parts]


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        x.ids == y.ids and torch.equal(x.image, y.image) and torch.equal(x.depth, y.depth)
        for x, y in zip(a, b, strict=True)
    )


def test_memory_workers_and_where_one_starts_do_not_change_the_batches() -> None:
    reading, kept = Frames(painted.painted(), SIZE), Frames(painted.painted(), SIZE)
    kept.keep(0, "")
    expected = collect(reading, range(6))
    assert len(expected) == 6
    assert same(collect(kept, range(6)), expected)
    assert same(collect(reading, range(6), workers=2), expected)
    assert same(collect(reading, range(4, 6)), expected[4:])
    assert not same(collect(reading, range(2)), expected[2:4])


def test_parts_come_from_workers_step_by_step() -> None:
    frames = Frames(painted.painted(), SIZE)
    portion = Portion(5, accumulate=2)
    here = [[b.ids for b in parts] for parts in feed(frames, portion, range(3), workers=0)]
    there = [[b.ids for b in parts] for parts in feed(frames, portion, range(3), workers=2)]
    assert here == there and [len(parts) for parts in here] == [2, 2, 2]


def test_frames_kept_with_workers_are_those_read_without() -> None:
    alone, helped = Frames(painted.painted(), SIZE), Frames(painted.painted(), SIZE)
    alone.keep(0, "")
    helped.keep(2, "")
    assert alone.kept is not None and helped.kept is not None
    for a, b in zip(alone.kept, helped.kept, strict=True):
        assert a.id == b.id and torch.equal(a.image, b.image) and torch.equal(a.depth, b.depth)


def test_memory_is_used_when_it_suffices_or_when_asked_for() -> None:
    frames = [Frames(painted.painted(scenes=4, views=4), (100, 125))]
    assert frames[0].megabytes() == pytest.approx(16 * 100 * 125 * 8 / 1e6)
    assert keep_in_memory(frames, "auto", 2) and not keep_in_memory(frames, "auto", 1)
    assert keep_in_memory(frames, "always", 1) and not keep_in_memory(frames, "never", 2)


def test_an_error_while_reading_ahead_is_raised_where_the_batch_is_used() -> None:
    def broken(sample: Sample, generator: torch.Generator) -> Sample:
        raise ValueError("broken frame")

    with pytest.raises(ValueError, match="broken frame"):
        list(feed(Frames(painted.painted(), SIZE), Portion(2), range(3), augment=broken))


def test_leaving_early_ends_the_reading_thread() -> None:
    fed = feed(Frames(painted.painted(), SIZE), Portion(2), range(10_000))
    next(fed)
    fed.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "fathom-feed"]
