"""Features in a probe run: what must be known perfectly is, and nothing asks whether there is depth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.cli.main import main
from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.probing.evidence.evidence import Evidence, Row
from fathom.probing.probe import probe
from tests.data.files import counts, pairs

GRID, SIZE = (3, 4), (24, 32)


def ladder(evidence: Evidence, feature: str) -> dict[str, Row]:
    return {row.encoder: row for row in evidence.rows if row.feature == feature}


@pytest.fixture(scope="module")
def rooms() -> tuple[Dataset, Dataset]:
    train, test = load("rooms").official_split()
    return train.subset(range(0, 60, 4)), test.subset(range(0, 28, 4))  # a view of each of 15 and 7 rooms


def test_pixels_know_colour_and_the_position_baseline_knows_position(rooms: tuple[Dataset, Dataset]) -> None:
    baselines = ("constant", "position", "pixels")
    evidence = probe(
        [], ["colour", "luminance", "position"], *rooms, baselines=baselines, grid=(6, 8), pictures=0, label_curve=False
    )
    # Cells brighter or darker than any in training are clipped to the range of the training targets.
    for feature, knows, ignorant, left in (
        ("colour", "pixels", "position", 1e-4),
        ("luminance", "pixels", "position", 1e-4),
        ("position", "position", "pixels", 1e-8),
    ):
        rows = ladder(evidence, feature)
        assert rows[knows].r2 is not None and rows[knows].r2 > 1 - 20 * left, feature
        assert rows[knows].test_mse < left, feature
        assert rows[ignorant].r2 is not None and rows[ignorant].r2 < 0.9, feature


def test_every_feature_of_rooms_is_probed_and_labels_have_accuracy_and_miou(rooms: tuple[Dataset, Dataset]) -> None:
    names = ["depth", "relative_depth", "depth_edges", "normals", "plane_offset", "curvature", "labels"]
    evidence = probe(
        [], names, *rooms, baselines=("constant", "pixels+position"), grid=(6, 8), pictures=0, label_curve=False
    )
    for name in names:
        for row in ladder(evidence, name).values():
            assert np.isfinite(row.test_mse) and sum(row.cells) > 0, (name, row.encoder)
            assert (row.accuracy is not None) == (row.miou is not None) == (name == "labels"), name
            assert (row.abs_rel is not None) == (name == "depth"), name
    rows = ladder(evidence, "labels")
    assert rows["constant"].accuracy is not None and 0 < rows["constant"].accuracy < 1


def test_accuracy_and_miou_of_classes_that_the_colours_tell(tmp_path: Path) -> None:
    root = pairs(tmp_path, scenes=20, views=2, planted=True)
    truth, unlabelled = [], load(f"{root}?depth-scale=1000")
    for index, sample in enumerate(unlabelled):
        path = unlabelled.frame(index).files[0]
        blocks = np.asarray(sample.image)[:, ::8, ::8]
        label = blocks.argmax(0).astype(np.uint8)
        counts(root / "labels" / path.relative_to(root / "rgb"), label.repeat(8, 0).repeat(8, 1))
        truth.append(label)
    data = load(f"{root}?depth-scale=1000")
    train, test = data.split(0.4, seed=2)
    evidence = probe(
        [], "labels", train, test, baselines=("constant", "pixels"), size=SIZE, grid=GRID, pictures=0, label_curve=False
    )
    rows = ladder(evidence, "labels")
    assert rows["pixels"].accuracy > 0.85 and rows["pixels"].miou > 0.75
    by_id = dict(zip(data.ids, truth, strict=True))
    most = np.bincount(np.concatenate([by_id[id_].ravel() for id_ in train.ids])).argmax()
    share = float(np.mean([by_id[id_] == most for id_ in test.ids]))
    assert rows["constant"].accuracy == pytest.approx(share)
    assert rows["constant"].miou == pytest.approx(share / 3)  # the two classes never said have no overlap


def test_data_with_a_target_and_without_depth_are_probed_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = pairs(tmp_path / "d", scenes=12, views=2)
    data = load(f"{root}?depth-scale=1000")
    for sample in data:
        image = sample.float_image().numpy()
        target = np.stack([image[0] - 2 * image[2], 5 * image[1] + 1]).transpose(1, 2, 0)
        target[:8, :8] = np.nan
        path = root / "target" / f"{sample.id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, target)
    for path in (root / "depth").rglob("*.png"):
        path.unlink()
    (root / "depth").rename(root / "nothing")
    out = tmp_path / "out"
    arguments = ["-f", "target", "--baselines", "constant,pixels,position", "--grid", "3x4", "-o", str(out), "-q"]
    assert main(["probe", f"{root}?target-layout=hwc", *arguments]) == 0
    assert "target: test loss" in capsys.readouterr().out
    rows = {row["encoder"]: row for row in json.loads((out / "evidence.json").read_text())["rows"]}
    assert rows["pixels"]["r2"] > 0.998 and abs(rows["constant"]["r2"]) < 0.1
    assert rows["pixels"]["abs_rel"] is None
    assert main(["probe", f"{root}?target-layout=hwc", "-f", "depth", "-o", str(tmp_path / "none"), "-q"]) == 1
    assert "no training frame has a valid cell of depth" in capsys.readouterr().err


def test_a_target_with_unknown_pixels_is_fitted_on_the_known_ones(tmp_path: Path) -> None:
    root = pairs(tmp_path, scenes=12, views=2)
    for position, sample in enumerate(load(f"{root}?depth-scale=1000")):
        known = torch.zeros(1, 24, 32, dtype=torch.bool)
        known[:, :, : 16 if position % 2 else 32] = True
        target = torch.where(known, sample.float_image()[:1], -9.0)[0].numpy()
        path = root / "target" / f"{sample.id}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, target)
    train, test = load(f"{root}?target-invalid=-9&depth-scale=1000").split(0.4)
    evidence = probe(
        [], "target", train, test, baselines=("constant", "pixels"), size=SIZE, grid=GRID, pictures=0, label_curve=False
    )
    row = ladder(evidence, "target")["pixels"]
    assert row.r2 is not None and row.r2 > 0.998
    assert sum(row.cells) == len(test) // 2 * (12 + 6)
