"""Painted captures with depth, and depth models that are wrong in a known way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fathom.data.dataset import Dataset, Frame
from fathom.depth_models.model import DepthMaps, DepthModel, Kind, known_cameras
from fathom.sample import Intrinsics, Sample

SIZE = (12, 16)


@dataclass
class Capture:
    """Frames whose red channel is the true depth over 10 m, plus noise for each scene."""

    scenes: int = 12
    views: int = 2
    blind: bool = False
    noise: float = 0.2
    kind: str = "painted"
    location: str = "painted"
    facts: Mapping[str, str] = field(default_factory=dict)
    official: Mapping[str, Sequence[int]] = field(default_factory=dict)
    frames: Sequence[Frame] = ()

    def __post_init__(self) -> None:
        self.frames = [Frame(f"room{s}/{v}", f"room{s}") for s in range(self.scenes) for v in range(self.views)]

    def read(self, index: int) -> Sample:
        generator = torch.Generator().manual_seed(index)
        scene = torch.Generator().manual_seed(1000 + index // self.views)
        depth = 1 + 4 * torch.rand(1, *SIZE, generator=generator)
        wrong = self.noise * torch.randn(1, generator=scene) + 0.1 * torch.randn(1, *SIZE, generator=generator)
        image = torch.cat([depth * wrong.exp() / 10, torch.zeros(2, *SIZE)]).clamp(0, 1)
        valid = torch.full((1, *SIZE), not self.blind)
        frame = self.frames[index]
        return Sample(image, depth, valid, frame.scene, frame.id, Intrinsics(14.0, 14.0, 8.0, 6.0))


def capture(**options: Any) -> Dataset:
    return Dataset.whole(Capture(**options))


class Painter(DepthModel):
    """Reads the red channel: metres, or what `bend` makes of them."""

    def __init__(
        self, kind: Kind = "metric", scale: float = 1.0, shift: float = 0.0, train_scenes: Sequence[str] = ()
    ) -> None:
        self.name, self.kind, self.scale, self.shift = "painter", kind, scale, shift
        self.train_scenes = tuple(train_scenes)

    def to(self, device: Any) -> Any:
        return self

    def predict(self, images: Any, cameras: Any = None, *, size: Any = None, prompts: Any = None) -> DepthMaps:
        depth = images[:, 0].float() * 10
        if self.kind == "affine-disparity":
            depth = 1 / depth.clamp(min=0.1)
        values = self.scale * depth + self.shift
        return DepthMaps(values, self.kind, known_cameras(images, cameras))
