"""Linear regression against statsmodels, on real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.query import Noised
from mpcpriv.analyses.shown import Forest, Table
from mpcpriv.errors import Unsupported, UsageError
from tests.analyses.answers import column, plain, split_by_columns, split_by_rows
from tests.analyses.tables import OPEN, card, diabetes, longley, visits, with_terms

NAME = "linear-regression"
TABLES = pytest.mark.parametrize(
    ("load", "target"), [(diabetes, "target"), (card, "AVGEXP"), (visits, "mdvis"), (longley, "TOTEMP")]
)
NOISED = {
    "privacy": {"mechanism": "discrete-gaussian"},
    "budget": {"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
    "release": {"epsilon": 6.0, "delta": 1e-6},
}


def reference(frame: dict[str, np.ndarray], found: dict[str, Any], target: str) -> Any:
    """Statsmodels' answer, its terms in the order of ours."""
    features = np.column_stack([frame[name] for name in found["terms"][1:]])
    return sm.OLS(frame[target].astype(float), sm.add_constant(features, has_constant="add")).fit()


def compared(found: dict[str, Any], model: Any, tolerance: float) -> None:
    """Coefficients relative to their standard errors, which are what makes a difference of them matter."""
    errors = np.array(model.bse)
    assert np.abs((np.array(found["estimate"]) - model.params) / errors).max() < tolerance
    assert found["standard_error"] == pytest.approx(errors, rel=tolerance)
    assert found["statistic"] == pytest.approx(model.tvalues, rel=tolerance, abs=tolerance)
    assert found["p_value"] == pytest.approx(model.pvalues, abs=tolerance)
    small = model.pvalues < 1e-3
    assert np.log(np.array(found["p_value"])[small]) == pytest.approx(
        np.log(model.pvalues[small]), rel=10 * tolerance
    )
    low, high = model.conf_int().T
    assert np.abs((np.array(found["low"]) - low) / errors).max() < 2 * tolerance
    assert np.abs((np.array(found["high"]) - high) / errors).max() < 2 * tolerance
    scalars = {
        "r_squared": model.rsquared,
        "adjusted_r_squared": model.rsquared_adj,
        "residual_error": np.sqrt(model.scale),
        "f_statistic": model.fvalue,
        "log_likelihood": model.llf,
        "aic": model.aic,
        "bic": model.bic,
        "condition": model.condition_number,
    }
    for name, expected in scalars.items():
        assert found[name] == pytest.approx(expected, rel=tolerance), name
    assert found["f_p_value"] == pytest.approx(model.f_pvalue, abs=tolerance)
    assert (found["degrees"], found["rows"]) == (model.df_resid, model.nobs)


@TABLES
def test_rows_split(tmp_path: Path, load: Callable[[], Any], target: str) -> None:
    frame, terms = load()
    privacy = OPEN if load is visits else None
    found = split_by_rows(tmp_path, NAME, frame, terms, {"target": target}, privacy=privacy)
    compared(found, reference(frame, found, target), 1e-6 if load is not longley else 1e-5)
    oracle = plain(NAME, frame, terms, {"target": target})
    assert found["estimate"] == pytest.approx(oracle["estimate"], rel=1e-12)


@TABLES
def test_columns_split(tmp_path: Path, load: Callable[[], Any], target: str) -> None:
    frame, terms = load()
    privacy = OPEN if load is visits else None
    found = split_by_columns(tmp_path, NAME, frame, terms, {"target": target}, privacy=privacy)
    # Sixteen rows whose columns explain each other but for a thousandth: 2^-19 of the bounds is seen there.
    compared(found, reference(frame, found, target), 1e-3 if load is not longley else 1e-1)
    oracle = plain(NAME, frame, terms, {"target": target}, shares=True)
    assert set(oracle) == set(found)
    assert oracle["r_squared"] == pytest.approx(found["r_squared"], abs=1e-4)


def test_categories_are_compared_with_the_first(tmp_path: Path) -> None:
    frame, terms = diabetes()
    frame = {"target": frame["target"], "size": np.digitize(frame["bmi"], [22, 27])}
    words = {"name": "size", "type": "category", "categories": ["light", "middle", "heavy"]}
    found = split_by_rows(tmp_path, NAME, frame, [terms[-1], words], {"target": "target"})
    assert found["terms"] == ["intercept", "size[middle]", "size[heavy]"]
    groups = [frame["target"][frame["size"] == code] for code in range(3)]
    assert found["estimate"][0] == pytest.approx(groups[0].mean(), rel=1e-6)
    assert found["estimate"][2] == pytest.approx(groups[2].mean() - groups[0].mean(), rel=1e-6)


def test_variance_inflation(tmp_path: Path) -> None:
    from statsmodels.stats.outliers_influence import variance_inflation_factor

    frame, terms = card()
    found = plain(NAME, frame, terms, {"target": "AVGEXP"})
    features = sm.add_constant(np.column_stack([frame[name] for name in found["terms"][1:]]))
    expected = [variance_inflation_factor(features, place) for place in range(1, features.shape[1])]
    assert found["inflation"] == pytest.approx(expected, rel=1e-5)


def collinear() -> Any:
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=200), rng.normal(size=200)
    return with_terms({"a": a, "b": b, "both": a + 2 * b, "y": a + rng.normal(size=200)})


@pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
def test_a_column_that_follows_from_others_is_named(tmp_path: Path, split: Callable[..., Any]) -> None:
    frame, terms = collinear()
    with pytest.raises(UsageError, match=r"column '(b|both)' follows from 'a', '(b|both)'; leave one"):
        split(tmp_path, NAME, frame, terms, {"target": "y"})


@pytest.mark.parametrize("shares", [False, True])
def test_what_has_no_regression_is_refused(shares: bool) -> None:
    def refused(frame: Any, match: str, target: str = "y", **kinds: str) -> None:
        columns, terms = with_terms({name: np.array(one, float) for name, one in frame.items()}, kinds)
        with pytest.raises(UsageError, match=match):
            plain(NAME, columns, terms, {"target": target}, shares=shares)

    x = [1.0, 2, 3, 4.5, 7, 1]
    refused({"x": x, "y": [2 * one + 1 for one in x]}, "column 'y' follows from 'x'")
    refused({"x": x, "ill": [0.0] * 6, "y": x}, "column 'ill' is constant", ill="boolean")
    refused({"x": x, "y": x}, "target 'z' is none of the columns x, y", target="z")
    refused({"y": x}, "there is no column but the target")
    refused({"x": [1.0, 2], "y": [1.0, 3]}, "2 rows, and 2 coefficients")
    terms = [{"name": "c", "type": "category", "categories": ["a", "b"]}, column("x", np.array(x))]
    with pytest.raises(UsageError, match="target 'c' is a category"):
        plain(NAME, {"c": np.zeros(6), "x": np.array(x)}, terms, {"target": "c"}, shares=shares)


def test_what_people_see() -> None:
    frame, terms = diabetes()
    analysis: Any = analyses.find(NAME)
    summary, table, plot = analysis.show(plain(NAME, frame, terms, {"target": "target"}))
    assert isinstance(summary, Table)
    assert isinstance(table, Table)
    assert isinstance(plot, Forest)
    assert summary.columns["value"][summary.columns[""].index("R-squared")] == pytest.approx(0.5177, abs=1e-4)
    assert list(table.columns)[:7] == ["", "coef", "std err", "t", "P>|t|", "[0.025", "0.975]"]
    assert plot.names == [name for name in frame if name != "target"]


def test_noise(tmp_path: Path) -> None:
    frame, terms = visits()
    some = {name: frame[name] for name in ("mdvis", "disea")}
    few = [one for one in terms if one["name"] in some]
    found = split_by_rows(tmp_path, NAME, some, few, {"target": "mdvis"}, **NOISED)
    model = reference(frame, found, "mdvis")
    assert found["penalty"] == 0
    off = np.abs(np.array(found["estimate"]) - model.params)
    assert off.max() > 0
    assert (off < 6 * np.array(found["noise"])).all()
    assert (np.array(found["standard_error"]) > model.bse).all()
    assert (np.array(found["noise"]) < found["standard_error"]).all()
    with pytest.raises(Unsupported, match="columns are split"):
        split_by_columns(tmp_path, NAME, some, few, {"target": "mdvis"}, **NOISED)


def test_noise_that_is_too_wide(tmp_path: Path) -> None:
    frame, terms = card()
    found = split_by_rows(tmp_path, NAME, frame, terms, {"target": "AVGEXP"}, **NOISED)
    assert found["penalty"] > 0
    assert "standard_error" not in found
    analysis: Any = analyses.find(NAME)
    (table,) = analysis.show(found)
    assert list(table.columns) == ["", "coef"]


@pytest.mark.parametrize(("rows", "spread", "sigma"), [(1500, 0.4, 0.3), (1500, 0.4, 2.0), (1500, 0.2, 0.5)])
def test_intervals_hold_sample_and_noise(rows: int, spread: float, sigma: float) -> None:
    """Of 300 samples with noise, 95 % of intervals have the true coefficients in them."""
    rng = np.random.default_rng(7)
    analysis: Any = analyses.find(NAME)
    bounds = {"a": (-1.0, 1.0), "b": (-10.0, 10.0), "y": (-5.0, 6.0)}
    terms = {
        name: ColumnTerms(name=name, type="number", low=low, high=high)
        for name, (low, high) in bounds.items()
    }
    asked = analyses.Asked(
        analysis.parameters(target="y"), {"rows": Outline(rows, "patient", terms)}, epsilon=1.0
    )
    query = analysis.query(asked)
    deviation = sigma * np.sqrt(query.sensitivity().l2_squared)
    true, hits = np.array([0.5, 1.0, -0.05]), np.zeros(3)
    for _ in range(300):
        a = np.clip(rng.normal(0.1, spread, rows), -1, 1)
        b = 10 * np.clip(rng.normal(0, spread, rows) + a / 2, -1, 1)
        y = true[0] + true[1] * a + true[2] * b + rng.normal(0, 0.4, rows)
        total = query.total({"a": a, "b": b, "y": y}) + np.rint(rng.normal(0, deviation, query.size)).astype(
            int
        )
        found = query.read(Noised(total, deviation))
        assert found["penalty"] == 0
        hits += (np.array(found["low"]) < true) & (true < np.array(found["high"]))
    # Three standard deviations of a share of 95 % in 300 are 3.8 %.
    assert (hits / 300 > 0.91).all()
    assert (hits / 300 < 0.995).all()
