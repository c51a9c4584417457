"""``ibims:`` — iBims-1 (Koch et al. 2018): 100 indoor images with laser-scanned depth, masks and annotated edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fathom.data.formats.files import SKIP, decode_image
from fathom.data.formats.poses import read_camera, read_text
from fathom.data.formats.views import CountedDepth, View, ViewSource, view_source
from fathom.errors import DataError
from fathom.files.inputs import matching, plain_name

DEPTH = CountedDepth(50 / 65535)
MASKS = ("mask_invalid", "mask_transp")
"""Both are nonzero where depth can be trusted: measured, and not behind glass."""


def _root(path: Path) -> Path | None:
    for folder in (path, path / "ibims1_core_raw"):
        if (folder / "depth").is_dir() and (folder / "rgb").is_dir() and (folder / "calib").is_dir():
            return folder
    return None


def recognise(path: Path) -> bool:
    """Whether a folder is iBims-1's ``ibims1_core_raw`` or holds it."""
    root = _root(path) if path.is_dir() else None
    return root is not None and (_list(root) is not None or any((root / name).is_dir() for name in MASKS))


def _list(root: Path) -> Path | None:
    return next((file for file in (root / "imagelist.txt", root.parent / "imagelist.txt") if file.is_file()), None)


def _metres(view: View) -> np.ndarray:
    metres = DEPTH(view)
    for name in MASKS:
        path = view.beside.get(name)
        if path is None:
            continue
        mask = decode_image(path)
        if mask.shape != metres.shape:
            raise DataError(path, f"is a mask of {mask.shape} for depth of {metres.shape}", SKIP)
        metres[mask == 0] = 0
    return metres


def open_ibims(path: Path, *, skip_bad: bool = False) -> ViewSource:
    """Open iBims-1; each image is a scene.

    Args:
        path: ``ibims1_core_raw``, or the folder that holds it.
        skip_bad: leave out images without depth.
    """
    root = _root(path) or path
    left_out: list[str] | None = [] if skip_bad else None
    table = _list(root)
    names = (
        [plain_name(name, table) for name in read_text(table).split()]
        if table
        else sorted(p.stem for p in matching(root / "rgb", "*.png"))
    )
    views = []
    for name in names:
        image, depth, calibration = (
            root / "rgb" / f"{name}.png",
            root / "depth" / f"{name}.png",
            root / "calib" / f"{name}.txt",
        )
        lacking = next((file for file in (image, depth, calibration) if not file.is_file()), None)
        if lacking is not None:
            if left_out is None:
                raise DataError(lacking, "does not exist", "complete the data or use --skip-bad")
            left_out.append(f"{lacking}: does not exist")
            continue
        beside = {
            kind: file
            for kind in (*MASKS, "edges")
            for file in [root / kind / f"{name}.png"]
            if file.is_file()
        }  # fmt: skip
        views.append(View(name, name, image, depth, read_camera(calibration), beside=beside))
    facts = {
        "depth": "z-depth; count x 50/65535 m; 0, glass and what mask_invalid marks are unknown",
        "scene": "image; the 100 images show different places",
    }
    return view_source(
        "ibims", path, views, _metres, facts, wanted="imagelist.txt, rgb/, depth/ and calib/", left_out=left_out
    )


def edges_path(files: tuple[Path, ...]) -> Path | None:
    """The annotated occlusion edges among a frame's files."""
    return next((file for file in files if file.parent.name == "edges"), None)
