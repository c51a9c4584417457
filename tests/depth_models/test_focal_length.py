"""The same room through several focal lengths: a network that uses the focal length keeps its metres, one that ignores it cannot.

The frames of ``focal_length/`` are two rooms rendered by ``benchmarks/focal_length.py --rooms 3 --keep FOLDER`` (65, 50 and 38
degrees across, 120x160), which no shipped network was trained on.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import open_depth_model
from fathom.sample import Intrinsics

FOLDER = Path(__file__).parent / "focal_length"
VIEWS = json.loads((FOLDER / "views.json").read_text())
FACTOR = {1: 1.25, 2: 1.35}
"""How far the metres of the second and third view may be from the first one's: 50 and 38 degrees against 65."""


@pytest.fixture(scope="module")
def model() -> DepthModel:
    return open_depth_model(None, device="cpu")


def depth(model: DepthModel, view: dict[str, object], focal: float) -> np.ndarray:
    pixels = np.array(Image.open(FOLDER / f"{view['name']}.jpg"))
    height, width = pixels.shape[:2]
    camera = Intrinsics(focal, focal, width / 2, height / 2)
    return model.predict(torch.from_numpy(pixels).permute(2, 0, 1)[None], [camera]).values[0].numpy()


def window(values: np.ndarray, zoom: float) -> np.ndarray:
    """What a lens `zoom` times longer sees of a map, by nearest pixel."""
    height, width = values.shape
    rows = ((np.arange(height) + 0.5 - height / 2) / zoom + height / 2).astype(int)
    columns = ((np.arange(width) + 0.5 - width / 2) / zoom + width / 2).astype(int)
    return values[rows[:, None], columns]


def measured(model: DepthModel, place: int, told: bool) -> tuple[float, float]:
    """Over the rooms: metres of the view relative to the widest one's, and mean |ln d̂ / d|, told its focal length or the widest's."""
    ratios, errors = [], []
    for views in VIEWS.values():
        first, view = views[0], views[place]
        truth = np.array(Image.open(FOLDER / f"{view['name']}.png")) / 1000
        found = depth(model, view, view["focal"] if told else first["focal"])
        before = window(depth(model, first, first["focal"]), view["focal"] / first["focal"])
        ratios.append(np.median(np.log(found / before)))
        errors.append(np.abs(np.log(found[truth > 0] / truth[truth > 0])).mean())
    return float(np.exp(np.mean(ratios))), float(np.mean(errors))


def test_the_frames_are_of_one_place_through_longer_lenses() -> None:
    for views in VIEWS.values():
        wide = np.array(Image.open(FOLDER / f"{views[0]['name']}.png")) / 1000
        for view in views[1:]:
            own = np.array(Image.open(FOLDER / f"{view['name']}.png")) / 1000
            ratio = own / window(wide, view["focal"] / views[0]["focal"])
            assert np.median(np.abs(ratio - 1)) < 0.01


@pytest.mark.parametrize("place", [1, 2])
def test_metres_stay_where_the_focal_length_is_told_and_do_not_where_it_is_not(model: DepthModel, place: int) -> None:
    ratio, error = measured(model, place, told=True)
    assert 1 / FACTOR[place] < ratio < FACTOR[place]
    ignored, worse = measured(model, place, told=False)
    assert ignored < 1 / FACTOR[place] and worse > error
