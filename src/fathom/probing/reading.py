"""The one reader of batches: frames at the input size, each encoder's features of them, and the targets on the grid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped, batches
from fathom.errors import FathomError
from fathom.probing import processes
from fathom.probing.linear.design import Placed
from fathom.probing.participants import Participant
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.progress import count, note, track
from fathom.sample import Sample

Target = tuple[Float[Tensor, "B q h w"], Bool[Tensor, "B 1 h w"]]


@dataclass(eq=False)
class Batch:
    """Frames that are read together. Features and targets are computed when they are first asked for, and then kept.

    Attributes:
        samples: frames at the input size.
        originals: the same frames at their own size.
        settings: of the run: grid and device.
    """

    samples: Sequence[Sample]
    originals: Sequence[Sample]
    settings: ProbeSettings
    _features: dict[Participant, Placed] = field(default_factory=dict)
    _targets: dict[str, Target] = field(default_factory=dict)

    @cached_property
    def images(self) -> Float[Tensor, "B 3 H W"]:
        """The images on the device, float32 in [0, 1]."""
        stacked = torch.stack([sample.image for sample in self.samples]).to(self.settings.device, non_blocking=True)
        return stacked.float().div_(255) if stacked.dtype == torch.uint8 else stacked

    def features(self, participant: Participant, *, keep: bool = True) -> Placed:
        """Feature maps of an encoder; with `keep` they stay for the next who asks.

        Raises `FathomError` naming the first frame for which the encoder gives NaN or infinity.
        """
        found = self._features.get(participant)
        if found is None:
            found = participant.place(self.images, self.settings.cells)
            check_finite(participant.encoder.name, found, self.samples)
            if keep:
                self._features[participant] = found
        return found

    def target(self, group: TargetGroup) -> Target:
        """Values and validity of a group on the grid, on the device."""
        if group.name not in self._targets:
            values, valid = group.targets(self.samples, self.settings.cells)
            self._targets[group.name] = (values.to(self.settings.device), valid.to(self.settings.device))
        return self._targets[group.name]


def check_finite(name: str, maps: Placed, samples: Sequence[Sample]) -> None:
    """Raise `FathomError` where a feature map holds NaN or infinity; sums are looked at first, since they are cheap."""
    for z in maps:
        if not torch.isfinite(z.sum()):
            for index, sample in enumerate(samples):
                if not torch.isfinite(z[index]).all():
                    raise FathomError(
                        f"Encoder {name} gave NaN or infinity for frame {sample.id}; "
                        "check its weights and the normalisation of its input."
                    )


def read_batches(
    dataset: Dataset, settings: ProbeSettings, description: str, skipped: Skipped | None = None
) -> Iterator[Batch]:
    """The frames of `dataset` in its order, in batches, with progress.

    With `settings.skip_bad` frames that cannot be read are left out and added to `skipped`.
    """
    left_out = (Skipped() if skipped is None else skipped) if settings.skip_bad else None
    stream = batches(
        dataset, settings.input_size, batch_size=settings.batch_size, workers=settings.workers, skipped=left_out
    )
    for pairs in track(stream, description, total=-(-len(dataset) // settings.batch_size)):
        yield Batch([fitted for fitted, _ in pairs], [original for _, original in pairs], settings)


def note_skipped(skipped: Skipped, notes: list[str]) -> None:
    """Add the number of frames that no process could read, and the first reasons, to `notes`."""
    everyone = Skipped(processes.gathered(skipped.frames))
    if len(everyone):
        notes.append(f"Left out, since they could not be read: {count(len(everyone), 'frame')}: {everyone.describe()}")
        note(notes[-1])
