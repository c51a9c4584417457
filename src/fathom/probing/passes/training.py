"""The training pass: training frames into moments, and the check of the losses that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.tools.leaks import LeakWatch
from fathom.errors import FathomError
from fathom.features.mean_map import MeanMap
from fathom.probing import processes
from fathom.probing.candidates import Candidate
from fathom.probing.evidence.records import TrainingLossCheck
from fathom.probing.linear.moments import TOLERANCE, Moments
from fathom.probing.participants import Participant
from fathom.probing.passes.checkpoint import PassCheckpoint
from fathom.probing.passes.moments_cache import MomentsCache
from fathom.probing.plan import Blocks
from fathom.probing.reading import Batch, note_skipped, read_batches
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup
from fathom.progress import count, note

NARROW = 192
"""Channels up to which products are formed in float64: there they cost far less than the encoder does."""

SINGLE = 2.0**-24
"""Unit roundoff of float32, in which predictions are computed."""


def training_pass(
    participants: Sequence[Participant],
    groups: Sequence[TargetGroup],
    train: Dataset,
    blocks: Blocks,
    settings: ProbeSettings,
    notes: list[str],
    leaks: LeakWatch | None = None,
    folder: Path | None = None,
) -> dict[str, MeanMap]:
    """Read the training frames once: give every participant its moments, and return the mean map of each target group.

    Participants whose moments stand in `settings.cache` are not read; where all do, no frame is. `leaks` sees every frame.
    What has been read is kept in `folder` (else in the cache) until the run is saved, so that an interrupted run resumes.
    """
    cache, missing = None, list(participants)
    if settings.cache is not None:
        cache = MomentsCache(Path(settings.cache), train, blocks, groups, settings)
        missing, mean_maps = cache.load(participants)
        found = not missing and len(mean_maps) == len(groups) and cache.load_hashes(leaks)
        if all(processes.gathered([found])):
            note(f"The moments of all {len(participants)} encoders are in {settings.cache}; no training frame is read.")
            return mean_maps
        unread = set(processes.gathered([participants.index(item) for item in missing]))
        missing = [item for position, item in enumerate(participants) if position in unread]
        folder = folder or Path(settings.cache)
    for participant in missing:
        participant.moments = {}
    frames = train.subset(processes.share(blocks.order(train)))
    checkpoint = PassCheckpoint(folder, missing, groups, frames, blocks, settings)
    checkpoint.resume(leaks)
    before = checkpoint.done - len(checkpoint.skipped)
    rest = frames.subset(range(checkpoint.done, len(frames)))
    with checkpoint.requests() as request:
        for batch in read_batches(rest, settings, f"reading {count(len(rest), 'training frame')}", checkpoint.skipped):
            _add_batch(batch, missing, groups, blocks, checkpoint.mean_maps, leaks)
            before += len(batch.samples)
            checkpoint.after(before + len(checkpoint.skipped), request, leaks)
    checkpoint.finish(leaks)
    note_skipped(checkpoint.skipped, notes)
    mean_maps = {group.name: _all_frames(checkpoint.mean_maps, group, blocks, settings) for group in groups}
    _all_processes(dict.fromkeys(missing, groups))
    if leaks is not None:
        leaks.bits = dict(processes.gathered(list(leaks.bits.items())))
    if cache is not None and processes.number() == 0:
        cache.save(missing, groups)
        cache.save_targets(mean_maps, leaks)
    return mean_maps


def exact_pass(
    limited: Mapping[Participant, Sequence[TargetGroup]],
    groups: Sequence[TargetGroup],
    train: Dataset,
    blocks: Blocks,
    settings: ProbeSettings,
) -> None:
    """Read the training frames again for moments in float64, where the rounding of float32 kept a better penalty away.

    Args:
        limited: the participants, each with the target groups it concerns; their moments are replaced.
        groups, train, blocks, settings: of the run.
    """
    for participant, concerned in limited.items():
        for group in concerned:
            del participant.moments[group.name]
    frames = train.subset(processes.share(blocks.order(train)))
    for batch in read_batches(frames, settings, "reading again in double precision"):
        for participant, concerned in limited.items():
            _add_moments(participant, concerned, batch, exact=True)
    _all_processes(limited)
    if settings.cache is not None and processes.number() == 0:
        cache = MomentsCache(Path(settings.cache), train, blocks, groups, settings)
        for participant, concerned in limited.items():
            cache.save([participant], concerned)


def _add_batch(
    batch: Batch,
    participants: Sequence[Participant],
    groups: Sequence[TargetGroup],
    blocks: Blocks,
    mean_maps: dict[str, MeanMap],
    leaks: LeakWatch | None,
) -> None:
    """Add a batch to the moments of every participant and to the mean maps."""
    parts = _runs([blocks.of_scene[sample.scene] for sample in batch.samples])
    if leaks is not None:
        leaks.see_train(batch.originals)
    for group in groups:
        Y, valid = batch.target(group)
        average = mean_maps.setdefault(group.name, MeanMap.zeros(blocks.count, Y.shape[1], batch.settings.cells))
        for block, part in parts:
            average.add(block, Y[part], valid[part])
    for participant in participants:
        _add_moments(participant, groups, batch)


def _all_frames(maps: Mapping[str, MeanMap], group: TargetGroup, blocks: Blocks, settings: ProbeSettings) -> MeanMap:
    """The mean map over the frames of all processes."""
    average = maps.get(group.name) or MeanMap.zeros(blocks.count, group.width, settings.cells)
    processes.add((average.sums, average.squares, average.counts))
    return average


def _all_processes(read: Mapping[Participant, Sequence[TargetGroup]]) -> None:
    """Bring the moments of participants to the frames of all processes."""
    if processes.count() == 1:
        return
    for participant, groups in read.items():
        for group in groups:
            own = participant.moments.get(group.name)
            if own is None:  # no frame of this process could be read
                zeros = torch.zeros(participant.columns.channels), torch.zeros(group.width)
                own = Moments.zeros(participant.blocks.count, *zeros)
            participant.moments[group.name] = own.all_reduce()


def check_training_losses(
    candidates: Sequence[Candidate], train: Dataset, blocks: Blocks, settings: ProbeSettings
) -> TrainingLossCheck:
    """Compute the training loss of every linear probe directly on the frames of the sample block, and compare it with that
    of the moments.

    Raises `FathomError` naming encoder and layer where they differ by more than rounding.
    """
    frames = [i for i, scene in enumerate(train.frame_scenes) if blocks.of_scene[scene] == blocks.sample]
    probes = [item for item in candidates if item.linear is not None and item.participant is not None]
    direct = {item: torch.zeros(len(item.layers), item.group.width, dtype=torch.float64) for item in probes}
    for batch in read_batches(train.subset(frames), settings, "checking training losses"):
        for item in probes:
            assert item.linear is not None
            Y, valid = batch.target(item.group)
            shaped = item.linear(batch).reshape(len(Y), -1, *Y.shape[1:])
            squared = torch.where(valid[:, None], shaped - Y[:, None], 0.0).square()
            direct[item] += squared.sum(dim=(0, 3, 4), dtype=torch.float64).cpu()
    largest = max((_compare(item, direct[item], blocks.sample) for item in probes), default=0.0)
    return TrainingLossCheck(len(frames), largest)


def _compare(item: Candidate, direct: Float[Tensor, "L q"], sample: int) -> float:
    """The largest difference of a candidate's layers from the losses of its moments, relative to the target's variation."""
    assert item.participant is not None
    moments, largest = item.participant.moments[item.group.name].take([sample]), 0.0
    around = moments.yy[0] - moments.y[0].square() / moments.n.clamp(min=1)
    for layer, found in zip(item.layers, direct, strict=True):
        assert layer.probe is not None and layer.columns is not None
        own, weight = moments.select(layer.columns), layer.probe.weight
        expected = own.loss(weight, layer.probe.bias)[0]
        terms = own.yy[0] + own.xx[0].diagonal() @ weight.square() * max(len(weight), 1) ** 0.5
        slack = 1e-3 * (found + expected) + TOLERANCE * SINGLE * (terms + around)
        if bool(((found - expected).abs() > slack).any()):
            raise FathomError(
                f"Encoder {item.encoder}, layer {layer.name}: the training loss from its moments, {float(expected.sum()):.4g}, is "
                f"not the one of its predictions, {float(found.sum()):.4g}, on the same frames. Does the encoder give the same "
                "features for the same image each time?"
            )
        largest = max(largest, float((found - expected).abs().sum() / around.sum().clamp(min=1e-300)))
    return largest


def _add_moments(participant: Participant, groups: Sequence[TargetGroup], batch: Batch, *, exact: bool = False) -> None:
    """Encode a batch and add it to the moments of its blocks, for every target group.

    Products are formed in float64 where that is `exact` or costs nothing that matters.
    """
    placed, design, blocks = batch.features(participant, keep=False), participant.columns, participant.blocks
    dtype = torch.float64 if exact or design.channels <= NARROW else torch.float32
    parts, scale = _runs([blocks.of_scene[sample.scene] for sample in batch.samples]), design.scales(placed)
    for group in groups:
        Y, valid = batch.target(group)
        moments = participant.moments.get(group.name)
        if moments is None:
            cells = valid.expand_as(Y)
            shift_y = torch.where(cells, Y, 0.0).sum(dim=(0, 2, 3)) / cells.sum(dim=(0, 2, 3)).clamp(min=1)
            moments = Moments.zeros(blocks.count, design.means(placed), shift_y)
            participant.moments[group.name] = moments
        centred = design.centre(placed, moments.shift_x, scale, dtype)
        for block, part in parts:
            design.accumulate(moments, block, [z[part] for z in centred], valid[part], Y[part], scale)


def _runs(groups: Sequence[int]) -> list[tuple[int, slice]]:
    """Consecutive equal groups of a batch."""
    runs, start = [], 0
    for index in range(1, len(groups) + 1):
        if index == len(groups) or groups[index] != groups[start]:
            runs.append((groups[start], slice(start, index)))
            start = index
    return runs
