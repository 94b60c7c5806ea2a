"""Cox's proportional hazards regression on shares."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import Feature, plain, regressors
from mpcpriv.analyses.inference import COEFFICIENTS, coefficient_table, shown_coefficients
from mpcpriv.analyses.life_table import MOST_TIMES, Times
from mpcpriv.analyses.newton import Point, covariance, exponential, free, scale_of
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.analyses.told import Cells, Levels, pairs, singles
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses.newton import Fit
    from mpcpriv.analyses.table import Table as Shared
    from mpcpriv.engine.tensor import SharedTensor

_MARK: Final = "\x1f"
"""Begins the name of what is made of times and events: no column's name has this character."""
_MOST_SHARED: Final = 1 << 24
"""Yes-or-nos of who is at risk when."""
_HIGHEST: Final = 14.0
"""Predictors that `exponential` takes."""
_ROOM: Final = 1 << 28
"""What the hazards of all rows may add up to."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        time, event, intervals: see `life_table.Survival`.
        steps: of Newton's method.
    """

    time: ColumnName
    event: ColumnName
    intervals: Annotated[int, Field(ge=1, le=MOST_TIMES)] | None = None
    steps: Annotated[int, Field(ge=2, le=50)] = 10


class Hazards:
    """A `newton.Model`: the likelihood of hazards baseline(t) e^predictor, the baseline being the best one.

    With Breslow's baseline, the derivative of the partial likelihood by a predictor is the martingale
    residual: e^predictor times the cumulated baseline, less 1 for an event (T. M. Therneau and
    P. M. Grambsch, "Modeling Survival Data", 2000, section 4.2). The second derivative leaves out that the
    baseline moves along; with an intercept beside, that is little: steps fall somewhat short, and converge
    linearly, by a small factor.
    """

    def __init__(self, at_risk: SharedTensor, event: SharedTensor) -> None:
        """A model.

        Args:
            at_risk: (n, T), 1 where a row is followed still as a time comes.
            event: (n,), 1 where a row ended with an event.
        """
        import torch

        self.rows, _ = at_risk.shape
        self.highest = min(_HIGHEST, math.log(_ROOM / self.rows))
        self.at_risk, self.event = free(at_risk), free(event)
        remaining: Any = self.at_risk.sum(0)
        self.remaining = free(remaining)
        # 1 in the place of 0: where nobody is left, nothing happens.
        self.nobody: Any = remaining.lt(0.5) * 1
        # Of a row at risk at a time and not at the next, that is its time.
        followed: Any = event.matmul(self.at_risk)
        self.happened = followed - torch.cat([followed[1:], followed[:1] * 0])
        self.unit = 2.0 ** math.ceil(math.log2(self.rows))

    def start(self, offset: SharedTensor | float) -> tuple[SharedTensor, SharedTensor | float]:
        """See `Model.start`."""
        del offset
        cumulated = self._cumulated(self.remaining)
        return cumulated - self.event, cumulated

    def at(self, predictor: SharedTensor) -> Point:
        """See `Model.at`."""
        hazard = self.hazard(predictor)
        expected = hazard * self._cumulated(hazard.matmul(self.at_risk))
        return Point(expected - self.event, expected, expected)

    def outside(self, predictor: SharedTensor) -> SharedTensor | float:
        """See `Model.outside`."""
        found: Any = predictor.gt(self.highest).sum() * 1
        return found  # type: ignore[no-any-return]

    def dispersion(self, point: Point, weights: SharedTensor | None, degrees: int) -> SharedTensor | float:
        """See `Model.dispersion`."""
        del point, weights, degrees
        return 1.0

    def hazard(self, predictor: SharedTensor) -> SharedTensor:
        """e^predictor, (n,)."""
        found: SharedTensor = free(exponential(predictor.clamp(-2 * _HIGHEST, self.highest)))
        return found

    def means(self, x: SharedTensor, hazard: SharedTensor) -> SharedTensor:
        """Of columns (n, d), the means (d, T) over who is at risk, weighted with their hazards."""
        whole = hazard.matmul(self.at_risk) + self.nobody
        found: Any = (x * hazard.unsqueeze(1)).t().matmul(self.at_risk) / whole
        return found  # type: ignore[no-any-return]

    def log_ratio(self, fit: Fit) -> SharedTensor:
        """Of the partial likelihood to that with coefficients of 0, the logarithm: a scalar."""
        import torch

        hazard = self.hazard(fit.predictor)
        now: Any = torch.log(hazard.matmul(self.at_risk) + self.nobody)
        then: Any = torch.log(self.remaining + self.nobody)
        events: Any = self.event
        return events.matmul(fit.predictor) - ((now - then) * self.happened).sum()  # type: ignore[no-any-return]

    def _cumulated(self, hazards: Any) -> Any:
        """Breslow's baseline until the time of each row, (n,), from the sums of hazards at risk, (T,)."""
        # Times a number about that of the rows: a quotient about 1 keeps its digits.
        jumps = (self.happened * self.unit) / (hazards + self.nobody)
        return self.at_risk.matmul(jumps) * (1 / self.unit)


class CoxRegression:
    """The model of all rows, in the units of the data."""

    name: Final = "cox-regression"
    title: Final = "Cox's proportional hazards regression, with hazard ratios, standard errors and tests"
    text: Final = (
        "Maximum partial likelihood, ties as Breslow has them (statsmodels' PHReg by default; R and "
        "lifelines take Efron's unless told otherwise), by Newton's method on shares. Coefficients and "
        "their information matrix, which is one over their covariance, are opened, and twice the logarithm "
        "of the likelihood ratio against coefficients of 0; numbers at risk, the baseline hazard, "
        "residuals, means and spreads stay secret. e^coefficient is a hazard ratio. A category counts as a "
        "yes-or-no for each of its categories but the first. Times are a public grid, as for kaplan-meier; "
        "of each row and time of it one yes-or-no is shared, 2^24 in all at most, so few `intervals` make "
        "it fast. Agreed bounds should be no wider than twenty times the spread of a column, or digits are "
        "lost. `converged` is 0 where the last step could still move a coefficient by 0.02 standard "
        "errors, a predictor left the range in which it is computed, or a column varies by less than fixed "
        "point can tell: run it again with more steps, or look at the columns. Without differential "
        "privacy: a row changes the risk set of every time before its own, the partial likelihood is no sum "
        "over rows, and how much one row can change the coefficients has no bound; with noise, ask for "
        "kaplan-meier and log-rank, or for a private logistic regression of the event."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "cox-regression"
inputs = [
    { dataset = "north", columns = ["week", "arrest", "aid", "age"] },
    { dataset = "south", columns = ["week", "arrest", "aid", "age"] },
]
parameters = { time = "week", event = "arrest" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            **COEFFICIENTS,
            "hazard_ratio": "e^coefficient",
            "covariance": "of every two coefficients, row by row",
            "likelihood_ratio": "twice the logarithm of the likelihood ratio against coefficients of 0",
            "likelihood_ratio_p_value": "of the test that all coefficients are 0, by it",
            "wald": "the same, by the coefficients and their covariance",
            "wald_p_value": "of the test that all coefficients are 0, by that",
            "iterations": "how many steps were made",
            "converged": "whether (1) or not (0) the last step left every coefficient where it was",
        }

    def features(self, table: Outline, parameters: Parameters) -> Sequence[Feature]:
        """See `Derived.features`."""
        found: list[Feature] = []
        if (parameters.time in table.columns) != (parameters.event in table.columns):
            raise UsageError(
                f"{self.name}: {parameters.time!r} and {parameters.event!r} are in the tables of two owners; "
                "whose the time is must know of the event"
            )
        if parameters.time in table.columns:
            event = table.columns[parameters.event]
            if event.type != "boolean":
                raise UsageError(f"{self.name}: event {parameters.event!r} must be a boolean")
            times = Times.of(table.columns[parameters.time], parameters.intervals, self.name)
            if table.rows * len(times.ends) > _MOST_SHARED:
                raise UsageError(
                    f"{self.name}: {table.rows} rows by {len(times.ends)} times are more than "
                    f"{_MOST_SHARED}; set the parameter intervals"
                )
            found.append(Feature(event.model_copy(update={"name": _MARK}), plain(event).values))
            found += [_at_risk(times, parameters.time, place) for place in range(len(times.ends))]
        return [*found, *regressors(_others(table.columns, parameters))]

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[Cells]:
        """See `TellsCells.cells`: of what explains, and of it with the event and without."""
        others = list(_others(columns, parameters).values())
        happened = Levels(parameters.event, (0.0, 1.0))
        return [*pairs(others), (happened,), *((happened, *one) for one in singles(others, 2))]

    def run(
        self, ctx: Context, inputs: Mapping[str, Shared], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses import newton
        from mpcpriv.analyses.table import together as put_together

        whole, _ = put_together(inputs)
        made: list[Any] = [one.shared for name, one in whole.columns.items() if name.startswith(_MARK)]
        columns: list[Any] = [one.shared for name, one in whole.columns.items() if not name.startswith(_MARK)]
        if not made or not columns:
            raise UsageError(f"{self.name}: name columns for time, event, and what explains them")
        if whole.rows * len(made[1:]) > _MOST_SHARED:
            raise UsageError(f"{self.name}: too many rows and times; set the parameter intervals")
        explaining: Any = torch.stack(columns, dim=1)
        at_risk: Any = torch.stack(made[1:], dim=1)
        # The baseline takes up what an intercept, and so the means, would be.
        z, _, per_spread, variance = newton.standardise(explaining)
        model = Hazards(at_risk, made[0])
        fit = newton.minimise(z, variance, model, 0.0, None, 0.0, parameters.steps, ctx.steps)
        x, spread = z[:, :-1], variance * per_spread
        means: Any = model.means(x, model.hazard(fit.predictor))
        expected: Any = fit.point.information
        within = x.t().matmul(x * expected.unsqueeze(1)) - (means * model.happened).matmul(means.t())
        return {
            "coefficients": fit.coefficients[:-1] * per_spread,
            "information": torch.flatten(within * spread * spread.unsqueeze(1)),
            "ratio": model.log_ratio(fit).reshape(1),
            "converged": fit.converged,
        }

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        from scipy import special

        parameters: Parameters = asked.parameters
        whole, _ = together(asked.tables)
        for name in (parameters.time, parameters.event):
            if name not in whole.columns:
                raise UsageError(f"{self.name}: {name!r} is none of the columns {', '.join(whole.columns)}")
        terms = [one.terms for one in regressors(_others(whole.columns, parameters))]
        unit = np.array([Scale.of(one).unit for one in terms])
        size, converged = len(terms), int(opened["converged"][0])
        information = opened["information"].reshape(size, size) * np.outer(unit, unit)
        estimate = opened["coefficients"] / scale_of(whole.rows) / unit
        inverse = _inverse(information / np.outer(unit, unit), whole.rows, converged)
        variances = inverse / np.outer(unit, unit)
        names = [one.name for one in terms]
        ratio = max(2 * float(opened["ratio"][0]), 0.0)
        wald = float(estimate @ information @ estimate)
        return {
            "rows": whole.rows,
            **coefficient_table(names, estimate, np.sqrt(np.diag(variances))),
            "hazard_ratio": np.exp(np.clip(estimate, -700, 700)).tolist(),
            "covariance": variances.flatten().tolist(),
            "likelihood_ratio": ratio,
            "likelihood_ratio_p_value": float(special.chdtrc(size, ratio)),
            "wald": wald,
            "wald_p_value": float(special.chdtrc(size, max(wald, 0.0))),
            "iterations": parameters.steps,
            "converged": converged,
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        summary = {
            "Model": "Cox's proportional hazards",
            "Ties": "Breslow",
            "No. Observations": some["rows"],
            "Likelihood ratio test": some["likelihood_ratio"],
            "  P>chi2": some["likelihood_ratio_p_value"],
            "Wald test": some["wald"],
            " P>chi2": some["wald_p_value"],
            "Df": len(some["terms"]),
            "No. Iterations": some["iterations"],
            "Converged": "yes" if some["converged"] else "NO: do not use it",
        }
        title = "Cox regression"
        table = Table(title, {"": list(summary), " ": list(summary.values())})
        return [table, *shown_coefficients("Coefficients", answer, "z", "hazard ratio")]


def _others(columns: Mapping[str, ColumnTerms], parameters: Parameters) -> dict[str, ColumnTerms]:
    named = (parameters.time, parameters.event)
    return {name: column for name, column in columns.items() if name not in named}


def _at_risk(times: Times, time: str, place: int) -> Feature:
    def values(columns: Mapping[str, np.ndarray]) -> np.ndarray:
        found: np.ndarray = (times.places(columns[time]) >= place).astype(np.float64)
        return found

    return Feature(ColumnTerms.model_construct(name=f"{_MARK}{place}", type="boolean"), values)


def _inverse(information: np.ndarray, rows: int, converged: int) -> np.ndarray:
    """The covariance of coefficients.

    Raises:
        UsageError: there is none, or rounding would show in it.
    """
    # In each sum there is the rounding of so many products of numbers up to 4, each by half a unit.
    found = covariance(information, 2.0**-15 * math.sqrt(rows))
    if found is not None:
        return found
    raise UsageError(
        "cox-regression: the data do not determine the coefficients: there are few events, or a column is "
        "constant, or follows from others, or "
        + ("nearly does; leave it out" if converged else "predicts who has the event; leave it out")
    )


ANALYSIS: Final = CoxRegression()
