"""The pictures of a probe run next to its JSON, so that a report can be made again from the folder alone."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.data.camera import read_intrinsics
from fathom.data.formats.npy import NUMBERS, from_stream
from fathom.errors import DataError
from fathom.files import limits
from fathom.files.archives import open_archive
from fathom.files.atomic import atomic_path
from fathom.sample import Intrinsics

if TYPE_CHECKING:
    from fathom.probing.evidence.evidence import Evidence
    from fathom.probing.evidence.pictures import Picture

NAME = "pictures.npz"


def save_pictures(evidence: Evidence, out: str | Path) -> Path | None:
    """Write ``pictures.npz`` into folder `out`: arrays alone, no pickle. Without pictures an older file is removed.

    Keys: ``run`` (which evidence they belong to), ``ids``, ``scenes``, ``encoders``, ``intrinsics`` ``(N, 4)`` as fx, fy, cx,
    cy in pixels (NaN where unknown), and for frame i ``image_i`` uint8 ``(H, W, 3)``, ``depth_i`` float32 metres ``(H, W)``
    with NaN where there is no truth, ``predictions_i`` float32 metres ``(encoders, h, w)``.
    """
    path = Path(out) / NAME
    pictures = evidence.pictures
    if not pictures:
        path.unlink(missing_ok=True)
        return None
    names = list(pictures[0].predictions)
    arrays: dict[str, Any] = {
        "run": np.array(run_key(evidence)),
        "ids": np.array([picture.id for picture in pictures]),
        "scenes": np.array([picture.scene for picture in pictures]),
        "encoders": np.array(names),
        "intrinsics": np.array([_numbers(picture.intrinsics) for picture in pictures], dtype=np.float64),
    }
    for index, picture in enumerate(pictures):
        image = (picture.image * 255).round().clamp(0, 255).byte()
        arrays[f"image_{index}"] = image.permute(1, 2, 0).numpy()
        depth, valid = picture.depth[0].numpy(), picture.valid[0].numpy()
        arrays[f"depth_{index}"] = np.where(valid, depth, np.nan).astype(np.float32)
        arrays[f"predictions_{index}"] = np.stack([picture.predictions[name].float().numpy() for name in names])
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load_pictures(evidence: Evidence, out: str | Path) -> list[Picture]:
    """Read what `save_pictures` wrote of this run into folder `out`; empty where it wrote none.

    Raises:
        DataError: the file is broken, or belongs to another run.
    """
    import torch

    from fathom.probing.evidence.pictures import Picture

    path = Path(out) / NAME
    if not path.exists():
        return []
    fix = "run the probe again, or remove the file"
    with open_archive(path, "the pictures of a run", fix) as archive:
        limits.check("index-bytes", sum(info.file_size for info in archive.members.values()), path, "unpacks to")

        def array(name: str, kinds: str = NUMBERS) -> np.ndarray:
            data = archive.read(f"{name}.npy")
            return from_stream(BytesIO(data), len(data), path / name, kinds)

        if array("run", "U").tolist() != run_key(evidence):
            raise DataError(path, "holds the pictures of another run", fix)
        names = [str(name) for name in array("encoders", "U").ravel()]
        ids, scenes, cameras = array("ids", "U"), array("scenes", "U"), array("intrinsics")
        if not (ids.shape == scenes.shape == cameras.shape[:1] and cameras.shape[1:] == (4,)):
            raise DataError(path, "names pictures that do not belong together", fix)
        pictures = []
        for index, (id_, scene) in enumerate(zip(ids, scenes, strict=True)):
            image, depth, maps = (array(f"{kind}_{index}") for kind in ("image", "depth", "predictions"))
            if (
                (image.ndim, depth.ndim, maps.ndim) != (3, 2, 3)
                or image.shape[2] != 3
                or len(maps) != len(names)
                or 0 in (image.size, depth.size, maps.size)
                or image.dtype != np.uint8
                or {depth.dtype, maps.dtype} != {np.dtype(np.float32)}
            ):
                raise DataError(path, f"holds arrays of other shapes for picture {id_}", fix)
            found = torch.from_numpy(depth)[None]
            valid = torch.isfinite(found)
            pictures.append(
                Picture(
                    id=str(id_),
                    scene=str(scene),
                    image=torch.from_numpy(image).permute(2, 0, 1).float() / 255,
                    depth=torch.where(valid, found, 0.0),
                    valid=valid,
                    predictions=dict(zip(names, torch.from_numpy(maps), strict=True)),
                    intrinsics=_camera(cameras[index], path),
                )
            )
    return pictures


def run_key(evidence: Evidence) -> str:
    """Which run this is: a digest of its test errors, which no other run shares to the last bit."""
    rows = [[row.encoder, row.layer, row.feature, row.errors] for row in evidence.rows]
    content = json.dumps([evidence.test_scenes, rows]).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _numbers(camera: Intrinsics | None) -> tuple[float, ...]:
    return (np.nan,) * 4 if camera is None else (camera.fx, camera.fy, camera.cx, camera.cy)


def _camera(values: np.ndarray, path: Path) -> Intrinsics | None:
    """The camera of a row of four numbers; None where all are NaN."""
    return None if np.isnan(values).all() else read_intrinsics(values.tolist(), path)
