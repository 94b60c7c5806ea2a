"""Covariances against numpy, on real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from tests.analyses.answers import column, plain, split_by_columns, split_by_rows
from tests.analyses.tables import OPEN

SPLITS = pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
TABLES = pytest.mark.parametrize("load", [load_breast_cancer, load_diabetes, load_wine])


@SPLITS
@TABLES
def test_as_numpy_has_them(tmp_path: Path, load: Callable[[], Any], split: Callable[..., Any]) -> None:
    bunch = load()
    frame = dict(zip(map(str, bunch.feature_names), bunch.data.T, strict=True))
    terms = [column(name, values) for name, values in frame.items()]
    found = split(tmp_path, "covariance", frame, terms)
    x = np.column_stack([frame[name] for name in found["columns"]])
    covariance = np.cov(x.T)
    size = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    difference = np.reshape(found["covariance"], covariance.shape) - covariance
    assert np.abs(difference / size).max() < 1e-4
    assert (np.abs(found["mean"] - x.mean(0)) < 1e-5 * np.sqrt(np.diag(covariance))).all()
    assert np.reshape(found["correlation"], covariance.shape) == pytest.approx(np.corrcoef(x.T), abs=1e-4)
    oracle = plain("covariance", frame, terms)
    assert set(oracle) == set(found)


def test_categories_and_constants(tmp_path: Path) -> None:
    frame = {"colour": np.array([0, 1, 2, 1, 1, 0]), "one": np.ones(6)}
    terms = [
        {"name": "colour", "type": "category", "categories": ["red", "green", "blue"]},
        {"name": "one", "type": "number", "low": 0.0, "high": 2.0},
    ]
    found = split_by_rows(tmp_path, "covariance", frame, terms, cuts=[2, 4], privacy=OPEN)
    assert found["columns"] == ["colour[green]", "colour[blue]", "one"]
    assert found["mean"] == pytest.approx([3 / 6, 1 / 6, 1])
    assert found["correlation"][2::3] == [0, 0, 0]


def test_noise_is_as_wide_as_it_says(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    frame = {"a": rng.uniform(-1, 1, 3000), "b": rng.uniform(0, 10, 3000)}
    terms = [{"name": "a", "type": "number", "low": -1.0, "high": 1.0}]
    terms.append({"name": "b", "type": "number", "low": 0.0, "high": 10.0})
    found = split_by_rows(
        tmp_path,
        "covariance",
        frame,
        terms,
        privacy={"mechanism": "discrete-gaussian"},
        budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
        release={"epsilon": 4.0, "delta": 1e-6},
    )
    expected = np.cov(np.column_stack([frame["a"], frame["b"]]).T).flatten()
    error = np.abs(np.array(found["covariance"]) - expected)
    assert (error < 8 * np.array(found["noise"])).all()
    assert error.max() > 0
    assert 0 < found["noise"][0] < 0.05
