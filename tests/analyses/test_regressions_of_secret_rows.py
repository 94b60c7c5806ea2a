"""Regressions of rows in common that nobody knows: what is not in common changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

import mpcpriv.engine
from mpcpriv import analyses
from mpcpriv.analyses import newton
from mpcpriv.errors import UsageError
from mpcpriv.party.planning import plan_job
from mpcpriv.release import read_result
from tests.analyses.answers import plain
from tests.analyses.test_generalised_linear import CASES, POISSON, Case, agrees
from tests.protocol.job_cases import Case as JobCase
from tests.protocol.job_cases import case
from tests.protocol.parties import outcomes

OWNERS = ("alice", "bob")
BESIDES = {"alice": 40, "bob": 25}
"""How many rows each has that are not in common."""
OPEN: Mapping[str, Any] = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}


def study(folder: Path, one: Case, **options: Any) -> JobCase:
    """Bob has the target and every second other column; rows not in common hold the ends of agreed bounds."""
    analysis, frame, terms, parameters = one.job()
    rows, rng = len(one.table), np.random.default_rng(3)
    his = {one.target, *one.explaining[1::2]}
    tables: dict[str, dict[str, np.ndarray]] = {}
    columns = {}
    for owner in OWNERS:
        mine = [term for term in terms if (term["name"] in his) == (owner == "bob")]
        order, more = rng.permutation(rows + BESIDES[owner]), BESIDES[owner]
        tables[owner] = {
            "person": np.array([f"{i}" for i in range(rows)] + [f"{owner} {i}" for i in range(more)])[order]
        }
        for term in mine:
            ends = (0, 1) if term["type"] == "boolean" else (term["low"], term["high"])
            whole = np.concatenate([frame[term["name"]], rng.choice(ends, more)])[order]
            tables[owner][term["name"]] = whole if term["type"] == "number" else whole.astype(np.int64)
        columns[owner] = [*map(dict, mine), {"name": "person", "type": "identifier"}]
    keys = {f"{owner}-rows": [{"column": "person"}] for owner in OWNERS}
    alignment = {"name": "people", "keys": keys, "mode": "secret"}
    options = {"privacy": OPEN} | options
    return case(folder, tables, columns, analysis, parameters, parties=OWNERS, alignment=alignment, **options)


def answer(one: JobCase, rows: int) -> Any:
    """What the recipient is told; it costs what was planned."""
    admitted = one.admitted()
    results, failed = outcomes([*(one.program(name).run for name in OWNERS), mpcpriv.engine.deal])
    if failed:
        raise results[failed[0]]
    reports = results[:-1]
    plan = plan_job(admitted, {f"{owner}-rows": rows + BESIDES[owner] for owner in OWNERS}).cost
    assert [report.rounds for report in reports] == [plan.rounds] * 2
    assert [report.sent for report in reports] == [sum(row) for row in plan.sent]
    shares = [report.share for report in reports]
    analysis = analyses.find(one.job.job.analysis)
    return read_result(admitted, analysis, reports[0].rows, reports[0].layout, shares).answer


def fewer(name: str, rows: int) -> Case:
    """A case of some of its rows."""
    one = CASES[name]
    return replace(one, table=one.table.iloc[:: max(len(one.table) // rows, 1)].reset_index(drop=True))


JOINED = {
    "poisson randhie": 500,
    "poisson fair": 400,
    "poisson star98": 303,
    "negative binomial randhie": 500,
    "negative binomial fair": 400,
    "negative binomial star98": 303,
    "gamma scotland": 32,
    "gamma diabetes": 442,
    "gamma cancer": 300,
}
QUICK = {"poisson randhie", "negative binomial star98", "gamma cancer"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in JOINED]
)
def test_of_rows_in_common_as_statsmodels_has_them(tmp_path: Path, name: str) -> None:
    one = fewer(name, JOINED[name])
    found, expected = answer(study(tmp_path, one), len(one.table)), one.reference()
    agrees(found, expected, one.explaining, 2e-3 if name == "gamma scotland" else 1e-3)
    assert found["rows"] == len(one.table)
    assert found["residual_degrees"] == expected.df_resid
    many = len(one.table) * max(1, 5 / one.parameters.get("alpha", 5))
    assert found["deviance"] == pytest.approx(expected.deviance, rel=1e-3, abs=2e-5 * many)
    if "log_likelihood" in found:
        assert found["log_likelihood"] == pytest.approx(expected.llf, rel=1e-3)
    if "dispersion" in found:
        assert found["dispersion"] == pytest.approx(expected.scale, rel=1e-3)
    if "mean" in found:
        assert found["mean"] == pytest.approx(one.table[one.target].mean(), rel=1e-3)


def test_alpha_is_estimated_of_rows_in_common(tmp_path: Path) -> None:
    one = replace(fewer("negative binomial randhie", 250), parameters={})
    found = answer(study(tmp_path, one), len(one.table))
    y = one.table[one.target].to_numpy(float)
    x = sm.add_constant(one.table[one.explaining].to_numpy(float), prepend=False)
    mean = sm.GLM(y, x, POISSON).fit(tol=1e-12).mu
    alpha = (((y - mean) ** 2 - y).sum()) / (mean @ mean)
    assert found["alpha"] == pytest.approx(alpha, rel=1e-3)
    agrees(found, sm.GLM(y, x, sm.families.NegativeBinomial(alpha=alpha)).fit(), one.explaining, 1e-3)


@pytest.mark.parametrize(
    ("name", "left_out"),
    [*((name, ()) for name in CASES), *((name, ("alpha",)) for name in CASES if "negative" in name)],
)
def test_rows_that_are_not_there_change_nothing(name: str, left_out: tuple[str, ...]) -> None:
    """To the last digits of float64: in fixed point what they add could hide in rounding."""
    analysis, frame, terms, parameters = CASES[name].job()
    parameters = {key: value for key, value in parameters.items() if key not in left_out}
    known = plain(analysis, frame, terms, parameters)
    hidden = plain(analysis, frame, terms, parameters, absent=len(frame[terms[0]["name"]]))
    assert hidden.keys() == known.keys()
    for what, value in known.items():
        if isinstance(value, str) or (isinstance(value, list) and isinstance(value[0], str)):
            assert hidden[what] == value
        else:
            np.testing.assert_allclose(hidden[what], value, rtol=1e-6, atol=1e-9, err_msg=what)


@pytest.mark.parametrize("offset", [7.0, -7.0])
@pytest.mark.parametrize(
    "analysis", ["poisson-regression", "gamma-regression", "negative-binomial-regression"]
)
def test_an_offset_far_from_the_middle_of_its_bounds(analysis: str, offset: float) -> None:
    """Of rows that are not there it is the middle: it neither moves the level nor leaves the range."""
    rng = np.random.default_rng(8)
    x, much = rng.normal(size=300).clip(-3, 3), offset + rng.uniform(-0.5, 0.5, 300)
    y = rng.poisson(3 * np.exp(0.4 * x + much - offset)) + 1.0
    frame = {"x": x, "much": much, "y": y}
    terms = [
        {"name": "x", "type": "number", "low": -4.0, "high": 4.0},
        {"name": "much", "type": "number", "low": -8.0, "high": 8.0},
        {"name": "y", "type": "number", "low": 0.5, "high": 60.0},
    ]
    parameters = {"target": "y", "offset": "much"}
    if analysis == "negative-binomial-regression":
        parameters |= {"alpha": 0.5}  # type: ignore[dict-item]
    known = plain(analysis, frame, terms, parameters)
    hidden = plain(analysis, frame, terms, parameters, absent=900)
    assert known["converged"] == hidden["converged"] == 1
    np.testing.assert_allclose(hidden["estimate"], known["estimate"], rtol=1e-6)
    np.testing.assert_allclose(hidden["standard_error"], known["standard_error"], rtol=1e-6)


@pytest.mark.parametrize("name", ["poisson star98", "gamma diabetes"])
def test_rows_that_are_not_there_are_harmless_where_they_are_computed(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Offset 0 and the target as predicted: whether one left its range or settled does not tell of them."""
    analysis, frame, terms, parameters = CASES[name].job()
    rows, seen, genuine = len(frame[terms[0]["name"]]), [], newton.minimise

    def minimise(x: Any, variance: Any, model: Any, offset: Any, *rest: Any) -> Any:
        def dispersion(point: Any, weights: Any, degrees: Any) -> Any:
            seen.append(float(degrees))
            return plainly(point, weights, degrees)

        plainly = model.dispersion
        model.dispersion = dispersion
        if name == "poisson star98":
            assert (offset[rows:] == 0).all()
            assert abs(float(offset[:rows].mean())) < 1e-9
            assert (model.y[rows:] == 1).all()
        else:
            assert (model.log[rows:] == 0).all()
        return genuine(x, variance, model, offset, *rest)

    monkeypatch.setattr(newton, "minimise", minimise)
    found = plain(analysis, frame, terms, parameters, absent=rows)
    assert seen == [found["residual_degrees"]]


@pytest.mark.parametrize(
    ("analysis", "slope", "seed"), [("poisson-regression", 0.5, 0), ("gamma-regression", 2.0, 2)]
)
def test_whether_it_converged_is_of_rows_that_are_there(analysis: str, slope: float, seed: int) -> None:
    """Where a row far out holds steps up, others would have it settle sooner, were they counted."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(1.5, 60).clip(-8, 8)
    mean = np.exp((slope * x).clip(-6, 6))
    y = (
        rng.poisson(mean).astype(float)
        if analysis == "poisson-regression"
        else mean * rng.gamma(1, 1, 60) + 1e-3
    )
    terms = [
        {"name": "x", "type": "number", "low": -8.0, "high": 8.0},
        {"name": "y", "type": "number", "low": y.min() / 2, "high": float(y.max())},
    ]
    known, hidden = (
        [
            plain(analysis, {"x": x, "y": y}, terms, {"target": "y", "steps": steps}, absent=absent)[
                "converged"
            ]
            for steps in range(2, 9)
        ]
        for absent in (0, 1800)
    )
    assert known == hidden
    assert {0, 1} == set(known)


def test_a_count_of_few_in_common_withholds_the_result(tmp_path: Path) -> None:
    """Few of those in common have a count of 4; with those that are not in common there are many."""
    rng = np.random.default_rng(2)
    one = CASES["poisson randhie"]
    y = np.repeat([0.0, 1.0, 2.0, 3.0, 4.0], [20, 20, 15, 12, 3])
    table = replace(
        one,
        table=one.table.iloc[: len(y)].assign(mdvis=y, idp=rng.integers(0, 2, len(y)), one=1),
        explaining=["lncoins", "disea"],
        kinds={"mdvis": {"kind": "integer", "low": 0.0, "high": 4.0}},
        weights=None,
    )
    strict = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 5}
    with pytest.raises(UsageError, match="count of fewer rows than 5"):
        answer(study(tmp_path, table, privacy=strict), len(y))
