"""Analyses as estimators that follow scikit-learn's conventions, over a connection to one's own daemon.

    from mpcpriv.estimators import LogisticRegression

    model = LogisticRegression(daemon, agreement="study", purpose="research", target="ill")
    model.fit({"north-patients": ["age", "ill"], "south-patients": ["age", "ill"]})
    model.coef_, model.intercept_, model.predict_proba(my_own_patients)
    print(model.summary())

Every analysis that is installed has one: `count-and-mean` is `CountAndMean`. Its parameters are those of the
analysis and of every job. `fit` takes data sets and columns in the place of arrays, submits a job and waits.
What the recipients are told becomes attributes: `rows` is `rows_`. Neither scikit-learn nor a library of data
frames is needed; where scikit-learn is there, its `clone` and whatever else takes estimators know these.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

import numpy as np
from pydantic import ValidationError

from mpcpriv import analyses
from mpcpriv.documents import problems
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.client.connection import Connection
    from mpcpriv.client.result import Result

_OF_EVERY_JOB: Final = (
    "connection",
    "agreement",
    "alignment",
    "purpose",
    "recipients",
    "epsilon",
    "delta",
    "timeout",
)
_INTERCEPT: Final = "intercept"


class Estimator:
    """An analysis whose job is submitted by `fit`.

    Attributes:
        analysis: its name.
        connection: as `mpcpriv.connect` gives it; copies of the estimator share it.
        agreement: its id; None is the only one that the daemon holds.
        purpose: one of the agreement's.
        recipients: who gets the result; None is this party alone. It has to be among them.
        epsilon, delta: of differential privacy; None asks for a release without noise.
        timeout: seconds that `fit` waits; None is as long as it takes.
        result_: what came back, with `report` and `to_pandas()`; set by `fit`, as are all that end in `_`.
        feature_names_in_, n_features_in_: of what `predict` takes, in order, where the analysis has features.
    """

    analysis: ClassVar[str]
    _defaults: ClassVar[Mapping[str, Any]]

    result_: Result

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """By name, all that it was made with; see scikit-learn's `BaseEstimator`."""
        del deep
        return {name: getattr(self, name) for name in self._defaults}

    def set_params(self, **settings: Any) -> Self:
        """Sets some of them.

        Raises:
            UsageError: there is no such parameter.
        """
        self._known(settings)
        for name, value in settings.items():
            setattr(self, name, value)
        return self

    def __repr__(self) -> str:
        said = [
            f"{name}={getattr(self, name)!r}"
            for name, default in self._defaults.items()
            if name != "connection" and getattr(self, name) != default
        ]
        return f"{type(self).__name__}({', '.join(said)})"

    def fit(self, inputs: Mapping[str, Sequence[str]], y: object = None) -> Self:
        """Submits the job and waits for its result.

        Args:
            inputs: by data set, the columns, the target's among them.
            y: nothing; the target is one of the columns.

        Raises:
            UsageError: a parameter is missing or wrong, or no job can be made of it.
            JobRefused, JobFailed, JobUnfinished: as `Handle.wait`.
        """
        asked: object = inputs
        if not isinstance(asked, Mapping) or y is not None:
            raise UsageError(
                'fit: give data sets and their columns, as {"north": ["age", "ill"]}, and no arrays: rows '
                "stay with their owners"
            )
        connection = self._connection()
        names = [name for name in self._defaults if name not in _OF_EVERY_JOB]
        given = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        parameters = {
            name: value.tolist() if isinstance(value, np.ndarray | np.generic) else _listed(value)
            for name, value in given.items()
        }
        try:
            analyses.find(self.analysis).parameters.model_validate(parameters)
        except ValidationError as error:
            raise UsageError(f"{type(self).__name__}: {'; '.join(problems(error))}") from None
        everything: Any = self
        job = connection.new_job(
            self._agreement(connection),
            self.analysis,
            purpose=everything.purpose,
            inputs={name: list(columns) for name, columns in inputs.items()},
            recipients=everything.recipients or [connection.name],
            parameters=parameters,
            alignment=everything.alignment,
            epsilon=everything.epsilon,
            delta=everything.delta,
        )
        self._take(connection.submit(job).result(everything.timeout))
        return self

    def summary(self) -> str:
        """The tables of the result, as `mpcpriv job result` shows them.

        Raises:
            UsageError: `fit` was not called.
        """
        self._fitted()
        return self.result_.report.text()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "result_")

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn asks an estimator about itself; only scikit-learn calls it."""
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        kind = getattr(self, "_estimator_type", None)
        return Tags(
            estimator_type=kind,
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags() if kind == "classifier" else None,
            regressor_tags=RegressorTags() if kind == "regressor" else None,
        )

    def _known(self, settings: Mapping[str, Any]) -> None:
        for name in settings:
            if name not in self._defaults:
                raise UsageError(
                    f"{type(self).__name__}: {name!r} is no parameter of it; there are "
                    f"{', '.join(self._defaults)}"
                )

    def _connection(self) -> Connection:
        everything: Any = self
        if everything.connection is None or everything.purpose is None:
            raise UsageError(
                f"{type(self).__name__}: connection and purpose are needed: what `mpcpriv.connect` gives, "
                "and one of the agreement's purposes"
            )
        return cast("Connection", everything.connection)

    def _agreement(self, connection: Connection) -> str:
        everything: Any = self
        if everything.agreement is not None:
            return str(everything.agreement)
        held = sorted({one.id for one in connection.agreements()})
        if len(held) != 1:
            raise UsageError(
                f"{type(self).__name__}: agreement: name one of those that are held here: "
                f"{', '.join(held) or 'none'}"
            )
        return held[0]

    def _take(self, result: Result) -> None:
        self.result_ = result
        for name, value in result.items():
            setattr(self, f"{name}_", np.array(value) if isinstance(value, list) else value)

    def _fitted(self) -> None:
        if not hasattr(self, "result_"):
            raise UsageError(f"{type(self).__name__}: it has no result yet; call fit first")


class Linear(Estimator):
    """An estimator of a target that depends on a weighted sum of features.

    Attributes:
        coef_: (d,), in the units of the data.
        intercept_: a number; 0 where there is none.
    """

    coef_: np.ndarray
    intercept_: Any
    feature_names_in_: np.ndarray
    n_features_in_: int

    def _take(self, result: Result) -> None:
        super()._take(result)
        names: list[str] = list(result["terms"] if "terms" in result else result["features"])
        values: list[float] = list(result["estimate"] if "estimate" in result else result["coefficients"])
        if names.count(_INTERCEPT) > ("terms" in result):
            raise UsageError(f"a column is called {_INTERCEPT!r}, as what is no column; rename it")
        model = dict(zip(names, values, strict=True))
        self.intercept_ = float(model.pop(_INTERCEPT, result.get(_INTERCEPT, 0.0)))
        self.coef_ = np.array(list(model.values()), dtype=np.float64)
        self.feature_names_in_ = np.array(list(model), dtype=object)
        self.n_features_in_ = len(model)

    def _scores(self, x: Any) -> np.ndarray:
        """(n,), the weighted sums of rows (n, d) of one's own."""
        self._fitted()
        beside = [name for name in ("offset", "exposure") if getattr(self, name, None) is not None]
        if beside:
            raise UsageError(
                f"predict: the model was fitted with an {' and an '.join(beside)}, which a prediction does "
                "not take; compute it from coef_ and intercept_"
            )
        names = self.feature_names_in_.tolist()
        if hasattr(x, "columns"):
            missing = [name for name in names if name not in list(x.columns)]
            if missing:
                raise UsageError(f"predict: the frame has no column {', '.join(map(repr, missing))}")
            x = x[names]
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(names):
            raise UsageError(
                f"predict: X has shape {rows.shape}; it needs (rows, {len(names)}): {', '.join(names)}"
            )
        if not np.isfinite(rows).all():
            raise UsageError("predict: X has values that are missing or infinite; leave those rows out")
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


class _LogRegressor(Regressor):
    _log = True


_BASES: Final[Mapping[str, type[Estimator]]] = {
    "gamma-regression": _LogRegressor,
    "lasso": Regressor,
    "linear-regression": Regressor,
    "logistic-regression": Classifier,
    "negative-binomial-regression": _LogRegressor,
    "poisson-regression": _LogRegressor,
    "private-logistic-regression": Classifier,
    "ridge": Regressor,
}
"""Those that predict."""


@cache
def of(analysis: str) -> type[Any]:
    """The estimator of an analysis.

    Args:
        analysis: its name.

    Raises:
        UsageError: it is not installed, or a parameter of it is called as one that every estimator has.
    """
    found = analyses.find(analysis)
    schema = found.parameters.model_json_schema().get("properties", {})
    if set(schema) & set(_OF_EVERY_JOB):
        raise UsageError(f"analysis {analysis}: a parameter of it is called as one of every job; rename it")
    defaults = dict.fromkeys(_OF_EVERY_JOB) | {name: _default(field) for name, field in schema.items()}

    def __init__(self: Any, connection: Any = None, **settings: Any) -> None:  # noqa: N807
        self._known(settings)
        for name, value in {**defaults, **settings, "connection": connection}.items():
            setattr(self, name, value)

    # As scikit-learn reads it, and as an editor shows it: each parameter by name.
    me, first = (
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        for name, default in (("self", inspect.Parameter.empty), ("connection", None))
    )
    rest = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default)
        for name, default in defaults.items()
        if name != "connection"
    ]
    __init__.__signature__ = inspect.Signature([me, first, *rest])  # type: ignore[attr-defined]
    content = {
        "__doc__": f"{found.title[:1].upper()}{found.title[1:]}.\n\n{found.text}",
        "__init__": __init__,
        "__module__": __name__,
        "analysis": analysis,
        "_defaults": defaults,
    }
    return type(_class_name(analysis), (_BASES.get(analysis, Estimator),), content)


def _class_name(analysis: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", analysis))


def _classes() -> dict[str, str]:
    return {_class_name(name): name for name in analyses.installed()}


def __getattr__(name: str) -> type[Any]:
    # PEP 562: the estimators are those of the analyses that are installed.
    analysis = None if name.startswith("_") else _classes().get(name)
    if analysis is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return of(analysis)


def __dir__() -> list[str]:
    return sorted([*globals(), *_classes()])


def _default(field: Mapping[str, Any]) -> Any:
    """Of a parameter; a list as a tuple, which nobody can change for everybody else."""
    default = field.get("default")
    return tuple(default) if isinstance(default, list) else default


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
