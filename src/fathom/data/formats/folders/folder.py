"""``folder:`` — any folder of images and ground truth: depth maps, maps of any other kind (targets), or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Frame
from fathom.data.formats.files import (
    UnknownUnitError,
    clean_depth,
    metres_per_count,
    read_counts,
    read_map,
    read_metres,
    read_rgb,
)
from fathom.data.formats.folders.exported import checksums, compare
from fathom.data.formats.folders.folder_pairs import Pair, find_pairs
from fathom.data.formats.folders.target_files import Layout, TargetFormat, check_view, read_target
from fathom.data.formats.poses import given_camera
from fathom.data.transforms import crop_border
from fathom.errors import DataError
from fathom.sample import Grid, Intrinsics, Sample

FLOATING = (".npy", ".exr", ".tif", ".tiff")
"""Endings of files that may hold floating-point depth."""


@dataclass(frozen=True)
class DepthFormat:
    """How stored depth becomes metres.

    Attributes:
        scale: metres a count, or None for maps of floating-point metres.
        offset: metres added to every count.
        invalid: the stored count that means "no depth", or None.
        mixed: some maps hold counts and some floating-point metres: the scale is that of the counts alone.
    """

    scale: float | None = None
    offset: float = 0.0
    invalid: int | None = 0
    mixed: bool = False

    def read(self, path: Path) -> np.ndarray:
        """Metres as stored, ``(H, W)`` float32."""
        if path.suffix.lower() in FLOATING:
            if self.scale is None:
                return read_metres(path)
            counts = read_map(path)
            if self.mixed and counts.dtype.kind == "f":
                return counts.astype(np.float32)
        else:
            counts = read_counts(path)
            if self.scale is None:
                raise UnknownUnitError.of_counts(path, counts.dtype)
        metres = counts.astype(np.float32) * np.float32(self.scale) + np.float32(self.offset)
        if self.invalid is not None:
            metres[counts == self.invalid] = 0
        return metres

    def __str__(self) -> str:
        if self.scale is None:
            return "z-depth taken as stored; floating-point metres"
        said = f"z-depth taken as stored; depth = count x {self.scale:.6g} m + {self.offset:g} m"
        return said + ("; floating-point maps are metres" if self.mixed else "")


@dataclass
class FolderSource:
    """Frames of a folder; see `open_folder`."""

    location: str
    pairs: Sequence[Pair]
    depth: DepthFormat
    target: TargetFormat
    intrinsics: Intrinsics | None
    unlabelled: int
    border: int
    facts: Mapping[str, str]
    kind: str = "folder"
    left_out: Sequence[str] = ()
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    checksums: Mapping[Path, int] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.frames = tuple(Frame(pair.id, pair.scene, pair.files) for pair in self.pairs)

    def read(self, index: int) -> Sample:
        """One frame."""
        pair = self.pairs[index]
        for file in pair.files:
            compare(file, self.checksums)
        image = read_rgb(pair.image)
        size = int(image.shape[-2]), int(image.shape[-1])
        depth, valid = self._depth(pair, size)
        labels = target = None
        if pair.labels is not None:
            labels = torch.from_numpy(read_counts(pair.labels).astype(np.int64))[None]
            labels[labels == self.unlabelled] = -1
            if labels.shape[-2:] != depth.shape[-2:]:
                sizes = "x".join(map(str, labels.shape[-2:])), "x".join(map(str, depth.shape[-2:]))
                what = "depth" if pair.depth else "an image"
                raise DataError(pair.labels, f"has labels of {sizes[0]} for {what} of {sizes[1]}")
        if pair.target is not None:
            target = read_target(pair.target, self.target)
            check_view(pair.target, target, size)
        sample = Sample(
            image, depth, valid, pair.scene, pair.id, intrinsics=self.intrinsics, labels=labels, target=target
        )
        return crop_border(sample, self.border)

    def _depth(self, pair: Pair, size: Grid) -> tuple[Float[Tensor, "1 H W"], Bool[Tensor, "1 H W"]]:
        """Depth and validity; without a depth map an empty one of the image's size."""
        if pair.depth is None:
            return torch.zeros(1, *size), torch.zeros(1, *size, dtype=torch.bool)
        return clean_depth(self.depth.read(pair.depth), pair.depth)


def open_folder(
    path: Path,
    *,
    depth_scale: float | None = None,
    depth_offset: float = 0.0,
    invalid: int | None = None,
    border: int = 0,
    images: str | None = None,
    depths: str | None = None,
    targets: str | None = None,
    csv: str | None = None,
    scene: str = "auto",
    intrinsics: str | None = None,
    unlabelled: int | None = None,
    target_channels: str | None = None,
    target_layout: Layout | None = None,
    target_invalid: float | None = None,
    target_unit: str = "",
    outside: bool = False,
    skip_bad: bool = False,
) -> FolderSource:
    """Open a folder of pairs.

    Args:
        path: the folder.
        depth_scale: of stored counts: below 1 metres a count (0.001), else counts a metre (1000). Integer maps need it. Where
            only some maps are integers, floating-point ones are metres.
        depth_offset: metres added to every count.
        invalid: the stored count that means "no depth"; 0 unless an offset gives count 0 a depth.
        border: pixels cut from every side.
        images, depths, targets: glob patterns relative to `path`, paired in sorted order of equal stems.
        csv: a table of pairs relative to `path`; ``index.csv`` is found by itself.
        scene: ``auto`` (CSV column, else sub-folder, else each frame its own), ``frame``, or a regular expression whose
            first group, found in the frame's id, is the scene.
        intrinsics: ``fx,fy,cx,cy`` of all images as stored, in pixels; pixel i covers [i, i + 1).
        unlabelled: the stored label that means "none", such as 255.
        target_channels: how many channels each target has, or the names of those to take from EXR files (``R,G,B``); by
            default all that the first target has.
        target_layout: ``hwc`` or ``chw``: where NumPy targets of three axes have their channels. They need it.
        target_invalid: the stored value that means "unknown" in targets, beside NaN.
        target_unit: of the target, for tables.
        outside: whether the table of pairs may name files outside of `path`: absolute paths, or through ``..``.
        skip_bad: leave out pairs that are incomplete instead of raising.
    """
    if not path.is_dir():
        raise DataError(path, "is not a folder", "name the folder that holds images and depth maps")
    given = {"image": images, "depth": depths, "target": targets}
    patterns = {kind: pattern for kind, pattern in given.items() if pattern}
    sums = checksums(path)
    found = find_pairs(path, patterns, csv, scene, skip_bad, outside)
    scale = None if depth_scale is None else metres_per_count(depth_scale)
    if invalid is None and depth_offset == 0:
        invalid = 0
    floating = {pair.depth.suffix.lower() in FLOATING for pair in found.pairs if pair.depth}
    depth = DepthFormat(scale, depth_offset, invalid, mixed=len(floating) == 2)
    target = TargetFormat.of(target_channels, target_layout, target_invalid, target_unit)
    facts = {
        "depth": str(depth) if found.pairs[0].depth else "none: every depth map is empty",
        "pairing": found.how,
        "scene": found.scene,
    }
    if found.pairs[0].target is not None:
        target = _counted(target, found.pairs, skip_bad)
        facts["target"] = str(target)
        if target.unit:
            facts["target unit"] = target.unit
    if unlabelled is not None:
        facts["labels"] = f"{unlabelled} is unlabelled"
    if intrinsics is not None:
        facts["intrinsics"] = f"{intrinsics} pixels of the stored image, as given"
    if border:
        facts["border"] = f"{border} pixels cut from every side"
    if found.skipped:
        facts["left out"] = f"{len(found.skipped)} incomplete: {'; '.join(found.skipped[:3])}"
    camera = given_camera(intrinsics)
    return FolderSource(
        str(path),
        found.pairs,
        depth,
        target,
        camera,
        -1 if unlabelled is None else unlabelled,
        border,
        facts,
        left_out=found.skipped,
        checksums=sums,
    )


def _counted(form: TargetFormat, pairs: Sequence[Pair], skip_bad: bool) -> TargetFormat:
    """The format with its number of channels, which the first target tells where no option did."""
    if form.channels is not None:
        return form
    for pair in pairs:
        assert pair.target is not None
        try:
            return replace(form, channels=len(read_target(pair.target, form)))
        except DataError:
            if not skip_bad:
                raise
    raise DataError(pairs[0].target or "", "and all other targets cannot be read", "see 'fathom data check'")
