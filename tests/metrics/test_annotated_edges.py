"""iBims' boundary errors against scikit-image's Canny and distances by brute force."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from skimage import feature

from fathom.metrics.annotated_edges import canny, depth_boundary_errors, stretched


def room(seed: int, height: int = 70, width: int = 90) -> np.ndarray:
    generator = np.random.default_rng(seed)
    depth = np.linspace(3, 5, width)[None].repeat(height, 0) + 0.01 * generator.standard_normal((height, width))
    for _ in range(4):
        r, c = generator.integers(5, height - 30), generator.integers(5, width - 30)
        depth[r : r + 22, c : c + 25] = generator.uniform(1, 2.5)
    return depth


@pytest.mark.parametrize("seed", range(4))
def test_edges_are_those_of_scikit_image(seed: int) -> None:
    image = stretched(room(seed))
    theirs = feature.canny(image, sigma=np.sqrt(2), low_threshold=0.15, high_threshold=0.3)
    ours = canny(image)
    assert theirs.sum() > 100
    assert (ours != theirs).sum() <= 0.01 * theirs.sum()  # ties of rounding


def test_errors_equal_the_definition_by_brute_force() -> None:
    predicted, truth = room(0), room(0)
    truth = np.roll(truth, 3, axis=1)
    annotated = feature.canny(stretched(truth), sigma=1)
    found = depth_boundary_errors(torch.from_numpy(predicted), torch.from_numpy(annotated))
    edges = canny(stretched(predicted))
    e, a = np.argwhere(edges), np.argwhere(annotated)
    distances = np.linalg.norm(e[:, None] - a[None], axis=2)
    to_annotated, to_predicted = distances.min(1), distances.min(0)
    assert found["dbe_accuracy"] == pytest.approx(to_annotated[to_annotated < 10].mean())
    both = np.minimum(to_annotated, 10).sum() + np.minimum(to_predicted, 10).sum()
    assert found["dbe_completeness"] == pytest.approx(both / (len(e) + len(a)))
    assert 0.5 < found["dbe_accuracy"] < 6


def test_flat_predictions_and_frames_without_annotation() -> None:
    annotated = torch.zeros(40, 50, dtype=torch.bool)
    flat = torch.full((40, 50), 2.0)
    assert all(np.isnan(v) for v in depth_boundary_errors(flat, annotated).values())
    annotated[10] = True
    assert depth_boundary_errors(flat, annotated) == {"dbe_accuracy": 10.0, "dbe_completeness": 10.0}
