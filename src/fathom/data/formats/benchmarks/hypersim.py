"""``hypersim:`` — Hypersim (Roberts et al. 2021): rendered indoor scenes whose depth is the distance along the ray."""

from __future__ import annotations

import csv
import re
from io import StringIO
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from fathom.data.formats.files import SKIP
from fathom.data.formats.hdf5 import read_hdf5
from fathom.data.formats.poses import read_text
from fathom.data.formats.views import View, ViewSource, in_both, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching
from fathom.sample import Intrinsics

FOCAL = 886.81
"""Pixels at a width of 1024: a field of view of 60 degrees."""

CAMERA = Intrinsics(FOCAL, FOCAL, 512.0, 384.0)
"""Of the image of 768x1024."""

SPLIT = "metadata_images_split_scene_v1.csv"
_IMAGES = "images/scene_cam_*_final_preview"
_TRUTHS = "images/scene_cam_*_geometry_hdf5"


def recognise(path: Path) -> bool:
    """Whether a folder is a scene ``ai_VVV_NNN`` or holds some."""
    return path.is_dir() and any(next(path.glob(level + _TRUTHS), None) is not None for level in ("", "*/", "*/*/"))


def planar_depth(distance: Float32[ndarray, "H W"], focal: float) -> Float32[ndarray, "H W"]:
    """Depth along the optical axis from distance along the ray, for a principal point in the middle of the image.

    ``z = r f / sqrt(x² + y² + f²)`` with x, y from the middle to the pixel's centre.
    """
    height, width = distance.shape
    x = np.arange(width, dtype=np.float64) + 0.5 - width / 2
    y = np.arange(height, dtype=np.float64) + 0.5 - height / 2
    share = focal / np.sqrt(x[None] ** 2 + y[:, None] ** 2 + focal**2)
    depth: Float32[ndarray, "H W"] = (distance * share).astype(np.float32)
    return depth


def _metres(view: View) -> np.ndarray:
    distance = read_hdf5(view.depth, "dataset")
    if distance.ndim != 2:
        raise DataError(view.depth, f"has shape {distance.shape}; wanted (H, W)", SKIP)
    return planar_depth(distance.astype(np.float32), FOCAL * distance.shape[1] / 1024)


def open_hypersim(
    path: Path,
    *,
    split: Path | None = None,
    part: Literal["all", "train", "val", "test"] = "all",
    every: int = 1,
    skip_bad: bool = False,
) -> ViewSource:
    """Open one scene of Hypersim or a folder of them.

    Args:
        path: ``ai_VVV_NNN``, or a folder of such folders.
        split: the project's table of the official split; ``metadata_images_split_scene_v1.csv`` in the folder is found by
            itself. Frames that it leaves out of the public release are left out.
        part: frames of one part of the official split.
        every: keep each n-th frame of a scene.
        skip_bad: leave out incomplete frames.
    """
    table = split or next((file for file in (path / SPLIT, path.parent / SPLIT) if file.is_file()), None)
    if part != "all" and table is None:
        raise DataError(path, f"has no {SPLIT} to tell the part {part}", "give 'PATH?split=FILE'")
    listed = _listed(table) if table else None
    left_out: list[str] | None = [] if skip_bad else None
    images: dict[str, Path] = {}
    depths: dict[str, Path] = {}
    for level in ("", "*/", "*/*/"):
        images |= _keyed(path, level + _IMAGES + "/frame.*.tonemap.jpg")
        depths |= _keyed(path, level + _TRUTHS + "/frame.*.depth_meters.hdf5")
    if listed is not None:
        images, depths = ({key: file for key, file in files.items() if key in listed} for files in (images, depths))
    views, parts = [], {}
    for key in in_both(images, depths, left_out):
        if listed is not None:
            if part not in ("all", listed[key]):
                continue
            parts[key] = listed[key]
        views.append(View(key, key.split("/")[0], images[key], depths[key], CAMERA, camera_size=(768, 1024)))
    facts = {
        "depth": "z-depth from distance along the ray: z = r f / sqrt(x² + y² + f²), f = 886.81 at a width of 1024",
        "scene": "ai_VVV_NNN",
    }
    if table:
        facts["official split"] = f"{table.name}; {part}"
    return view_source(
        "hypersim",
        path,
        views,
        _metres,
        facts,
        wanted=f"ai_VVV_NNN/{_IMAGES}/frame.IIII.tonemap.jpg with {_TRUTHS}/frame.IIII.depth_meters.hdf5"
        + ("" if part == "all" else f" of part {part}"),
        left_out=left_out,
        parts=parts,
        every=every,
    )


def _keyed(path: Path, pattern: str) -> dict[str, Path]:
    """Files by ``scene/camera/frame``."""
    found = {}
    for file in matching(path, pattern):
        scene, folder = file.resolve().parents[2].name, file.parent.name
        match = re.fullmatch(r"scene_(cam_\d+)_\w+", folder)
        if match:
            found[f"{scene}/{match[1]}/{file.name.split('.')[1]}"] = file
    return found


def _listed(table: Path) -> dict[str, str]:
    """Part of each publicly released frame of the project's table."""
    try:
        rows = list(csv.DictReader(StringIO(read_text(table))))
    except csv.Error as error:
        raise DataError(table, f"is no readable table ({error})", f"name Hypersim's {SPLIT}") from error
    wanted = {"scene_name", "camera_name", "frame_id", "split_partition_name"}
    if not rows or not wanted <= rows[0].keys():
        raise DataError(table, f"lacks the columns {', '.join(sorted(wanted))}", f"name Hypersim's {SPLIT}")
    if short := next((line for line, row in enumerate(rows, 2) if None in row.values() or None in row), None):
        raise DataError(table, f"has another number of fields in line {short}", f"name Hypersim's {SPLIT}")
    released = [row for row in rows if row.get("included_in_public_release", "True").strip().lower() in ("true", "1")]
    try:
        return {
            f"{row['scene_name']}/{row['camera_name']}/{int(row['frame_id']):04d}": row["split_partition_name"].strip()
            for row in released
        }
    except ValueError as error:
        raise DataError(table, f"has a frame_id that is no number ({error})", f"name Hypersim's {SPLIT}") from error
