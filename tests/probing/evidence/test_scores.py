"""Scores cell by cell: confusion counted by hand, angles against the definition by the scalar product."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from fathom.probing.evidence.scores import AngleScores, confusion


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
