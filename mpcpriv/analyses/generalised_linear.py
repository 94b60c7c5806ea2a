"""Generalised linear models: maximum likelihood by Newton's method on shares (`newton.py`)."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened, Plain
from mpcpriv.analyses.feature import Feature, plain, regressors
from mpcpriv.analyses.inference import COEFFICIENTS, INTERCEPT, coefficient_table, shown_coefficients
from mpcpriv.analyses.newton import Vector, covariance, parts_of, scale_of
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.analyses.told import Cells, pairs
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses.newton import Fit, Model
    from mpcpriv.analyses.table import Column
    from mpcpriv.analyses.table import Table as Shared

METHOD: Final = (
    "Maximum likelihood by Newton's method, on shares: coefficients on the way, gradients and Hessians stay "
    "secret. Opened are the coefficients and their information matrix, one over their covariance: sums over "
    "rows of products of two columns, weighted by the model. A category counts as a yes-or-no for each but "
    "the first. "
    "Standard errors are of the expected information, as statsmodels' and R's; tests and 95 % intervals are "
    "Wald's, with the normal distribution. "
)
LIMITS: Final = (
    "Agreed bounds should be no wider than twenty times the spread of a column, or digits are lost; columns "
    "of which one nearly follows from others are refused. `converged` is 0 where the last step could still "
    "move a coefficient by 0.02 standard errors, where a predictor left the range in which it is "
    "computed, or where a column varies by less than fixed point can tell (a yes-or-no rarer than "
    "one in 20,000 rows): run it again with more steps, or look at the columns. There is no differential "
    "privacy: how much one row can change the coefficients has no bound."
)

_MARK: Final = "\x1f"
"""Between a column's name and what its owner makes of it: no column's name has this character."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        target: the column that is explained.
        offset: a column that is added to the linear predictor as it is.
        exposure: a column whose logarithm is added to the linear predictor.
        weights: a column of what each row counts for: R's `weights`, statsmodels' `var_weights`.
        steps: of Newton's method.
    """

    target: ColumnName
    offset: ColumnName | None = None
    exposure: ColumnName | None = None
    weights: ColumnName | None = None
    steps: Annotated[int, Field(ge=1, le=50)] = 8


@dataclass(frozen=True)
class Rows:
    """What a model is made of.

    Attributes:
        target: what the owner made of the target, by the names that `of_target` gives.
        weights: (n,), as they are shared, from 0, and 0 of rows that are not there; None where they are 1.
        count: n.
        present: (n,), 1 of rows that are there; None where all are.
    """

    target: Mapping[str, Column]
    weights: Vector | None
    count: int
    present: Vector | None = None

    def weighted(self, values: Any) -> Any:
        """Of values (n,), each as often as its row counts; those that are not there do not."""
        if self.weights is not None:
            return self.weights * values
        return values if self.present is None else self.present * values


@dataclass(frozen=True)
class Found:
    """What was opened of a fit.

    Attributes:
        opened: by name, what `GeneralisedLinear.besides` returned, and the rest.
        target: the terms of the target.
        rows: how many.
        count: how many it was computed of, with those that are not there.
        degrees: rows less coefficients.
        information: of the intercept alone, as it was opened: the sum of its parts in all rows.
        weights: what 1 of the shared weights is.
    """

    opened: Opened
    target: ColumnTerms
    rows: int
    count: int
    degrees: int
    information: float
    weights: float

    def number(self, name: str) -> float:
        """One of the opened scalars."""
        return float(self.opened[name][0])


class GeneralisedLinear(ABC):
    """A generalised linear model; it is `Derived`, `Showing`, `TellsCells` and `OverSecretRows`.

    A row that is not there is one of zeros among the columns, the one of ones too, so that it adds to no
    gradient, Hessian or information; its predictor and offset are 0. Of the target it has what its owner's
    shares of 0 stand for, the middle of the bounds: a model puts in its place what it takes without harm.

    Attributes:
        family: with its link, for the table.
        ratio: what e^coefficient is.
    """

    name: ClassVar[str]
    over_secret_rows: ClassVar[Literal[True]] = True
    family: ClassVar[str]
    ratio: ClassVar[str]

    @abstractmethod
    def of_target(self, target: ColumnTerms, parameters: Any) -> Mapping[str, Feature]:
        """What the target's owner makes of it, by names of one's own.

        Raises:
            UsageError: the target is not such as the model explains.
        """

    @abstractmethod
    def model(self, rows: Rows, parameters: Any) -> Any:
        """The `Model` of these rows."""

    def refined(self, model: Any, fit: Fit) -> Model | None:
        """Another model, that is fitted where this one was; None where it was the last."""
        del model, fit
        return None

    def middle(self, model: Any) -> Vector:
        """What the predictor of the data is more than the model's."""
        del model
        return 0.0

    @abstractmethod
    def besides(self, model: Any, fit: Fit, rows: Rows) -> Mapping[str, Vector]:
        """What is opened besides coefficients and their information: scalars."""

    @abstractmethod
    def level(self, found: Found, parameters: Any) -> tuple[float, float]:
        """What is added to the intercept, and what the covariance is multiplied by."""

    @abstractmethod
    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """How well it fits: by name, what the recipients are told besides the coefficients."""

    @abstractmethod
    def told(self) -> Mapping[str, str]:
        """What `fitted` returns, in plain words."""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            **COEFFICIENTS,
            "covariance": "of every two coefficients, row by row",
            "residual_degrees": "rows less coefficients",
            **self.told(),
            "iterations": "how many steps were made",
            "converged": "whether (1) or not (0) the last step left every coefficient where it was",
        }

    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """See `Derived.features`."""
        found: list[Feature] = []
        for name, column in table.columns.items():
            if name == parameters.target:
                for place, one in self.of_target(column, parameters).items():
                    found.append(_called(one, f"{name}{_MARK}{place}"))
            elif name == parameters.exposure:
                found.append(_called(logarithm(self.name, column), f"{name}{_MARK}log"))
            elif name == parameters.weights:
                if column.type == "boolean" or column.low is None or column.low <= 0:
                    raise UsageError(
                        f"{self.name}: weights {name!r} must be a number with agreed bounds above 0: a "
                        "weight of 0 would leave rows out, and the model be of fewer than are told"
                    )
                found.append(_called(plain(column), f"{name}{_MARK}"))
            elif name == parameters.offset:
                found.append(_called(plain(column), f"{name}{_MARK}"))
            else:
                found += regressors({name: column})
        return found

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[Cells]:
        """See `TellsCells.cells`: a model of yes-or-nos fits their tables, and so tells them."""
        del parameters
        return pairs(columns.values())

    def run(self, ctx: Context, inputs: Mapping[str, Shared], parameters: Any) -> Mapping[str, Vector]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses import newton
        from mpcpriv.analyses.table import together as put_together

        whole, _ = put_together(inputs)
        rows, offsets, columns = self._roles(whole.columns, whole.rows, parameters)
        weights = rows.weights
        if weights is not None and ctx.present is not None:
            weights = newton.free(ctx.present * weights)
        rows = replace(rows, weights=weights, present=ctx.present)
        x = torch.stack([column.shared for column in columns], dim=1)
        z, mean, per_spread, variance = newton.standardise(x, ctx.present)
        penalty = getattr(parameters, "penalty", 0.0)
        offset: Any = sum((one.shared * one.scale.unit for one in offsets), 0.0)
        less: Any = newton.mean_of(offset, ctx.present) if offsets else 0.0
        # What is left has no part in the level, which coefficients of about 1 make up.
        around = offset - less
        if offsets:
            around = newton.free(around if ctx.present is None else ctx.present * around)
        model = self.model(rows, parameters)
        while True:
            fit = newton.minimise(
                z, variance, model, around, weights, penalty, parameters.steps, ctx.steps, ctx.present
            )
            better = self.refined(model, fit)
            if better is None:
                break
            model = better
        less = (less - self.middle(model)) * scale_of(whole.rows)
        extra = self.besides(model, fit, rows)
        return {
            "coefficients": newton.fold(fit.coefficients, mean, per_spread, less),
            "information": newton.information(x, weights, fit.point, variance, penalty, ctx.present),
            "converged": fit.converged,
            **{name: value.reshape(1) for name, value in extra.items()},
        }

    def _roles(
        self, columns: Mapping[str, Column], count: int, parameters: Any
    ) -> tuple[Rows, list[Column], list[Column]]:
        """The target with the weights, the offsets, and all other columns."""
        found: dict[str, Any] = {}
        others = []
        for name, column in columns.items():
            owner, mark, place = name.partition(_MARK)
            if mark:
                found.setdefault(owner, {})[place] = column
            else:
                others.append(column)
        named = {
            role: getattr(parameters, role)
            for role in ("target", "offset", "exposure", "weights")
            if getattr(parameters, role) is not None
        }
        for role, name in named.items():
            if list(named.values()).count(name) > 1:
                raise UsageError(f"{self.name}: column {name!r} is named for more than one thing")
            if name not in found:
                raise UsageError(f"{self.name}: {role} {name!r} is none of the columns of the job")
        if not others:
            raise UsageError(f"{self.name}: there is no column that explains the target; name some, too")
        offsets = [
            next(iter(found[named[role]].values())) for role in ("offset", "exposure") if role in named
        ]
        weights = None
        if "weights" in named:
            column = next(iter(found[named["weights"]].values()))
            if count * (column.scale.high + column.scale.centre / column.scale.unit) >= _MOST_WEIGHT:
                raise UsageError(
                    f"{self.name}: the agreed bounds of weights {named['weights']!r} are too narrow for "
                    "their size, and a sum of them would leave the ring; agree on a lower bound nearer to 0"
                )
            weights = whole_of(column)
        return Rows(found[parameters.target], weights, count), offsets, others

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        parameters, columns = asked.parameters, together(asked.tables)[0].columns
        rows = together(asked.tables)[0].rows
        count = asked.count or rows
        roles = (parameters.target, parameters.offset, parameters.exposure, parameters.weights)
        terms = [
            one.terms for one in regressors({n: column for n, column in columns.items() if n not in roles})
        ]
        size = len(terms) + 1
        if rows <= size:
            raise UsageError(f"{self.name}: {rows} rows are too few for {size} coefficients")
        information = opened["information"].reshape(size, size) / parts_of(count)
        weights = Scale.of(columns[parameters.weights]).unit if parameters.weights else 1.0
        level = float(information[-1, -1])
        found = Found(opened, columns[parameters.target], rows, count, rows - size, level, weights)
        converged = int(opened["converged"][0])
        level, factor = self.level(found, parameters)
        if parameters.offset:
            level -= Scale.of(columns[parameters.offset]).centre
        if parameters.exposure:
            level -= Scale.of(logarithm(self.name, columns[parameters.exposure]).terms).centre
        estimate, back = in_units(terms, opened["coefficients"] / scale_of(count))
        estimate[-1] += level
        variances = back @ _inverse(self.name, information, count, converged) @ back.T * factor
        error = np.sqrt(np.diag(variances))
        return {
            "rows": rows,
            **coefficient_table([*(one.name for one in terms), INTERCEPT], estimate, error),
            "covariance": variances.flatten().tolist(),
            "residual_degrees": rows - size,
            **self.fitted(found, parameters),
            "iterations": parameters.steps,
            "converged": converged,
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        summary = {
            "Model": self.family,
            "No. Observations": answer["rows"],
            "Df Residuals": answer["residual_degrees"],
            "Df Model": len(_listed(answer["terms"])) - 1,
            **{name.replace("_", " ").capitalize(): answer[name] for name in self.told() if name in answer},
            "No. Iterations": answer["iterations"],
            "Converged": "yes" if answer["converged"] else "NO: do not use it",
        }
        title = f"{self.name.replace('-', ' ').capitalize()}"
        shown = shown_coefficients("Coefficients", answer, "z", self.ratio)
        return [Table(title, {"": list(summary), " ": list(summary.values())}), *shown]  # type: ignore[arg-type]


_MOST_WEIGHT: Final = 2.0**27
"""Of all rows together, in units of the scale of the weights: with standardised columns of up to 2 squared on
average, sums stay below 2^29."""


def whole_of(column: Column) -> Vector:
    """A column from 0 on, where it was shared around a centre: in units of its scale, without its bounds."""
    from mpcpriv.analyses.newton import free

    return free(column.shared + column.scale.centre / column.scale.unit)


def in_units(terms: Sequence[ColumnTerms], coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of columns in the units of the data.

    Args:
        terms: of the d columns.
        coefficients: (d + 1,), of the columns as they were shared, the intercept last.

    Returns:
        (d + 1,); and the matrix (d + 1, d + 1) that made them.
    """
    scales = [Scale.of(one) for one in terms]
    back = np.diag([*(1 / one.unit for one in scales), 1.0])
    back[-1, :-1] = [-one.centre / one.unit for one in scales]
    return back @ coefficients, back


def _inverse(name: str, information: np.ndarray, rows: int, converged: int) -> np.ndarray:
    """The covariance of coefficients.

    Raises:
        UsageError: there is none, or rounding would show in it.
    """
    # In each sum there is the rounding of so many products, times numbers up to 4.
    found = covariance(information, 2.0**-14 * math.sqrt(rows) / parts_of(rows))
    if found is not None:
        return found
    raise UsageError(
        f"{name}: the data do not determine the coefficients: a column is constant, or follows from others, "
        f"or {'nearly does' if converged else 'predicts the target without fail'}; leave it out"
    )


def _called(one: Feature, name: str) -> Feature:
    return Feature(one.terms.model_copy(update={"name": name}), one.values)


def from_zero(analysis: str, role: str, column: ColumnTerms) -> ColumnTerms:
    """A column that is never negative.

    Raises:
        UsageError: it could be, by its agreed bounds.
    """
    if column.type != "boolean" and (column.low is None or column.low < 0):
        raise UsageError(
            f"{analysis}: {role} {column.name!r} must be a number with agreed bounds of at least 0"
        )
    return column


def logarithm(analysis: str, column: ColumnTerms) -> Feature:
    """Of a column whose agreed bounds are above 0.

    Raises:
        UsageError: they are not.
    """
    if column.low is None or column.high is None or column.low <= 0:
        raise UsageError(
            f"{analysis}: {column.name!r} must be a number with agreed bounds above 0, or it has no logarithm"
        )
    return number_of(column, np.log, math.log(column.low), math.log(column.high))


def number_of(column: ColumnTerms, function: Any, low: float, high: float) -> Feature:
    """A function of a column, with its own bounds."""
    terms = ColumnTerms(name=column.name, type="number", low=low, high=high if high > low else low + 1)
    return Feature(terms, lambda columns: function(np.asarray(columns[column.name], dtype=np.float64)))


def _listed(value: Plain) -> Sequence[Any]:
    assert isinstance(value, list)
    return value
