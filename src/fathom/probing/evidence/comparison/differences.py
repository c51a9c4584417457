"""In what two runs differ: what forbids pairing their errors, and what may change their numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from numpy.typing import NDArray

from fathom.encoders.spec import shorten_middle
from fathom.probing.evidence.comparison.pairs import ordered
from fathom.probing.evidence.evidence import Evidence

Array = NDArray[np.float64]


def differences(first: Evidence, second: Evidence) -> list[str]:
    """In what the test data of two runs differ, in words; empty where their errors can be paired."""
    found = []
    ours, theirs = (run.data.test.fingerprint for run in (first, second))
    if ours != theirs:
        found.append(f"test frames (fingerprints {ours} and {theirs})")
    here, there = set(first.test_scenes), set(second.test_scenes)
    if here != there:
        odd = min(here ^ there)
        which = "first" if odd in here else "second"
        found.append(
            f"test scenes ({len(here)} and {len(there)}, {len(here & there)} in both; '{odd}' is in the {which} alone)"
        )
    if first.grid != second.grid:
        found.append(f"grid ({first.grid[0]}x{first.grid[1]} and {second.grid[0]}x{second.grid[1]})")
    shared = [name for name in first.features if name in second.features]
    if not shared:
        found.append(f"feature ({', '.join(first.features)} and {', '.join(second.features)})")
    if found:
        return found
    for name in shared:
        cells = [_cells(run, name, first.test_scenes) for run in (first, second)]
        scenes = int((cells[0] != cells[1]).sum())
        if scenes:
            sizes = " and ".join(f"{run.size[0]}x{run.size[1]}" for run in (first, second))
            found.append(f"valid cells of {name} ({scenes} scenes differ; input sizes {sizes})")
    return found


def _cells(run: Evidence, feature: str, order: Sequence[str]) -> Array:
    row = next(row for row in run.rows if row.feature == feature)
    return ordered(row.cells, run.test_scenes, order)


SPEED_ONLY = ("batch_size", "device", "workers", "cache", "pictures")
"""Settings that change no number by more than rounding."""


def why_different(first: Evidence, second: Evidence) -> list[str]:
    """In words, what two runs differ in that may change their numbers; empty where nothing does."""
    found = []
    for name in ("train", "test"):
        one, other = getattr(first.data, name), getattr(second.data, name)
        if one.fingerprint != other.fingerprint:
            what = {"train": "training", "test": "test"}[name]
            found.append(
                f"other {what} frames ({one.frames} of {one.location} and {other.frames} of {other.location})."
            )
    for item in fields(first.settings):
        one, other = getattr(first.settings, item.name), getattr(second.settings, item.name)
        if one != other and item.name not in SPEED_ONLY:
            words = item.name.replace("_", " ")
            found.append(f"other settings: {words} {_brief(other)} instead of {_brief(one)}.")
    before = {item.encoder: item for item in first.encoders if item.role == "encoder"}
    for encoder in second.encoders:
        earlier = before.get(encoder.encoder)
        if earlier is not None:
            differing = (what for what in ("weights", "code") if getattr(earlier, what) != getattr(encoder, what))
            found += [f"other {what} of {encoder.encoder}." for what in differing]
    made = {item.feature: item.code for item in first.targets}
    found += [
        f"other code of feature {item.feature}."
        for item in second.targets
        if made.get(item.feature, item.code) != item.code
    ]
    packages = sorted(first.versions.keys() & second.versions.keys())
    versions = [(name, first.versions[name], second.versions[name]) for name in packages]
    found += [f"another version of {name} ({one} and {other})." for name, one, other in versions if one != other]
    return found


def losses_agree(first: Evidence, second: Evidence) -> str:
    """In words, how far the test losses of the rows that both runs have agree."""
    before = {(row.encoder, row.layer, row.feature, row.seed): row.test_mse for row in first.rows}
    pairs = [
        (before[key], row.test_mse)
        for row in second.rows
        if (key := (row.encoder, row.layer, row.feature, row.seed)) in before
    ]
    worst = max((abs(one - other) / max(abs(one), 1e-300) for one, other in pairs), default=0.0)
    return f"{len(pairs)} losses are " + ("the same" if worst == 0 else f"within {worst:.1g} of it")


def _brief(value: object, most: int = 40) -> str:
    if isinstance(value, tuple) and len(value) > 3 and all(isinstance(item, int | float) for item in value):
        return f"{len(value)} values from {min(value):g} to {max(value):g}"
    if isinstance(value, tuple) and len(value) == 2 and all(type(item) is int for item in value):
        return f"{value[0]}x{value[1]}"
    if isinstance(value, tuple):
        value = ", ".join(map(str, value)) or "none"
    return shorten_middle(str(value), most)
