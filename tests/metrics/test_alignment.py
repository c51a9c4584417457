"""Alignments against lstsq, linear programming and weighted medians; what a kind of prediction permits; degenerate fits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from fathom.errors import UsageError
from fathom.metrics.alignment import ALIGNMENTS_OF, FITS, align, choose_alignment, weighted_median

LEAST, MOST = 1e-3, 10.0


def pixels(seed: int = 0, size: int = 400) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    g = generator.uniform(0.5, 9, size)
    p = 0.3 * g + 0.7 + 0.2 * generator.standard_normal(size)
    p[:: size // 10] *= 3  # outliers
    return p, g


def run(p: np.ndarray, g: np.ndarray, name: str, kind: str = "metric", counts: np.ndarray | None = None) -> np.ndarray:
    keep = np.ones(p.shape, bool) if counts is None else counts
    maps = (torch.from_numpy(x.reshape(20, -1)) for x in (p.astype(np.float32), g.astype(np.float32), keep))
    return align(*maps, kind=kind, name=name, least=LEAST, most=MOST).numpy().ravel()


def test_least_squares_and_the_median_equal_numpy() -> None:
    p, g = pixels()
    (s,), *_ = np.linalg.lstsq(p[:, None], g, rcond=None)
    np.testing.assert_allclose(run(p, g, "scale"), s * p, rtol=1e-5)
    (a, b), *_ = np.linalg.lstsq(np.stack([p, np.ones_like(p)], 1), g, rcond=None)
    np.testing.assert_allclose(run(p, g, "scale-shift"), a * p + b, rtol=1e-5)
    np.testing.assert_allclose(run(p, g, "median"), p * np.median(g) / np.median(p), rtol=1e-5)
    np.testing.assert_array_equal(run(p, g, "none"), p.astype(np.float32))


def test_disparity_is_fitted_to_inverse_depth_and_clamped_to_the_range() -> None:
    _, g = pixels()
    q = 5 / g + 0.3 + 0.02 * np.random.default_rng(1).standard_normal(len(g))
    q[0] = -50.0  # beyond what any depth in the range has
    design = np.stack([q, np.ones_like(q)], 1)
    (a, b), *_ = np.linalg.lstsq(design, 1 / g, rcond=None)
    expected = 1 / np.clip(design @ [a, b], 1 / MOST, 1 / LEAST)
    found = run(q, g, "scale-shift-disparity", "affine-disparity")
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found[0] == pytest.approx(MOST)
    # Depth is turned into disparity first.
    np.testing.assert_allclose(run(1 / q[1:361], g[1:361], "scale-shift-disparity"), run(q[1:361], g[1:361], "scale-shift-disparity", "affine-disparity"), rtol=1e-3)  # fmt: skip


def test_the_robust_fits_reach_the_optimum_of_linear_programming() -> None:
    p, g = pixels(size=100)
    n, w = len(p), 1 / g
    for name, columns in (("robust-scale", [p]), ("robust-scale-shift", [p, np.ones(n)])):
        design = np.stack(columns, 1)
        # min Σ w r with −r ≤ X θ − g ≤ r
        bounds = [(None, None)] * design.shape[1] + [(0, None)] * n
        upper = np.block([[design, -np.eye(n)], [-design, -np.eye(n)]])
        best = linprog(np.r_[np.zeros(design.shape[1]), w], upper, np.r_[g, -g], bounds=bounds)
        s, t = FITS[name](p, g)
        assert float(np.sum(w * abs(s * p + t - g))) == pytest.approx(best.fun, rel=1e-6), name
        assert s == pytest.approx(best.x[0], rel=1e-3)


def test_a_weighted_median_halves_the_weight() -> None:
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 5.0])) == 2
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([9.0, 1.0, 5.0])) == 3


def test_pixels_that_do_not_count_have_no_influence() -> None:
    p, g = pixels()
    keep = np.arange(len(p)) % 3 > 0
    spoilt_p, spoilt_g = p.copy(), g.copy()
    spoilt_p[~keep], spoilt_g[~keep] = np.nan, 0.0
    for name in FITS:
        kind = "metric"
        a = run(p, g, name, kind, keep)[keep]
        b = run(spoilt_p, spoilt_g, name, kind, keep)[keep]
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", sorted(FITS))
def test_degenerate_predictions_are_aligned_without_an_error(name: str) -> None:
    _, g = pixels()
    kind = "affine-disparity" if name == "scale-shift-disparity" else "metric"
    for p in (np.full_like(g, 2.0), np.zeros_like(g)):
        found = run(p, g, name, kind)
        assert np.isfinite(found).all(), p[0]
    shifted = run(np.full_like(g, 2.0), g, name, kind)
    if name == "scale-shift":
        np.testing.assert_allclose(shifted, g.mean(), rtol=1e-5)
    one = np.zeros(len(g), bool)
    one[7] = True
    p, _ = pixels(3)
    assert run(p, g, name, kind, one)[7] == pytest.approx(g[7], rel=1e-5)  # one pixel is met
    none = np.zeros(len(g), bool)
    assert not np.isnan(run(p, g, "median", "metric", none)).any()


def test_each_kind_has_its_default_and_refuses_what_means_nothing() -> None:
    assert {kind: choose_alignment(kind) for kind in ALIGNMENTS_OF} == {
        "metric": "none",
        "scale-invariant": "scale",
        "affine-depth": "scale-shift",
        "affine-disparity": "scale-shift-disparity",
    }
    assert choose_alignment("metric", "median") == "median"
    for kind, name in (("affine-disparity", "none"), ("affine-depth", "median"), ("scale-invariant", "none")):
        with pytest.raises(UsageError, match=f"'{name}' means nothing for a prediction of kind '{kind}'; use"):
            choose_alignment(kind, name)
    with pytest.raises(UsageError, match="did you mean 'median'"):
        choose_alignment("metric", "medain")
