"""Every setting that can change a number is found in the saved evidence."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.errors import UsageError
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from fathom.probing.settings import ProbeSettings
from tests.data.files import pairs

BASE = ProbeSettings(size=(24, 32), grid=(3, 4), baselines=("constant", "pixels"), controls=0, pictures=0)

CHANGES: dict[str, Any] = {
    "size": (48, 64),
    "grid": (2, 2),
    "baselines": ("constant", "position"),
    "controls": 1,
    "protocol": "nyu-eigen",
    "seed": 3,
    "folds": 3,
    "penalties": (0.5, 2.0),
    "heads": ("mlp",),
    "banded": False,
    "label_curve": False,
    "cues": ("grey",),
    "each_layer": True,
    "skip_bad": True,
    "pictures": 1,
    "batch_size": 3,
    "device": "cpu:0",
    "workers": 1,
    "cache": "moments",
}
"""A value that is not the one of `BASE`, for every setting."""


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    root = pairs(tmp_path_factory.mktemp("pairs"), scenes=8, views=1)
    return load(f"{root}?depth-scale=1000").split(0.4, seed=1)


def test_no_setting_is_left_out_here() -> None:
    assert list(CHANGES) == [item.name for item in fields(ProbeSettings)]
    assert all(getattr(BASE, name) != value for name, value in CHANGES.items())


@pytest.mark.parametrize("name", list(CHANGES))
def test_a_changed_setting_is_found_in_the_evidence(
    parts: tuple[Dataset, Dataset], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evidence = probe([], "depth", *parts, settings=BASE, **{name: CHANGES[name]})
    evidence.save(tmp_path / "run")
    record = json.loads((tmp_path / "run" / "evidence.json").read_text())["settings"]
    wanted = CHANGES[name]
    assert record[name] == (list(wanted) if isinstance(wanted, tuple) else wanted)
    expected = replace(BASE, **{"protocol": evidence.settings.protocol, name: wanted})
    assert Evidence.load(tmp_path / "run").settings == expected


def test_settings_that_cannot_be_are_refused() -> None:
    for changes, words in (
        ({"folds": 1}, "'folds' must be at least 2"),
        ({"penalties": ()}, "'penalties' are one or more"),
        ({"penalties": (0.0,)}, "finite values above 0"),
        ({"size": (0, 32)}, "'size' is .height, width."),
        ({"batchsize": 4}, r"no setting 'batchsize' \(did you mean 'batch_size'"),
    ):
        with pytest.raises(UsageError, match=words):
            ProbeSettings().changed(changes)


def test_lists_and_paths_are_taken_for_what_they_say() -> None:
    made = ProbeSettings().changed({"baselines": ["pixels"], "cache": Path("here")})
    assert made.baselines == ("pixels",) and made.cache == "here"
