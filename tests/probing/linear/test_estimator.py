"""`LinearProbe` keeps scikit-learn's contract and is the probe of a run: moments, path, folds by scene, clip."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fathom
from fathom.errors import UsageError
from fathom.probing.linear.ridge import PATH

LinearProbe = fathom.LinearProbe


def rows(
    scenes: int = 12, each: int = 40, outputs: int = 2, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, targets, scenes: a linear map, a shift of each scene, and noise."""
    generator = np.random.default_rng(seed)
    X = generator.normal(size=(scenes * each, 6)) * [1, 10, 0.1, 1, 1, 1] + 3
    groups = np.repeat([f"scene {i}" for i in range(scenes)], each)
    weight = generator.normal(size=(6, outputs))
    offset = np.repeat(generator.normal(size=(scenes, outputs)), each, axis=0)
    return X, X @ weight + offset + generator.normal(size=(len(X), outputs)), groups


def test_it_passes_the_checks_of_scikit_learn() -> None:
    failed = [
        (result["check_name"], result["exception"])
        for result in check_estimator(LinearProbe(), on_fail=None, on_skip=None)
        if result["status"] == "failed"
    ]
    assert failed == []


def test_it_is_the_ridge_of_scikit_learn_at_the_penalty_chosen() -> None:
    X, Y, groups = rows()
    probe = LinearProbe(clip=False).fit(X, Y, groups)
    for output in range(2):
        other = make_pipeline(StandardScaler(), Ridge(alpha=probe.penalty_[output] * len(X))).fit(X, Y[:, output])
        np.testing.assert_allclose(probe.predict(X)[:, output], other.predict(X), rtol=1e-8)
    assert probe.coef_.shape == (2, 6) and probe.intercept_.shape == (2,)
    assert all(penalty in PATH for penalty in probe.penalty_)


def test_the_penalty_is_chosen_over_scenes() -> None:
    X, Y, groups = rows(scenes=10, outputs=1)
    probe = LinearProbe(penalties=(1e-3, 1.0, 100.0), folds=5, clip=False).fit(X, Y[:, 0], groups)
    Z = StandardScaler().fit_transform(X)  # by all scenes: the penalty means the same in every fold
    errors = []
    for penalty in (1e-3, 1.0, 100.0):
        squares = 0.0
        for fold in range(5):  # equal scenes go round: the emptiest fold is the next one
            held = np.isin(groups, [f"scene {i}" for i in range(10) if i % 5 == fold])
            other = Ridge(alpha=penalty * (~held).sum()).fit(Z[~held], Y[~held, 0])
            squares += float(((other.predict(Z[held]) - Y[held, 0]) ** 2).sum())
        errors.append(squares / len(X))
    assert probe.penalty_ == (1e-3, 1.0, 100.0)[int(np.argmin(errors))]
    assert probe.cv_mse_ == pytest.approx(min(errors), rel=1e-8)


def test_batches_give_what_all_rows_at_once_give() -> None:
    X, Y, groups = rows()
    whole = LinearProbe().fit(X, Y, groups)
    parts = LinearProbe()
    for start in range(0, len(X), 50):  # batches that cut scenes in two
        parts.partial_fit(X[start : start + 50], Y[start : start + 50], groups[start : start + 50])
    assert set(parts.fold_of_) == set(whole.fold_of_)
    np.testing.assert_allclose(parts.moments_.total().xx, whole.moments_.about(
        parts.moments_.shift_x, parts.moments_.shift_y).total().xx, rtol=1e-9)  # fmt: skip
    np.testing.assert_allclose(
        parts.predict(X), whole.predict(X), rtol=0.02, atol=0.05
    )  # folds may differ, and λ with them
    assert parts.score(X, Y) == pytest.approx(whole.score(X, Y), abs=1e-3)


def test_predictions_stay_inside_the_range_of_training() -> None:
    X, Y, groups = rows(outputs=1)
    far = X * 100
    assert LinearProbe().fit(X, Y[:, 0], groups).predict(far).max() <= Y.max() + 1e-9
    assert LinearProbe(clip=False).fit(X, Y[:, 0], groups).predict(far).max() > Y.max()


def test_it_is_cloned_with_its_settings() -> None:
    probe = LinearProbe(penalties=(0.1, 1.0), folds=3, clip=False)
    copied = clone(probe)
    assert copied is not probe and copied.get_params() == {"penalties": (0.1, 1.0), "folds": 3, "clip": False}
    assert not hasattr(copied, "moments_")


def test_what_cannot_be_fitted_is_explained() -> None:
    X, Y, groups = rows(scenes=1)
    with pytest.raises(UsageError, match="belong to one group"):
        LinearProbe().fit(X, Y, groups)
    with pytest.raises(ValueError, match="39 groups for 40 rows"):
        LinearProbe().fit(X, Y, groups[:-1])
    probe = LinearProbe().partial_fit(X, Y, groups)
    with pytest.raises(ValueError, match="y has 1 outputs; the rows before had 2"):
        probe.partial_fit(X, Y[:, :1], groups)
    with pytest.raises(ValueError, match="at least 2"):
        LinearProbe(folds=1).fit(X, Y)
