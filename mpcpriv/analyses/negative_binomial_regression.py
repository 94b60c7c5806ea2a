"""Negative binomial regression, log link: a variance of m + alpha m^2 (NB2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Plain
from mpcpriv.analyses.counts import (
    DIGITS,
    Counts,
    OfCounts,
    bounds,
    interpolant,
    mean_of,
    natural,
    quintic,
    unit_of,
)
from mpcpriv.analyses.feature import Feature
from mpcpriv.analyses.generalised_linear import LIMITS, METHOD, Found, Rows, number_of
from mpcpriv.analyses.generalised_linear import Parameters as Common
from mpcpriv.analyses.newton import exponential, free
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_OF_GIVEN_ALPHA: Final = ("deviance", "log_likelihood")
_SPREAD: Final = "log of 1 + alpha y"
_SHARE: Final = "alpha y log of 1 + 1 / (alpha y)"
_FEW: Final = 0.25
"""Of 1 / (1 + c m), where a polynomial takes the place of a logarithm near 0."""
_SERIES: Final = interpolant(lambda e: -np.log1p(-e) / e, 0, _FEW)
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
        "well, and standard errors take it as known: that is not maximum likelihood, as in R's glm.nb and "
        "statsmodels' NegativeBinomial, whose alpha differs, and coefficients with it. `exposure` is a "
        "column whose logarithm is added, `offset` one that is added as it is. " + LIMITS
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

        def share(y: Any) -> Any:
            return _share(alpha * y)

        low, high = bounds(target)
        return {
            **known,
            _SHARE: number_of(target, share, float(share(low)), float(share(high))),
            _SPREAD: number_of(target, spread, float(spread(low)), float(spread(high))),
            # It falls as y grows.
            _BEST: number_of(target, best, float(best(high)), float(best(low))),
        }

    def model(self, rows: Rows, parameters: Any) -> Counts:
        """See `GeneralisedLinear.model`: of Poisson's, where alpha is estimated."""
        y, per, mean = self.counts(rows)
        alpha = parameters.alpha
        return Counts(y, per, mean, None if alpha is None else mean * (alpha / DIGITS), rows.present)

    def refined(self, model: Counts, fit: Any) -> Counts | None:
        """See `GeneralisedLinear.refined`."""
        if model.over is not None:
            return None
        return Counts(model.y, model.per, model.mean, model.moment(fit), model.present)

    def besides(self, model: Counts, fit: Any, rows: Rows) -> Mapping[str, Any]:
        """See `GeneralisedLinear.besides`."""
        import torch

        told, unit, over = super().besides(model, fit, rows), unit_of(rows.target[""].scale), model.over
        assert over is not None
        if _SHARE not in rows.target:
            return {**told, "alpha": over * model.per * (1 / unit)}
        part = DIGITS / rows.count
        mean = exponential(fit.predictor)
        above: Any = _shared_out(model, mean) - natural(rows.target[_SHARE])
        above = above - natural(rows.target[_SPREAD]) + torch.log(mean * over + 1)
        return {
            **told,
            "deviance": rows.weighted(above).sum() * part,
            "saturated": rows.weighted(natural(rows.target[_BEST])).sum() * part,
        }

    def level(self, found: Found, parameters: Any) -> tuple[float, float]:
        """See `GeneralisedLinear.level`."""
        level, factor = super().level(found, parameters)
        return level, factor * (1 + self._alpha(found, parameters) * mean_of(found))

    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """See `GeneralisedLinear.fitted`."""
        told, alpha = super().fitted(found, parameters), self._alpha(found, parameters)
        if parameters.alpha is None:
            if alpha <= 0:
                raise UsageError(
                    f"{self.name}: the counts vary no more than Poisson's, and alpha would be 0; ask for "
                    "poisson-regression"
                )
            return {**told, "alpha": alpha}
        part = DIGITS / found.count / found.weights
        deviance = 2 / alpha * found.number("deviance") / part
        return {
            **told,
            "alpha": alpha,
            "deviance": deviance,
            "log_likelihood": found.number("saturated") / part - deviance / 2,
        }

    def _alpha(self, found: Found, parameters: Any) -> float:
        """As it was given, or estimated."""
        return found.number("alpha") if parameters.alpha is None else parameters.alpha

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


def _share(many: Any) -> Any:
    """u ln(1 + 1 / u), from 0 to 1: u ln u would be as large as the count, and lose digits."""
    many = np.asarray(many, dtype=np.float64)
    return many * np.log1p(1 / np.maximum(many, np.finfo(np.float64).tiny))


def _shared_out(model: Counts, mean: Any) -> Any:
    """c y ln(1 + 1 / (c m)), (n,), as exact where counts are large as where they are small.

    With e = 1 / (1 + c m) it is -c y ln(1 - e); and where e is small, y / m times a polynomial.
    """
    damped: Any = model.divisor(mean).reciprocal()
    rest: Any = damped * model.rest
    near = model.y * damped * model.part * quintic(rest, _SERIES)
    far = model.y * model.over * (1 - rest).log() * -1
    return near + rest.gt(_FEW) * (free(far) - free(near))


def _saturated(y: Any, alpha: float) -> Any:
    """The log-likelihood of one count whose mean it is."""
    from scipy.special import gammaln, xlog1py, xlogy

    y = np.asarray(y, dtype=np.float64)
    own = xlogy(y, alpha * y) - xlog1py(y + 1 / alpha, alpha * y)
    return own + gammaln(y + 1 / alpha) - gammaln(1 / alpha) - gammaln(y + 1)


ANALYSIS: Final = NegativeBinomialRegression()
