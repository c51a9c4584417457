"""Small data sets written in the exact formats of their origin, for tests of the readers."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
from PIL import Image


def picture(path: Path, height: int = 12, width: int = 16, seed: int = 0) -> np.ndarray:
    """Write random RGB; returns it as (H, W, 3)."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def counts(path: Path, values: np.ndarray) -> np.ndarray:
    """Write uint8 or uint16 counts as PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)
    return values


def pairs(
    root: Path, scenes: int = 4, views: int = 3, height: int = 24, width: int = 32, *, planted: bool = False
) -> Path:
    """A folder of PNG pairs in millimetres, scene by sub-folder.

    Depth depends on the place in the image and on the scene; or with `planted` on the red of blocks of 8x8 pixels.
    """
    rng = np.random.default_rng(7)
    down = np.linspace(3000, 1000, height)[:, None].repeat(width, 1)
    for scene in range(scenes):
        for view in range(views):
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            depth = (down + 300 * scene + 4 * pixels[..., 0]).astype(np.uint16)
            if planted:
                pixels = pixels[::8, ::8].repeat(8, 0).repeat(8, 1)
                depth = (1000 + 10 * pixels[..., 0].astype(np.int64)).astype(np.uint16)
            for folder, array in (("rgb", pixels), ("depth", depth)):
                path = root / folder / f"scene{scene}" / f"{view}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    return root


def nyu_mat(path: Path, frames: int = 5, height: int = 480, width: int = 640) -> dict[str, np.ndarray]:
    """NYU's labelled file: HDF5 with MATLAB's header block, columns first, scene names behind references."""
    rng = np.random.default_rng(3)
    images = rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    depths = rng.uniform(0.8, 9.0, (frames, height, width)).astype(np.float32)
    raw = np.where(rng.random(depths.shape) < 0.2, 0, depths).astype(np.float32)
    labels = rng.integers(0, 895, depths.shape).astype(np.uint16)
    scenes = ["kitchen_0004", "living_room_0012a", "living_room_0012b", "office_0003", "office_0003"][:frames]
    with h5py.File(path, "w", userblock_size=512) as file:
        file["images"] = images.transpose(0, 3, 2, 1)
        for name, values in (("depths", depths), ("rawDepths", raw), ("labels", labels)):
            file[name] = values.transpose(0, 2, 1)
        references = file.create_dataset("scenes", (1, frames), dtype=h5py.ref_dtype)
        for index, scene in enumerate(scenes):
            text = file.create_dataset(f"#refs#/{index}", data=np.array([[ord(c)] for c in scene], dtype=np.uint16))
            text.attrs["MATLAB_class"] = np.bytes_("char")
            references[0, index] = text.ref
    return {"images": images, "depths": depths, "rawDepths": raw, "labels": labels}


def r3d(
    path: Path,
    frames: int = 12,
    depth_size: tuple[int, int] = (8, 6),
    image_size: tuple[int, int] = (32, 24),
    *,
    named_size: bool = True,
    raw: bool = False,
    confidence: bool = True,
) -> list[np.ndarray]:
    """A Record3D archive; returns the depth maps by frame number, written in alphabetic order of names."""
    rng = np.random.default_rng(11)
    maps = [rng.uniform(0.3, 4.0, depth_size).astype(np.float32) for _ in range(frames)]
    maps[0][0, 0], maps[0][0, 1] = np.nan, 0.0
    height, width = image_size
    metadata = {
        "w": width,
        "h": height,
        "K": [20.0 * width / 24, 0, 0, 0, 21.0 * width / 24, 0, 12.5 * width / 24, 16.5 * width / 24, 1],
        "poses": [[0, 0, 0, 1, float(n), 0, 0] for n in range(frames)],
        "fps": 60,
    }
    if named_size:
        metadata |= {"dh": depth_size[0], "dw": depth_size[1]}
    pack = (lambda data: data) if raw else imagecodecs.lzfse_encode
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata", json.dumps(metadata))
        for number in sorted(range(frames), key=str):
            image = Image.fromarray(np.full((height, width, 3), number * 10, np.uint8))
            with archive.open(f"rgbd/{number}.jpg", "w") as member:
                image.save(member, "JPEG")
            archive.writestr(f"rgbd/{number}.depth", pack(maps[number].tobytes()))
            if confidence:
                levels = (np.arange(maps[number].size) % 3).astype(np.uint8)
                archive.writestr(f"rgbd/{number}.conf", pack(levels.tobytes()))
    return maps


def diode(root: Path, height: int = 12, width: int = 16) -> dict[str, np.ndarray]:
    """Three DIODE frames: two indoors (one with normals) and one outdoor, in validation."""
    rng = np.random.default_rng(5)
    written = {}
    for where, scene, number in (("indoors", 19, 0), ("indoors", 19, 1), ("outdoor", 22, 0)):
        stem = f"{scene:05d}_00183_{where}_150_{number:03d}"
        folder = root / "val" / where / f"scene_{scene:05d}" / "scan_00183"
        picture(folder / f"{stem}.png", height, width, number)
        depth = rng.uniform(1, 60, (height, width, 1)).astype(np.float32)
        mask = np.ones((height, width), np.float32)
        mask[0] = 0
        np.save(folder / f"{stem}_depth.npy", depth)
        np.save(folder / f"{stem}_depth_mask.npy", mask)
        if where == "indoors" and number == 0:
            np.save(folder / f"{stem}_normal.npy", np.tile(np.float32([0, 0, -1]), (height, width, 1)))
        written[stem] = depth
    return written
