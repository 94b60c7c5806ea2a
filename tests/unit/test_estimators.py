"""Analyses as estimators: scikit-learn's conventions hold, and predictions are the model's."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from lifelines import CoxPHFitter
from sklearn.base import clone, is_classifier, is_clusterer, is_regressor
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression as Reference
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

from mpcpriv import analyses, estimators
from mpcpriv.client.connection import Connection
from mpcpriv.client.result import Result
from mpcpriv.errors import UsageError
from mpcpriv.estimators import CountAndMean, LogisticRegression
from tests.analyses import survival
from tests.analyses.answers import column, plain
from tests.analyses.tables import diabetes
from tests.unit.test_report import document, job

INPUTS = {"north": ["age", "bmi", "ill"], "south": ["age", "bmi", "ill"]}


class Handle:
    def __init__(self, answer: dict[str, Any], analysis: str) -> None:
        asked = job(analysis)
        self.answer = Result(asked, document(asked, answer))

    def result(self, timeout: float | None) -> Result:
        return self.answer


class Held:
    id = "study"


class Daemon(Connection):
    """A connection to nobody, which has the answer."""

    name = "alice"  # type: ignore[assignment]

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.asked: dict[str, Any] = {}

    def agreements(self) -> Any:
        return [Held()]

    def new_job(self, agreement: str, analysis: str, **asked: Any) -> Any:
        self.asked = {"agreement": agreement, "analysis": analysis, **asked}
        return analysis

    def submit(self, asked: Any) -> Any:
        return Handle(self.answer, asked)


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(200, 2)) * [12, 4] + [50, 25]
    return x, (x @ [0.1, 0.2] - 10 + generator.logistic(size=200) > 0).astype(int)


def fitted(rows: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Reference, Daemon]:
    reference = Reference(C=1e6, max_iter=10_000).fit(*rows)
    frame = {"age": rows[0][:, 0], "bmi": rows[0][:, 1], "ill": rows[1]}
    terms = [column("age", frame["age"]), column("bmi", frame["bmi"]), column("ill", rows[1], "boolean")]
    answer = {
        **plain("logistic-regression", frame, terms, {"target": "ill"}),
        "coefficients": reference.coef_[0].tolist(),
        "intercept": float(reference.intercept_[0]),
        "estimate": [*reference.coef_[0].tolist(), float(reference.intercept_[0])],
    }
    daemon = Daemon(answer)
    return LogisticRegression(daemon, purpose="research", target="ill").fit(INPUTS), reference, daemon


def test_predictions_are_those_of_scikit_learn(rows: tuple[np.ndarray, np.ndarray]) -> None:
    model, reference, daemon = fitted(rows)
    x, y = rows
    assert daemon.asked == {
        "agreement": "study",
        "analysis": "logistic-regression",
        "purpose": "research",
        "inputs": INPUTS,
        "recipients": ["alice"],
        "alignment": None,
        "parameters": {"target": "ill", "steps": 10, "penalty": 1.0},
        "epsilon": None,
        "delta": None,
    }
    for name in ("coef_", "intercept_", "classes_"):
        assert np.array_equal(getattr(model, name), getattr(reference, name))
        assert getattr(model, name).shape == getattr(reference, name).shape
    for name in ("predict", "predict_proba", "decision_function"):
        assert np.allclose(getattr(model, name)(x), getattr(reference, name)(x), atol=1e-12)
    assert model.score(x, y) == reference.score(x, y)
    assert model.feature_names_in_.tolist() == ["age", "bmi"]
    assert (model.n_features_in_, model.rows_, model.converged_) == (2, 200, 1)
    assert "intercept" in model.summary()
    check_is_fitted(model)
    assert is_classifier(model)
    far = model.predict_proba([[1e9, 0], [-1e9, 0]])
    assert np.array_equal(far, [[0, 1], [1, 0]])


def test_frames_are_taken_by_name(rows: tuple[np.ndarray, np.ndarray]) -> None:
    model, _, _ = fitted(rows)
    x = rows[0]
    frame = pd.DataFrame({"other": 1, "bmi": x[:, 1], "age": x[:, 0]})
    assert np.allclose(model.predict_proba(frame), model.predict_proba(x), atol=1e-12)
    assert np.allclose(model.predict_proba(pl.from_pandas(frame)), model.predict_proba(x), atol=1e-12)
    with pytest.raises(UsageError, match="no column 'age'"):
        model.predict(frame.drop(columns="age"))
    with pytest.raises(UsageError, match=r"needs \(rows, 2\): age, bmi"):
        model.predict(x[:, :1])
    with pytest.raises(UsageError, match="missing or infinite"):
        model.predict([[np.nan, 1]])


def test_coefficients_as_a_table_of_terms() -> None:
    """As regressions with standard errors tell them."""
    answer = {"terms": ["intercept", "age"], "estimate": [2.0, 0.5], "p_value": [0.1, 0.2]}
    made = type("Made", (estimators.Regressor,), {"_defaults": {}})
    model = made()
    model._take(Handle(answer, "count-and-mean").answer)
    assert (model.coef_.tolist(), model.intercept_, model.feature_names_in_.tolist()) == ([0.5], 2.0, ["age"])
    assert model.predict([[4.0]]).tolist() == [4.0]
    assert model.p_value_.tolist() == [0.1, 0.2]
    assert model.score([[4.0], [6.0]], [4.0, 5.0]) == 1
    assert is_regressor(model)


def test_a_column_may_not_be_called_as_the_intercept(rows: tuple[np.ndarray, np.ndarray]) -> None:
    for made, answer in [
        (estimators.Regressor, {"terms": ["intercept", "age", "intercept"], "estimate": [2.0, 0.5, 1.0]}),
        (estimators.Regressor, {"features": ["intercept"], "coefficients": [0.5], "intercept": 1.0}),
        (estimators.ProportionalHazards, {"terms": ["intercept", "age"], "estimate": [2.0, 0.5]}),
    ]:
        model: Any = type("Made", (made,), {"_defaults": {}})()
        with pytest.raises(UsageError, match="a column is called 'intercept'"):
            model._take(Handle(answer, "count-and-mean").answer)


@pytest.mark.parametrize("beside", ["offset", "exposure"])
def test_a_model_with_an_offset_does_not_predict_without(beside: str) -> None:
    answer = {"terms": ["age", "intercept"], "estimate": [0.5, 1.0]}
    model = estimators.PoissonRegression(
        Daemon(answer), purpose="research", target="ill", **{beside: "years"}
    )
    model.fit(INPUTS)
    assert model.coef_.tolist() == [0.5]
    with pytest.raises(UsageError, match=f"fitted with an {beside}"):
        model.predict([[1.0]])
    model.set_params(**{beside: None})
    assert model.predict([[1.0]]) == pytest.approx(np.exp(1.5))


@pytest.mark.filterwarnings("ignore")  # lifelines is written for an older pandas
def test_hazards_are_those_of_lifelines_up_to_what_all_rows_share() -> None:
    columns = {"week": "integer", "arrest": "boolean", "fin": "boolean", "age": "integer", "prio": "integer"}
    frame, terms = survival.loaded("rossi", columns)
    parameters = {"time": "week", "event": "arrest"}
    answer = plain("cox-regression", frame, terms, parameters)
    model = estimators.CoxRegression(Daemon(answer), purpose="research", **parameters).fit(INPUTS)
    table = pd.DataFrame(frame)
    fitter = CoxPHFitter(baseline_estimation_method="breslow")
    fitter.fit(table, "week", "arrest", fit_options={"precision": 1e-9})
    # lifelines has ties as Efron does, and takes a row of means for the one that others are held against.
    assert model.coef_ == pytest.approx(fitter.params_[model.feature_names_in_].to_numpy(), rel=2e-2)
    fitter._model.params_ = pd.Series(model.coef_, index=model.feature_names_in_)[fitter.params_.index]
    ratio = model.predict_partial_hazard(table) / fitter.predict_partial_hazard(table).to_numpy()
    assert ratio == pytest.approx(np.full(len(table), ratio[0]), rel=1e-9)
    names = model.feature_names_in_
    means = table[names].mean().to_numpy()[None]
    assert ratio[0] == pytest.approx(model.predict(means)[0], rel=1e-9)
    x = table[names].to_numpy(dtype=float)
    assert np.array_equal(model.predict(x), model.predict_partial_hazard(table))
    assert model.coef_ == pytest.approx(np.array(answer["estimate"]))


def test_clusters_are_those_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    x = np.concatenate([generator.normal(at, 1, (size, 2)) for at, size in (((0, 40), 90), ((9, 0), 60))])
    frame = {"a": x[:, 0], "b": x[:, 1]}
    terms = [column("a", x[:, 0], low=-10.0, high=20.0), column("b", x[:, 1], low=-400.0, high=400.0)]
    parameters = {"clusters": 3, "scale": "bounds", "steps": 60, "starts": 8}
    answer = plain("k-means", frame, terms, parameters)
    assert set(answer) <= set(analyses.find("k-means").outputs(job("k-means", parameters=parameters)))
    model = estimators.KMeans(Daemon(answer), purpose="research", **parameters).fit(INPUTS)
    assert answer["scale"] == [30 / 8, 100.0]
    # b is so wide that it hardly counts.
    reference = KMeans(3, init=model.cluster_centers_ / answer["scale"], n_init=1).fit(x / answer["scale"])
    assert reference.cluster_centers_ == pytest.approx(model.cluster_centers_ / answer["scale"], abs=1e-6)
    new = generator.uniform(-10, 45, (300, 2))
    assert np.array_equal(model.predict(new), reference.predict(new / answer["scale"]))
    without_units = np.square(new[:, None] - model.cluster_centers_).sum(2).argmin(1)
    assert not np.array_equal(model.predict(new), without_units)
    assert np.array_equal(
        model.predict(pd.DataFrame(new, columns=["a", "b"])[["b", "a"]]), model.predict(new)
    )
    assert np.bincount(model.predict(x)).tolist() == model.sizes_.tolist()
    assert is_clusterer(model)


def test_private_clusters_are_predicted_in_units_of_scale() -> None:
    answer = {"columns": ["a", "b"], "sizes": [9, 8], "centres": [0.0, 0.0, 3.0, 200.0], "rows": 17}
    answer |= {"scale": [1.0, 100.0], "margins": [1.0, 1.0], "centre_margins": [0.1] * 4}
    model = estimators.PrivateKMeans(Daemon(answer), purpose="research", clusters=2).fit(INPUTS)
    assert model.cluster_centers_.tolist() == [[0, 0], [3, 200]]
    assert model.predict([[1.0, 150.0], [2.5, 60.0]]).tolist() == [0, 1]
    assert is_clusterer(model)


def test_nearest_centres_that_are_not_known_are_not_told() -> None:
    answer = {"columns": ["a"], "sizes": [9, 8], "centres": [1.0, 2.0], "rows": 17}
    model = estimators.KMeans(Daemon(answer), purpose="research", clusters=2).fit(INPUTS)
    assert model.cluster_centers_.tolist() == [[1.0], [2.0]]
    with pytest.raises(UsageError, match='fit with scale="bounds"'):
        model.predict([[1.0]])
    answer = {**answer, "sizes": [9, -1], "centres": [1.0], "scale": [1.0]}
    model = estimators.KMeans(Daemon(answer), purpose="research", clusters=2, scale="bounds").fit(INPUTS)
    with pytest.raises(UsageError, match="too small to be told"):
        model.predict([[1.0]])


@pytest.mark.parametrize("standardise", [False, True])
def test_components_are_those_of_scikit_learn(standardise: bool) -> None:
    frame, terms = diabetes()
    names = ["age", "bmi", "bp", "s5"]
    frame, terms = {name: frame[name] for name in names}, [one for one in terms if one["name"] in names]
    parameters = {"components": 2, "standardise": standardise}
    answer = plain("pca", frame, terms, parameters)
    model = estimators.Pca(Daemon(answer), purpose="research", **parameters).fit(INPUTS)
    order = model.feature_names_in_.tolist()
    x = np.column_stack([frame[name] for name in order])
    z = x / x.std(axis=0, ddof=1) if standardise else x
    reference = PCA(2, svd_solver="full").fit(z)
    assert model.components_ == pytest.approx(reference.components_, abs=1e-4)
    spread = reference.transform(z).std()
    assert model.transform(x) == pytest.approx(reference.transform(z), abs=1e-3 * spread)
    assert np.array_equal(model.transform(pd.DataFrame(frame)), model.transform(x))
    assert model.explained_variance_ == pytest.approx(reference.explained_variance_, rel=1e-4)
    with pytest.raises(UsageError, match=r"needs \(rows, 4\)"):
        model.transform(x[:, 1:])


@pytest.mark.parametrize("name", analyses.installed())
@pytest.mark.parametrize(
    "check",
    [
        "check_estimator_cloneable",
        "check_estimator_repr",
        "check_get_params_invariance",
        "check_set_params",
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_valid_tag_types",
        "check_do_not_raise_errors_in_init_or_set_params",
        "check_mixin_order",
    ],
)
def test_scikit_learns_own_checks(name: str, check: str) -> None:
    """All of its checks that fit no array: rows are not here."""
    kind = estimators.of(name)
    getattr(estimator_checks, check)(kind.__name__, kind())


def test_a_clone_has_the_same_connection_and_no_result(rows: tuple[np.ndarray, np.ndarray]) -> None:
    model, _, daemon = fitted(rows)
    copy = clone(model.set_params(penalty=2.0))
    assert copy.connection is daemon
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "coef_")
    assert repr(copy) == "LogisticRegression(purpose='research', target='ill', penalty=2.0)"
    with pytest.raises(UsageError, match="call fit first"):
        copy.summary()


def test_mistakes_are_told_before_a_job_is_submitted() -> None:
    daemon = Daemon({})
    with pytest.raises(UsageError, match="connection and purpose are needed"):
        LogisticRegression().fit(INPUTS)
    with pytest.raises(UsageError, match="target"):
        LogisticRegression(daemon, purpose="research").fit(INPUTS)
    with pytest.raises(UsageError, match="steps"):
        LogisticRegression(daemon, purpose="research", target="ill", steps=1000).fit(INPUTS)
    with pytest.raises(UsageError, match="rows stay with their owners"):
        CountAndMean(daemon, purpose="research").fit(np.zeros((2, 2)))
    with pytest.raises(UsageError, match="'colour' is no parameter of it; there are connection"):
        LogisticRegression(daemon, colour="red")
    assert daemon.asked == {}


def test_there_is_one_for_each_analysis_and_scikit_learn_is_not_needed() -> None:
    assert "MostFrequentCategory" in dir(estimators)
    assert LogisticRegression.analysis == "logistic-regression"
    assert "Newton" in LogisticRegression.__doc__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = estimators.Nothing
    code = (
        "import sys; from mpcpriv.estimators import LogisticRegression as L; L(target='ill').get_params(); "
        "print(sorted({'sklearn', 'torch', 'pandas', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
