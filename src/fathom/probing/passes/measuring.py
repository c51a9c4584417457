"""The test pass: test frames into errors by scene, full-resolution metrics and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jaxtyping import Float
from torch import Tensor

from fathom.data.dataset import Dataset
from fathom.data.loading import Skipped
from fathom.data.tools.leaks import LeakWatch
from fathom.metrics.protocols import Protocol
from fathom.probing import processes
from fathom.probing.candidates import Candidate, SceneErrors
from fathom.probing.evidence.pictures import Pictures
from fathom.probing.evidence.scores import CellScores, DepthScores
from fathom.probing.reading import note_skipped, read_batches
from fathom.probing.settings import ProbeSettings
from fathom.progress import count


def measuring_pass(
    candidates: Sequence[Candidate],
    few_labels: Sequence[Candidate],
    means: Mapping[str, Float[Tensor, "q"]],
    test: Dataset,
    protocol: Protocol,
    settings: ProbeSettings,
    notes: list[str],
    leaks: LeakWatch | None = None,
) -> tuple[DepthScores, CellScores, Pictures]:
    """Read the test frames once: errors by scene of every candidate, full-resolution metrics and pictures.

    Args:
        candidates: what gets rows in the evidence.
        few_labels: probes on fewer training scenes, of which only the errors are needed.
        means: training mean of each target group.
        test, protocol, settings: of the run.
        notes: get what was left out.
        leaks: sees every frame.
    """
    scenes = {scene: index for index, scene in enumerate(test.scenes)}
    depth, cells, skipped = DepthScores(candidates, protocol), CellScores(candidates), Skipped()
    pictures = Pictures.plan(candidates, test, settings.pictures)
    for item in (*candidates, *few_labels):
        item.errors = SceneErrors.zeros(len(scenes), len(item.layers), len(item.layers[0].penalty))
    frames = test.subset(processes.share(range(len(test))))
    for batch in read_batches(frames, settings, f"reading {count(len(frames), 'test frame')}", skipped):
        index = [scenes[sample.scene] for sample in batch.samples]
        predicted: dict[Candidate, Tensor] = {}
        if leaks is not None:
            leaks.see_test(batch.originals)
        for item in (*candidates, *few_labels):
            prediction = item.predict(batch)
            Y, valid = batch.target(item.group)
            item.sums.add(prediction, Y, valid, means[item.group.name], index, item.bounds)
            predicted[item] = prediction
        for item in candidates:
            cells.add(item, predicted[item], *batch.target(item.group))
        depth.add(predicted, batch.originals)
        pictures.add(predicted, batch.samples)
    for item in (*candidates, *few_labels):
        processes.add(vars(item.sums).values())
    processes.add((*depth.sums(), *cells.sums()))
    depth.refused = next(filter(None, processes.gathered([depth.refused])), "")
    pictures.frames = processes.gathered(pictures.frames)
    if leaks is not None:
        leaks.test_bits = dict(processes.gathered(list(leaks.test_bits.items())))
    note_skipped(skipped, notes)
    if depth.refused:
        notes.append(depth.refused)
    return depth, cells, pictures
