"""An analysis whose job is submitted by `fit`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self, cast

import numpy as np
from pydantic import ValidationError

from mpcpriv import analyses
from mpcpriv.documents import problems
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.client.connection import Connection
    from mpcpriv.client.result import Result

OF_EVERY_JOB: Final = (
    "connection",
    "agreement",
    "alignment",
    "purpose",
    "recipients",
    "epsilon",
    "delta",
    "timeout",
)
"""Parameters that each estimator has."""


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
        names = [name for name in self._defaults if name not in OF_EVERY_JOB]
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
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags, TransformerTags

        kind = getattr(self, "_estimator_type", None)
        return Tags(
            estimator_type=kind,
            target_tags=TargetTags(required=False),
            classifier_tags=ClassifierTags() if kind == "classifier" else None,
            regressor_tags=RegressorTags() if kind == "regressor" else None,
            transformer_tags=TransformerTags() if kind == "transformer" else None,
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


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
