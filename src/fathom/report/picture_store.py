"""The pictures of a probe run beside its JSON, so that a report can be made again from the folder alone."""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fathom.atomic import atomic_path
from fathom.errors import DataError
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
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if str(arrays["run"]) != run_key(evidence):
                raise DataError(path, "holds the pictures of another run", "run the probe again, or remove the file")
            names, pictures = [str(name) for name in arrays["encoders"]], []
            for index, (id_, scene) in enumerate(zip(arrays["ids"], arrays["scenes"], strict=True)):
                depth = torch.from_numpy(arrays[f"depth_{index}"])[None]
                valid = torch.isfinite(depth)
                maps = torch.from_numpy(arrays[f"predictions_{index}"])
                pictures.append(
                    Picture(
                        id=str(id_),
                        scene=str(scene),
                        image=torch.from_numpy(arrays[f"image_{index}"]).permute(2, 0, 1).float() / 255,
                        depth=torch.where(valid, depth, 0.0),
                        valid=valid,
                        predictions=dict(zip(names, maps, strict=True)),
                        intrinsics=_camera(arrays["intrinsics"][index]),
                    )
                )
    except (OSError, ValueError, KeyError, IndexError, TypeError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise DataError(path, f"is not readable ({error})", "run the probe again, or remove the file") from error
    return pictures


def run_key(evidence: Evidence) -> str:
    """Which run this is: a digest of its test errors, which no other run shares to the last bit."""
    rows = [[row.encoder, row.layer, row.feature, row.errors] for row in evidence.rows]
    content = json.dumps([evidence.test_scenes, rows]).encode()
    return hashlib.sha256(content).hexdigest()[:16]


def _numbers(camera: Intrinsics | None) -> tuple[float, ...]:
    return (np.nan,) * 4 if camera is None else (camera.fx, camera.fy, camera.cx, camera.cy)


def _camera(values: np.ndarray) -> Intrinsics | None:
    return None if not np.isfinite(values).all() else Intrinsics(*(float(value) for value in values))
