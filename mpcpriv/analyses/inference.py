"""Estimates with their standard errors as statisticians read them: tests, p-values, intervals, one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.analyses.analysis import Answer, Plain
from mpcpriv.analyses.shown import Forest, Shown, Table
from mpcpriv.errors import UsageError

LEVEL: Final = 0.95
"""Of confidence intervals, where nothing else is said."""
INTERCEPT: Final = "intercept"
"""What the term is called that is 1 in each row."""

COEFFICIENTS: Final[Mapping[str, str]] = {
    "terms": "what each coefficient belongs to, in order",
    "estimate": "of each coefficient",
    "standard_error": "of each estimate",
    "statistic": "each estimate, divided by its standard error",
    "p_value": "of the two-sided test that a coefficient is 0",
    "low": "the lower end of a 95 % confidence interval of each coefficient",
    "high": "its upper end",
}
"""What `coefficient_table` returns, for `outputs`."""


def two_sided(statistic: Any, degrees: float | None = None) -> Any:
    """The probability of a statistic as far from 0, or further.

    Args:
        statistic: a number, or an array of them.
        degrees: of freedom of Student's t distribution; None for the standard normal distribution.
    """
    from scipy import special

    below = -np.abs(statistic)
    return 2 * (special.ndtr(below) if degrees is None else special.stdtr(degrees, below))


def quantile(degrees: float | None = None, level: float = LEVEL) -> float:
    """How far from 0 a statistic is with this probability, at most; see `two_sided`."""
    from scipy import special

    above = (1 + level) / 2
    return float(special.ndtri(above) if degrees is None else special.stdtrit(degrees, above))


def coefficient_table(
    names: Sequence[str],
    estimates: Any,
    standard_errors: Any,
    degrees: float | None = None,
    level: float = LEVEL,
) -> dict[str, Plain]:
    """Each estimate with its two-sided test against 0 and its confidence interval.

    Args:
        names: of the d terms.
        estimates, standard_errors: (d,).
        degrees: of freedom of Student's t distribution; None for the standard normal distribution.
        level: of the intervals.

    Returns:
        what `COEFFICIENTS` names, a list of d each: part of an answer.

    Raises:
        UsageError: an estimate is no finite number, or its standard error is not positive: there is no test.
    """
    estimate = np.asarray(estimates, dtype=np.float64)
    error = np.asarray(standard_errors, dtype=np.float64)
    tested = np.isfinite(estimate) & np.isfinite(error) & (error > 0)
    if not tested.all():
        wrong = ", ".join(repr(name) for name, well in zip(names, tested, strict=True) if not well)
        raise UsageError(
            f"of {wrong} there is no standard error: the data leave no residual, or do not determine it; "
            "leave it out, or use more data"
        )
    statistic, margin = estimate / error, quantile(degrees, level) * error
    return {
        "terms": list(names),
        "estimate": estimate.tolist(),
        "standard_error": error.tolist(),
        "statistic": statistic.tolist(),
        "p_value": np.asarray(two_sided(statistic, degrees)).tolist(),
        "low": (estimate - margin).tolist(),
        "high": (estimate + margin).tolist(),
    }


def shown_coefficients(
    title: str, answer: Answer, letter: str = "t", ratio: str = "", notes: Sequence[str] = ()
) -> list[Shown]:
    """A table in the layout of statsmodels and R, and a plot of all coefficients but the intercept.

    Args:
        title: of both.
        answer: what `coefficient_table` returned is in it.
        letter: of the statistic, t or z.
        ratio: what e^coefficient is, as "odds ratio"; the plot is then of these. Empty where it is nothing.
        notes: what stands below the table.
    """
    some: dict[str, Any] = dict(answer)
    names, ends = some["terms"], ["estimate", "low", "high"]
    columns: dict[str, Any] = {
        "": names,
        "coef": some["estimate"],
        "std err": some["standard_error"],
        letter: some["statistic"],
        f"P>|{letter}|": some["p_value"],
        "[0.025": some["low"],
        "0.975]": some["high"],
    }
    shown = {end: np.array(some[end], dtype=np.float64) for end in ends}
    if ratio:
        with np.errstate(over="ignore"):
            shown = {end: np.exp(values) for end, values in shown.items()}
        headings = zip((ratio, f"{ratio} [0.025", f"{ratio} 0.975]"), ends, strict=True)
        columns |= {heading: [_finite(one) for one in shown[end]] for heading, end in headings}
    kept = [
        place
        for place, name in enumerate(names)
        if name != INTERCEPT and all(np.isfinite(shown[end][place]) for end in ends)
    ]
    estimates, low, high = ([float(shown[end][place]) for place in kept] for end in ends)
    reference = 1.0 if ratio else 0.0
    drawn = [names[place] for place in kept]
    plot = Forest(title, ratio or "coefficient", drawn, estimates, low, high, reference)
    return [Table(title, columns, notes), plot]


def _finite(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
