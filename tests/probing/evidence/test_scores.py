"""Scores cell by cell: confusion counted by hand, angles against the definition by the scalar product."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from fathom.data.sources import load
from fathom.data.transforms import fit
from fathom.encoders import open_encoder
from fathom.features import Feature
from fathom.grids import masked_average
from fathom.probing.evidence.scores import AngleScores, confusion
from fathom.probing.probe import probe
from fathom.sample import Grid, Sample
from tests.data.files import pairs


def test_angles_are_those_of_the_scalar_product_whatever_the_lengths() -> None:
    random = np.random.default_rng(0)
    truth, guess = random.normal(size=(500, 3)), random.normal(size=(500, 3))
    cosine = (truth * guess).sum(1) / np.linalg.norm(truth, axis=1) / np.linalg.norm(guess, axis=1)
    degrees = np.degrees(np.arccos(cosine))
    scores = AngleScores()
    for part in (slice(0, 200), slice(200, 500)):  # in batches
        scores.add(torch.from_numpy(guess[part] * 7), torch.from_numpy(truth[part] * 0.3))
    found = scores.scores()
    assert found["angle_mean"] == pytest.approx(degrees.mean(), abs=1e-9)
    assert found["angle_median"] == pytest.approx(np.sort(degrees)[249], abs=0.01)
    for name, limit in (("angle_11", 11.25), ("angle_22", 22.5), ("angle_30", 30.0)):
        assert found[name] == (degrees < limit).mean()


def test_an_exact_prediction_has_no_angle_and_an_opposite_one_180_degrees() -> None:
    same, opposite = AngleScores(), AngleScores()
    vectors = torch.nn.functional.normalize(torch.randn(50, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    same.add(vectors, vectors)
    opposite.add(-vectors, vectors)
    assert same.scores()["angle_mean"] == pytest.approx(0, abs=1e-5) and same.scores()["angle_11"] == 1
    assert opposite.scores()["angle_mean"] == pytest.approx(180) and AngleScores().scores() == {}
    assert math.isclose(opposite.scores()["angle_median"] or 0, 180, abs_tol=0.01)


def test_confusion_counts_true_classes_by_predicted_ones() -> None:
    truth = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.2, 0.8]])
    guess = torch.tensor([[0.6, 0.5], [0.1, 0.3], [0.4, 0.9]])
    assert confusion(guess, truth).tolist() == [[1, 1], [0, 1]]


def test_iou_of_a_mask_is_that_of_the_predictions_above_one_half(tmp_path: Path) -> None:
    def bright(sample: Sample, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        inside = (sample.float_image()[:1] > 0.5).float()
        return masked_average(inside, torch.ones_like(inside, dtype=torch.bool), grid)

    size, grid = (24, 32), (6, 8)
    train, test = load(f"{pairs(tmp_path, scenes=8, views=1)}?depth-scale=1000").split(0.4, seed=1)
    mask = Feature.from_function("bright", bright, classes=True)
    evidence = probe(
        [], mask, train, test, size=size, grid=grid, baselines=("pixels",), pictures=0, label_curve=False, folds=3
    )
    row, saved = evidence.row("pixels", "bright"), evidence.probes.find("pixels", "bright")  # type: ignore[union-attr]
    encoder, both, either, equal = open_encoder("pixels").on_grid(grid), 0, 0, []
    for sample in test:
        frame = fit(sample, size)
        guess = saved.predict(encoder.encode(frame.float_image()[None]), grid)[0, 0] > 0.5
        truth = bright(frame, grid)[0][0] > 0.5
        both, either = both + int((guess & truth).sum()), either + int((guess | truth).sum())
        equal.append(float((guess == truth).float().mean()))
    assert 0 < both < either and row.iou == pytest.approx(both / either) and row.miou is None
    assert row.accuracy == pytest.approx(sum(equal) / len(equal))
    assert evidence.targets[0].code is not None  # the file of the function
