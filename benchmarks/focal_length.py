"""The same rooms through several focal lengths: do the metres stay?

python benchmarks/focal_length.py [MODEL ...] [--rooms 4] [--fov 65 50 38] [--keep FOLDER]

Renders rooms that no shipped network was trained on, from one place and direction at several fields of view (needs the extra
[render]). Predicts each view with its true focal length, and once more with the focal length of the widest view, as a network
that ignores the camera would have it. The metres of the same surface, seen by the widest view and by a longer lens, are compared.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import open_depth_model
from fathom.files.atomic import write_json
from fathom.progress import track
from fathom.render.layout import furnish
from fathom.render.renderer import View, build_scene, load_mitsuba, render_view
from fathom.render.rooms import palette_of
from fathom.sample import Intrinsics

SIZE = (120, 160)
SPP = 32
SEED = 90_000
"""Rooms of the shipped data begin at 0."""

Array = NDArray[np.float64]


def render(rooms: int, fovs: list[float]) -> list[list[View]]:
    """Views of each room, the widest first, all from one place in one direction."""
    mi, found = load_mitsuba(), []
    for seed in track(range(SEED, SEED + rooms), "Rendering", rooms):
        room = furnish("room", seed, 1)
        scene = build_scene(mi, room, palette_of(seed, "base"))
        cameras = [replace(room.cameras[0], field_of_view=fov) for fov in sorted(fovs, reverse=True)]
        found.append([render_view(mi, scene, camera, SIZE, SPP, seed) for camera in cameras])
    return found


def metres(model: DepthModel, view: View, camera: Intrinsics) -> Array:
    """Prediction for a view, told `camera`."""
    image = torch.from_numpy(view.rgb).permute(2, 0, 1)[None]
    return model.predict(image, [camera]).values[0].double().numpy()


def same_surface(wide: Array, long: View, focal: float) -> Array:
    """`wide`, the map of a view of focal length `focal`, at the pixels of a longer lens in the same place, by nearest pixel."""
    height, width = wide.shape
    k = long.intrinsics
    rows = ((np.arange(height) + 0.5 - k.cy) / k.fy * focal + k.cy).astype(int)
    columns = ((np.arange(width) + 0.5 - k.cx) / k.fx * focal + k.cx).astype(int)
    return wide[rows[:, None], columns]


def compare(model: DepthModel, views: list[View]) -> list[dict[str, float]]:
    """For each longer lens: its zoom, the median ratio of its metres to the widest view's, and |ln d̂ / d|, told and not told."""
    first = views[0]
    focal = first.intrinsics.fx
    base = metres(model, first, first.intrinsics)
    rows = []
    for view in views[1:]:
        told, untold = (metres(model, view, camera) for camera in (view.intrinsics, first.intrinsics))
        before, known = same_surface(base, view, focal), view.depth > 0
        row = {"zoom": view.intrinsics.fx / focal}
        for name, found in (("told", told), ("untold", untold)):
            row[f"ratio_{name}"] = float(np.exp(np.median(np.log(found / before)[known])))
            row[f"error_{name}"] = float(np.abs(np.log(found[known] / view.depth[known])).mean())
        rows.append(row)
    return rows


def keep(rooms: list[list[View]], folder: Path) -> None:
    """Write the views: JPEG, depth in millimetres, and the focal lengths in ``views.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    table: dict[str, list[dict[str, Any]]] = {}
    for number, views in enumerate(rooms):
        for place, view in enumerate(views):
            name = f"room_{number}_{place}"
            Image.fromarray(view.rgb).save(folder / f"{name}.jpg", quality=90)
            Image.fromarray(np.round(view.depth * 1000).astype(np.uint16)).save(folder / f"{name}.png", optimize=True)
            table.setdefault(f"room_{number}", []).append({"name": name, "focal": view.intrinsics.fx})
    write_json(folder / "views.json", table)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", default=["nyu-pretrained_unet"])
    parser.add_argument("--rooms", type=int, default=4)
    parser.add_argument("--fov", type=float, nargs="+", default=[65.0, 50.0, 38.0])
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    rooms = render(options.rooms, options.fov)
    if options.keep is not None:
        keep(rooms, options.keep)
    for name in options.models:
        model = open_depth_model(name, device="cpu")
        rows = [row for views in rooms for row in compare(model, views)]
        for zoom in sorted({round(row["zoom"], 3) for row in rows}):
            mine = [row for row in rows if round(row["zoom"], 3) == zoom]
            means = {key: round(float(np.mean([row[key] for row in mine])), 3) for key in mine[0]}
            print(name, json.dumps(means))


if __name__ == "__main__":
    main()
