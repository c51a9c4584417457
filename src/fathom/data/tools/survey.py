"""What is in a data set: sizes, depth range, validity, and whether the numbers look like metres."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fathom.data.dataset import Dataset
from fathom.data.formats.files import DepthUnitWarning
from fathom.data.loading import Skipped
from fathom.errors import DataError
from fathom.progress import track
from fathom.sample import Sample

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
PIXELS_A_FRAME = 4096
"""Depth values drawn from each frame, evenly: enough for percentiles of the whole."""


@dataclass
class Survey:
    """Counts over the frames that were read.

    Attributes:
        frames, scenes: of the whole data set.
        read: frames that were read for the rest of it.
        image_sizes, depth_sizes: ``HxW`` to number of frames.
        depth: metres at `PERCENTILES`, of valid pixels; empty if none is valid.
        valid: share of valid pixels.
        levels: distinct depth values in a frame, the median over frames.
        step: metres between neighbouring ones, the least in a frame, the median over frames.
        empty: ids of frames without one valid pixel of depth or of another target.
        warnings: of the unit of depth.
        broken: (id, reason) of frames that could not be read.
    """

    frames: int
    scenes: int
    read: int = 0
    image_sizes: dict[str, int] = field(default_factory=dict)
    depth_sizes: dict[str, int] = field(default_factory=dict)
    depth: tuple[float, ...] = ()
    valid: float = 0.0
    levels: int = 0
    step: float = 0.0
    with_intrinsics: int = 0
    with_labels: int = 0
    with_normals: int = 0
    with_targets: int = 0
    empty: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    broken: list[tuple[str, str]] = field(default_factory=list)

    def unit_evidence(self) -> str:
        """What speaks for or against the depth being in metres."""
        if not self.depth:
            return "no valid pixel: nothing can be said of the unit"
        low, median, high = (self.depth[PERCENTILES.index(p)] for p in (1, 50, 99))
        spread = f"median {median:.3g} m, 1 to 99 % {low:.3g} to {high:.3g} m"
        if self.warnings or not 0.1 <= median <= 200:
            return f"{spread}: hardly metres; check the unit ('PATH?depth-scale=...')"
        step = f"; about {self.levels} distinct values a frame"
        if self.levels <= 256 and self.step >= 0.002:
            step += f" in steps of {self.step * 100:.1f} cm: depth of 8 bits or fewer"
        return f"{spread}: plausible as metres{step}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            **{key: value for key, value in vars(self).items() if key not in ("depth", "broken")},
            "depth_percentiles_m": dict(zip(map(str, PERCENTILES), self.depth, strict=False)),
            "unit_evidence": self.unit_evidence(),
            "broken": [{"id": id_, "problem": problem} for id_, problem in self.broken],
        }


def spread(count: int, most: int) -> list[int]:
    """At most `most` positions, evenly over `count`."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)}) if most > 1 else [0]


def survey(dataset: Dataset, *, most: int | None = None, skipped: Skipped | None = None) -> Survey:
    """Read frames (all, or `most` evenly spread ones) and count.

    A broken frame raises its `DataError`, or with `skipped` is put there and into `Survey.broken`.
    """
    result = Survey(len(dataset), len(dataset.scenes))
    images: Counter[str] = Counter()
    depths: Counter[str] = Counter()
    values: list[np.ndarray] = []
    shares: list[float] = []
    levels: list[int] = []
    steps: list[float] = []
    positions = spread(len(dataset), most) if most else list(range(len(dataset)))
    for position in track(positions, "reading"):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DepthUnitWarning)
                sample = dataset[position]
        except DataError as error:
            if skipped is None:
                raise
            skipped.frames.append((dataset.frame(position).id, str(error)))
            result.broken.append((dataset.frame(position).id, str(error)))
            continue
        result.warnings += [str(item.message) for item in caught if issubclass(item.category, DepthUnitWarning)]
        result.read += 1
        images["x".join(map(str, sample.image_size))] += 1
        depths["x".join(map(str, sample.depth_size))] += 1
        result.with_intrinsics += sample.intrinsics is not None
        result.with_labels += sample.labels is not None
        result.with_normals += sample.normals is not None
        result.with_targets += sample.target is not None
        shares.append(float(sample.valid.float().mean()))
        inside = sample.depth[sample.valid].numpy()
        if inside.size:
            values.append(inside[:: max(1, inside.size // PIXELS_A_FRAME)])
            distinct = np.unique(inside)
            levels.append(len(distinct))
            steps.append(float(np.diff(distinct).min(initial=np.inf)))
        elif sample.target is None or not bool(sample.target.isfinite().all(0).any()):
            result.empty.append(sample.id)
    result.image_sizes, result.depth_sizes = dict(images), dict(depths)
    result.valid = float(np.mean(shares)) if shares else 0.0
    result.levels = int(np.median(levels)) if levels else 0
    result.step = float(np.median([step for step in steps if np.isfinite(step)] or [0.0]))
    if values:
        result.depth = tuple(float(v) for v in np.percentile(np.concatenate(values), PERCENTILES))
    return result


def examples(dataset: Dataset, most: int) -> list[Sample]:
    """At most `most` readable frames, spread evenly over the data set."""
    found = []
    for position in spread(len(dataset), most):
        try:
            found.append(dataset[position])
        except DataError:
            # Broken frames are named by `survey`; a sheet shows what there is to see.
            continue
    return found
