"""Clusters against scikit-learn's, from the same first centres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.cluster import KMeans
from sklearn.datasets import load_breast_cancer, load_iris, load_wine

from mpcpriv import analyses
from mpcpriv.analyses.k_means import first_rows
from mpcpriv.errors import Unsupported, UsageError
from tests.analyses.answers import column, plain, split_by_columns, split_by_rows

SHOWN = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}
TABLES = pytest.mark.parametrize("load", [load_iris, load_wine, load_breast_cancer])


def table(load: Callable[[], Any]) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
    bunch = load()
    frame = dict(list(zip(map(str, bunch.feature_names), bunch.data.T, strict=True))[:6])
    frame = {name: values[::2] for name, values in frame.items()}
    return frame, [column(name, values) for name, values in frame.items()]


def reference(frame: dict[str, np.ndarray], given: dict[str, Any], order: np.ndarray | None = None) -> Any:
    """The best of several starts, with its centres in the units of the data."""
    x = np.column_stack(list(frame.values()))
    z = (x - x.mean(0)) / x.std(0)
    chosen = first_rows(len(z), analyses.find("k-means").parameters.model_validate(given))
    fits = [
        KMeans(len(one), init=z[one], n_init=1, tol=0, max_iter=300, algorithm="lloyd").fit(z)
        for one in chosen
    ]
    best = min(fits, key=lambda one: one.inertia_)
    sizes = np.bincount(best.labels_)
    order = np.argsort(-sizes, kind="stable")
    return sizes[order], (best.cluster_centers_ * x.std(0) + x.mean(0))[order], best.inertia_, best.n_iter_


def as_scikit_learn(
    found: dict[str, Any], frame: dict[str, np.ndarray], given: dict[str, Any], within: float
) -> None:
    frame = {name: frame[name] for name in found["columns"]}
    sizes, centres, inertia, steps = reference(frame, given)
    assert steps <= given["steps"]
    assert found["converged"] == 1
    assert found["sizes"] == sizes.tolist()
    spread = np.array([values.std() for values in frame.values()])
    told = np.reshape(found["centres"], centres.shape)
    # Clusters of one size have no order: of two starts as good, rounding says which is the best.
    apart = (told[np.lexsort((told[:, 0], -sizes))] - centres[np.lexsort((centres[:, 0], -sizes))]) / spread
    assert np.abs(apart).max() < within
    assert found["inertia"] == pytest.approx(inertia, rel=within)


BY_ROWS = {load_wine}
"""By columns the others: how those are put together, the analysis does not see (`test_split.py`)."""


@pytest.mark.parametrize(
    ("load", "split"),
    [
        pytest.param(
            load, split, marks=[] if (load in BY_ROWS) == (split is split_by_rows) else [pytest.mark.slow]
        )
        for load in (load_iris, load_wine, load_breast_cancer)
        for split in (split_by_rows, split_by_columns)
    ],
)
def test_as_scikit_learn_has_them(tmp_path: Path, load: Callable[[], Any], split: Callable[..., Any]) -> None:
    frame, terms = table(load)
    given = {"clusters": 3, "starts": 2, "steps": 14, "seed": 1}
    found = split(tmp_path, "k-means", frame, terms, given, privacy=SHOWN)
    as_scikit_learn(found, frame, given, 1e-3)


@TABLES
def test_in_plain(load: Callable[[], Any]) -> None:
    frame, terms = table(load)
    given = {"clusters": 4, "starts": 5, "steps": 60}
    as_scikit_learn(plain("k-means", frame, terms, given), frame, given, 1e-9)


def test_small_clusters_are_not_told(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    middles, sizes = np.array([0.0, 4.0, 8.0, -6.0]), [30, 20, 15, 3]
    frame = {
        "a": np.concatenate([rng.normal(m, 0.3, size) for m, size in zip(middles, sizes, strict=True)]),
        "b": np.concatenate([rng.normal(-m, 0.3, size) for m, size in zip(middles, sizes, strict=True)]),
    }
    terms = [column(name, values) for name, values in frame.items()]
    given = {"clusters": 4, "starts": 8, "steps": 8, "scale": "bounds"}
    assert plain("k-means", frame, terms, given)["sizes"] == sizes
    found = split_by_rows(tmp_path, "k-means", frame, terms, given)
    # Of the rest, the smallest would tell of how many there are in the one of three.
    assert found["sizes"] == [30, 20, -1, -1]
    centres = np.reshape(found["centres"], (2, 2))
    assert centres == pytest.approx(np.array([[0, 0], [4, -4]]), abs=0.3)


def test_more_rows_than_clusters_and_no_categories(tmp_path: Path) -> None:
    frame, terms = table(load_iris)
    with pytest.raises(UsageError, match="ask for fewer"):
        plain("k-means", {name: one[:3] for name, one in frame.items()}, terms, {"clusters": 3})
    with pytest.raises(UsageError, match="is a category"):
        plain(
            "k-means",
            {"c": np.zeros(9)},
            [{"name": "c", "type": "category", "categories": ["x", "y"]}],
            {"clusters": 2},
        )
    with pytest.raises(Unsupported, match="how much one row can change"):
        split_by_rows(
            tmp_path,
            "k-means",
            frame,
            terms,
            {"clusters": 3},
            privacy={"mechanism": "discrete-gaussian"},
            budget={"epsilon": 8.0, "delta": 1e-5, "period_days": 30},
            release={"epsilon": 2.0, "delta": 1e-6},
        )
