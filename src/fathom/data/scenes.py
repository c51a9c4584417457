"""Choosing scenes: pure functions of the scene of each frame and a seed.

Which scenes are chosen depends on their names, their frames and the seed, never on the order of the frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def ranked(frame_scenes: Sequence[str], seed: int) -> list[str]:
    """The scenes, each once, in a random order that depends on their names and the seed alone."""
    return sorted(
        dict.fromkeys(frame_scenes),
        key=lambda scene: hashlib.sha256(f"{seed}:{scene}".encode("utf-8", "surrogateescape")).digest(),
    )


def sizes(frame_scenes: Sequence[str]) -> dict[str, int]:
    """Frames of each scene."""
    counts: dict[str, int] = {}
    for scene in frame_scenes:
        counts[scene] = counts.get(scene, 0) + 1
    return counts


def choose_fraction(frame_scenes: Sequence[str], fraction: float, seed: int) -> list[str]:
    """Whole scenes, in random order, until they hold about `fraction` of the frames; at least one, never all."""
    held, frames = 0, sizes(frame_scenes)
    wanted = fraction * len(frame_scenes)
    chosen: list[str] = []
    for scene in ranked(frame_scenes, seed)[:-1]:
        # Take the scene if that brings the share nearer to what was asked for.
        if not chosen or abs(held + frames[scene] - wanted) < abs(held - wanted):
            chosen.append(scene)
            held += frames[scene]
    return chosen


def balanced_folds(frame_scenes: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """The scenes in `folds` parts of about equally many frames: the largest scene first, each to the lightest part."""
    frames = sizes(frame_scenes)
    load, parts = [0] * folds, [[] for _ in range(folds)]  # type: tuple[list[int], list[list[str]]]
    for scene in sorted(ranked(frame_scenes, seed), key=lambda name: -frames[name]):
        lightest = min(range(folds), key=load.__getitem__)
        parts[lightest].append(scene)
        load[lightest] += frames[scene]
    return parts
