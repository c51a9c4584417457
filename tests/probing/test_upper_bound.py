"""The upper bound gives the features of the depth that a model predicts, and nothing of the truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.depth_models.model import DepthMaps, DepthModel, known_cameras
from fathom.errors import UsageError
from fathom.features import Feature, feature
from fathom.probing.reading import Batch
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import target_groups
from fathom.probing.upper_bound import open_upper_bound, upper_bounds
from fathom.sample import Grid, Intrinsics

SETTINGS = ProbeSettings(size=(48, 64), grid=(6, 8))


class Slope(DepthModel):
    """Metres that grow to the right, whatever is seen."""

    name, kind = "slope", "metric"

    def predict(
        self,
        images: Tensor,
        cameras: Sequence[Intrinsics | None] | None = None,
        *,
        size: Grid | None = None,
        prompts: Sequence[Tensor | None] | None = None,
    ) -> DepthMaps:
        height, width = size or images.shape[-2:]
        values = torch.linspace(1, 3, width).expand(len(images), height, width).clone()
        return DepthMaps(values, "metric", known_cameras(images, cameras))

    def to(self, device: str | torch.device) -> Slope:
        return self


@pytest.fixture(scope="module")
def frames() -> Dataset:
    return load("rooms").official_split()[1].subset([0, 40])


def test_normals_are_those_of_the_predicted_depth_though_the_data_bring_their_own(frames: Dataset) -> None:
    samples = list(frames)
    assert all(sample.normals is not None for sample in samples)
    (group,) = target_groups([feature("normals")])
    (candidate,) = upper_bounds(Slope(), [group], SETTINGS, [])
    found = candidate.predict(Batch(samples, samples, SETTINGS))
    for sample, values in zip(samples, found, strict=True):
        depth = torch.linspace(1, 3, sample.depth.shape[-1]).expand_as(sample.depth).clone()
        alone = replace(sample, depth=depth, valid=torch.ones_like(sample.valid), normals=None)
        expected, _ = group.feature_target(alone, SETTINGS.cells)
        assert torch.nn.functional.cosine_similarity(values, expected, dim=0).min() > 0.999
        truth, valid = group.feature_target(sample, SETTINGS.cells)
        assert float((values - truth).square().sum(0)[valid[0]].mean()) > 0.1


def test_a_feature_says_whether_a_depth_map_gives_it() -> None:
    mine = Feature.from_function("mine", feature("depth").target, from_depth=True)
    groups = target_groups([feature("depth"), feature("curvature"), feature("luminance"), mine])
    notes: list[str] = []
    made = upper_bounds(Slope(), groups, SETTINGS, notes)
    assert [item.group.name for item in made] == ["depth", "curvature", "mine"]
    assert len(notes) == 1 and "does not give luminance" in notes[0]


def test_a_model_without_metres_or_that_has_seen_the_test_scenes_is_refused(frames: Dataset) -> None:
    model = Slope()
    model.train_scenes = frames.scenes[:1]
    with pytest.raises(UsageError, match="The upper bound was trained on 1 of 2 test scenes"):
        open_upper_bound(model, frames, "cpu")
    relative = Slope()
    relative.kind = "affine-disparity"  # type: ignore[assignment]
    with pytest.raises(UsageError, match="gives affine-disparity and no metres"):
        open_upper_bound(relative, frames, "cpu")
