"""Frames that are an image and a depth map in files of their own, with a camera and a pose: what most layouts come to.

A layout lists its `View`s and says how its depth maps become metres; `ViewSource` reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from fathom.data.dataset import Frame
from fathom.data.formats.files import SKIP, clean_depth, metres_per_count, read_counts, read_rgb
from fathom.data.formats.poses import matrix_pose, read_numbers
from fathom.errors import DataError, UsageError
from fathom.sample import Grid, Intrinsics, Sample

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class View:
    """One frame before it is read.

    Attributes:
        id, scene: as in `Frame`.
        image, depth: their files.
        camera: of the stored image, or of an image of `camera_size` (height, width), or None.
        pose: camera-to-world as 16 numbers by rows, a text file that holds them, or None.
        timestamp: seconds, or None.
        beside: other files of the frame by what they are, such as ``confidence``.
        number: of the frame in a file of many.
    """

    id: str
    scene: str
    image: Path
    depth: Path
    camera: Intrinsics | None = None
    pose: tuple[float, ...] | Path | None = None
    timestamp: float | None = None
    beside: Mapping[str, Path] = field(default_factory=dict)
    number: int = 0
    camera_size: Grid | None = None


def _read_image(view: View) -> UInt8[Tensor, "3 H W"]:
    return read_rgb(view.image)


@dataclass
class ViewSource:
    """Frames of any layout of `View`s.

    Attributes:
        metres: reads a view's depth map: metres ``(H, W)``, whatever is not finite and above 0 unknown.
        rgb: reads a view's image.
    """

    kind: str
    location: str
    views: Sequence[View]
    metres: Callable[[View], np.ndarray]
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    left_out: Sequence[str] = ()
    rgb: Callable[[View], UInt8[Tensor, "3 H W"]] = _read_image

    def __post_init__(self) -> None:
        self.frames = tuple(
            Frame(view.id, view.scene, tuple(dict.fromkeys((view.image, view.depth, *view.beside.values()))))
            for view in self.views
        )

    def read(self, index: int) -> Sample:
        """One frame, colour and depth at their own sizes."""
        view = self.views[index]
        image = self.rgb(view)
        depth, valid = clean_depth(self.metres(view), view.depth)
        camera = view.camera
        if camera is not None and view.camera_size is not None:
            camera = camera.scaled(image.shape[-2] / view.camera_size[0], image.shape[-1] / view.camera_size[1])
        pose = None
        if isinstance(view.pose, Path):
            pose = matrix_pose(read_numbers(view.pose), view.pose)
        elif view.pose is not None:
            pose = torch.tensor(view.pose, dtype=torch.float32).reshape(4, 4)
        return Sample(image, depth, valid, view.scene, view.id, camera, pose=pose, timestamp=view.timestamp)


def view_source(
    kind: str,
    path: Path,
    views: Sequence[View],
    metres: Callable[[View], np.ndarray],
    facts: Mapping[str, str],
    *,
    wanted: str,
    left_out: Sequence[str] | None = None,
    parts: Mapping[str, str] | None = None,
    every: int = 1,
    rgb: Callable[[View], UInt8[Tensor, "3 H W"]] = _read_image,
) -> ViewSource:
    """The source of `views`, refused where there is none or two have one name.

    Args:
        wanted: what a frame looks like in this layout, for the sentence about a folder without any.
        left_out: incomplete frames that were left out.
        parts: the official part (``train``, ``val``, ``test``) of frames, by id.
        every: keep each n-th frame of a scene.
    """
    if every < 1:
        raise UsageError(f"every={every} is not 1 or more.")
    seen: dict[str, int] = {}
    ids: set[str] = set()
    kept = []
    for view in views:
        if view.id in ids:
            raise DataError(path, f"holds two frames called '{view.id}'", "rename one, or name one of the folders")
        ids.add(view.id)
        position = seen[view.scene] = seen.get(view.scene, -1) + 1
        if position % every == 0:
            kept.append(view)
    if not kept:
        reason = f" that is complete ({left_out[0]})" if left_out else ""
        raise DataError(path, f"holds no frame{reason}", f"looked for {wanted}")
    told = dict(facts)
    if every > 1:
        told["every"] = f"each {every}th frame of a scene"
    if left_out:
        told["left out"] = f"{len(left_out)} incomplete: {'; '.join(left_out[:3])}"
    sides = {
        part: tuple(i for i, view in enumerate(kept) if (parts or {}).get(view.id) == part)
        for part in ("train", "val", "test")
    }
    official = {part: indices for part, indices in sides.items() if indices}
    return ViewSource(kind, str(path), tuple(kept), metres, told, official, tuple(left_out or ()), rgb)


@dataclass(frozen=True)
class CountedDepth:
    """Depth maps of 8 or 16-bit counts: metres = count x `scale`, the counts in `unknown` are no depth."""

    scale: float
    unknown: tuple[int, ...] = (0,)

    def __call__(self, view: View) -> np.ndarray:
        """Metres of one view, 0 where unknown."""
        counts = read_counts(view.depth)
        metres = counts.astype(np.float32) * np.float32(self.scale)
        metres[np.isin(counts, self.unknown)] = 0
        return metres

    def __str__(self) -> str:
        said = f"z-depth; count x {self.scale:.6g} m"
        others = [str(count) for count in self.unknown if count]
        return said + (f"; {' and '.join(['0', *others])} unknown" if others else "")


@dataclass(frozen=True)
class ConfidentDepth:
    """Counted depth, unknown where the view's map of confidence, the file ``confidence`` beside it, is below `least`."""

    counts: CountedDepth
    least: int

    def __call__(self, view: View) -> np.ndarray:
        """Metres of one view, 0 where unknown or not sure enough."""
        metres = self.counts(view)
        path = view.beside.get("confidence")
        if path is not None and self.least > 0:
            levels = read_counts(path)
            if levels.shape != metres.shape:
                raise DataError(path, f"has confidence of {levels.shape} for depth of {metres.shape}", SKIP)
            metres[levels < self.least] = 0
        return metres


def counted(depth_scale: float | None, default: float, unknown: tuple[int, ...] = (0,)) -> CountedDepth:
    """Counts by the option ``depth-scale``, else by the layout's own metres per count."""
    return CountedDepth(default if depth_scale is None else metres_per_count(depth_scale), unknown)


def by_number(files: Iterable[Path]) -> dict[int, Path]:
    """Files by the last number in their names; two of one number are an error."""
    found: dict[int, Path] = {}
    for file in sorted(files):
        digits = "".join(c if c.isdigit() else " " for c in file.stem).split()
        if not digits:
            continue
        number = int(digits[-1])
        if number in found:
            raise DataError(file, f"has the same number as {found[number].name}", "keep one of the two")
        found[number] = file
    return found


def in_both(
    images: Mapping[Key, Path], depths: Mapping[Key, Path], left_out: list[str] | None, *, spare_images: bool = False
) -> list[Key]:
    """Keys of frames that have both files, in order.

    An image without depth, or depth without an image, raises `DataError`, or is noted in `left_out` where that is a list.
    With `spare_images` the layout has images without depth, which are no frames.
    """
    halves = [(depths, images, "image")] if spare_images else [(images, depths, "depth map"), (depths, images, "image")]
    for one, other, lacks in halves:
        for key in one:
            if key not in other:
                if left_out is None:
                    raise DataError(one[key], f"has no {lacks} that belongs to it", SKIP)
                left_out.append(f"{one[key]}: has no {lacks} that belongs to it")
    # Keys are all numbers or all text.
    return sorted(images.keys() & depths.keys())  # type: ignore[type-var]
