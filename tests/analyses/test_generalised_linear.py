"""Generalised linear models against statsmodels, on real tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from sklearn.datasets import load_breast_cancer, load_diabetes
from statsmodels.datasets import cpunish, engel, fair, randhie, scotland, star98

from mpcpriv import analyses
from mpcpriv.analyses import newton
from mpcpriv.analyses.counts import Counts
from mpcpriv.analyses.shown import Forest, Table
from mpcpriv.errors import UsageError
from tests.analyses.answers import column, plain, split_by_columns, split_by_rows

POISSON, BINOMIAL = sm.families.Poisson(), sm.families.Binomial()
GAMMA = sm.families.Gamma(sm.families.links.Log())


@dataclass(frozen=True)
class Case:
    """A table, the job on it, and statsmodels' family."""

    analysis: str
    family: Any
    table: pd.DataFrame
    target: str
    explaining: list[str]
    kinds: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    exposure: str | None = None
    weights: str | None = None

    def job(self) -> tuple[str, dict[str, np.ndarray], list[dict[str, Any]], dict[str, Any]]:
        roles = {"target": self.target, "exposure": self.exposure, "weights": self.weights}
        named = {role: name for role, name in roles.items() if name}
        names = [*self.explaining, *named.values()]
        frame = {name: self.table[name].to_numpy(dtype=float) for name in names}
        terms = [column(name, frame[name], **self._terms(name, frame[name])) for name in names]
        return self.analysis, frame, terms, {**named, **self.parameters}

    def _terms(self, name: str, values: np.ndarray) -> Mapping[str, Any]:
        if name in self.kinds:
            return self.kinds[name]
        return {"kind": "boolean"} if set(np.unique(values)) <= {0.0, 1.0} else {}

    def reference(self) -> Any:
        given: dict[str, Any] = {}
        if self.exposure:
            given["exposure"] = self.table[self.exposure].to_numpy(dtype=float)
        if self.weights:
            given["var_weights"] = self.table[self.weights].to_numpy(dtype=float)
        x = sm.add_constant(self.table[self.explaining].to_numpy(dtype=float), prepend=False)
        model = sm.GLM(self.table[self.target].to_numpy(dtype=float), x, self.family, **given)
        return model.fit(tol=1e-12, maxiter=200)


def _cases() -> dict[str, Case]:
    visits = randhie.load_pandas().data.iloc[::40].reset_index(drop=True)
    visits["weight"] = np.arange(len(visits)) % 5 + 1
    affairs = fair.load_pandas().data.iloc[::15].reset_index(drop=True)
    affairs["any"] = (affairs["affairs"] > 0).astype(float)
    punished = cpunish.load_pandas().data
    schools = star98.load_pandas().data
    schools["pupils"] = schools["NABOVE"] + schools["NBELOW"]
    earned = engel.load_pandas().data
    taxes = scotland.load_pandas().data
    people = load_diabetes(as_frame=True, scaled=False).frame
    tumours = load_breast_cancer(as_frame=True).frame
    tumours["weight"] = np.arange(len(tumours)) % 5 + 1
    said, counts = ["lncoins", "idp", "physlm", "disea"], {"kind": "integer", "low": 0.0, "high": 80.0}
    of_affairs = [name for name in affairs.columns if name not in ("affairs", "any")]
    of_schools = ["LOWINC", "PERASIAN", "PERBLACK", "PERHISP", "PERMINTE", "PCTYRRND"]
    many = {"NABOVE": {"kind": "integer", "low": 0.0, "high": 10_000.0}, "pupils": {"low": 20.0, "high": 4e4}}
    once = {"mdvis": counts}
    shape = ["mean texture", "mean smoothness", "mean concavity", "mean symmetry"]
    times = {"weight": {"kind": "integer", "low": 1.0, "high": 5.0}}
    amount = {"mean area": {"low": 100.0, "high": 3000.0}}
    poisson, gamma, logistic = "poisson-regression", "gamma-regression", "logistic-regression"
    binomial = "negative-binomial-regression"
    two, five, small = (sm.families.NegativeBinomial(alpha=one) for one in (1.3, 5.0, 0.05))
    free = {"penalty": 0.0}
    return {
        "poisson randhie": Case(poisson, POISSON, visits, "mdvis", said, {**once, **times}, weights="weight"),
        "poisson cpunish": Case(
            poisson, POISSON, punished, "EXECUTIONS", list(punished.columns[1:]), {"EXECUTIONS": counts}
        ),
        "poisson star98": Case(poisson, POISSON, schools, "NABOVE", of_schools, many, exposure="pupils"),
        "poisson fair": Case(
            poisson, POISSON, affairs, "affairs", of_affairs, {"affairs": {"low": 0.0, "high": 60.0}}
        ),
        "negative binomial randhie": Case(binomial, two, visits, "mdvis", said, once, {"alpha": 1.3}),
        "negative binomial fair": Case(
            binomial,
            five,
            affairs,
            "affairs",
            of_affairs,
            {"affairs": {"low": 0.0, "high": 60.0}},
            {"alpha": 5.0},
        ),
        "negative binomial star98": Case(
            binomial, small, schools, "NABOVE", of_schools, many, {"alpha": 0.05}, exposure="pupils"
        ),
        # Where counts are large, the variance is alpha's, and 1 in each 1 + alpha m is lost among digits.
        "negative binomial income": Case(
            binomial,
            two,
            earned,
            "foodexp",
            ["income"],
            {"foodexp": {"low": 200.0, "high": 2100.0}},
            {"alpha": 1.3},
        ),
        "gamma engel": Case(
            gamma, GAMMA, earned, "foodexp", ["income"], {"foodexp": {"low": 200.0, "high": 2100.0}}
        ),
        "gamma scotland": Case(
            gamma, GAMMA, taxes, "YES", list(taxes.columns[1:]), {"YES": {"low": 30.0, "high": 90.0}}
        ),
        "gamma diabetes": Case(
            gamma,
            GAMMA,
            people,
            "target",
            ["age", "bmi", "bp", "s1", "s5"],
            {"target": {"low": 20.0, "high": 400.0}},
        ),
        "gamma cancer": Case(
            gamma, GAMMA, tumours, "mean area", shape, {**amount, **times}, weights="weight"
        ),
        "logistic fair": Case(logistic, BINOMIAL, affairs, "any", of_affairs, {}, free),
        "logistic cancer": Case(
            logistic, BINOMIAL, tumours, "target", [*shape[:2], "mean symmetry", "mean area"], {}, free
        ),
        "logistic randhie": Case(
            logistic, BINOMIAL, visits.assign(any=(visits.mdvis > 0) * 1.0), "any", said, {}, free
        ),
    }


CASES = _cases()


def agrees(found: Mapping[str, Any], expected: Any, names: list[str], error: float) -> None:
    order = [found["terms"].index(name) for name in [*names, "intercept"]]
    estimate, spread, p = (np.array(found[what])[order] for what in ("estimate", "standard_error", "p_value"))
    # A small coefficient is a difference of large ones: it is held to its standard error.
    assert (
        np.abs(estimate - expected.params) / np.maximum(np.abs(expected.params), expected.bse)
    ).max() < error
    assert np.abs(spread / expected.bse - 1).max() < error
    assert np.abs(p - expected.pvalues).max() < error
    covariance = np.reshape(found["covariance"], (len(order), -1))[np.ix_(order, order)]
    size = np.outer(expected.bse, expected.bse)
    assert np.abs((covariance - expected.cov_params()) / size).max() < 2 * error
    assert found["converged"] == 1


BY_COLUMNS = {"poisson randhie", "negative binomial fair", "gamma scotland", "logistic cancer"}
"""One case of each analysis; the others by rows: how tables are put together, it does not see."""
BOTH = [
    pytest.param(
        name,
        split,
        id=f"{name}-{said}",
        marks=[] if (name in BY_COLUMNS) == (split is split_by_columns) else [pytest.mark.slow],
    )
    for split, said in ((split_by_rows, "rows"), (split_by_columns, "columns"))
    for name in CASES
]


@pytest.mark.parametrize(("name", "split"), BOTH)
def test_as_statsmodels_has_them(tmp_path: Path, name: str, split: Callable[..., Any]) -> None:
    one = CASES[name]
    found, expected = split(tmp_path, *one.job()), one.reference()
    # Where columns are nearly collinear fixed point loses a digit, by chance some more.
    agrees(found, expected, one.explaining, 2e-3 if name == "gamma scotland" else 1e-3)
    assert found["residual_degrees"] == expected.df_resid
    # Each row has some 1e-5 of error; with a variance of m + alpha m^2, over alpha. Scotland's is 0.09.
    many = len(one.table) * max(1, 5 / one.parameters.get("alpha", 5))
    assert found["deviance"] == pytest.approx(expected.deviance, rel=1e-3, abs=2e-5 * many)
    if "log_likelihood" in found:
        assert found["log_likelihood"] == pytest.approx(expected.llf, rel=1e-3)
    if "dispersion" in found:
        assert found["dispersion"] == pytest.approx(expected.scale, rel=1e-3)


@pytest.mark.parametrize(("alpha", "mean", "error"), [(None, 20_000.0, 6e-3), (1.0, 5000.0, 1e-3)])
def test_large_counts_keep_their_digits(
    tmp_path: Path, alpha: float | None, mean: float, error: float
) -> None:
    """A deviance of 1 is the difference of numbers of 20,000; the other's weights were below 2^-12."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=300).clip(-3, 3)
    true = mean * np.exp(0.5 * x)
    y = rng.poisson(true) if alpha is None else rng.negative_binomial(1 / alpha, 1 / (1 + alpha * true))
    table = pd.DataFrame({"x": x, "y": y.astype(float)})
    kinds = {"y": {"kind": "integer", "low": 0.0, "high": float(y.max())}}
    if alpha is None:
        one = Case("poisson-regression", POISSON, table, "y", ["x"], kinds)
    else:
        family = sm.families.NegativeBinomial(alpha=alpha)
        one = Case("negative-binomial-regression", family, table, "y", ["x"], kinds, {"alpha": alpha})
    found, expected = split_by_rows(tmp_path, *one.job()), one.reference()
    agrees(found, expected, ["x"], 5e-3 if alpha is None else 1e-3)
    assert found["deviance"] == pytest.approx(expected.deviance, rel=error)


@pytest.mark.parametrize("name", CASES)
def test_in_plain_it_is_the_same(name: str) -> None:
    one = CASES[name]
    found, expected = plain(*one.job()), one.reference()
    agrees(found, expected, one.explaining, 1e-6)
    assert found["deviance"] == pytest.approx(expected.deviance, rel=1e-6, abs=1e-6 * len(one.table))


@pytest.mark.parametrize("split", [pytest.param(split_by_rows, marks=pytest.mark.slow), split_by_columns])
def test_alpha_by_the_method_of_moments(tmp_path: Path, split: Callable[..., Any]) -> None:
    one = CASES["negative binomial randhie"]
    analysis, frame, terms, parameters = one.job()
    found = split(tmp_path, analysis, frame, terms, {"target": parameters["target"]})
    y, x = frame["mdvis"], sm.add_constant(np.column_stack([frame[n] for n in one.explaining]), prepend=False)
    mean = sm.GLM(y, x, POISSON).fit(tol=1e-12).mu
    alpha = (((y - mean) ** 2 - y) / mean @ mean) / (mean @ mean)
    assert found["alpha"] == pytest.approx(alpha, rel=1e-3)
    agrees(found, sm.GLM(y, x, sm.families.NegativeBinomial(alpha=alpha)).fit(), one.explaining, 1e-3)
    told = plain("poisson-regression", frame, terms, {"target": "mdvis"})
    assert told["overdispersion"] == pytest.approx(alpha, rel=1e-6)


def test_standard_errors_with_a_penalty(tmp_path: Path) -> None:
    analysis, frame, terms, parameters = CASES["logistic cancer"].job()
    found = split_by_rows(tmp_path, analysis, frame, terms, {**parameters, "penalty": 5.0})
    names = found["features"]
    x = np.column_stack([frame[name] for name in names])
    z = np.column_stack([(x - x.mean(0)) / x.std(0), np.ones(len(x))])
    p = 1 / (1 + np.exp(-(x @ found["coefficients"] + found["intercept"])))
    hessian = z.T @ (z * (p * (1 - p))[:, None]) + np.diag([5.0] * len(names) + [0.0])
    expected = np.sqrt(np.diag(np.linalg.inv(hessian)))[:-1] / x.std(0)
    assert found["standard_error"][:-1] == pytest.approx(expected, rel=1e-3)


def test_categories_and_an_offset(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    colour, x, offset = rng.integers(0, 3, 400), rng.normal(size=400), rng.uniform(5, 9, 400)
    y = rng.poisson(np.exp(offset - 6 + 0.4 * x + 0.3 * (colour == 2)))
    frame = {"y": y, "colour": colour, "x": x, "offset": offset}
    terms = [
        column("y", y, "integer", low=0.0, high=200.0),
        {"name": "colour", "type": "category", "categories": ["red", "green", "blue"]},
        column("x", x),
        column("offset", offset),
    ]
    design = np.column_stack([colour == 1, colour == 2, x, np.ones(400)]).astype(float)
    expected = sm.GLM(y, design, POISSON, offset=offset).fit(tol=1e-12)
    parameters = {"target": "y", "offset": "offset"}
    found = split_by_columns(tmp_path, "poisson-regression", frame, terms, parameters, alice=["colour", "y"])
    agrees(found, expected, ["colour[green]", "colour[blue]", "x"], 1e-3)


@pytest.mark.parametrize("steps", [1, 2])
def test_too_few_steps_have_not_converged(tmp_path: Path, steps: int) -> None:
    analysis, frame, terms, parameters = CASES["poisson cpunish"].job()
    found = split_by_rows(tmp_path, analysis, frame, terms, {**parameters, "steps": steps})
    assert found["converged"] == 0
    assert plain(analysis, frame, terms, {**parameters, "steps": steps})["converged"] == 0


def test_a_column_without_variance_in_fixed_point_has_not_converged(tmp_path: Path) -> None:
    """Rounding decides whether its coefficient is 0, with which the penalty alone would have it settle."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=20_000)
    y = (x + rng.logistic(size=20_000) > 0) * 1
    parameters = {"target": "y", "penalty": 5.0, "steps": 6}
    for spread, converged in ((1.7, 0), (40.0, 1)):
        frame = {"y": y, "x": spread * x}
        terms = [column("y", y, "boolean"), column("x", x, low=-4000.0, high=4000.0)]
        assert plain("logistic-regression", frame, terms, parameters)["converged"] == converged
        if not converged:
            found = split_by_rows(tmp_path, "logistic-regression", frame, terms, parameters)
            assert found["converged"] == 0


def test_what_left_its_range_has_not_converged(monkeypatch: pytest.MonkeyPatch) -> None:
    job = CASES["poisson cpunish"].job()
    assert plain(*job)["converged"] == 1
    monkeypatch.setattr(Counts, "outside", lambda _, predictor: predictor.gt(1.0).sum() * 1)
    assert plain(*job)["converged"] == 0


def _small(**more: np.ndarray) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    rng = np.random.default_rng(6)
    x = rng.normal(size=200)
    frame = {
        "x": x,
        "yes": (x + rng.normal(size=200) > 0) * 1,
        "sure": (x > 0) * 1,
        "y": rng.poisson(np.exp(x / 2)),
    }
    kinds = {"yes": {"kind": "boolean"}, "sure": {"kind": "boolean"}}
    frame |= more
    terms = [column(name, values, **kinds.get(name, {})) for name, values in frame.items()]
    return frame, terms


def _only(frame: Any, terms: Any, *names: str) -> tuple[Any, Any]:
    return {name: frame[name] for name in names}, [one for one in terms if one["name"] in names]


def test_what_the_data_do_not_determine_is_refused(tmp_path: Path) -> None:
    x = _small()[0]["x"]
    frame, terms = _small(twice=2 * x + 1)
    terms = [
        one if one["name"] != "y" else {**one, "type": "integer", "low": 0.0, "high": 20.0} for one in terms
    ]
    parameters = {"target": "yes", "penalty": 0.0}
    with pytest.raises(UsageError, match="do not determine"):
        split_by_rows(tmp_path, "logistic-regression", *_only(frame, terms, "yes", "x", "twice"), parameters)
    with pytest.raises(UsageError, match="do not determine"):
        split_by_rows(
            tmp_path,
            "logistic-regression",
            *_only(frame, terms, "sure", "x"),
            {**parameters, "target": "sure"},
        )
    nothing = {**frame, "y": np.zeros(200)}
    with pytest.raises(UsageError, match="0 in nearly all rows"):
        split_by_rows(tmp_path, "poisson-regression", *_only(nothing, terms, "y", "x"), {"target": "y"})


def test_columns_that_do_not_fit() -> None:
    frame, terms = _small()
    for analysis, parameters, message in [
        ("poisson-regression", {"target": "x"}, "bounds of at least 0"),
        ("gamma-regression", {"target": "yes"}, "bounds above 0"),
        ("logistic-regression", {"target": "x"}, "boolean, or a category of two"),
        ("poisson-regression", {"target": "yes", "exposure": "x"}, "bounds above 0"),
        ("poisson-regression", {"target": "yes", "weights": "x"}, "weights 'x' must be"),
        ("poisson-regression", {"target": "yes", "offset": "yes"}, "more than one thing"),
        ("poisson-regression", {"target": "no"}, "target 'no' is none"),
    ]:
        with pytest.raises(UsageError, match=message):
            plain(analysis, *_only(frame, terms, "x", "yes"), parameters)
    with pytest.raises(UsageError, match="no column that explains"):
        plain("logistic-regression", *_only(frame, terms, "yes"), {"target": "yes"})
    wide = [{**one, "low": 0.0, "high": 1e7} if one["name"] == "y" else one for one in terms]
    with pytest.raises(UsageError, match="cannot be told apart"):
        plain("poisson-regression", *_only(frame, wide, "y", "x"), {"target": "y"})
    few = {name: values[:2] for name, values in frame.items()}
    with pytest.raises(UsageError, match="too few"):
        plain("logistic-regression", *_only(few, terms, "yes", "x"), {"target": "yes"})


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ({"type": "boolean"}, "bounds above 0"),
        ({"type": "number", "low": 0.0, "high": 2.0}, "bounds above 0"),
        ({"type": "number", "low": -1.0, "high": 2.0}, "bounds above 0"),
        ({"type": "number", "low": 1.0, "high": 1.000001}, "too narrow"),
        ({"type": "number", "low": 1.0, "high": 2.0}, ""),
    ],
)
def test_weights_that_leave_rows_out_or_the_ring_are_refused(bounds: dict[str, Any], message: str) -> None:
    frame, terms = _small(weight=np.ones(200))
    frame, terms = _only(frame, terms, "x", "yes", "weight")
    terms = [one if one["name"] != "weight" else {"name": "weight", **bounds} for one in terms]
    parameters = {"target": "yes", "weights": "weight"}
    if not message:
        assert plain("poisson-regression", frame, terms, parameters)["converged"] == 1
        return
    with pytest.raises(UsageError, match=message):
        plain("poisson-regression", frame, terms, parameters)


@pytest.mark.parametrize("alpha", [None, 0.01])
def test_counts_far_from_0_keep_the_digits_of_their_mean(tmp_path: Path, alpha: float | None) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=300)
    y = np.clip(rng.poisson(np.exp(6.91 + 0.01 * x)), 990, 1010)
    terms = [column("y", y, "integer", low=990.0, high=1010.0), column("x", x)]
    given = {} if alpha is None else {"alpha": alpha}
    analysis = "poisson-regression" if alpha is None else "negative-binomial-regression"
    found = split_by_rows(tmp_path, analysis, {"y": y, "x": x}, terms, {"target": "y", **given})
    family = POISSON if alpha is None else sm.families.NegativeBinomial(alpha=alpha)
    expected = sm.GLM(y, sm.add_constant(x, prepend=False), family).fit(tol=1e-12)
    agrees(found, expected, ["x"], 1e-3)
    assert found["mean"] == pytest.approx(y.mean(), rel=5e-5)
    assert found["total"] == pytest.approx(y.sum(), rel=5e-5)
    if alpha is None:
        assert found["log_likelihood"] == pytest.approx(expected.llf, rel=1e-3)


@pytest.mark.parametrize("analysis", ["poisson-regression", "negative-binomial-regression"])
def test_bounds_so_narrow_that_digits_are_lost(analysis: str) -> None:
    frame, terms = _small(far=np.full(200, 1e5))
    narrow = [one if one["name"] != "far" else {**one, "low": 1e5 - 4, "high": 1e5 + 4} for one in terms]
    with pytest.raises(UsageError, match="close to each other"):
        plain(analysis, *_only(frame, narrow, "far", "x"), {"target": "far"})


def test_bounds_so_wide_that_digits_are_lost() -> None:
    frame, terms = _small()
    frame["y"] = frame["y"] / 1000
    wide = [{**one, "low": 0.0, "high": 200.0} if one["name"] == "y" else one for one in terms]
    with pytest.raises(UsageError, match="digits are lost"):
        plain("poisson-regression", *_only(frame, wide, "y", "x"), {"target": "y"})


def test_shown_as_statsmodels_shows_it() -> None:
    job = CASES["poisson randhie"].job()
    analysis: Any = analyses.find(job[0])
    summary, table, plot = analysis.show(plain(*job))
    assert isinstance(summary, Table)
    assert isinstance(table, Table)
    assert isinstance(plot, Forest)
    assert summary.columns[""][:3] == ["Model", "No. Observations", "Df Residuals"]
    assert {"coef", "std err", "z", "P>|z|", "rate ratio"} <= set(table.columns)
    assert len(plot.names) == len(job[1]) - 2


def test_all_that_is_told_is_announced() -> None:
    for one in CASES.values():
        name, frame, terms, parameters = one.job()
        analysis: Any = analyses.find(name)
        job = SimpleNamespace(parameters=parameters)
        assert set(plain(name, frame, terms, parameters)) <= set(analysis.outputs(job)), name


def test_many_rows_are_taken_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newton, "_AT_ONCE", 7)
    one = CASES["gamma scotland"]
    agrees(split_by_columns(tmp_path, *one.job()), one.reference(), one.explaining, 2e-3)
