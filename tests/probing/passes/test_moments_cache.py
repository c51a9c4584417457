"""Cached moments: the second run reads no training frame and gives the same numbers; whatever changed is noticed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.encoders.base import Encoder
from fathom.encoders.module import ModuleEncoder
from fathom.features import Feature
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.passes import training
from fathom.probing.probe import probe
from fathom.sample import Grid, Sample
from tests.data.files import pairs, picture

GRID, SIZE = (3, 4), (24, 32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return pairs(tmp_path / "pairs", scenes=8, views=1)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Names of the encoders in each training pass that is made."""
    made: list[list[str]] = []
    real = training.read_batches

    def noted(dataset, settings, description, notes=None):  # type: ignore[no-untyped-def]
        if description.startswith("reading") and "training" in description:
            made.append([])
        return real(dataset, settings, description, notes)

    add = training._add_moments

    def added(participant, *rest):  # type: ignore[no-untyped-def]
        if participant.encoder.name not in made[-1]:
            made[-1].append(participant.encoder.name)
        add(participant, *rest)

    monkeypatch.setattr(training, "read_batches", noted)
    monkeypatch.setattr(training, "_add_moments", added)
    return made


def net(seed: int = 0) -> ModuleEncoder:
    torch.manual_seed(seed)
    return ModuleEncoder("module:net", nn.Sequential(nn.Conv2d(3, 4, 8, 8)), ("0",), None, SIZE)


def split(root: Path) -> tuple[Dataset, Dataset]:
    return load(f"{root}?depth-scale=1000").split(0.4, seed=1)


def run(
    root: Path, cache: Path, encoder: ModuleEncoder | None = None, feature: str | Feature = "depth", **more: object
) -> Evidence:
    given = encoder if encoder is not None else []
    few: Any = {"baselines": ("constant", "pixels"), "controls": 0, "pictures": 0, "label_curve": False}
    return probe(given, feature, *split(root), cache=cache, **{"size": SIZE, "grid": GRID, **few, **more})


def losses(evidence: Evidence) -> list[float]:
    return [row.test_mse for row in evidence.rows]


def test_second_run_reads_no_training_frame_and_gives_the_same(
    root: Path, tmp_path: Path, encoded: list[list[str]]
) -> None:
    first = run(root, tmp_path / "cache", net())
    second = run(root, tmp_path / "cache", net())
    assert len(encoded) == 1 and losses(second) == losses(first)
    assert [row.cv_mse for row in second.rows] == [row.cv_mse for row in first.rows]


def test_other_penalties_need_no_pass_and_count(root: Path, tmp_path: Path, encoded: list[list[str]]) -> None:
    run(root, tmp_path / "cache", net())
    strong = run(root, tmp_path / "cache", net(), penalties=(100.0,))
    assert len(encoded) == 1 and strong.row("module:net").penalty == 100.0


def test_another_encoder_is_read_alone(root: Path, tmp_path: Path, encoded: list[list[str]]) -> None:
    run(root, tmp_path / "cache")
    run(root, tmp_path / "cache", net())
    assert encoded == [["constant", "pixels"], ["module:net"]]


@pytest.mark.parametrize("change", ["weights", "frame", "grid", "seed"])
def test_what_changed_is_computed_again(root: Path, tmp_path: Path, encoded: list[list[str]], change: str) -> None:
    run(root, tmp_path / "cache", net())
    if change == "frame":
        train, _ = split(root)
        picture(root / "rgb" / f"{train.ids[0]}.png", 24, 32, seed=99)
    more = {"grid": {"grid": (6, 8)}, "seed": {"seed": 5}}.get(change, {})
    again = run(root, tmp_path / "cache", net(1 if change == "weights" else 0), **more)
    assert "module:net" in encoded[-1] and len(encoded) == 2
    fresh = run(root, tmp_path / "other", net(1 if change == "weights" else 0), **more)
    assert losses(again) == losses(fresh)


def test_changed_function_of_a_feature_is_noticed(root: Path, tmp_path: Path, encoded: list[list[str]]) -> None:
    def mine(channel: int) -> Feature:
        def target(sample: Sample, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
            values = nn.functional.adaptive_avg_pool2d(sample.float_image(), grid)[channel : channel + 1]
            return values, torch.ones(1, *grid, dtype=torch.bool)

        return Feature.from_function("mine", target)

    run(root, tmp_path / "cache", feature=mine(0))
    run(root, tmp_path / "cache", feature=mine(1))
    assert len(encoded) == 2


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 0x40
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [torn, flipped])
def test_damaged_file_is_made_again_and_said(
    root: Path,
    tmp_path: Path,
    encoded: list[list[str]],
    damage: Callable[[Path], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = run(root, tmp_path / "cache", net())
    for path in (tmp_path / "cache").glob("moments-*"):
        damage(path)
    assert losses(run(root, tmp_path / "cache", net())) == losses(first)
    assert len(encoded) == 2 and "damaged" in capsys.readouterr().err


def test_encoder_whose_content_cannot_be_seen_is_not_cached(
    root: Path, tmp_path: Path, encoded: list[list[str]]
) -> None:
    class Mine(Encoder):
        name, layers = "mine", ("x",)

        def encode(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"x": nn.functional.avg_pool2d(images, 8)}

    for _ in range(2):
        run(root, tmp_path / "cache", Mine())
    assert encoded[-1] == ["mine"]
