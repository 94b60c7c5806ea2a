"""What fitted models make of rows of one's own, by what their job told: nothing leaves for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from mpcpriv.errors import UsageError
from mpcpriv.estimators.estimator import Estimator

if TYPE_CHECKING:
    from mpcpriv.client.result import Result

_INTERCEPT: Final = "intercept"


class OfRows(Estimator):
    """An estimator that takes rows of one's own, once it is fitted."""

    feature_names_in_: np.ndarray
    n_features_in_: int

    def _features(self, names: Sequence[str]) -> None:
        self.feature_names_in_ = np.array(names, dtype=object)
        self.n_features_in_ = len(names)

    def _rows(self, x: Any) -> np.ndarray:
        """(n, d), of rows or of a frame.

        Raises:
            UsageError: `fit` was not called, or it is neither.
        """
        self._fitted()
        names = self.feature_names_in_.tolist()
        if hasattr(x, "columns"):
            missing = [name for name in names if name not in list(x.columns)]
            if missing:
                raise UsageError(f"X: the frame has no column {', '.join(map(repr, missing))}")
            x = x[names]
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(names):
            raise UsageError(f"X has shape {rows.shape}; it needs (rows, {len(names)}): {', '.join(names)}")
        if not np.isfinite(rows).all():
            raise UsageError("X has values that are missing or infinite; leave those rows out")
        return rows


class Linear(OfRows):
    """An estimator of a target that depends on a weighted sum of features.

    Attributes:
        coef_: (d,), in the units of the data.
        intercept_: a number; 0 where there is none.
    """

    coef_: np.ndarray
    intercept_: Any
    _has_intercept: ClassVar[bool] = True

    def _take(self, result: Result) -> None:
        super()._take(result)
        names: list[str] = list(result["terms"] if "terms" in result else result["features"])
        values: list[float] = list(result["estimate"] if "estimate" in result else result["coefficients"])
        if names.count(_INTERCEPT) > ("terms" in result and self._has_intercept):
            raise UsageError(f"a column is called {_INTERCEPT!r}, as what is no column; rename it")
        model = dict(zip(names, values, strict=True))
        self.intercept_ = float(model.pop(_INTERCEPT, result.get(_INTERCEPT, 0.0)))
        self.coef_ = np.array(list(model.values()), dtype=np.float64)
        self._features(list(model))

    def _scores(self, x: Any) -> np.ndarray:
        """(n,), the weighted sums of rows (n, d) of one's own."""
        rows = self._rows(x)
        beside = [name for name in ("offset", "exposure") if getattr(self, name, None) is not None]
        if beside:
            raise UsageError(
                f"predict: the model was fitted with an {' and an '.join(beside)}, which a prediction does "
                "not take; compute it from coef_ and intercept_"
            )
        scores: np.ndarray = rows @ np.ravel(self.coef_) + np.ravel(self.intercept_)
        return scores


class Regressor(Linear):
    """A mean that depends on a weighted sum of features: the sum itself, or its exponential."""

    _estimator_type = "regressor"
    _log: ClassVar[bool] = False

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803 -- scikit-learn's name
        """The mean of each row.

        Args:
            X: (n, d), in the order of `feature_names_in_`, or a frame that has columns of these names.

        Raises:
            UsageError: `fit` was not called, or X is none of these.
        """
        scores = self._scores(X)
        return np.exp(scores) if self._log else scores

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """R^2 on rows of one's own."""
        truth = np.asarray(y, dtype=np.float64)
        beyond = np.square(truth - truth.mean()).sum()
        return float(1 - np.square(truth - self.predict(X)).sum() / beyond)


class Classifier(Linear):
    """A probability that is the logistic function of a weighted sum of features.

    Attributes:
        coef_: (1, d), as scikit-learn's are.
        intercept_: (1,).
        classes_: 0 and 1; of a category of two the second is 1.
    """

    _estimator_type = "classifier"

    classes_: np.ndarray

    def _take(self, result: Result) -> None:
        super()._take(result)
        self.coef_ = self.coef_[None, :]
        self.intercept_ = np.array([self.intercept_])
        self.classes_ = np.array([0, 1])

    def decision_function(self, X: Any) -> np.ndarray:  # noqa: N803
        """The log-odds of 1, (n,); see `predict`."""
        return self._scores(X)

    def predict_proba(self, X: Any) -> np.ndarray:  # noqa: N803
        """The probabilities of 0 and 1, (n, 2); see `predict`."""
        one = np.exp(-np.logaddexp(0, -self._scores(X)))
        return np.stack([1 - one, one], axis=1)

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The class of each row, 0 or 1.

        Args:
            X: (n, d), in the order of `feature_names_in_`, or a frame that has columns of these names.

        Raises:
            UsageError: `fit` was not called, or X is none of these.
        """
        return (self._scores(X) > 0).astype(np.int64)

    def score(self, X: Any, y: Any) -> float:  # noqa: N803
        """The part of rows of one's own whose class it tells."""
        return float((self.predict(X) == np.asarray(y)).mean())


class ProportionalHazards(Linear):
    """Hazards that are e^(a weighted sum of features) times one that all rows share, and that is not told."""

    _has_intercept = False

    def predict_partial_hazard(self, X: Any) -> np.ndarray:  # noqa: N803 -- scikit-learn's name
        """By how much the hazard of each row is larger than that of a row of zeros, (n,).

        lifelines' is relative to a row of means, which stay secret here: the two differ by one factor.

        Args:
            X: see `predict`.

        Raises:
            UsageError: `fit` was not called, or X is no such rows.
        """
        hazards: np.ndarray = np.exp(self._scores(X))
        return hazards

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """The same: larger where the event comes sooner.

        Args:
            X: (n, d), in the order of `feature_names_in_`, or a frame that has columns of these names.

        Raises:
            UsageError: `fit` was not called, or X is none of these.
        """
        return self.predict_partial_hazard(X)


class Clusters(OfRows):
    """Clusters of rows, from the largest on.

    Attributes:
        cluster_centers_: (clusters, d), of those that are told, in the units of the data.
    """

    _estimator_type = "clusterer"

    cluster_centers_: np.ndarray

    def _take(self, result: Result) -> None:
        super()._take(result)
        self._features(list(result["columns"]))
        self.cluster_centers_ = np.reshape(result["centres"], (-1, self.n_features_in_))

    def predict(self, X: Any) -> np.ndarray:  # noqa: N803
        """Of each row the number of the cluster whose centre is the nearest, (n,), int64.

        Args:
            X: (n, d), in the order of `feature_names_in_`, or a frame that has columns of these names.

        Raises:
            UsageError: `fit` was not called, or X is none of these; or a cluster is not told, or distances
                are in standard deviations, which are not.
        """
        rows = self._rows(X)
        if min(self.result_["sizes"]) < 0:
            raise UsageError(
                "predict: some clusters are too small to be told, and a row may be nearest to one of these; "
                "ask for fewer"
            )
        if "scale" not in self.result_:
            raise UsageError(
                "predict: distances are in standard deviations of columns, which stay secret; fit with "
                'scale="bounds"'
            )
        unit = np.asarray(self.result_["scale"])
        apart = rows[:, None, :] / unit - self.cluster_centers_ / unit
        nearest: np.ndarray = np.square(apart).sum(axis=2).argmin(axis=1)
        return nearest


class Components(OfRows):
    """Directions in which rows differ most.

    Attributes:
        components_: (components, d).
        mean_, scale_: (d,), what is taken off columns, and what they are then divided by.
    """

    _estimator_type = "transformer"

    components_: np.ndarray
    mean_: np.ndarray
    scale_: np.ndarray

    def _take(self, result: Result) -> None:
        super()._take(result)
        self._features(list(result["columns"]))
        self.components_ = np.reshape(result["components"], (-1, self.n_features_in_))

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Of each row how far it is from the mean along each component, (n, components).

        Args:
            X: (n, d), in the order of `feature_names_in_`, or a frame that has columns of these names.

        Raises:
            UsageError: `fit` was not called, or X is none of these.
        """
        scores: np.ndarray = ((self._rows(X) - self.mean_) / self.scale_) @ self.components_.T
        return scores


class LogRegressor(Regressor):
    """A mean whose logarithm is a weighted sum of features."""

    _log = True
