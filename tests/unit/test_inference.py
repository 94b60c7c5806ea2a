"""Tests, p-values and intervals of estimates, against scipy.stats."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import stats

from mpcpriv.analyses.inference import coefficient_table, quantile, shown_coefficients, two_sided
from mpcpriv.analyses.shown import Forest, Table
from mpcpriv.errors import UsageError

ESTIMATES, ERRORS = [1.5, -0.2, 40.0], [0.5, 0.3, 2.0]


@pytest.mark.parametrize("degrees", [None, 3, 120])
def test_as_scipy_has_them(degrees: int | None) -> None:
    found: Any = coefficient_table(["intercept", "a", "b"], ESTIMATES, ERRORS, degrees)
    law = stats.norm if degrees is None else stats.t(degrees)
    statistic = np.array(ESTIMATES) / ERRORS
    assert found["statistic"] == pytest.approx(statistic)
    assert found["p_value"] == pytest.approx(2 * law.sf(np.abs(statistic)), rel=1e-9)
    low, high = law.interval(0.95)
    assert found["low"] == pytest.approx(np.array(ESTIMATES) + low * np.array(ERRORS))
    assert found["high"] == pytest.approx(np.array(ESTIMATES) + high * np.array(ERRORS))
    assert quantile(degrees, 0.9) == pytest.approx(law.ppf(0.95))
    assert two_sided(2.0, degrees) == two_sided(-2.0, degrees) == pytest.approx(2 * law.sf(2))


@pytest.mark.parametrize("error", [0.0, -1.0, np.nan, np.inf])
def test_without_a_standard_error_there_is_no_test(error: float) -> None:
    with pytest.raises(UsageError, match="of 'b' there is no standard error"):
        coefficient_table(["a", "b"], [1, 2], [1, error])


def test_what_people_see() -> None:
    told = coefficient_table(["intercept", "a", "b"], ESTIMATES, [0.5, 0.3, 400.0])
    table, plot = shown_coefficients("A model", told, "z", notes=["Of 10 rows."])
    assert isinstance(table, Table)
    assert list(table.columns) == ["", "coef", "std err", "z", "P>|z|", "[0.025", "0.975]"]
    assert isinstance(plot, Forest)
    assert (plot.names, plot.estimates, plot.reference) == (["a", "b"], [-0.2, 40.0], 0.0)
    table, plot = shown_coefficients("A model", told, "z", ratio="odds ratio")
    assert isinstance(table, Table)
    assert isinstance(plot, Forest)
    assert table.columns["odds ratio"][1] == pytest.approx(np.exp(-0.2))
    assert table.columns["odds ratio 0.975]"][2] is None  # beyond float64
    assert (plot.names, plot.reference) == (["a"], 1.0)
