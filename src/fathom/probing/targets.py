"""What probes are fitted to: features that are valid in the same cells, and the control task made of other rooms' targets.

The control task of Hewitt & Liang (2019) for dense maps: every frame is given the target of a frame of another scene, so a probe
can only learn what all frames share; how much better it does on the true target is its selectivity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import readable
from fathom.data.transforms import fit
from fathom.features import Feature
from fathom.probing.settings import ProbeSettings
from fathom.sample import Grid, Sample
from fathom.seeding import digest, number

CONTROL_FRAMES = 32
"""Frames whose targets serve as the control task: enough that none repeats often, few enough to read at the start."""


@dataclass(frozen=True)
class ControlTargets:
    """Targets of frames of different training scenes, given to other frames as the control task.

    Attributes:
        targets: ``(D, q, h, w)``, each map's invalid cells filled with its mean.
        scenes: the scene of each.
        seed: which frame gets which target.
    """

    targets: Float[Tensor, "D q h w"]
    scenes: tuple[str, ...]
    seed: int

    def of(self, sample: Sample) -> Float[Tensor, "q h w"]:
        """The control target of a frame: that of a frame of another scene, always the same one for the same frame."""
        start = number(self.seed, sample.id) % len(self.scenes)
        for step in range(len(self.scenes)):
            index = (start + step) % len(self.scenes)
            if self.scenes[index] != sample.scene:
                return self.targets[index]
        return self.targets[start]


@dataclass(frozen=True)
class TargetGroup:
    """Features that are valid in the same cells, their outputs side by side, then the same outputs of the control task.

    Attributes:
        name: of the group.
        features: in order.
        control_targets: the control task, or None to leave it out.
    """

    name: str
    features: tuple[Feature, ...]
    control_targets: ControlTargets | None = None

    @property
    def channels(self) -> int:
        """Output columns of the features, the control's not counted."""
        return sum(item.channels for item in self.features)

    @property
    def outputs(self) -> dict[str, slice]:
        """The output columns of each feature."""
        slices, start = {}, 0
        for item in self.features:
            slices[item.name] = slice(start, start + item.channels)
            start += item.channels
        return slices

    def control(self, feature: str) -> slice:
        """The output columns of a feature's control task."""
        part = self.outputs[feature]
        return slice(self.channels + part.start, self.channels + part.stop)

    @property
    def width(self) -> int:
        """All output columns, the control's included."""
        return self.channels * (1 if self.control_targets is None else 2)

    @property
    def ties(self) -> list[list[int]]:
        """Outputs that share one penalty: those of a feature, and those of its control."""
        parts = list(self.outputs.values())
        if self.control_targets is not None:
            parts += [self.control(item.name) for item in self.features]
        return [list(range(part.start, part.stop)) for part in parts]

    def feature_target(self, sample: Sample, grid: Grid) -> tuple[Float[Tensor, "q h w"], Bool[Tensor, "1 h w"]]:
        """The features of one frame side by side, valid where all of them are."""
        parts = [item.of(sample, grid) for item in self.features]
        return torch.cat([part[0] for part in parts]), torch.stack([part[1] for part in parts]).all(0)

    def targets(
        self, samples: Sequence[Sample], grid: Grid
    ) -> tuple[Float[Tensor, "B q h w"], Bool[Tensor, "B 1 h w"]]:
        """Targets of a batch of frames on the grid, the control's after the features'."""
        values, valid = [], []
        for sample in samples:
            own, known = self.feature_target(sample, grid)
            control = self.control_targets
            values.append(own if control is None else torch.cat([own, control.of(sample)]))
            valid.append(known)
        return torch.stack(values), torch.stack(valid)

    def with_control(self, frames: Sequence[Sample], grid: Grid, seed: int) -> TargetGroup:
        """The same group with its control task made of the targets of `frames`, one of each of several scenes."""
        made = [(fill_invalid(*self.feature_target(frame, grid)), frame.scene) for frame in frames]
        control = ControlTargets(torch.stack([target for target, _ in made]), tuple(scene for _, scene in made), seed)
        return replace(self, control_targets=control)


def target_groups(features: Sequence[Feature]) -> tuple[TargetGroup, ...]:
    """Features grouped by the cells they are valid in, in order of first appearance, without control task."""
    grouped: dict[str, list[Feature]] = {}
    for item in features:
        grouped.setdefault(item.support, []).append(item)
    return tuple(TargetGroup(name, tuple(items)) for name, items in grouped.items())


def with_control_task(
    groups: Sequence[TargetGroup], train: Dataset, settings: ProbeSettings
) -> tuple[TargetGroup, ...]:
    """The groups with their control task: targets of up to `CONTROL_FRAMES` frames, each of another training scene."""
    positions = frames_of_scenes(train, CONTROL_FRAMES, settings.seed)
    frames = [fit(sample, settings.input_size) for sample in readable(train, positions, settings.skip_bad)]
    return tuple(group.with_control(frames, settings.cells, settings.seed) for group in groups)


def frames_of_scenes(data: Dataset, count: int, seed: int) -> list[int]:
    """Positions of up to `count` frames, each of another scene, chosen by name and seed."""
    first: dict[str, int] = {}
    for position, scene in enumerate(data.frame_scenes):
        first.setdefault(scene, position)
    ranked = sorted(first, key=lambda scene: digest("donor", seed, scene))
    return [first[scene] for scene in ranked[:count]]


def fill_invalid(Y: Float[Tensor, "q h w"], valid: Bool[Tensor, "1 h w"]) -> Float[Tensor, "q h w"]:
    """The map with invalid cells replaced by the mean of the valid ones."""
    mean = torch.where(valid, Y, 0.0).sum(dim=(1, 2)) / valid.sum().clamp(min=1)
    return torch.where(valid, Y, mean[:, None, None])
