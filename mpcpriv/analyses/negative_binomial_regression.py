"""Negative binomial regression, log link: a variance of m + alpha m^2 (NB2)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Plain
from mpcpriv.analyses.counts import DIGITS, Counts, OfCounts, bounds, logarithm_of, mean_of, natural, unit_of
from mpcpriv.analyses.feature import Feature
from mpcpriv.analyses.generalised_linear import LIMITS, METHOD, Found, Rows, number_of
from mpcpriv.analyses.generalised_linear import Parameters as Common
from mpcpriv.analyses.newton import exponential
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_LOG: Final = "log"
_OF_GIVEN_ALPHA: Final = ("deviance", "log_likelihood")
_SPREAD: Final = "log of 1 + alpha y"
_BEST: Final = "log-likelihood"


class Parameters(Common):
    """What a job can set.

    Attributes:
        alpha: of the variance; where it is left out it is estimated.
    """

    alpha: Annotated[float, Field(ge=0.01, le=100)] | None = None


class NegativeBinomialRegression(OfCounts):
    """The model of all rows, in the units of the data."""

    name = "negative-binomial-regression"
    family = "GLM, negative binomial (NB2), log link"
    title: Final = (
        "a negative binomial regression of a count on other columns, with standard errors and tests"
    )
    text: Final = (
        METHOD
        + "The target is a count of which the logarithm of the mean m is linear in all other columns, and "
        "whose variance is m + alpha m^2; e^coefficient is a rate ratio. `alpha` is given, as "
        "statsmodels' NegativeBinomial family takes it; left out, it is estimated by the method of "
        "moments from the residuals of a Poisson regression (Cameron and Trivedi, 1990), on shares as "
        "well, and standard errors take it as known. `exposure` is a column whose logarithm is added, "
        "`offset` one that is added as it is. " + LIMITS
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "negative-binomial-regression"
inputs = [
    { dataset = "north", columns = ["visits", "income", "chronic"] },
    { dataset = "south", columns = ["visits", "income", "chronic"] },
]
parameters = { target = "visits", alpha = 0.8 }
"""

    def of_target(self, target: ColumnTerms, parameters: Any) -> Mapping[str, Feature]:
        """See `GeneralisedLinear.of_target`: with what the saturated model is made of."""
        known = super().of_target(target, parameters)
        if parameters.alpha is None:
            return known
        alpha = parameters.alpha

        def best(y: Any) -> Any:
            return _saturated(y, alpha)

        def spread(y: Any) -> Any:
            return np.log1p(alpha * y)

        low, high = bounds(target)
        return {
            **known,
            _LOG: logarithm_of(target),
            _SPREAD: number_of(target, spread, float(spread(low)), float(spread(high))),
            # It falls as y grows.
            _BEST: number_of(target, best, float(best(high)), float(best(low))),
        }

    def model(self, rows: Rows, parameters: Any) -> Counts:
        """See `GeneralisedLinear.model`: of Poisson's, where alpha is estimated."""
        y, per, mean = self.counts(rows)
        alpha, unit = parameters.alpha, unit_of(rows.target[""].scale)
        return Counts(y, per, None if alpha is None else mean * (alpha * unit))

    def refined(self, model: Counts, fit: Any, rows: Rows) -> Counts | None:
        """See `GeneralisedLinear.refined`."""
        if model.over is not None:
            return None
        mean: Any = self.counts(rows)[2] * unit_of(rows.target[""].scale)
        return Counts(model.y, model.per, model.moment(fit, mean))

    def besides(self, model: Counts, fit: Any, rows: Rows) -> Mapping[str, Any]:
        """See `GeneralisedLinear.besides`."""
        import torch

        told, unit, over = super().besides(model, fit, rows), unit_of(rows.target[""].scale), model.over
        assert over is not None
        if _LOG not in rows.target:
            return {**told, "alpha": over * model.per * (1 / unit)}
        part = DIGITS / rows.count
        spread = torch.log(exponential(fit.predictor) * over + 1)
        less: Any = (model.y + over.reciprocal()) * (natural(rows.target[_SPREAD]) - spread)
        above: Any = model.y * (natural(rows.target[_LOG]) - fit.predictor) - less
        return {
            **told,
            "deviance": rows.weighted(above).sum() * part,
            "saturated": rows.weighted(natural(rows.target[_BEST])).sum() * part,
        }

    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """See `GeneralisedLinear.fitted`."""
        told = super().fitted(found, parameters)
        if parameters.alpha is None:
            alpha = found.number("alpha")
            if alpha <= 0:
                raise UsageError(
                    f"{self.name}: the counts vary no more than Poisson's, and alpha would be 0; ask for "
                    "poisson-regression"
                )
            return {**told, "alpha": alpha}
        mean, part = mean_of(found), DIGITS / found.rows
        halved = found.number("deviance") / part - found.number("total") * math.log(mean)
        deviance = 2 * mean * found.weights * halved
        saturated = found.number("saturated") / part * found.weights
        return {
            **told,
            "alpha": parameters.alpha,
            "deviance": deviance,
            "log_likelihood": saturated - deviance / 2,
        }

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        given = job.parameters.get("alpha") is not None
        told = super().outputs(job)
        return {name: what for name, what in told.items() if given or name not in _OF_GIVEN_ALPHA}

    def told(self) -> Mapping[str, str]:
        """See `GeneralisedLinear.told`."""
        return {
            **super().told(),
            "alpha": "of the variance m + alpha m^2: as it was given, or else estimated",
            "deviance": "twice what the log-likelihood falls short of that of a mean of its own for each row",
            "log_likelihood": "the logarithm of the likelihood",
        }


def _saturated(y: Any, alpha: float) -> Any:
    """The log-likelihood of one count whose mean it is."""
    from scipy.special import gammaln, xlog1py, xlogy

    y = np.asarray(y, dtype=np.float64)
    own = xlogy(y, alpha * y) - xlog1py(y + 1 / alpha, alpha * y)
    return own + gammaln(y + 1 / alpha) - gammaln(1 / alpha) - gammaln(y + 1)


ANALYSIS: Final = NegativeBinomialRegression()
