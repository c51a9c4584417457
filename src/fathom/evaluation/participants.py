"""Who takes part in an evaluation: each gives values for the pixels of a frame, and says how they are aligned to the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.depth_models.model import DepthModel
from fathom.evaluation.baselines import Baselines
from fathom.evaluation.by_depth import ErrorByDepth
from fathom.evaluation.result import Role
from fathom.metrics.alignment import Kind, align
from fathom.metrics.protocols import Protocol
from fathom.sample import Grid, Sample


@dataclass
class Participant:
    """One line of the table while it is measured.

    Attributes:
        name: unique in the table. alignment: its name. kind: of its values.
        model: None for a baseline, which `baseline` names: ``mean map`` or ``constant``.
        by_depth: errors against true depth so far.
        missing, predicted: pixels that were not finite, and all of them.
        cameras: origins of the cameras it was given. input_size: at which the model saw the last frame.
    """

    name: str
    alignment: str
    kind: Kind = "metric"
    model: DepthModel | None = None
    baseline: str = ""
    by_depth: ErrorByDepth = field(default_factory=ErrorByDepth)
    missing: int = 0
    predicted: int = 0
    cameras: dict[str, None] = field(default_factory=dict)
    input_size: Grid | None = None

    @property
    def role(self) -> Role:
        return "baseline" if self.model is None else "model"

    @property
    def prompted(self) -> bool:
        """Whether it is given the frame's depth, such as a phone's LiDAR, beside the image."""
        return self.model is not None and self.model.takes_prompt

    def values(
        self, samples: Sequence[Sample], baselines: Baselines | None, flip: bool
    ) -> list[Float[Tensor, "h w"] | None]:
        """What it predicts for each frame, at the size of the frame's truth; None where a baseline has nothing to say."""
        if self.model is None:
            maps = [baselines.maps(sample.scene) if baselines else None for sample in samples]
            return [None if found is None else found[self.baseline] for found in maps]
        # A frame without depth gives no prompt, and nothing to measure either.
        known = [sample for sample in samples if not self.prompted or bool(sample.valid.any())]
        values = self._predicted(known)
        if flip:
            mirrored = self._predicted([_mirrored(sample) for sample in known])
            values = [(a + b.flip(-1)) / 2 for a, b in zip(values, mirrored, strict=True)]
        found = {id(sample): self._whole(value) for sample, value in zip(known, values, strict=True)}
        return [found.get(id(sample)) for sample in samples]

    def _predicted(self, samples: Sequence[Sample]) -> list[Float[Tensor, "h w"]]:
        """The model's values; frames of one size are predicted together."""
        assert self.model is not None
        found: list[Float[Tensor, "h w"]] = []
        start = 0
        while start < len(samples):
            first = samples[start]
            end = start + 1
            while end < len(samples) and _sizes(samples[end]) == _sizes(first):
                end += 1
            group = samples[start:end]
            images = torch.stack([sample.image for sample in group])
            prompts = [torch.where(one.valid, one.depth, 0.0)[0] for one in group] if self.prompted else None
            cameras = [sample.intrinsics for sample in group]
            maps = self.model.predict(images, cameras, size=first.depth_size, prompts=prompts)
            found += list(maps.values)
            if self.model.uses_camera:
                self.cameras |= dict.fromkeys(camera.origin for camera in maps.cameras)
            self.input_size = maps.input_size or self.input_size
            start = end
        return found

    def _whole(self, values: Float[Tensor, "h w"]) -> Float[Tensor, "h w"]:
        """`values` with the nearest finite one where the model gives none, such as at a border."""
        finite = torch.isfinite(values)
        self.predicted += values.numel()
        lacking = values.numel() - int(torch.count_nonzero(finite))
        self.missing += lacking
        return nearest_finite(values, finite) if 0 < lacking < values.numel() else values

    def aligned(
        self, values: Float[Tensor, "h w"], sample: Sample, protocol: Protocol, counts: Bool[Tensor, "H W"]
    ) -> Float[Tensor, "_ _"]:
        """Metres, before anything is clamped; `counts` are the pixels to fit on, at the size of the truth."""
        if self.alignment == "none":
            return values
        if tuple(values.shape) != sample.depth_size:
            values = torch.nn.functional.interpolate(
                values[None, None], sample.depth_size, mode="bilinear", align_corners=False
            )[0, 0]
        return align(
            values,
            sample.depth[0],
            counts,
            kind=self.kind,
            name=self.alignment,
            least=protocol.least,
            most=protocol.most,
        )


def nearest_finite(values: Float[Tensor, "h w"], finite: Bool[Tensor, "h w"]) -> Float[Tensor, "h w"]:
    """Each value that is not finite replaced by the nearest one that is."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~finite.numpy(), return_distances=False, return_indices=True)
    return values[torch.from_numpy(rows).long(), torch.from_numpy(columns).long()]


def _sizes(sample: Sample) -> tuple[Grid, Grid, torch.dtype]:
    return sample.image_size, sample.depth_size, sample.image.dtype


def _mirrored(sample: Sample) -> Sample:
    """The frame seen in a mirror, as far as a model sees it."""
    camera = sample.intrinsics
    return replace(
        sample,
        image=sample.image.flip(-1),
        depth=sample.depth.flip(-1),
        valid=sample.valid.flip(-1),
        intrinsics=None if camera is None else camera.flipped(sample.image_size[1]),
    )
