"""Poisson regression, log link."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Plain
from mpcpriv.analyses.counts import (
    DIGITS,
    Counts,
    OfCounts,
    bounds,
    interpolant,
    logarithm_of,
    mean_of,
    natural,
    quintic,
    unit_of,
)
from mpcpriv.analyses.feature import Feature
from mpcpriv.analyses.generalised_linear import LIMITS, METHOD, Found, Parameters, Rows, number_of
from mpcpriv.analyses.newton import Fit, free

_LOG: Final = "log"
_BEST: Final = "log-likelihood"
_FEW: Final = 0.25
"""Of 1 - y / m, where a polynomial takes the place of a logarithm near 0."""
_MULTIPLES: Final = 2.0 ** np.arange(-8, 8, 0.25)
_SERIES: Final = interpolant(lambda e: (np.log1p(-e) * (1 - e) + e) / e**2, -_FEW, _FEW)


class PoissonRegression(OfCounts):
    """The model of all rows, in the units of the data."""

    name = "poisson-regression"
    family = "GLM, Poisson, log link"
    title: Final = "a Poisson regression of a count on other columns, with standard errors and tests"
    text: Final = (
        METHOD
        + "The target is a count (or a yes or no) of which the logarithm of the mean is linear in all other "
        "columns; e^coefficient is a rate ratio. `exposure` is a column whose logarithm is added, "
        "`offset` one that is added as it is. `overdispersion` is alpha of a variance of m + alpha m^2, "
        "by the method of moments (Cameron and Trivedi, 1990): where it is not small, standard errors are "
        "too small, and negative-binomial-regression is what to ask for. " + LIMITS
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "poisson-regression"
inputs = [
    { dataset = "north", columns = ["visits", "income", "chronic", "years"] },
    { dataset = "south", columns = ["visits", "income", "chronic", "years"] },
]
parameters = { target = "visits", exposure = "years" }
"""

    def of_target(self, target: ColumnTerms, parameters: Any) -> Mapping[str, Feature]:
        """See `GeneralisedLinear.of_target`: with what the saturated model is made of."""
        low, high = bounds(target)
        return {
            **super().of_target(target, parameters),
            _LOG: logarithm_of(target),
            # It falls as y grows.
            _BEST: number_of(target, _saturated, float(_saturated(high)), float(_saturated(low))),
        }

    def model(self, rows: Rows, parameters: Any) -> Counts:
        """See `GeneralisedLinear.model`."""
        del parameters
        return Counts(*self.counts(rows), None, rows.present)

    def besides(self, model: Counts, fit: Any, rows: Rows) -> Mapping[str, Any]:
        """See `GeneralisedLinear.besides`."""
        part = DIGITS / rows.count
        return {
            **super().besides(model, fit, rows),
            "deviance": rows.weighted(_above(model, fit, natural(rows.target[_LOG]))).sum() / rows.count,
            "saturated": rows.weighted(natural(rows.target[_BEST])).sum() * part,
            "overdispersion": model.moment(fit) * model.per * (1 / unit_of(rows.target[""].scale)),
        }

    def fitted(self, found: Found, parameters: Any) -> Mapping[str, Plain]:
        """See `GeneralisedLinear.fitted`."""
        mean, part = mean_of(found), DIGITS / found.count
        deviance = 2 * mean * found.weights * found.number("deviance") / part
        saturated = found.number("saturated") / part * found.weights
        return {
            **super().fitted(found, parameters),
            "deviance": deviance,
            "log_likelihood": saturated - deviance / 2,
            "overdispersion": found.number("overdispersion"),
        }

    def told(self) -> Mapping[str, str]:
        """See `GeneralisedLinear.told`."""
        return {
            **super().told(),
            "deviance": "twice what the log-likelihood falls short of that of a mean of its own for each row",
            "log_likelihood": "the logarithm of the likelihood",
            "overdispersion": "alpha of a variance of m + alpha m^2, by the method of moments; at least 0",
        }


def _above(model: Counts, fit: Fit, log: Any) -> Any:
    """y ln(y / m) - y + m, (n,), times `DIGITS`: half a row's deviance.

    With e = 1 - y / m it is e^2 m times a function of e, which takes its place where e is small: where counts
    are large the deviance is many times less than what it is the difference of.

    Args:
        log: (n,), of the counts as they are.
    """
    import torch

    slope: Any = fit.point.slope
    damped: Any = fit.point.information.reciprocal()
    rest = slope * damped
    fine = slope * math.sqrt(DIGITS)
    near = fine * fine * damped * quintic(rest, _SERIES)
    # One logarithm's rounding would be in all rows alike: these are of many multiples, and not divided yet.
    level = torch.log(model.mean * torch.from_numpy(_MULTIPLES)).sum() - float(
        np.log(_MULTIPLES * DIGITS).sum()
    )
    far = (model.y * (log - fit.predictor) - model.y * level * (1 / len(_MULTIPLES)) + slope) * DIGITS
    return near + (rest * rest).gt(_FEW**2) * (free(far) - free(near))


def _saturated(y: Any) -> Any:
    """The log-likelihood of one count whose mean it is."""
    from scipy.special import gammaln, xlogy

    return xlogy(y, y) - y - gammaln(np.asarray(y) + 1)


ANALYSIS: Final = PoissonRegression()
