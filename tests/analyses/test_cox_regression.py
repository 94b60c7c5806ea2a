"""Cox regressions against statsmodels, on real tables."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from statsmodels.duration.hazard_regression import PHReg

from mpcpriv.errors import Unsupported, UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.survival import Frame, Terms, loaded
from tests.analyses.tables import OPEN


def rossi() -> tuple[Frame, Terms, int | None]:
    """432 rows, 52 weeks."""
    more = dict.fromkeys(("race", "wexp", "mar", "paro"), "boolean")
    columns = {
        "week": "integer",
        "arrest": "boolean",
        "fin": "boolean",
        "age": "number",
        "prio": "number",
        **more,
    }
    return *loaded("rossi", columns), None


def larynx() -> tuple[Frame, Terms, int | None]:
    """90 rows; times in tenths of years."""
    stages = dict.fromkeys(("Stage_II", "Stage_III", "Stage_IV"), "boolean")
    return *loaded("larynx", {"time": "number", "death": "boolean", "age": "number", **stages}), 110


def breast_cancer() -> tuple[Frame, Terms, int | None]:
    """686 rows; times in hundredths of what they go up to; skewed columns."""
    more = dict.fromkeys(("age", "tsize", "pnodes", "progrec", "estrec"), "number")
    return *loaded("gbsg2", {"time": "number", "cens": "boolean", **more}), 100


TABLES = pytest.mark.parametrize("load", [rossi, larynx, breast_cancer])


def parameters(terms: Terms, intervals: int | None, **more: Any) -> dict[str, Any]:
    found = {"time": terms[0]["name"], "event": terms[1]["name"], **more}
    return found if intervals is None else {**found, "intervals": intervals}


def reference(frame: Frame, terms: Terms, intervals: int | None) -> Any:
    time, event, *columns = [frame[one["name"]] for one in terms]
    if intervals is not None:
        step = (terms[0]["high"] - terms[0]["low"]) / intervals
        time = terms[0]["low"] + step * np.maximum(np.ceil((time - terms[0]["low"]) / step - 1e-9), 1)
    model = PHReg(time, np.column_stack(columns), status=event, ties="breslow")
    return model, model.fit()


def as_statsmodels(
    found: dict[str, Any], frame: Frame, terms: Terms, intervals: int | None, within: float
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, fitted = reference(frame, terms, intervals)
    assert found["converged"] == 1
    assert found["terms"] == [one["name"] for one in terms[2:]]
    # A small coefficient is a difference of large sums: to a thousandth of its standard error.
    assert np.abs((np.array(found["estimate"]) - fitted.params) / fitted.bse).max() < within
    assert found["standard_error"] == pytest.approx(fitted.bse, rel=within)
    assert found["p_value"] == pytest.approx(fitted.pvalues, abs=within)
    assert np.log(found["p_value"]) == pytest.approx(np.log(fitted.pvalues), abs=10 * within)
    assert np.column_stack([found["low"], found["high"]]) == pytest.approx(
        fitted.conf_int(), rel=within, abs=within * max(fitted.bse)
    )
    covariance = np.reshape(found["covariance"], fitted.cov_params().shape)
    assert covariance == pytest.approx(fitted.cov_params(), rel=within, abs=within * max(fitted.bse) ** 2)
    ratio = 2 * (fitted.llf - model.loglike(np.zeros(len(fitted.params))))
    assert found["likelihood_ratio"] == pytest.approx(ratio, rel=within, abs=within)


BY_ROWS = {larynx}
"""By columns the others: how those are put together, the analysis does not see (`test_split.py`)."""


@pytest.mark.parametrize(
    ("load", "split"),
    [
        pytest.param(
            load, split, marks=[] if (load in BY_ROWS) == (split is split_by_rows) else [pytest.mark.slow]
        )
        for load in (rossi, larynx, breast_cancer)
        for split in (split_by_rows, split_by_columns)
    ],
)
def test_as_statsmodels_has_it(tmp_path: Path, load: Callable[[], Any], split: Callable[..., Any]) -> None:
    frame, terms, intervals = load()
    # The stages of the larynx table are yes-or-nos that exclude each other.
    options: dict[str, Any] = {"privacy": OPEN if load is larynx else None}
    if split is split_by_columns:
        options["alice"] = [one["name"] for one in terms[:4]]
    found = split(tmp_path, "cox-regression", frame, terms, parameters(terms, intervals), **options)
    as_statsmodels(found, frame, terms, intervals, 1e-3)


@TABLES
def test_in_plain(load: Callable[[], Any]) -> None:
    frame, terms, intervals = load()
    found = plain("cox-regression", frame, terms, parameters(terms, intervals, steps=20))
    as_statsmodels(found, frame, terms, intervals, 1e-6)


def test_what_is_refused(tmp_path: Path) -> None:
    frame, terms, _ = rossi()
    given = parameters(terms, None)
    with pytest.raises(UsageError, match="tables of two owners"):
        split_by_columns(tmp_path, "cox-regression", frame, terms, given, alice=["week", "fin"])
    with pytest.raises(UsageError, match="must be a boolean"):
        plain("cox-regression", frame, terms, {**given, "event": "age"})
    with pytest.raises(UsageError, match="name columns for time, event"):
        plain("cox-regression", frame, terms[:2], given)
    same = {**frame, "mar": frame["fin"]}
    with pytest.raises(UsageError, match="do not determine the coefficients"):
        plain("cox-regression", same, terms, given)
    with pytest.raises(UsageError, match="do not determine the coefficients"):
        plain("cox-regression", {**frame, "arrest": np.zeros(432)}, terms, given)
    with pytest.raises(Unsupported, match="how much one row can change"):
        split_by_rows(
            tmp_path,
            "cox-regression",
            frame,
            terms,
            given,
            privacy={"mechanism": "discrete-gaussian"},
            budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
            release={"epsilon": 2.0, "delta": 1e-6},
        )


def test_too_few_steps_are_said() -> None:
    frame, terms, intervals = larynx()
    assert plain("cox-regression", frame, terms, parameters(terms, intervals, steps=2))["converged"] == 0
