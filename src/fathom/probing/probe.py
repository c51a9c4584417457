"""`probe`: frozen encoders x features x data -> Evidence."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fathom
from fathom.data.dataset import Dataset
from fathom.data.loading import first_frame
from fathom.encoders.base import Encoder
from fathom.errors import FathomError, UsageError, nearest
from fathom.features import Feature, feature
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.linear.ridge import PATH
from fathom.probing.participants import BASELINES, CONTROLS, check_fair, enter
from fathom.probing.passes import (
    supports,
)
from fathom.probing.plan import STRIDE, default_grid, default_size
from fathom.probing.session import Session, Settings
from fathom.probing.upper_bound import open_upper_bound
from fathom.sample import Grid
from fathom.statistics import METHOD

if TYPE_CHECKING:
    from fathom.models.saved import Trained


def probe(
    encoder: str | Encoder | Sequence[str | Encoder] = (),
    feature: str | Feature | Sequence[str | Feature] = "depth",
    train: Dataset | None = None,
    test: Dataset | None = None,
    *,
    baselines: Sequence[str] = BASELINES,
    size: Grid | None = None,
    grid: Grid | None = None,
    protocol: str | None = None,
    seed: int = 0,
    batch_size: int = 16,
    folds: int = 5,
    penalties: Sequence[float] = PATH,
    device: str = "cpu",
    workers: int = 0,
    skip_bad: bool = False,
    pictures: int = 4,
    controls: int = CONTROLS,
    upper_bound: str | Path | Trained | None = None,
    label_curve: bool | None = None,
    banded: bool | None = None,
    heads: Sequence[str] = (),
    cues: bool | Sequence[str] = False,
    cache: str | Path | None = None,
    command: str = "",
) -> Evidence:
    """Fit exact linear probes from frozen encoders to features and measure them on unseen scenes.

    Args:
        encoder: SPECs or encoders, one or several; see docs/encoders.md.
        feature: names or `Feature`s, one or several.
        train: training frames. Without `test` they are split: officially where the source says how, else by scene.
        test: test frames; no scene may be in both.
        baselines: what every encoder is compared with.
        size: input (height, width); by default the short side is brought to at most 240.
        grid: the probe's grid; by default one cell for 8 x 8 pixels of input.
        protocol: of the full-resolution metrics; by default what suits the data.
        seed: of the split, the blocks and everything else that is random.
        batch_size: frames encoded at once; changes nothing but speed and memory.
        folds: of the cross-validation over training scenes that chooses λ and layer.
        penalties: values of λ tried.
        device, workers: where it is computed, and how many processes read.
        skip_bad: leave out frames that cannot be read, and say so in the notes.
        pictures: test frames to keep predictions of, for the picture.
        controls: seeds of each encoder's architecture with random weights that it is compared with; 0 for none, nor permuted
            weights, which makes a verdict weaker.
        upper_bound: a supervised checkpoint of Fathom's whose loss the share of the gap refers to.
        label_curve: loss against the number of training scenes, and description length; None for layers of up to 512 channels.
        banded: the concatenation of layers with a penalty for each; None where there are up to 512 channels.
        heads: ``mlp`` or ``bins``, trained beside the linear probes; see docs/heads.md.
        cues: test every probe on altered test images: all alterations, or those named; see docs/cues.md.
        cache: folder in which moments, and features for the heads, are kept for the next run.
        command: recorded in the evidence.

    Returns:
        `Evidence` with a row for each encoder, layer and feature.

    Raises:
        FathomError: for data, encoders or features that cannot give an honest number.
    """
    from fathom.metrics.protocols import PROTOCOLS, choose_protocol
    from fathom.probing.heads.heads import check_head

    for head in heads:
        check_head(head)
    if train is None:
        raise UsageError("probe() needs training data; give train=fathom.load(...).")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UsageError(f"There is no protocol '{protocol}'{nearest(protocol, PROTOCOLS)}.")
    train, test = _parts(train, test, seed)
    features = _features(feature, train)
    size = size or default_size(first_frame(train, skip_bad).image_size)
    grid = grid or default_grid(size)
    if min(size) < STRIDE:
        raise UsageError(
            f"An input of {size[0]}x{size[1]} is smaller than one cell of {STRIDE}x{STRIDE} pixels; use a larger size."
        )
    if grid[0] > size[0] or grid[1] > size[1]:
        raise UsageError(
            f"A grid of {grid[0]}x{grid[1]} is finer than the input of {size[0]}x{size[1]}; use a coarser one."
        )
    settings = Settings(
        size,
        grid,
        seed,
        batch_size,
        folds,
        tuple(penalties),
        device,
        workers,
        skip_bad,
        pictures,
        label_curve,
        banded,
        tuple(heads),
        str(cache) if cache is not None else None,
    )
    given = [encoder] if isinstance(encoder, str) or not isinstance(encoder, Sequence) else list(encoder)
    entrants = enter(given, baselines, settings.grid, size=size, seed=seed, device=device, controls=controls)
    chosen_protocol = PROTOCOLS[protocol] if protocol else choose_protocol(test)
    run = Session(settings, entrants, supports(features))
    run.notes += check_fair(entrants, test)
    if not controls and any(entrant.role.name == "encoder" for entrant in entrants):
        run.notes.append("No encoder was compared with its own architecture with random weights (controls 0).")
    supervised = open_upper_bound(upper_bound, test) if upper_bound is not None else None
    candidates = run.fit(train)
    if supervised is not None:
        candidates += run.upper_bounds(*supervised)
    found = run.measure(candidates, test, chosen_protocol)
    if cues:
        from fathom.probing.cues.measurement import measure_cues

        names = None if cues is True else list(cues)
        profile = measure_cues(candidates, run.readings, test, settings, names=names)
        found.extra |= {"cues": profile.to_json(), "cue_sentences": profile.sentences()}
    return Evidence(
        rows=found.rows,
        data={"train": _describe(train), "test": _describe(test)},
        test_scenes=test.scenes,
        protocol={"name": chosen_protocol.name, "description": chosen_protocol.description},
        size=settings.size,
        grid=settings.grid,
        settings={
            "seed": seed,
            "batch_size": batch_size,
            "folds": folds,
            "penalties": list(penalties),
            "device": device,
            "interval_method": METHOD,
            "controls": controls,
        },
        versions=versions(),
        command=command,
        notes=run.notes,
        verdicts=found.verdicts,
        pictures=found.pictures,
        extra=found.extra,
    )


def _parts(train: Dataset, test: Dataset | None, seed: int) -> tuple[Dataset, Dataset]:
    if test is None:
        train, test = train.official_split() if train.has_official_split else train.split(seed=seed)
    if not len(train) or not len(test):
        raise FathomError(f"{train.source.location}: the {'training' if not len(train) else 'test'} part has no frame.")
    shared = set(train.scenes) & set(test.scenes)
    if shared and train.source.location == test.source.location:
        raise UsageError(
            f"{len(shared)} scenes are in both the training and the test part (such as '{min(shared)}'); split by scene, "
            "or the score shows memory of rooms."
        )
    return train, test


def _features(given: str | Feature | Sequence[str | Feature], train: Dataset) -> list[Feature]:
    listed = [given] if isinstance(given, str | Feature) else list(given)
    made = [feature(item, train) if isinstance(item, str) else item for item in listed]
    if len({item.name for item in made}) < len(made):
        raise UsageError("A feature is named twice.")
    return made


def _describe(dataset: Dataset) -> dict[str, Any]:
    return {
        "location": dataset.source.location,
        "kind": dataset.source.kind,
        "part": dataset.part,
        "frames": len(dataset),
        "scenes": len(dataset.scenes),
        "fingerprint": dataset.fingerprint(),
        "facts": dict(dataset.source.facts),
    }


def versions() -> dict[str, str]:
    """Versions that a result may depend on."""
    return {
        "fathom": fathom.__version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
    }
