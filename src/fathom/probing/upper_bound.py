"""The upper bound: a supervised depth model, measured on the probe's grid by the code that measures probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.transforms import fit
from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import Openable, open_depth_model
from fathom.errors import UsageError
from fathom.probing.candidates import Candidate, Layer
from fathom.probing.participants import Role, refuse_seen
from fathom.probing.reading import Batch
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.sample import Sample


def open_upper_bound(given: Openable, test: Dataset, device: str) -> DepthModel:
    """The depth model that is named.

    Raises:
        UsageError: it gives no metres, or was trained on scenes of the test part, so it would be no upper bound but a memory.
        CheckpointError: it is broken, or predicts no depth.
    """
    model = open_depth_model(given, device=device)
    if model.kind != "metric":
        raise UsageError(
            f"The upper bound {model.name} gives {model.kind} and no metres; name a model of metric depth."
        )
    refuse_seen("The upper bound", model.train_scenes, test)
    return model


def upper_bounds(
    model: DepthModel, groups: Sequence[TargetGroup], settings: ProbeSettings, notes: list[str]
) -> list[Candidate]:
    """The model as a candidate for every target group that a depth map gives."""
    made = []
    for group in groups:
        if all(one.from_depth for one in group.features):
            made.append(_candidate(model, group, settings))
        else:
            names = ", ".join(one.name for one in group.features)
            notes.append(
                f"The upper bound predicts depth, which does not give {names}; no fraction of the gap is reported there."
            )
    return made


def _candidate(model: DepthModel, group: TargetGroup, settings: ProbeSettings) -> Candidate:
    """The features of the depth that the model predicts, made by the same code as those of the true depth.

    The model sees each frame as `fathom predict` shows it; its depth at the size of the truth goes the way of the truth. The
    control task is not the upper bound's to solve: the features stand there again.
    """
    unknown = torch.full((group.width,), torch.nan, dtype=torch.float64)
    layer = Layer("prediction", 0, torch.zeros_like(unknown), unknown, unknown)

    def predict(batch: Batch) -> Float[Tensor, "B _ h w"]:
        maps = []
        for _, same in groupby(batch.originals, key=lambda frame: (frame.image_size, frame.depth_size)):
            frames = list(same)
            for frame, depth in zip(frames, _depths(model, frames), strict=True):
                predicted = replace(frame, depth=depth[None], valid=torch.isfinite(depth)[None], normals=None)
                values, _ = group.feature_target(fit(predicted, settings.input_size), settings.cells)
                maps.append(values if group.control_targets is None else torch.cat([values, values]))
        return torch.stack(maps).to(settings.device)

    return Candidate(f"upper-bound:{model.name}", Role("upper_bound"), group, (layer,), predict)


def _depths(model: DepthModel, frames: Sequence[Sample]) -> Float[Tensor, "B H W"]:
    """Metres for frames of one size, at the size of their truth."""
    images = torch.stack([frame.image for frame in frames])
    return model.predict(images, [frame.intrinsics for frame in frames], size=frames[0].depth_size).values
