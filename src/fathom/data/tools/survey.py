"""What is in a data set: sizes, depth range, validity, and whether the numbers look like metres."""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.formats.files import DepthUnitWarning
from fathom.data.loading import Skipped
from fathom.data.tools.alignment import EdgeMatch, describe_alignment, match_edges
from fathom.data.tools.leaks import NEAR, difference_hash
from fathom.data.tools.planes import describe_rays, ray_exponents
from fathom.errors import DataError
from fathom.progress import track
from fathom.sample import Sample

PERCENTILES = (0, 1, 5, 25, 50, 75, 95, 99, 100)
MOST_EXAMINED = 60
"""Frames whose edges and planes are looked at, evenly spread over those that are read."""

MOST_HASHED = 2000
"""Frames that are compared with one another for near copies."""

HOLES, SPARSE, CAPPED = 0.3, 0.1, 0.01
"""Shares of pixels: without depth beyond which holes are told of; with depth below which it is sparse; at the largest value."""

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
        findings: sentences on what else looks wrong: mirrored or shifted depth, distance along the ray, coarse steps, holes,
            near copies in several scenes.
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
    with_poses: int = 0
    with_times: int = 0
    empty: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
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
        if self.coarse:
            step += f" in steps of {self.step * 100:.1f} cm: depth of 8 bits or fewer"
        return f"{spread}: plausible as metres{step}"

    @property
    def coarse(self) -> bool:
        """Whether depth has no more values than 8 bits, some millimetres apart."""
        return 1 < self.levels <= 256 and self.step >= 0.002

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


def survey(dataset: Dataset, *, most: int | None = None, skipped: Skipped | None = None, look: bool = True) -> Survey:
    """Read frames (all, or `most` evenly spread ones) and count; with `look`, examine some for `Survey.findings`.

    A broken frame raises its `DataError`, or with `skipped` is put there and into `Survey.broken`.
    """
    result = Survey(len(dataset), len(dataset.scenes))
    images: Counter[str] = Counter()
    depths: Counter[str] = Counter()
    values: list[np.ndarray] = []
    shares: list[float] = []
    levels: list[int] = []
    steps: list[float] = []
    capped: list[float] = []
    looks = _Looks(dataset)
    positions = spread(len(dataset), most) if most else list(range(len(dataset)))
    examined = set(spread(len(positions), MOST_EXAMINED))
    hashed = set(spread(len(positions), MOST_HASHED))
    for turn, position in enumerate(track(positions, "reading")):
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always", DepthUnitWarning)
                sample = dataset[position]
        except DataError as error:
            if skipped is None:
                raise
            skipped.add(dataset, position, error)
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
        result.with_poses += sample.pose is not None
        result.with_times += sample.timestamp is not None
        if look and turn in hashed:
            looks.hash(sample, dataset.frame(position).scene)
        if look and turn in examined and bool(sample.valid.any()):
            looks.examine(sample)
        shares.append(float(sample.valid.float().mean()))
        inside = sample.depth[sample.valid].numpy()
        if inside.size:
            values.append(inside[:: max(1, inside.size // PIXELS_A_FRAME)])
            distinct = np.unique(inside)
            levels.append(len(distinct))
            steps.append(float(np.diff(distinct).min(initial=np.inf)))
            capped.append(float((inside == distinct[-1]).mean()))
        elif sample.target is None or not bool(sample.target.isfinite().all(0).any()):
            result.empty.append(sample.id)
    result.image_sizes, result.depth_sizes = dict(images), dict(depths)
    result.valid = float(np.mean(shares)) if shares else 0.0
    result.levels = int(np.median(levels)) if levels else 0
    result.step = float(np.median([step for step in steps if np.isfinite(step)] or [0.0]))
    if values:
        result.depth = tuple(float(v) for v in np.percentile(np.concatenate(values), PERCENTILES))
        result.findings += _of_depth(result, float(np.median(capped)))
    if look:
        result.findings += looks.findings()
    return result


def _of_depth(found: Survey, capped: float) -> list[str]:
    """What steps, holes and the largest value say."""
    said = []
    if found.coarse:
        said.append(
            f"depth has only about {found.levels} values a frame in steps of {100 * found.step:.1f} cm, as of 8 bits: normals "
            "and edges of it are those of the steps"
        )
    if found.valid < SPARSE:
        said.append(f"depth is sparse: {100 * found.valid:.1f} % of the pixels have some, as from a laser scanner")
    elif found.valid < 1 - HOLES:
        said.append(f"depth has holes: {100 * (1 - found.valid):.0f} % of the pixels have none")
    if capped > CAPPED and found.levels > 1:
        said.append(
            f"{100 * capped:.0f} % of the pixels have exactly the largest depth of their frame (up to {found.depth[-1]:.3g} m): a "
            "cap, or the count that means unknown ('PATH?invalid=COUNT' where the source takes it)"
        )
    return said


class _Looks:
    """What is kept of frames to tell, at the end, how image and depth fit together and whether scenes are scenes."""

    def __init__(self, dataset: Dataset) -> None:
        self.own_scenes = len(dataset.scenes) == len(dataset) > 1
        self.matches: list[EdgeMatch] = []
        self.exponents: list[Float[Tensor, "n 2"]] = []
        self.hashes: list[Bool[np.ndarray, "512"]] = []
        self.names: list[tuple[str, str]] = []

    def hash(self, sample: Sample, scene: str) -> None:
        """Remember what the image looks like."""
        self.hashes.append(difference_hash((sample.float_image() * 255).byte()))
        self.names.append((sample.id, scene))

    def examine(self, sample: Sample) -> None:
        """Take edges and planes of one frame."""
        if (match := match_edges(sample)) is not None:
            self.matches.append(match)
        self.exponents.append(ray_exponents(sample))

    def findings(self) -> list[str]:
        """A sentence for each thing that looks wrong."""
        return [
            said
            for said in (describe_alignment(self.matches), describe_rays(self.exponents), self._copies())
            if said is not None
        ]

    def _copies(self) -> str | None:
        """Frames of different scenes that are nearly the same."""
        if not self.hashes:
            return None
        bits = np.array(self.hashes, dtype=np.float32)
        scenes = np.array([scene for _, scene in self.names])
        distance = bits.sum(1)[:, None] + bits.sum(1)[None] - 2 * bits @ bits.T
        pairs = np.argwhere(np.triu((distance <= NEAR) & (scenes[:, None] != scenes[None])))
        if not len(pairs):
            return None
        one, other = (self.names[index][0] for index in pairs[0])
        frames = len(set(pairs.ravel().tolist()))
        own = "every frame is a scene of its own, and " if self.own_scenes else ""
        return (
            f"{own}{frames} of {len(self.names)} frames nearly equal a frame of another scene ({one} and {other}): a split by "
            "scene would put copies on both sides; name the scenes ('PATH?scene=...')"
        )


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
