"""The whole probe run, compared with scikit-learn on the explicit matrix and against planted truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn
from torch.nn import functional as F

from fathom.data.dataset import Dataset
from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders.module import ModuleEncoder
from fathom.errors import DataError, FathomError, UsageError
from fathom.features import Feature
from fathom.probing.evidence.evidence import Evidence
from fathom.probing.probe import probe
from fathom.sample import Sample
from tests.data.files import counts, pairs

GRID, SIZE = (3, 4), (24, 32)
QUICK: Any = {"size": SIZE, "grid": GRID, "pictures": 0, "label_curve": False}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Dataset]:
    root = pairs(tmp_path_factory.mktemp("pairs"), scenes=16, views=2)
    return load(f"{root}?depth-scale=1000").split(0.4, seed=1)


def matrix(data: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Averaged colours and averaged depth of every cell, one row a cell."""
    X, y = [], []
    for sample in data:
        sample = fit(sample, SIZE)
        X.append(F.adaptive_avg_pool2d(sample.float_image().double(), GRID).flatten(1).T.numpy())
        y.append(F.adaptive_avg_pool2d(sample.depth.double(), GRID).flatten().numpy())
    return np.concatenate(X), np.concatenate(y)


def test_test_loss_is_that_of_scikit_learns_ridge(split: tuple[Dataset, Dataset]) -> None:
    train, test = split
    evidence = probe([], "depth", train, test, baselines=("constant", "pixels"), **QUICK)
    row = next(row for row in evidence.rows if row.encoder == "pixels")
    (X, y), (X_test, y_test) = matrix(train), matrix(test)
    mean, deviation = X.mean(0), X.std(0)
    ridge = Ridge(alpha=row.penalty * len(X)).fit((X - mean) / deviation, y)
    expected = np.mean((ridge.predict((X_test - mean) / deviation) - y_test) ** 2)
    assert row.test_mse == pytest.approx(expected, rel=1e-6)
    constant = next(row for row in evidence.rows if row.encoder == "constant")
    assert constant.test_mse == pytest.approx(np.mean((y.mean() - y_test) ** 2), rel=1e-6)


def test_numbers_do_not_depend_on_batches_or_workers(split: tuple[Dataset, Dataset]) -> None:
    def losses(**settings: int) -> list[float]:
        evidence = probe([], "depth", *split, baselines=("pixels", "patch"), **QUICK, **settings)
        return [row.test_mse for row in evidence.rows]

    reference = losses(batch_size=16)
    assert losses(batch_size=3) == pytest.approx(reference, rel=1e-6)
    assert losses(batch_size=5, workers=2) == pytest.approx(reference, rel=1e-6)


def test_pixels_know_luminance_perfectly_and_constant_does_not(split: tuple[Dataset, Dataset]) -> None:
    evidence = probe([], "luminance", *split, baselines=("constant", "pixels"), **QUICK)
    r2 = {row.encoder: row.r2 for row in evidence.rows}
    assert r2["pixels"] > 0.999999 and abs(r2["constant"]) < 0.2


def pooled(sample: Sample) -> Tensor:
    return F.adaptive_avg_pool2d(sample.float_image(), GRID)


def whole(grid: tuple[int, int]) -> Tensor:
    return torch.ones(1, *grid, dtype=torch.bool)


class Planted(nn.Module):
    """Two layers: noise of the image, and the red channel (which depth depends on)."""

    def __init__(self) -> None:
        super().__init__()
        self.noise, self.red = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 1, 8, 8, bias=False)
        with torch.no_grad():
            self.noise.weight.zero_()
            self.red.weight.zero_()
            self.red.weight[0, 0] = 1 / 64

    def forward(self, image: Tensor) -> Tensor:
        self.noise(image)
        return self.red(image)


def test_layer_is_chosen_by_cross_validation_and_finds_what_was_planted(tmp_path: Path) -> None:
    train, test = load(f"{pairs(tmp_path, scenes=12, views=2, planted=True)}?depth-scale=1000").split(0.4)
    encoder = ModuleEncoder("module:planted", Planted(), ("noise", "red"), None, SIZE)
    evidence = probe(encoder, "depth", train, test, **QUICK)
    rows = {row.layer: row for row in evidence.rows if row.encoder == "module:planted"}
    assert rows["red"].r2 > 0.999 and abs(rows["noise"].r2) < 0.2
    chosen = [layer for layer, row in rows.items() if row.chosen]
    assert len(chosen) == 1 and chosen != ["noise"]
    position = next(row for row in evidence.rows if row.encoder == "position")
    assert position.r2 < 0.5
    # A probe that memorised rooms would also fit other rooms' targets: this one does not.
    assert rows["red"].control_r2 < 0.1


def test_a_users_own_feature_is_probed(split: tuple[Dataset, Dataset]) -> None:
    mine = Feature.from_function("redness", lambda sample, grid: (pooled(sample)[:1], whole(grid)))
    evidence = probe([], mine, *split, baselines=("pixels",), **QUICK)
    assert next(row for row in evidence.rows if row.encoder == "pixels").r2 > 0.999999


def test_several_features_come_out_of_one_run(split: tuple[Dataset, Dataset]) -> None:
    names = ["depth", "log_depth", "disparity", "depth_edges", "luminance", "position", "colour"]
    evidence = probe([], names, *split, baselines=("pixels",), **QUICK)
    assert set(evidence.features) == set(names)


def test_rooms_give_labels_and_normals() -> None:
    train, test = load("rooms").official_split()
    part = probe(
        [],
        ["normals", "labels"],
        train.subset(range(0, 336, 12)),
        test.subset(range(0, 112, 8)),
        pictures=0,
        label_curve=False,
    )
    rows = {(row.encoder, row.feature): row for row in part.rows}
    assert rows["position", "normals"].test_mse < rows["constant", "normals"].test_mse
    assert rows["constant", "labels"].accuracy is not None


class Bad(nn.Module):
    """Gives a value that is not finite."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.layer, self.value = nn.Conv2d(3, 2, 8, 8), value

    def forward(self, image: Tensor) -> Tensor:
        return self.layer(image * self.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_encoder_giving_nan_or_infinity_is_refused(split: tuple[Dataset, Dataset], value: float) -> None:
    encoder = ModuleEncoder("module:bad", Bad(value), ("layer",), None, SIZE)
    with pytest.raises(FathomError, match="gave NaN or infinity for frame"):
        probe(encoder, "depth", *split, **QUICK)


def test_a_scene_on_both_sides_is_refused(split: tuple[Dataset, Dataset]) -> None:
    train, _ = split
    with pytest.raises(UsageError, match="In both the training and the test part: 1 scene "):
        probe([], "depth", train, train.subset([0, 1]))


def test_unknown_protocol_and_feature_get_the_nearest_name(split: tuple[Dataset, Dataset]) -> None:
    with pytest.raises(UsageError, match=r"no protocol 'nyu-eigan' \(did you mean 'nyu-eigen'"):
        probe([], "depth", *split, protocol="nyu-eigan")
    with pytest.raises(UsageError, match=r"log_depht.*did you mean 'log_depth'"):
        probe([], "log_depht", *split)


def test_broken_frames_stop_the_run_or_are_left_out_and_said(tmp_path: Path) -> None:
    root = pairs(tmp_path, scenes=12, views=2)
    for scene in range(3):
        (root / "rgb" / f"scene{scene}" / "0.png").write_bytes(b"x")
    train, test = load(f"{root}?depth-scale=1000").split(0.4, seed=1)
    with pytest.raises(DataError, match=r"0\.png: is not an image"):
        probe([], "depth", train, test, size=SIZE, grid=GRID)
    evidence = probe([], "depth", train, test, skip_bad=True, **QUICK)
    left_out = [text.split("read: ")[1].split()[0] for text in evidence.notes if text.startswith("Left out")]
    assert sum(map(int, left_out)) == 3


def test_data_without_a_valid_pixel_are_refused(tmp_path: Path) -> None:
    root = pairs(tmp_path, scenes=6, views=1)
    for path in (root / "depth").rglob("*.png"):
        counts(path, np.zeros((24, 32), np.uint16))
    train, test = load(f"{root}?depth-scale=1000").split(0.4)
    with pytest.raises(FathomError, match="no training frame has a valid cell of depth"):
        probe([], "depth", train, test, size=SIZE, grid=GRID)


def test_evidence_goes_to_json_and_back(split: tuple[Dataset, Dataset], tmp_path: Path) -> None:
    evidence = probe([], "depth", *split, **QUICK | {"label_curve": None}, command="fathom probe x")
    path = evidence.save(tmp_path / "out")
    record = json.loads(path.read_text())
    assert {"schema_version", "command", "versions", "data", "protocol", "rows"} <= set(record)
    assert {"fingerprint", "frames", "scenes"} <= set(record["data"]["train"])
    wanted = {
        "encoder",
        "layer",
        "feature",
        "channels",
        "penalty",
        "test_mse",
        "test_rmse",
        "interval",
        "ratio_to_pixels",
    }
    assert all(wanted <= set(row) for row in record["rows"])
    back = Evidence.load(tmp_path / "out")
    assert back.rows == evidence.rows and back.test_scenes == evidence.test_scenes


class Growing(nn.Module):
    """Another grid at every call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.calls = nn.Identity(), 0

    def forward(self, image: Tensor) -> Tensor:
        self.calls += 1
        return self.layer(F.adaptive_avg_pool2d(image, (self.calls, self.calls)))


def test_encoder_with_another_grid_on_each_image_is_refused(split: tuple[Dataset, Dataset]) -> None:
    encoder = ModuleEncoder("module:growing", Growing(), ("layer",), None, SIZE)
    with pytest.raises(FathomError, match="needs the same channels and grid for every image"):
        probe(encoder, "depth", *split, **QUICK, controls=0)


def test_grid_of_one_cell_is_probed(split: tuple[Dataset, Dataset]) -> None:
    pooled_to_one = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 2, 1))
    encoder = ModuleEncoder("module:one", pooled_to_one, ("1",), None, SIZE)
    evidence = probe(encoder, "depth", *split, **QUICK | {"grid": (1, 1)}, controls=1)
    assert evidence.grid == (1, 1) and all(np.isfinite(row.test_mse) for row in evidence.rows)


def test_more_channels_than_cells_are_no_harm(split: tuple[Dataset, Dataset]) -> None:
    train, test = split
    wide = ModuleEncoder("module:wide", nn.Sequential(nn.Conv2d(3, 400, 8, 8)), ("0",), None, SIZE)
    few = train.subset(range(8))  # 96 cells
    evidence = probe(wide, "depth", few, test, **QUICK, controls=0)
    row, constant = evidence.row("module:wide"), evidence.row("constant")
    assert row.channels == 400 and row.test_mse < 3 * constant.test_mse


def test_one_training_scene_is_too_few(split: tuple[Dataset, Dataset]) -> None:
    train, test = split
    with pytest.raises(FathomError, match="has 1 scene; at least 2 are needed to choose the penalty"):
        probe([], "depth", train.of_scenes([train.scenes[0]], "one"), test, **QUICK)
