"""``diode:`` — DIODE, dense indoor and outdoor depth from a laser scanner (Vasiljevic et al. 2019, arXiv 1908.00463)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fathom.data.dataset import Frame
from fathom.data.formats.files import clean_depth, read_npy, read_rgb
from fathom.errors import DataError, UsageError
from fathom.files.inputs import below, read_json
from fathom.sample import Intrinsics, Sample

CAMERA = Intrinsics(886.81, 927.06, 512.0, 384.0)
"""Of the 1024x768 image; the published principal point is its exact middle, so pixel centres lie at + 0.5."""

KIT_VALIDATION, ARCHIVE_VALIDATION = 612, 771
"""Images of the validation set in the development kit's list, and in the archive in use: a superset."""

Where = Literal["all", "indoors", "outdoor"]


@dataclass
class DiodeSource:
    """Frames of DIODE; see `open_diode`."""

    location: str
    images: Sequence[Path]
    frames: Sequence[Frame]
    facts: Mapping[str, str]
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    kind: str = "diode"
    left_out: Sequence[str] = ()

    def read(self, index: int) -> Sample:
        """One frame; the mask decides validity, beside NaN, infinities and zeros."""
        image, frame = self.images[index], self.frames[index]
        path = beside(image, "_depth.npy")
        depth, valid = clean_depth(read_npy(path), path)
        mask_path = beside(image, "_depth_mask.npy")
        mask = torch.from_numpy(read_npy(mask_path) > 0)[None]
        rgb = read_rgb(image)
        for name, found in ((mask_path, mask.shape[-2:]), (image, rgb.shape[-2:])):
            if found != depth.shape[-2:]:
                raise DataError(name, f"is {found[0]}x{found[1]} for depth of {depth.shape[-2]}x{depth.shape[-1]}")
        normals = None
        if (normal_path := beside(image, "_normal.npy")).is_file():
            raw = torch.from_numpy(np.ascontiguousarray(read_npy(normal_path, 3).astype(np.float32).transpose(2, 0, 1)))
            length = raw.norm(dim=0, keepdim=True)
            normals = torch.where(torch.isfinite(length) & (length > 0.5), raw / length.clamp(min=0.5), 0.0)
        camera = CAMERA.scaled(rgb.shape[-2] / 768, rgb.shape[-1] / 1024)
        return Sample(rgb, depth, valid & mask, frame.scene, frame.id, camera, normals=normals)


def beside(image: Path, ending: str) -> Path:
    """The file of the same frame with another ending."""
    return image.with_name(image.stem + ending)


def open_diode(
    path: Path,
    *,
    part: Literal["all", "train", "val"] = "all",
    where: Where = "all",
    listed: Path | None = None,
    skip_bad: bool = False,
) -> DiodeSource:
    """Open DIODE at any level of its folders.

    Args:
        path: a folder that holds scans at some depth.
        part: frames below a folder ``train`` or ``val`` only.
        where: frames below ``indoors`` or ``outdoor`` only.
        listed: ``diode_meta.json`` of the development kit: only the images it lists.
        skip_bad: leave out images without depth or mask.
    """
    wanted = _listed(listed) if listed else None
    images: list[Path] = []
    frames: list[Frame] = []
    left_out: list[str] = []
    for depth in sorted(file for file in below(path) if file.name.endswith("_depth.npy")):
        image = depth.with_name(depth.name.removesuffix("_depth.npy") + ".png")
        folders = image.parts
        if (part != "all" and part not in folders) or (where != "all" and where not in folders):
            continue
        if wanted is not None and image.stem not in wanted:
            continue
        missing = next((f for f in (image, beside(image, "_depth_mask.npy")) if not f.is_file()), None)
        if missing is not None:
            if not skip_bad:
                raise DataError(missing, f"is missing beside {depth.name}", "complete the frame or use --skip-bad")
            left_out.append(f"{missing}: is missing")
            continue
        scene = next((name for name in reversed(folders) if name.startswith("scene_")), f"scene_{image.stem[:5]}")
        files = [image, depth, beside(image, "_depth_mask.npy")]
        files += [f for f in (beside(image, "_normal.npy"),) if f.is_file()]
        images.append(image)
        frames.append(Frame(image.stem, scene, tuple(files)))
    if not frames:
        chosen = ", ".join(word for word in (part, where) if word != "all")
        raise DataError(
            path,
            f"holds no DIODE frame{f' of {chosen}' if chosen else ''}",
            "looked for <id>.png with <id>_depth.npy and <id>_depth_mask.npy below it",
        )
    sides = {name: [i for i, image in enumerate(images) if name in image.parts] for name in ("train", "val")}
    facts = {
        "depth": "z-depth in float32 metres; the mask, liberal at edges, decides validity",
        "size": "768x1024",
        "indoors, outdoor": ", ".join(str(sum(word in i.parts for i in images)) for word in ("indoors", "outdoor")),
    }
    if sides["val"]:
        facts["validation set"] = _which(len(sides["val"]), wanted is not None, where)
    if left_out:
        facts["left out"] = f"{len(left_out)} incomplete: {'; '.join(left_out[:3])}"
    # The validation set has scenes of its own and serves as the test set everywhere.
    official = {"train": sides["train"], "test": sides["val"]} if sides["train"] and sides["val"] else {}
    return DiodeSource(str(path), images, frames, facts, official, left_out=tuple(left_out))


def _which(found: int, listed: bool, where: str) -> str:
    if listed:
        return f"{found} images that the development kit lists"
    if where == "all" and found == ARCHIVE_VALIDATION:
        return f"the archive's {found} images, a superset of the development kit's {KIT_VALIDATION}"
    if where == "all" and found == KIT_VALIDATION:
        return f"the {found} images of the development kit's list"
    return f"{found} images: neither the kit's {KIT_VALIDATION} nor the archive's {ARCHIVE_VALIDATION}, so a part of it"


def _listed(table: Path) -> set[str]:
    """Every image stem in the kit's JSON: nested objects that end in lists of stems."""
    record: Any = read_json(
        table, object, what="the development kit's list", fix="name diode_meta.json", limit="index-bytes"
    )
    stems: set[str] = set()
    open_nodes = [record]
    while open_nodes:
        node = open_nodes.pop()
        if isinstance(node, dict):
            open_nodes += node.values()
        elif isinstance(node, list):
            stems.update(name for name in node if isinstance(name, str))
    if not stems:
        raise UsageError(f"{table} lists no image; name the development kit's diode_meta.json.")
    return stems
