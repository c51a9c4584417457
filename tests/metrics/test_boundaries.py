"""Boundary scores against loops over pixels; edge error against plain finite differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fathom.metrics.boundaries import boundary_scores, edge_error, mask_recall

T = np.linspace(1.05, 1.25, 10)


def scene(seed: int = 0, height: int = 24, width: int = 30) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes before a wall; the prediction's boxes are one pixel off; some pixels are invalid."""
    generator = np.random.default_rng(seed)
    truth, guess = np.full((height, width), 4.0), np.full((height, width), 4.1)
    for _ in range(5):
        r, c, depth = generator.integers(0, height - 9), generator.integers(0, width - 9), generator.uniform(1, 3.8)
        truth[r : r + 7, c : c + 7] = depth
        guess[r + 1 : r + 8, c : c + 7] = depth * generator.uniform(0.9, 1.1)
    guess *= 1 + 0.02 * generator.standard_normal(guess.shape)
    return guess, truth, generator.random(truth.shape) > 0.1


def loops(p: np.ndarray, g: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    """Depth Pro's definition with inverse depths, pixel by pixel."""
    f1s, precisions, recalls = [], [], []
    height, width = p.shape
    for t in T:
        shares = []
        for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
            hits = predicted = true = 0
            for y in range(height):
                for x in range(width):
                    v, u = y + dy, x + dx
                    if not (0 <= v < height and 0 <= u < width and valid[y, x] and valid[v, u]):
                        continue
                    a, b = ((1 / m[v, u]) / (1 / m[y, x]) > t for m in (p, g))
                    hits, predicted, true = hits + (a and b), predicted + a, true + b
            shares.append((hits / max(predicted, 1), hits / max(true, 1)))
        precision, recall = np.mean(shares, 0)
        precisions.append(precision), recalls.append(recall)
        f1s.append(2 * precision * recall / (precision + recall) if precision + recall else 0.0)
    weights = T / T.sum()
    return {
        "boundary_f1": float(np.dot(f1s, weights)),
        "boundary_precision": float(np.dot(precisions, weights)),
        "boundary_recall": float(np.dot(recalls, weights)),
    }


def tensors(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(x if x.dtype == bool else x.astype(np.float32)) for x in arrays]


def test_f1_precision_and_recall_equal_a_loop_over_pixels() -> None:
    guess, truth, valid = scene()
    found = boundary_scores(*tensors(guess, truth, valid))
    expected = loops(guess, truth, valid)
    assert found == pytest.approx(expected, rel=1e-6)
    assert 0.05 < found["boundary_f1"] < 0.95  # a case that could tell definitions apart


def test_scale_does_not_matter_and_a_perfect_map_is_perfect() -> None:
    guess, truth, valid = scene(1)
    once, scaled = (boundary_scores(*tensors(guess * s, truth, valid)) for s in (1.0, 4.0))
    assert once == pytest.approx(scaled)
    assert boundary_scores(*tensors(truth, truth, valid))["boundary_f1"] == pytest.approx(1)


def test_without_a_true_boundary_there_is_no_score_and_a_flat_prediction_scores_nothing() -> None:
    guess, truth, valid = scene(2)
    flat = np.full_like(truth, 3.0)
    assert all(np.isnan(v) for v in boundary_scores(*tensors(guess, flat, valid)).values())
    assert all(np.isnan(v) for v in boundary_scores(*tensors(guess, truth, valid & False)).values())
    assert set(boundary_scores(*tensors(flat, truth, valid)).values()) == {0.0}


def test_the_recall_of_a_mask_counts_its_outline_from_inside() -> None:
    mask = np.zeros((12, 14), bool)
    mask[3:8, 4:9] = True
    depth = np.where(mask, 2.0, 2.3)  # a ratio of 1.15: found at the thresholds below
    assert mask_recall(*tensors(depth, mask)) == pytest.approx(T[T < 1.15].sum() / T.sum())
    assert mask_recall(*tensors(np.where(mask, 2.3, 2.0), mask)) == 0  # the object lies behind
    assert np.isnan(mask_recall(*tensors(depth, mask & False)))


def test_edge_error_equals_differences_over_whole_windows() -> None:
    guess, truth, valid = scene(3)
    gaps = []
    for y in range(1, truth.shape[0] - 1):
        for x in range(1, truth.shape[1] - 1):
            window = np.s_[y - 1 : y + 2, x - 1 : x + 2]
            if valid[window].all():
                kernel = np.outer([1, 2, 1], [-1, 0, 1]) / 8
                gaps += [abs(((guess - truth)[window] * k).sum()) for k in (kernel, kernel.T)]
    assert edge_error(*tensors(guess, truth, valid)) == pytest.approx(np.mean(gaps), rel=1e-5)
    assert np.isnan(edge_error(*tensors(guess, truth, valid & False)))
