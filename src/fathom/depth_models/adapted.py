"""A depth model with a correction that was fitted in closed form on frames of one's own: what `fathom adapt` writes.

In terms of the model's own value v (metres d for a metric model):

    scale         d' = exp(a) · d
    scale-shift   d' = s·v + t      (1 / (s·v + t) for a model of disparity)
    head          ln d' = ln d + w · z, z the network's last features and functions of depth and ray
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from fathom.depth_models.calibration import terms
from fathom.depth_models.model import DepthMaps, DepthModel, Images, Kind
from fathom.depth_models.network import NetworkModel
from fathom.depth_models.opening import open_depth_model
from fathom.encoders.spec import Spec
from fathom.errors import CheckpointError, UsageError
from fathom.files.inputs import expand
from fathom.models.saved import read_json
from fathom.sample import Grid, Intrinsics

FILE = "adapt.json"
SCHEMA_VERSION = 1
Method = Literal["none", "scale", "scale-shift", "head"]
LEAST_METRES = 1e-3
Array = NDArray[np.floating]


@dataclass(frozen=True)
class Correction:
    """How values become metres.

    Attributes:
        method: see the module.
        coefficients: (a), (s, t), or w.
        nearest, farthest: metres between which it keeps, those of the frames it was fitted on with a margin.
    """

    method: Method
    coefficients: tuple[float, ...]
    nearest: float
    farthest: float

    def metres(self, values: Array, kind: Kind, inputs: Array | None = None) -> Array:
        """Metres of ``(N,)`` values; `inputs` ``(C, N)`` are what the head reads."""
        if self.method == "head":
            assert inputs is not None
            metres = values * np.exp(np.clip(np.asarray(self.coefficients) @ inputs, -3, 3))
        elif self.method == "scale-shift":
            line = self.coefficients[0] * values + self.coefficients[1]
            metres = 1 / np.maximum(line, 1 / self.farthest) if kind == "affine-disparity" else line
        elif self.method == "scale":
            metres = values * np.exp(self.coefficients[0])
        else:
            return values
        kept: Array = np.clip(metres, self.nearest, self.farthest)
        return kept


class Adapted(DepthModel):
    """A depth model whose values a `Correction` turns into the metres of one place or camera."""

    kind: Kind = "metric"

    def __init__(self, base: DepthModel, correction: Correction, name: str, folder: Path | None = None) -> None:
        self.base, self.correction, self.name, self.folder = base, correction, name, folder
        self.licence, self.train_scenes = base.licence, base.train_scenes
        self.uses_camera, self.estimates_camera = base.uses_camera, base.estimates_camera
        self.takes_prompt = base.takes_prompt

    def to(self, device: str | torch.device) -> DepthModel:
        """Move the model within."""
        self.base.to(device)
        return self

    def predict(
        self,
        images: Images,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        """Corrected metres."""
        maps, features = predict_with_features(
            self.base, images, cameras, size=size, prompts=prompts, wanted=self.correction.method == "head"
        )
        corrected = []
        for index, values in enumerate(maps.values):
            camera = of_map(maps.cameras[index], images, values)
            inputs = None if features is None else head_inputs(values, features[index], camera)
            flat = values.double().numpy().reshape(-1)
            inside = None if inputs is None else inputs.reshape(len(inputs), -1)
            metres = self.correction.metres(flat, self.base.kind, inside)
            corrected.append(torch.from_numpy(metres.reshape(values.shape)).float())
        return DepthMaps(torch.stack(corrected), "metric", maps.cameras, maps.confidence, maps.input_size)

    def facts(self) -> Mapping[str, Any]:
        """The model within, and the correction."""
        own = {"adapted_by": self.correction.method, "base": {"name": self.base.name, **self.base.facts()}}
        return own if self.folder is None else {**own, "path": str(self.folder)}


def of_map(camera: Intrinsics, images: Images, values: Float[Tensor, "h w"]) -> Intrinsics:
    """The camera of an image, in pixels of its depth map."""
    return camera.scaled(values.shape[0] / images.shape[-2], values.shape[1] / images.shape[-1])


def head_inputs(values: Float[Tensor, "h w"], features: Float[Tensor, "C h w"], camera: Intrinsics) -> Array:
    """What the head reads at every pixel: the features, and functions of depth and ray; ``(C + 6, h, w)``."""
    depth = values.clamp(min=LEAST_METRES).double().numpy()
    return np.concatenate([terms(depth, camera), features.double().numpy()])


def predict_with_features(
    model: DepthModel,
    images: Images,
    cameras: Sequence[Intrinsics | None] | None,
    *,
    size: Grid | None,
    prompts: Sequence[Tensor | None] | None = None,
    wanted: bool = True,
) -> tuple[DepthMaps, Float[Tensor, "B C h w"] | None]:
    """What the model predicts and, of a network of Fathom's, what its last layer reads, at the size of the maps."""
    if not wanted or not isinstance(model, NetworkModel):
        return model.predict(images, cameras, size=size, prompts=prompts), None
    seen: list[Tensor] = []
    last = list(model.network.layers().values())[-1]
    hook = last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        maps = model.predict(images, cameras, size=size)
    finally:
        hook.remove()
    grid = (int(maps.values.shape[-2]), int(maps.values.shape[-1]))
    features = torch.nn.functional.interpolate(seen[0].float().cpu(), grid, mode="bilinear", align_corners=False)
    return maps, features


def open_adapted(folder: Path, name: str, input_size: Grid | None = None) -> Adapted:
    """The adapted model of a folder that `fathom adapt` wrote."""
    table = read_json(folder / FILE, checksum=True)
    try:
        if table["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {table['schema_version']}")
        correction = Correction(
            table["method"],
            tuple(float(v) for v in table["coefficients"]),
            float(table["nearest"]),
            float(table["farthest"]),
        )
        base = str(table["base"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            folder / FILE, f"does not hold an adaptation ({error})", "run fathom adapt again"
        ) from error
    return Adapted(open_depth_model(base, device="cpu", input_size=input_size), correction, name, folder)


def open_folder(spec: Spec, input_size: Grid | None = None) -> Adapted:
    """``adapted:FOLDER``."""
    for key in spec.options:
        raise UsageError(f"Depth model '{spec.text}' has no option '{key}': an adapted model gives metres.")
    return open_adapted(expand(spec.body), spec.text, input_size)
