"""Which test frames a probe run keeps predictions of, and those predictions: the material of its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jaxtyping import Bool, Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.features import Feature
from fathom.probing.candidates import Candidate
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
    """Collects the planned frames as the test pass meets them.

    Attributes:
        wanted: ids of the frames.
        shown: candidates of the first depth feature: candidate, feature, channel of its chosen layer, name.
        frames: what was collected.
    """

    wanted: frozenset[str]
    shown: tuple[tuple[Candidate, Feature, int, str], ...]
    frames: list[Picture] = field(default_factory=list)

    @staticmethod
    def plan(candidates: Sequence[Candidate], test: Dataset, count: int) -> Pictures:
        """`count` frames spread over the test scenes; of each candidate the chosen layer, for the first depth feature."""
        scenes = test.scenes
        picked = [scenes[round(i * (len(scenes) - 1) / max(count - 1, 1))] for i in range(min(count, len(scenes)))]
        first: dict[str, str] = {}
        for id_, scene in zip(test.ids, test.frame_scenes, strict=True):
            first.setdefault(scene, id_)
        shown: dict[tuple[str, str], tuple[Candidate, Feature, int, str]] = {}
        for item in candidates:
            one = next((one for one in item.group.features if one.to_depth is not None), None)
            if one is not None:
                best = item.best(one.name)
                name = prediction_name(item.encoder, item.layers[best].name, item.role.name)
                channel = item.channels_of(one.name, best).start
                shown.setdefault((one.name, name), (item, one, channel, name))
        depth = next(iter(shown), ("", ""))[0]
        return Pictures(
            frozenset(first[scene] for scene in picked),
            tuple(entry for (feature, _), entry in shown.items() if feature == depth),
        )

    def add(self, predicted: Mapping[Candidate, Float[Tensor, "B _ h w"]], samples: Sequence[Sample]) -> None:
        """Keep what was planned of a batch."""
        for position, sample in enumerate(samples):
            if sample.id not in self.wanted or not self.shown:
                continue
            predictions = {}
            for item, one, channel, name in self.shown:
                assert one.to_depth is not None
                predictions[name] = one.to_depth(predicted[item][position, channel]).cpu()
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
