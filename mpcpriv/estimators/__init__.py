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
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

from mpcpriv import analyses
from mpcpriv.errors import UsageError
from mpcpriv.estimators.estimator import OF_EVERY_JOB, Estimator
from mpcpriv.estimators.fitted import (
    Classifier,
    Clusters,
    Components,
    LogRegressor,
    ProportionalHazards,
    Regressor,
)

_BASES: Final[Mapping[str, type[Estimator]]] = {
    "cox-regression": ProportionalHazards,
    "gamma-regression": LogRegressor,
    "k-means": Clusters,
    "lasso": Regressor,
    "linear-regression": Regressor,
    "logistic-regression": Classifier,
    "negative-binomial-regression": LogRegressor,
    "pca": Components,
    "poisson-regression": LogRegressor,
    "private-k-means": Clusters,
    "private-logistic-regression": Classifier,
    "ridge": Regressor,
}
"""Those that predict or transform."""


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
    if set(schema) & set(OF_EVERY_JOB):
        raise UsageError(f"analysis {analysis}: a parameter of it is called as one of every job; rename it")
    defaults = dict.fromkeys(OF_EVERY_JOB) | {name: _default(field) for name, field in schema.items()}

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
