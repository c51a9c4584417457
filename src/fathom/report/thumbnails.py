"""The pictures of a run as small images inside the page: photograph, truth, predictions and errors, each kind in one scale."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fathom.media.colour import DEPTH_MAP, ERROR_MAP, UNKNOWN, shared_range

if TYPE_CHECKING:
    from fathom.probing.evidence.pictures import Picture

Map = NDArray[np.floating]

MOST_PIXELS = 320
"""Of a picture's longer side in the page."""
LEVELS = 255
"""Colours of an indexed picture; index 0 is what is unknown."""


@dataclass(frozen=True)
class Shown:
    """One encoder's prediction of a frame: data URIs, and the RMSE over the frame's known pixels in metres."""

    encoder: str
    prediction: str
    error: str
    rmse: float | None


@dataclass(frozen=True)
class Thumbnail:
    """One frame: data URIs of its photograph and its truth, and every prediction."""

    id: str
    scene: str
    photograph: str
    truth: str
    shown: tuple[Shown, ...]


@dataclass(frozen=True)
class Album:
    """All frames with the two scales they share: depth from `depth` [0] to [1], errors from -`most` to `most`, metres."""

    frames: tuple[Thumbnail, ...]
    depth: tuple[float, float]
    most: float


def album(pictures: Sequence[Picture], encoders: Sequence[str]) -> Album:
    """Draw the frames; the depth scale is that of all truths together, the error scale of all errors."""
    truths = [truth_of(picture) for picture in pictures]
    predictions = [
        {name: enlarged(picture.predictions[name].numpy(), truth.shape) for name in encoders}
        for picture, truth in zip(pictures, truths, strict=True)
    ]
    gaps = [
        {name: values - truth for name, values in maps.items()} for maps, truth in zip(predictions, truths, strict=True)
    ]
    depth = shared_range(truths)
    every = [np.abs(gap) for maps in gaps for gap in maps.values()]
    most = max(shared_range(every)[1], 1e-3) if every else 1.0
    frames = []
    for picture, truth, maps, errors in zip(pictures, truths, predictions, gaps, strict=True):
        shown = tuple(
            Shown(
                name,
                indexed(maps[name], *depth, DEPTH_MAP),
                indexed(errors[name], -most, most, ERROR_MAP),
                _rmse(errors[name]),
            )
            for name in encoders
        )
        photograph = picture.image.permute(1, 2, 0).numpy()
        frames.append(Thumbnail(picture.id, picture.scene, jpeg(photograph), indexed(truth, *depth, DEPTH_MAP), shown))
    return Album(tuple(frames), depth, most)


def truth_of(picture: Picture) -> Map:
    """Depth of a picture in metres, ``(H, W)``, NaN where unknown."""
    return np.where(picture.valid[0].numpy(), picture.depth[0].numpy(), np.nan)


def enlarged(values: Map, size: tuple[int, ...]) -> Map:
    """Bilinear interpolation of a prediction on the grid to the pixels of its frame, as the metrics have it."""
    from torch import as_tensor
    from torch.nn.functional import interpolate

    tensor = as_tensor(np.ascontiguousarray(values))[None, None].float()
    return np.asarray(interpolate(tensor, (size[0], size[1]), mode="bilinear", align_corners=False)[0, 0].numpy())


def indexed(values: Map, low: float, high: float, colour_map: str) -> str:
    """A PNG of 256 colours as data URI: the map's colours from `low` to `high`, grey where not finite."""
    from matplotlib import colormaps
    from PIL import Image

    values = values[:: _step(values), :: _step(values)]
    known = np.isfinite(values)
    share = np.clip((np.where(known, values, low) - low) / (high - low), 0, 1)
    index = np.where(known, 1 + np.round(share * (LEVELS - 1)), 0).astype(np.uint8)
    grey = [round(255 * float(UNKNOWN))] * 3
    colours = (colormaps[colour_map](np.linspace(0, 1, LEVELS))[:, :3] * 255).round().astype(np.uint8)
    picture = Image.fromarray(index)
    picture.putpalette(bytes(grey) + colours.tobytes())
    return _uri(picture, "png", optimize=True)


def jpeg(image: Map) -> str:
    """A photograph ``(H, W, 3)`` in [0, 1] as data URI."""
    from PIL import Image

    small = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    picture = Image.fromarray(small)
    picture.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return _uri(picture, "jpeg", quality=85)


def gradient(colour_map: str, stops: int = 17) -> str:
    """The colours of a map from left to right, as CSS."""
    from matplotlib import colormaps

    colours = (colormaps[colour_map](np.linspace(0, 1, stops))[:, :3] * 255).round().astype(int)
    return f"linear-gradient(to right, {', '.join(f'rgb({r},{g},{b})' for r, g, b in colours)})"


def _step(values: Map) -> int:
    return max(1, -(-int(max(values.shape)) // MOST_PIXELS))


def _rmse(gap: Map) -> float | None:
    known = gap[np.isfinite(gap)]
    return float(np.sqrt((known**2).mean())) if known.size else None


def _uri(picture: object, kind: str, **options: object) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)  # type: ignore[attr-defined]
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
