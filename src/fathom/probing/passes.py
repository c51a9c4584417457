"""The two passes over the frames: training frames into moments, test frames into errors by scene."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.mean_map import MeanMap
from fathom.metrics.protocols import Protocol
from fathom.probing.candidates import Candidate, SceneErrors
from fathom.probing.evidence.pictures import Pictures
from fathom.probing.evidence.scores import CellScores, DepthScores
from fathom.probing.linear.moments import Moments
from fathom.probing.moments_cache import MomentsCache
from fathom.probing.participants import Participant
from fathom.probing.plan import Blocks
from fathom.probing.reading import Batch, read_batches
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.progress import note


def training_pass(
    participants: Sequence[Participant],
    groups: Sequence[TargetGroup],
    train: Dataset,
    blocks: Blocks,
    settings: ProbeSettings,
    notes: list[str],
) -> dict[str, MeanMap]:
    """Read the training frames once: give every participant its moments, and return the mean map of each target group.

    Participants whose moments stand in `settings.cache` are not read; where all do, no frame is.
    """
    cache, missing = None, list(participants)
    if settings.cache is not None:
        cache = MomentsCache(Path(settings.cache), train, blocks, groups, settings)
        missing, mean_maps = cache.load(participants)
        if not missing and len(mean_maps) == len(groups):
            note(f"The moments of all {len(participants)} encoders are in {settings.cache}; no training frame is read.")
            return mean_maps
    mean_maps = {}
    ordered = train.subset(blocks.order(train))
    for batch in read_batches(ordered, settings, f"reading {len(train)} training frames", notes):
        parts = _runs([blocks.of_scene[sample.scene] for sample in batch.samples])
        for group in groups:
            Y, valid = batch.target(group)
            average = mean_maps.setdefault(group.name, MeanMap.zeros(blocks.count, Y.shape[1], settings.cells))
            for block, part in parts:
                average.add(block, Y[part], valid[part])
        for participant in missing:
            _add_moments(participant, groups, batch, parts, blocks.count)
    if cache is not None:
        cache.save(missing, mean_maps)
    return mean_maps


def _add_moments(
    participant: Participant,
    groups: Sequence[TargetGroup],
    batch: Batch,
    parts: Sequence[tuple[int, slice]],
    blocks: int,
) -> None:
    """Encode a batch and add it to the moments of its blocks, for every target group."""
    placed, design = batch.features(participant, keep=False), participant.columns
    for group in groups:
        Y, valid = batch.target(group)
        moments = participant.moments.get(group.name)
        if moments is None:
            cells = valid.expand_as(Y)
            shift_y = (Y * cells).sum(dim=(0, 2, 3)) / cells.sum(dim=(0, 2, 3)).clamp(min=1)
            moments = Moments.zeros(blocks, design.means(placed), shift_y)
            participant.moments[group.name] = moments
        centred = design.centre(placed, moments.shift_x)
        for block, part in parts:
            design.accumulate(moments, block, [z[part] for z in centred], valid[part], Y[part])


def _runs(groups: Sequence[int]) -> list[tuple[int, slice]]:
    """Consecutive equal groups of a batch."""
    runs, start = [], 0
    for index in range(1, len(groups) + 1):
        if index == len(groups) or groups[index] != groups[start]:
            runs.append((groups[start], slice(start, index)))
            start = index
    return runs


def measuring_pass(
    candidates: Sequence[Candidate],
    few_labels: Sequence[Candidate],
    means: Mapping[str, Float[Tensor, "q"]],
    test: Dataset,
    protocol: Protocol,
    settings: ProbeSettings,
    notes: list[str],
) -> tuple[DepthScores, CellScores, Pictures]:
    """Read the test frames once: errors by scene of every candidate, full-resolution metrics and pictures.

    Args:
        candidates: what gets rows in the evidence.
        few_labels: probes on fewer training scenes, of which only the errors are needed.
        means: training mean of each target group.
        test, protocol, settings: of the run.
        notes: get what was left out.
    """
    scenes = {scene: index for index, scene in enumerate(test.scenes)}
    depth, cells = DepthScores(candidates, protocol), CellScores()
    pictures = Pictures.plan(candidates, test, settings.pictures)
    for item in (*candidates, *few_labels):
        item.errors = SceneErrors.zeros(len(scenes), len(item.layers), len(item.layers[0].penalty))
    for batch in read_batches(test, settings, f"reading {len(test)} test frames", notes):
        index = [scenes[sample.scene] for sample in batch.samples]
        predicted: dict[Candidate, Tensor] = {}
        for item in (*candidates, *few_labels):
            prediction = item.predict(batch)
            Y, valid = batch.target(item.group)
            item.sums.add(prediction, Y, valid, means[item.group.name], index)
            predicted[item] = prediction
        for item in candidates:
            cells.add(item, predicted[item], *batch.target(item.group))
        depth.add(predicted, batch.originals)
        pictures.add(predicted, batch.samples)
    if depth.refused:
        notes.append(depth.refused)
    return depth, cells, pictures
