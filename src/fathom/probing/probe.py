"""`probe`: frozen encoders x features x data -> Evidence."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fathom
from fathom.data.dataset import Dataset
from fathom.data.formats.folders.folder_pairs import UNNAMED
from fathom.data.loading import first_frame
from fathom.data.record import DataRecord
from fathom.data.tools.leaks import Leak, LeakWatch, leaking_scenes, not_unseen
from fathom.data.transforms import fit
from fathom.depth_models.model import DepthModel
from fathom.depth_models.opening import Openable
from fathom.encoders.base import Encoder, Provenance
from fathom.errors import FathomError, UsageError, nearest
from fathom.features import FEATURES, Feature, feature
from fathom.metrics.protocols import PROTOCOLS, choose_protocol
from fathom.probing import processes
from fathom.probing.cues.measurement import choose_alterations, measure_cues
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.evidence.information import measure_information
from fathom.probing.evidence.label_curve import few_labels, label_curves
from fathom.probing.evidence.records import Data, EncoderRecord, FeatureRecord, ProtocolRecord
from fathom.probing.evidence.rows import clip_notes, controls, evidence_rows, lone_scene_notes
from fathom.probing.evidence.verdict.cases import cases, layer_cases
from fathom.probing.evidence.verdict.findings import LEAST_SCENES
from fathom.probing.evidence.verdict.verdict import layer_verdicts, verdicts
from fathom.probing.fit import fit_probes
from fathom.probing.heads.heads import check_head
from fathom.probing.participants import Participant, check_fair, open_participants
from fathom.probing.passes.measuring import measuring_pass
from fathom.probing.passes.training import check_training_losses, training_pass
from fathom.probing.plan import STRIDE, Blocks, default_grid, default_size, plan_blocks
from fathom.probing.reading import Batch
from fathom.probing.run_folder import run_folder, save_run
from fathom.probing.saved.probes import save_probes
from fathom.probing.settings import ProbeSettings
from fathom.probing.targets import TargetGroup, target_groups, with_control_task
from fathom.probing.upper_bound import open_upper_bound, upper_bounds
from fathom.progress import count, note
from fathom.statistics import METHOD


@dataclass(frozen=True)
class Plan:
    """Everything that is decided and opened before the training pass.

    Attributes:
        settings: with size, grid and protocol filled in.
        train, test: the frames.
        participants: the encoders, baselines and controls.
        groups: what they are probed for, with the control task.
        blocks: the training scenes, in blocks and folds.
        upper_bound: a supervised depth model, if one was named.
        notes: what a reader should know; the passes add to them.
    """

    settings: ProbeSettings
    train: Dataset
    test: Dataset
    participants: tuple[Participant, ...]
    groups: tuple[TargetGroup, ...]
    blocks: Blocks
    upper_bound: DepthModel | None
    notes: list[str] = field(default_factory=list)

    def call(self) -> str:
        """The call from Python that makes this run; what was given in memory stands in angle brackets."""
        encoders = [item.encoder for item in self.participants if item.role.name == "encoder"]
        named = [_named(one.provenance().spec, one.name) for one in encoders]
        features = [_named(describe_feature(one).spec, one.name) for group in self.groups for one in group.features]
        parts = [f"fathom.load({part.source.location!r})" for part in (self.train, self.test)]
        data = parts if self.test.source is not self.train.source else [f"*(train, test) of {parts[0]}"]
        usual = ProbeSettings()
        changed = [
            f"{one.name}={value!r}"
            for one in fields(self.settings)
            if (value := getattr(self.settings, one.name)) != getattr(usual, one.name)
        ]
        if self.upper_bound is not None:
            changed.append(f"upper_bound={self.upper_bound.name!r}")
        return f"fathom.probe([{', '.join(named)}], [{', '.join(features)}], {', '.join([*data, *changed])})"

    def describe(self) -> list[tuple[str, str]]:
        """What would be run, in words: (what, value) for the data, every participant, target and setting."""
        facts = [
            (
                f"{name} data",
                f"{count(len(part), 'frame')} of {count(len(part.scenes), 'scene')}, {part.source.location} ({part.part})",
            )
            for name, part in (("training", self.train), ("test", self.test))
        ]
        for item in self.participants:
            seed = "" if item.role.seed is None else f", seed {item.role.seed}"
            layers = ", ".join(f"{name} ({part.stop - part.start})" for name, part in item.layers.items())
            facts.append((f"{item.role.name}{seed}", f"{item.encoder.name}; layers (channels): {layers}"))
        if self.upper_bound is not None:
            facts.append(("upper bound", self.upper_bound.name))
        for group in self.groups:
            outputs = [f"{one.name} ({one.channels}{f', {one.unit}' if one.unit else ''})" for one in group.features]
            facts.append(("features (channels, unit)", ", ".join(outputs)))
        facts.append(("cross-validation", f"{len(self.blocks.folds)} folds of {self.blocks.count} blocks of scenes"))
        facts += [(one.name, str(getattr(self.settings, one.name))) for one in fields(self.settings)]
        return facts + [("note", text) for text in self.notes]


def probe(
    encoder: str | Encoder | nn.Module | Sequence[str | Encoder | nn.Module] = (),
    feature: str | Feature | Sequence[str | Feature] = "depth",
    train: Dataset | None = None,
    test: Dataset | None = None,
    *,
    upper_bound: Openable | None = None,
    settings: ProbeSettings | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    command: str | None = None,
    **changes: Any,
) -> Evidence:
    """Fit exact linear probes from frozen encoders to features and measure them on unseen scenes.

    Args:
        encoder: SPECs, encoders or modules, one or several; see docs/encoders.md.
        feature: names or `Feature`s, one or several.
        train: training frames. Without `test` they are split: officially where the source says how, else by scene.
        test: test frames; no scene may be in both.
        upper_bound: a supervised depth model, by name, path or as an object, which the fraction of the gap closed refers to.
        settings: everything else; see `ProbeSettings`.
        out: folder of the run, as ``fathom probe`` writes it: evidence, probes, split, report. An interrupted run resumes there.
        overwrite: replace the run that `out` holds.
        command: recorded in the evidence; by default the call that makes this run.
        **changes: single settings by name, such as ``seed=1``; they go over those in `settings`.

    Returns:
        `Evidence` with a row for each encoder, layer and feature.

    Raises:
        FathomError: for data, encoders or features that cannot give an honest number.
    """
    settings = (settings or ProbeSettings()).changed(changes)
    folder = None if out is None else Path(out)
    with nullcontext() if folder is None else run_folder(folder, overwrite):
        run = plan(encoder, feature, train, test, upper_bound, settings)
        evidence = measure(run, folder)
        evidence.command = run.call() if command is None else command
        if folder is not None:
            save_run(evidence, folder, run.train, run.test)
    return evidence


def measure(run: Plan, folder: Path | None = None) -> Evidence:
    """Read the training frames, fit, read the test frames, decide.

    Args:
        run: what was planned.
        folder: where the training pass is kept, so that an interrupted run resumes.
    """
    settings, protocol, notes = run.settings, PROTOCOLS[str(run.settings.protocol)], run.notes

    leaks = LeakWatch(run.train, run.test)
    mean_maps = training_pass(run.participants, run.groups, run.train, run.blocks, settings, notes, leaks, folder)
    means = {name: average.mean() for name, average in mean_maps.items()}

    candidates = fit_probes(run.participants, run.groups, mean_maps, run.train, run.blocks, settings)
    checked = check_training_losses(candidates, run.train, run.blocks, settings)
    few = few_labels([item for item in candidates if item.participant is not None], settings, notes)
    if run.upper_bound is not None:
        candidates += upper_bounds(run.upper_bound, run.groups, settings, notes)

    measured = [item.candidate for item in few]
    depth, cells, pictures = measuring_pass(candidates, measured, means, run.test, protocol, settings, notes, leaks)
    cues = measure_cues(candidates, means, run.test, settings) if settings.cues else None

    rows, control_of = evidence_rows(candidates, depth, cells), controls(candidates)
    notes += clip_notes(rows, {one.name for group in run.groups for one in group.features if one.classes})
    notes += lone_scene_notes(rows, run.test.scenes)
    withheld = unseen(run.train, run.test, leaks.leaks(), notes)
    decided = tuple(verdicts(cases(rows, control_of), withheld=withheld))
    references = {(item.encoder, item.feature): item.baseline for item in decided}
    evidence = Evidence(
        command="",
        versions=versions(),
        data=Data(DataRecord.of(run.train), DataRecord.of(run.test)),
        protocol=ProtocolRecord(protocol.name, protocol.description),
        settings=settings,
        interval_method=METHOD,
        encoders=tuple(describe_encoder(participant) for participant in run.participants),
        targets=tuple(describe_feature(one) for group in run.groups for one in group.features),
        test_scenes=run.test.scenes,
        rows=rows,
        verdicts=decided,
        layer_verdicts=layer_verdicts(layer_cases(rows, control_of), withheld) if settings.each_layer else (),
        information=measure_information(candidates, references, settings),
        label_curves=label_curves(few),
        training_loss_check=checked,
        cues=() if cues is None else cues.cues,
        cue_sentences={} if cues is None else cues.sentences(),
        notes=tuple(notes),
    )
    evidence.pictures = pictures.frames
    evidence.probes = save_probes(candidates, run.train, settings)
    return evidence


def plan(
    encoder: str | Encoder | nn.Module | Sequence[str | Encoder | nn.Module],
    feature: str | Feature | Sequence[str | Feature],
    train: Dataset | None,
    test: Dataset | None,
    upper_bound: Openable | None,
    settings: ProbeSettings,
) -> Plan:
    """Open and check everything that a run needs; of the frames only a few are read."""
    for head in settings.heads:
        check_head(head)
        if processes.count() > 1:
            raise UsageError("Heads that are not linear are trained in one process; leave them out, or start one.")
    if settings.protocol is not None and settings.protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol '{settings.protocol}'{nearest(settings.protocol, PROTOCOLS)}.")
    train, test = _parts(train, test, settings.seed)
    groups = target_groups(_features(feature, train))
    settings = _resolved(settings, train, test)
    if settings.cues:
        choose_alterations(test, settings)
    given = [encoder] if isinstance(encoder, str | Encoder | nn.Module) else list(encoder)
    notes: list[str] = []
    participants = open_participants(given, settings, notes)
    notes += check_fair(participants, test)
    if not settings.controls and any(item.role.name == "encoder" for item in participants):
        notes.append("Without untrained copies of an encoder (controls 0) nothing is called implicit.")
    supervised = open_upper_bound(upper_bound, test, settings.device) if upper_bound is not None else None
    if len(test.scenes) < LEAST_SCENES:
        notes.append(
            f"Too few test scenes for a verdict: {count(len(test.scenes), 'scene')}, and {LEAST_SCENES} or more are needed; losses are "
            "measured all the same."
        )
        note(notes[-1])
    if len(train.scenes) < LEAST_SCENES:
        notes.append(
            f"Few training scenes: {count(len(train.scenes), 'scene')}, so {min(settings.folds, len(train.scenes))} folds choose the penalty; "
            "other training scenes may give other losses, which the intervals do not include."
        )
        note(notes[-1])
    blocks = _blocks(participants, train, settings)
    groups = with_control_task(groups, train, settings)
    return Plan(settings, train, test, tuple(participants), groups, blocks, supervised, notes)


def _named(spec: str | None, name: str) -> str:
    return f"<{name}>" if spec is None else repr(spec)


def _parts(train: Dataset | None, test: Dataset | None, seed: int) -> tuple[Dataset, Dataset]:
    if train is None:
        raise UsageError("probe() needs training data; give train=fathom.load(...).")
    if test is None:
        train, test = train.official_split() if train.has_official_split else train.split(seed=seed)
    if not len(train) or not len(test):
        raise FathomError(f"{train.source.location}: the {'training' if not len(train) else 'test'} part has no frame.")
    shared = set(train.scenes) & set(test.scenes)
    if shared and train.source.location == test.source.location:
        raise UsageError(
            f"In both the training and the test part: {count(len(shared), 'scene')} (such as '{min(shared)}'); split by scene, or the "
            "score shows memory of rooms."
        )
    return train, test


def _features(given: str | Feature | Sequence[str | Feature], train: Dataset) -> list[Feature]:
    listed = [given] if isinstance(given, str | Feature) else list(given)
    made = [feature(item, train) if isinstance(item, str) else item for item in listed]
    if len({item.name for item in made}) < len(made):
        raise UsageError("A feature is named twice.")
    return made


def _resolved(settings: ProbeSettings, train: Dataset, test: Dataset) -> ProbeSettings:
    """The settings with size, grid and protocol that suit the data, where none were given."""
    size = settings.size or default_size(first_frame(train, settings.skip_bad).image_size)
    grid = settings.grid or default_grid(size)
    if min(size) < STRIDE:
        raise UsageError(
            f"An input of {size[0]}x{size[1]} is smaller than one cell of {STRIDE}x{STRIDE} pixels; use a larger size."
        )
    if grid[0] > size[0] or grid[1] > size[1]:
        raise UsageError(
            f"A grid of {grid[0]}x{grid[1]} is finer than the input of {size[0]}x{size[1]}; use a coarser one."
        )
    return replace(settings, size=size, grid=grid, protocol=settings.protocol or choose_protocol(test).name)


def _blocks(participants: Sequence[Participant], train: Dataset, settings: ProbeSettings) -> Blocks:
    """Blocks of scenes, and which of them each participant keeps; one frame is encoded to learn how wide the encoders are."""
    blocks = plan_blocks(train, settings.folds, settings.seed)
    frame = fit(first_frame(train, settings.skip_bad), settings.input_size)
    batch = Batch([frame], [frame], settings)
    for participant in participants:
        placed = batch.features(participant, keep=False)
        participant.witness = participant.columns.means(placed).cpu()
        participant.plan(blocks)
    return blocks


def unseen(train: Dataset, test: Dataset, leaks: Sequence[Leak], notes: list[str]) -> str:
    """Why the test scenes are no unseen scenes, in one sentence; empty where nothing speaks against them.

    Near-duplicates that are too few to decide go to `notes`.
    """
    if any(part.source.facts.get("scene", "").startswith(UNNAMED) for part in (train, test)):
        return (
            "The verdict is withheld because every frame counts as a scene of its own, so frames of one room may be in both parts: "
            "say which frames belong together (a 'scene' column in index.csv, or DATA?scene=REGEX), or DATA?scene=frame if they "
            "are unrelated."
        )
    if not leaks:
        return ""
    touched = f"{len(leaking_scenes(leaks))} of {count(len(test.scenes), 'test scene')}"
    example = f"{leaks[0].test} and {leaks[0].train}"
    if not_unseen(leaks, len(test.scenes)):
        return (
            f"The verdict is withheld because {touched} have near-duplicates among the training frames (such as {example}): name the "
            "scenes (a 'scene' column in index.csv, or DATA?scene=REGEX), or split by a file (--split)."
        )
    notes.append(
        f"{touched} have near-duplicates among the training frames, such as {example}: see 'fathom data check'."
    )
    return ""


def describe_encoder(participant: Participant) -> EncoderRecord:
    """A participant, for the evidence."""
    encoder, role = participant.encoder, participant.role
    # What a control is made of is what its encoder is made of.
    known = encoder.provenance() if role.name == "encoder" else Provenance()
    return EncoderRecord(
        encoder=encoder.name,
        role=role.name,
        of=role.of,
        seed=role.seed,
        layers=tuple(encoder.layers),
        spec=known.spec,
        weights=known.weights,
        code=known.code,
        revision=known.revision,
        licence=known.licence,
    )


def describe_feature(given: Feature) -> FeatureRecord:
    """A feature, for the evidence; one of the user's own that has no SPEC cannot be named again."""
    base = given.name.partition(":")[0]
    spec = given.spec or (given.name if base in (*FEATURES, "labels", "target") else None)
    return FeatureRecord(given.name, given.channels, given.unit, spec, given.code)


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {
        "fathom": fathom.__version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
