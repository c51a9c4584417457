"""Which test frames a probe run keeps predictions of, and those predictions: the material of its picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.probing.candidates import Candidate, best_layer, output_columns
from fathom.sample import Intrinsics, Sample


@dataclass(frozen=True)
class Picture:
    """One test frame for the picture: everything in metres, predictions on the probe's grid.

    Attributes:
        image: ``(3, H, W)`` in [0, 1]. depth: truth, ``(1, H, W)``. valid: ``(1, H, W)``.
        predictions: depth maps by `prediction_name`, ``(h, w)``; of several seeds of a control the first.
        intrinsics: camera of the image at this size, or None if unknown.
    """

    id: str
    scene: str
    image: Float[Tensor, "3 H W"]
    depth: Float[Tensor, "1 H W"]
    valid: Bool[Tensor, "1 H W"]
    predictions: dict[str, Float[Tensor, "h w"]]
    intrinsics: Intrinsics | None = None


def prediction_name(encoder: str, layer: str, role: str) -> str:
    """Of a candidate among the predictions of a picture: its encoder, and for a head beyond linear which."""
    return f"{encoder}, {layer.partition(':')[0]}" if role == "head" else encoder


@dataclass
class Pictures:
    """Collects the planned frames as the test pass meets them."""

    candidates: Sequence[Candidate]
    wanted: frozenset[str]
    rows: tuple[tuple[int, str, int, str], ...]
    frames: list[Picture] = field(default_factory=list)

    @staticmethod
    def plan(candidates: Sequence[Candidate], test: Dataset, count: int) -> Pictures:
        """`count` frames spread over the test scenes; of each candidate the chosen layer, for the first depth feature."""
        scenes = test.scenes
        picked = [scenes[round(i * (len(scenes) - 1) / max(count - 1, 1))] for i in range(min(count, len(scenes)))]
        first: dict[str, str] = {}
        for id_, scene in zip(test.ids, test.frame_scenes, strict=True):
            first.setdefault(scene, id_)
        rows: list[tuple[int, str, int, str]] = []
        for index, item in enumerate(candidates):
            for one in item.kind.features:
                if one.to_depth is not None:
                    best = best_layer(item, one.name)
                    column = output_columns(item, one.name, best).start
                    name = prediction_name(item.encoder, item.layers[best].name, item.role.name)
                    if all((one.name, name) != row[1::2] for row in rows):
                        rows.append((index, one.name, column, name))
                    break
        shown = rows[0][1] if rows else ""
        return Pictures(
            candidates,
            frozenset(first[scene] for scene in picked),
            tuple(row for row in rows if row[1] == shown),
        )

    def add(self, predicted: Sequence[Float[Tensor, "B _ h w"]], samples: Sequence[Sample]) -> None:
        """Keep what was planned of a batch."""
        for position, sample in enumerate(samples):
            if sample.id not in self.wanted or not self.rows:
                continue
            predictions = {}
            for index, name, column, encoder in self.rows:
                to_depth = next(one.to_depth for one in self.candidates[index].kind.features if one.name == name)
                assert to_depth is not None
                predictions[encoder] = to_depth(predicted[index][position, column]).cpu()
            self.frames.append(
                Picture(
                    sample.id,
                    sample.scene,
                    sample.float_image(),
                    sample.depth,
                    sample.valid,
                    predictions,
                    sample.intrinsics,
                )
            )

    @property
    def encoders(self) -> tuple[str, ...]:
        return tuple(row[3] for row in self.rows)


def error_map(picture: Picture, encoder: str) -> Float[Tensor, "H W"]:
    """Prediction less truth in metres at the size of the truth, NaN where there is none."""
    prediction = picture.predictions[encoder][None, None]
    full = torch.nn.functional.interpolate(prediction, picture.depth.shape[-2:], mode="bilinear", align_corners=False)
    return torch.where(picture.valid[0], full[0, 0] - picture.depth[0], torch.nan)
