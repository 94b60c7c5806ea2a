"""Ridge and lasso against scikit-learn, on real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Lasso, Ridge
from sklearn.preprocessing import StandardScaler

from mpcpriv import analyses
from mpcpriv.analyses.shown import Bars, Table
from mpcpriv.errors import UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.tables import OPEN, card, diabetes, visits, with_terms

TABLES = pytest.mark.parametrize(
    ("load", "target", "penalty"), [(diabetes, "target", 2.0), (card, "AVGEXP", 5.0), (visits, "mdvis", 0.05)]
)
SPLITS = pytest.mark.parametrize(("split", "tolerance"), [(split_by_rows, 1e-6), (split_by_columns, 1e-3)])
ANALYSES = pytest.mark.parametrize("name", ["lasso", "ridge"])


def reference(name: str, penalty: float) -> Any:
    return Ridge(alpha=penalty) if name == "ridge" else Lasso(alpha=penalty, tol=1e-12, max_iter=100_000)


@ANALYSES
@SPLITS
@TABLES
def test_as_scikit_learn_has_them(
    tmp_path: Path,
    load: Callable[[], Any],
    target: str,
    penalty: float,
    split: Callable[..., Any],
    tolerance: float,
    name: str,
) -> None:
    frame, terms = load()
    privacy = OPEN if load is visits else None
    found = split(tmp_path, name, frame, terms, {"target": target, "penalty": penalty}, privacy=privacy)
    x = np.column_stack([frame[one] for one in found["terms"][1:]]).astype(float)
    scaler = StandardScaler().fit(x)
    model = reference(name, penalty).fit(scaler.transform(x), frame[target])
    # What a coefficient does to predictions, by its feature's spread: relative to the largest.
    effects = np.array(found["estimate"][1:]) * scaler.scale_
    assert np.abs(effects - model.coef_).max() < tolerance * np.abs(model.coef_).max()
    predicted = found["estimate"][0] + x.mean(0) @ found["estimate"][1:]
    assert predicted == pytest.approx(frame[target].mean(), rel=1e-5)
    expected = model.score(scaler.transform(x), frame[target])
    assert found["r_squared"] == pytest.approx(expected, abs=tolerance)
    if name == "lasso":
        assert found["kept"] == (model.coef_ != 0).sum()
    oracle = plain(name, frame, terms, {"target": target, "penalty": penalty})
    assert set(oracle) == set(found)
    order = [oracle["terms"].index(one) for one in found["terms"]]
    assert np.abs(np.array(oracle["estimate"])[order][1:] * scaler.scale_ - model.coef_).max() < (
        1e-6 * np.abs(model.coef_).max()
    )


@ANALYSES
def test_features_as_they_are(name: str) -> None:
    frame, terms = diabetes()
    found = plain(name, frame, terms, {"target": "target", "penalty": 3.0, "standardise": False})
    x = np.column_stack([frame[one] for one in found["terms"][1:]])
    model = reference(name, 3.0).fit(x, frame["target"])
    assert found["estimate"][1:] == pytest.approx(model.coef_, rel=1e-4, abs=1e-6)
    assert found["estimate"][0] == pytest.approx(model.intercept_, rel=1e-5)


def test_a_penalty_decides_where_the_data_do_not() -> None:
    rng = np.random.default_rng(5)
    a = rng.normal(size=50)
    frame, terms = with_terms({"a": a, "same": a, "y": a + rng.normal(size=50)})
    ridge = plain("ridge", frame, terms, {"target": "y", "penalty": 1.0})
    assert ridge["estimate"][1] == pytest.approx(ridge["estimate"][2], rel=1e-6)
    assert 1.9 < ridge["degrees"] < 2
    frame["same"], terms[1] = np.zeros(50), {**terms[1], "type": "boolean", "low": None, "high": None}
    with pytest.raises(UsageError, match="column 'same' is constant"):
        plain("ridge", frame, terms, {"target": "y", "penalty": 1.0})


@ANALYSES
def test_noise(tmp_path: Path, name: str) -> None:
    frame, terms = diabetes()
    release: dict[str, Any] = {
        "privacy": {"mechanism": "discrete-gaussian"},
        "budget": {"epsilon": 200.0, "delta": 1e-5, "period_days": 30},
    }
    parameters = {"target": "target", "penalty": 30.0}
    found = {}
    for epsilon in (0.1, 100.0):
        folder = tmp_path / str(epsilon)
        folder.mkdir()
        asked = {"epsilon": epsilon, "delta": 1e-6}
        found[epsilon] = split_by_rows(folder, name, frame, terms, parameters, **release, release=asked)
    without = plain(name, frame, terms, parameters)
    # Wide noise gives an answer none the less.
    assert 0 <= found[0.1]["r_squared"] <= 1
    assert found[100.0]["r_squared"] == pytest.approx(without["r_squared"], abs=0.2)
    assert found[100.0]["estimate"] != without["estimate"]


def test_what_people_see() -> None:
    frame, terms = diabetes()
    analysis: Any = analyses.find("lasso")
    table, plot = analysis.show(plain("lasso", frame, terms, {"target": "target", "penalty": 2.0}))
    assert isinstance(table, Table)
    assert isinstance(plot, Bars)
    assert list(table.columns) == ["", "coef"]
    assert len(plot.names) == 10
