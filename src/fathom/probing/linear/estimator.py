"""`LinearProbe`: the exact linear probe with scikit-learn's contract, for people who have their own pipeline.

It is the probe of `fathom probe`: the same moments, the same path of penalties from one eigendecomposition, cross-validation over
scenes, predictions inside the range of the training targets. Memory is flat in the number of rows, so that features may be read
batch by batch with `partial_fit`.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fathom.errors import MissingExtraError, UsageError
from fathom.probing.linear.moments import Moments
from fathom.probing.linear.ridge import PATH, Chosen, cross_validate

try:
    from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    raise MissingExtraError("fathom.LinearProbe", "sklearn") from error


class LinearProbe(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge regression over standardised inputs, its penalty chosen by cross-validation over groups (scenes).

    Minimises ``(1/n) Σ (y − b − zᵀv)² + λ‖v‖²`` with z the standardised inputs; each output has its own λ. See
    `fathom.probing.linear.ridge`.

    Parameters
    ----------
    penalties : sequence of float, optional
        The path of λ, relative to unit variance; by default that of ``fathom probe``. λ = α/n for scikit-learn's
        ``Ridge(alpha=α)`` on standardised columns.
    folds : int, default 5
        Folds of the cross-validation. A group lies in one fold as a whole.
    clip : bool, default True
        Keep predictions inside the range of the training targets.

    Attributes
    ----------
    coef_ : array of shape (n_features,) or (n_outputs, n_features)
    intercept_ : float or array of shape (n_outputs,)
    penalty_ : λ chosen, float or array of shape (n_outputs,)
    cv_mse_ : cross-validated mean squared error at it, before the clip, float or array of shape (n_outputs,)
    n_features_in_ : int

    Examples
    --------
    >>> probe = LinearProbe()
    >>> for features, depth, scenes in batches:      # doctest: +SKIP
    ...     probe.partial_fit(features, depth, groups=scenes)
    >>> probe.score(test_features, test_depth)       # doctest: +SKIP
    """

    _chosen: Chosen | None

    # scikit-learn's contract: nothing is checked before `fit`.
    def __init__(self, penalties: Any = None, folds: Any = 5, clip: Any = True) -> None:
        self.penalties = penalties
        self.folds = folds
        self.clip = clip

    def fit(self, X: Any, y: Any, groups: Any = None) -> LinearProbe:
        """Fit on all rows at once.

        Parameters
        ----------
        X : array of shape (n_rows, n_features). Products are formed in its precision, sums in float64.
        y : array of shape (n_rows,) or (n_rows, n_outputs)
        groups : array of shape (n_rows,), optional
            The scene of each row. Without it, rows are divided into folds in order, as scikit-learn's ``KFold`` does; rows of
            neighbouring pixels are then in different folds only at the borders.
        """
        X, y = self._validated(X, y, first=True)
        self._start(X, y)
        if groups is None:
            folds = np.arange(len(X)) * self.folds // len(X)
        else:
            folds = self._folds_of(self._labels(groups, len(X)))
        self._add(X, y, folds)
        self._solve()
        return self

    def partial_fit(self, X: Any, y: Any, groups: Any = None) -> LinearProbe:
        """Add rows; the probe is solved when it is next asked for something.

        Parameters
        ----------
        X, y : as in `fit`.
        groups : array of shape (n_rows,), optional
            The scene of each row; a scene may come in several batches. Without it, the rows of one call are a group.
        """
        first = not hasattr(self, "moments_")
        X, y = self._validated(X, y, first=first)
        if first:
            self._start(X, y)
        if groups is None:
            self.calls_ += 1
            labels: list[Hashable] = [("call", self.calls_)] * len(X)
        else:
            labels = self._labels(groups, len(X))
        self._add(X, y, self._folds_of(labels))
        self._chosen = None
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """The linear map, clipped to the range of the training targets: ``(n_rows,)`` or ``(n_rows, n_outputs)``."""
        check_is_fitted(self, "moments_")
        X = validate_data(self, X, reset=False, dtype=(np.float64, np.float32))
        probe = self._found().probe
        features = torch.tensor(X, dtype=torch.float64)
        values = (probe.predict(features) if self.clip else features @ probe.weight + probe.bias).numpy()
        return values[:, 0] if self.one_output_ else values

    @property
    def coef_(self) -> NDArray[np.float64]:
        weight = self._found().probe.weight.T.numpy()
        return weight[0] if self.one_output_ else weight

    @property
    def intercept_(self) -> Any:
        return self._told(self._found().probe.bias)

    @property
    def penalty_(self) -> Any:
        return self._told(self._found().probe.penalty)

    @property
    def cv_mse_(self) -> Any:
        return self._told(self._found().cv_mse)

    def _told(self, values: Tensor) -> Any:
        """One number for one output, else an array."""
        return float(values[0]) if self.one_output_ else values.numpy()

    def _validated(self, X: Any, y: Any, *, first: bool) -> tuple[NDArray[Any], NDArray[Any]]:
        X, y = validate_data(
            self, X, y, reset=first, dtype=(np.float64, np.float32), multi_output=True, y_numeric=True,
            ensure_min_samples=2 if first else 1,
        )  # fmt: skip
        return np.asarray(X), np.asarray(y)

    def _start(self, X: NDArray[Any], y: NDArray[Any]) -> None:
        """Empty moments about the first rows' means, a group for each fold."""
        if not (isinstance(self.folds, int | np.integer) and self.folds >= 2):
            raise ValueError(f"folds={self.folds!r} is not a whole number of at least 2.")
        self.one_output_ = y.ndim == 1
        means = [torch.tensor(rows.reshape(len(rows), -1).mean(0)) for rows in (X, y)]
        self.moments_ = Moments.zeros(int(self.folds), *means)
        self.fold_of_: dict[Hashable, int] = {}
        self.calls_ = 0
        self._chosen = None

    def _labels(self, groups: Any, rows: int) -> list[Hashable]:
        labels = np.asarray(groups).reshape(-1).tolist()
        if len(labels) != rows:
            raise ValueError(f"There are {len(labels)} groups for {rows} rows; give one for each row.")
        return labels

    def _folds_of(self, labels: Sequence[Hashable]) -> NDArray[np.int64]:
        """The fold of each row; a new group joins the fold with the fewest rows."""
        counts = self.moments_.n.clone()
        sizes: dict[Hashable, int] = {}
        for label in labels:
            sizes[label] = sizes.get(label, 0) + 1
        for label, size in sizes.items():
            if label not in self.fold_of_:
                self.fold_of_[label] = int(counts.argmin())
            counts[self.fold_of_[label]] += size
        return np.array([self.fold_of_[label] for label in labels], np.int64)

    def _add(self, X: NDArray[Any], y: NDArray[Any], folds: NDArray[np.int64]) -> None:
        outputs = y.reshape(len(y), -1)
        if outputs.shape[1] != len(self.moments_.shift_y) or (y.ndim == 1) != self.one_output_:
            raise ValueError(f"y has {outputs.shape[1]} outputs; the rows before had {len(self.moments_.shift_y)}.")
        for fold in np.unique(folds):
            rows = folds == fold
            self.moments_.add(int(fold), torch.tensor(X[rows]), torch.tensor(outputs[rows].astype(np.float64)))

    def _found(self) -> Chosen:
        check_is_fitted(self, "moments_")
        if self._chosen is None:
            self._solve()
        assert self._chosen is not None
        return self._chosen

    def _solve(self) -> None:
        filled = [(fold,) for fold in range(self.moments_.groups) if float(self.moments_.n[fold])]
        if len(filled) < 2:
            raise UsageError(
                f"All {int(self.moments_.n.sum())} rows belong to one group, and the penalty is chosen by cross-validation over "
                "groups; add rows of another scene."
            )
        self._chosen = cross_validate(self.moments_, filled, PATH if self.penalties is None else self.penalties)
