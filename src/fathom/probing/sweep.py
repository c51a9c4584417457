"""A file of probe runs: each in its own folder, an interrupted sweep resumes, and one page compares them all.

data = "rooms"                    # for every run that names no other
features = ["depth", "normals"]
settings = { controls = 5 }

[[run]]
name = "autoencoder"
encoders = ["checkpoint:rooms-autoencoder"]

[[run]]
name = "mine"
encoders = ["module:net.py:net"]
settings = { size = [96, 128] }   # over those above
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.data.splits import load_split
from fathom.errors import DataError, FathomError, UsageError, nearest
from fathom.files.atomic import write_json
from fathom.files.inputs import convert, parse_toml, read_bytes
from fathom.probing.evidence.comparison.differences import differences
from fathom.probing.evidence.comparison.pairs import TESTED, measurements_of
from fathom.probing.evidence.comparison.ranking import Ranking, ranking_of
from fathom.probing.evidence.evidence import FILE, Evidence
from fathom.probing.probe import probe
from fathom.probing.settings import ProbeSettings
from fathom.progress import note

PAGE = "fathom.report.probe.sweep:write_sweep"
"""What writes the page of all runs, by name since it stands above this package: from (sweep, folder) to its path."""

RECORD = "run.json"
"""What a run of a sweep was asked to do, beside its evidence: a finished run is made again where this differs."""


class Run(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One run; what is None or empty is as in the head of the file.

    Attributes:
        name: of its folder.
        data, test, split, fraction, depth_scale: as ``fathom probe`` takes them.
        encoders, features: SPECs and names. upper_bound: a depth model.
        settings: of `ProbeSettings`, by name.
    """

    name: str = ""
    data: str | None = None
    encoders: list[str] = []
    features: list[str] = []
    test: str | None = None
    split: str | None = None
    fraction: float | None = None
    depth_scale: str | None = None
    upper_bound: str | None = None
    settings: dict[str, Any] = {}


class RunFile(Run, forbid_unknown_fields=True, kw_only=True):
    """The file: what all runs share, and the runs."""

    run: list[Run] = []


@dataclass(frozen=True)
class Sweep:
    """What the runs of a file found.

    Attributes:
        runs: name -> evidence, in the order of the file. failed: name -> why, of runs that could not be made.
        rankings: of the encoders of all runs that were measured on the same test cells, by the names of these runs.
    """

    runs: dict[str, Evidence]
    failed: dict[str, str]
    rankings: tuple[tuple[tuple[str, ...], Ranking], ...]


def load_runs(path: Path, changes: Mapping[str, Any]) -> list[Run]:
    """The runs of a TOML file, each with what the head of the file says; `changes` are settings that go over all of them.

    Raises:
        DataError: it is no TOML, or a key is unknown or of another type.
        UsageError: a run has no name, encoder or data, two share a name, or a setting is unknown.
    """
    fix = "see docs/evidence.md, 'Many runs'"
    head = convert(parse_toml(read_bytes(path), path, fix=fix), path, RunFile, what="a file of probe runs", fix=fix)
    runs = []
    for one in head.run:
        joined = {key: getattr(one, key) or getattr(head, key) for key in one.__struct_fields__ if key != "settings"}
        runs.append(Run(**joined, settings={**head.settings, **one.settings, **changes}))
    names = [one.name for one in runs]
    for one in runs:
        if not re.fullmatch(r"[\w.+=,() -]{1,100}", one.name) or one.name[0] in ". " or one.name[-1] == " ":
            raise UsageError(
                f"{path}: the name {one.name!r} of a run cannot name its folder; use letters, digits, spaces and . _ + - = , ( )."
            )
        if names.count(one.name) > 1:
            raise UsageError(f"{path}: two runs are called '{one.name}'.")
        if not one.data or not one.encoders:
            raise UsageError(f"{path}: the run '{one.name}' names no {'encoders' if one.data else 'data'}.")
        settings_of(one, path)
    if not runs:
        raise UsageError(f"{path} holds no [[run]].")
    return runs


def settings_of(run: Run, path: Path) -> ProbeSettings:
    """The settings of a run, checked by type."""
    types = {one.name: one.type for one in fields(ProbeSettings)}
    for name in run.settings:
        if name not in types:
            raise UsageError(f"{path}: run '{run.name}': a probe has no setting '{name}'{nearest(name, types)}.")
    try:
        return msgspec.convert(run.settings, ProbeSettings, strict=False)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: run '{run.name}': {error}.") from error


def sweep(path: Path, out: Path, *, overwrite: bool = False, changes: Mapping[str, Any] | None = None) -> Sweep:
    """Make every run of a file that is not made yet, each in ``out/NAME``, and the page of all of them.

    A run that fails is named on the page, and the others are made. After an interruption the same call goes on.

    Args:
        path: of the file. out: folder of the runs.
        overwrite: make finished runs again.
        changes: settings that go over those of the file, such as the device.
    """
    runs, failed = dict[str, Evidence](), dict[str, str]()
    listed = load_runs(path, changes or {})
    for position, run in enumerate(listed, 1):
        folder = out / run.name
        wanted = msgspec.to_builtins(run)
        if not overwrite and (folder / FILE).is_file() and _as_wanted(folder, wanted):
            note(f"Run {position} of {len(listed)}, {run.name}: made already.")
            runs[run.name] = Evidence.load(folder)
            continue
        note(f"Run {position} of {len(listed)}, {run.name}:")
        try:
            runs[run.name] = _make(run, path, folder, wanted)
        except FathomError as error:
            if error.exit_code > 128:  # asked to stop
                raise
            failed[run.name] = str(error)
            note(f"Run {run.name} failed: {error}")
    found = Sweep(runs, failed, tuple(rankings(runs)))
    module, _, function = PAGE.partition(":")
    getattr(importlib.import_module(module), function)(found, out)
    return found


def _as_wanted(folder: Path, wanted: Mapping[str, Any]) -> bool:
    """Whether the folder's run was made of the same lines of the file; where it is computed does not matter."""
    try:
        made = msgspec.json.decode((folder / RECORD).read_bytes())
    except (OSError, msgspec.DecodeError):
        return False
    speed = ("device", "workers", "cache")

    def plain(run: Mapping[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in run["settings"].items() if key not in speed}
        return {**run, "settings": kept}

    return isinstance(made, dict) and "settings" in made and plain(made) == plain(wanted)


def _make(run: Run, path: Path, folder: Path, wanted: Mapping[str, Any]) -> Evidence:
    settings = settings_of(run, path)
    train, test = data_parts(
        str(run.data), run.test, None if run.split is None else Path(run.split), run.fraction or 0.25, settings.seed,
        settings.skip_bad, run.depth_scale,
    )  # fmt: skip
    evidence = probe(
        run.encoders, run.features or ["depth"], train, test, upper_bound=run.upper_bound, settings=settings, out=folder,
        overwrite=True,
    )  # fmt: skip
    write_json(folder / RECORD, wanted)
    return evidence


def rankings(runs: Mapping[str, Evidence]) -> Iterator[tuple[tuple[str, ...], Ranking]]:
    """For each feature, the encoders of all runs whose losses can be paired; runs on other test data have a ranking of their own."""
    groups: list[list[str]] = []
    for name in runs:
        group = next((group for group in groups if not differences(runs[group[0]], runs[name])), None)
        groups.append([name]) if group is None else group.append(name)
    for group in groups:
        first = runs[group[0]]
        for feature in dict.fromkeys(one for name in group for one in runs[name].features):
            holding = [name for name in group if feature in runs[name].features]
            measured = [
                item
                for number, name in enumerate(runs, 1)
                if name in holding
                for item in measurements_of(runs[name], number, feature, first.test_scenes)
                if item.role in TESTED
            ]
            ranking = ranking_of(feature, measured)
            if ranking is not None:
                yield tuple(holding), ranking


def data_parts(
    data: str,
    test: str | None,
    split: Path | None,
    fraction: float,
    seed: int,
    skip_bad: bool,
    depth_scale: str | None,
) -> tuple[Dataset, Dataset]:
    """The training and the test frames: a saved split, other data to test on, the official split, or one of the scenes."""
    options = {"depth_scale": depth_scale} if depth_scale is not None else {}
    whole = load(data, skip_bad=skip_bad, **options)
    if split is not None:
        if test is not None:
            raise UsageError("--split and --test both name the test frames; give one.")
        parts = load_split(split, whole)
        if not {"train", "test"} <= set(parts):
            raise DataError(
                split, f"has parts {', '.join(parts)}, not train and test", "make it with 'fathom data split'"
            )
        return parts["train"], parts["test"]
    if test is not None:
        return whole, load(test, skip_bad=skip_bad, **options)
    return whole.official_split() if whole.has_official_split else whole.split(fraction, seed)
