"""Principal components against scikit-learn, on real tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mpcpriv import analyses
from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.query import Noised
from mpcpriv.analyses.shown import Bars, Table
from mpcpriv.errors import UsageError
from tests.analyses.answers import plain, split_by_columns, split_by_rows
from tests.analyses.tables import cancer, diabetes, wine, with_terms

SPLITS = pytest.mark.parametrize(("split", "tolerance"), [(split_by_rows, 1e-5), (split_by_columns, 1e-3)])


@pytest.mark.parametrize("standardise", [False, True])
@SPLITS
@pytest.mark.parametrize("load", [diabetes, wine, cancer])
def test_as_scikit_learn_has_them(
    tmp_path: Path, load: Callable[[], Any], split: Callable[..., Any], tolerance: float, standardise: bool
) -> None:
    frame, terms = load()
    given = {"components": 3, "standardise": standardise}
    found = split(tmp_path, "pca", frame, terms, given)
    x = np.column_stack([frame[name] for name in found["columns"]]).astype(float)
    scale = x.std(axis=0, ddof=1) if standardise else np.ones(x.shape[1])
    model = PCA(3, svd_solver="full").fit(x / scale)
    assert found["explained_variance"] == pytest.approx(model.explained_variance_, rel=tolerance)
    assert found["explained_variance_ratio"] == pytest.approx(model.explained_variance_ratio_, rel=tolerance)
    assert np.reshape(found["components"], (3, -1)) == pytest.approx(model.components_, abs=tolerance)
    assert found["mean"] == pytest.approx(model.mean_ * scale, rel=1e-4)
    assert found["scale"] == pytest.approx(scale, rel=1e-4)
    oracle = plain("pca", frame, terms, given)
    assert oracle["explained_variance"] == pytest.approx(found["explained_variance"], rel=tolerance)


def test_what_has_none_is_refused() -> None:
    rng = np.random.default_rng(1)
    frame, terms = with_terms({"a": rng.normal(size=20), "ill": np.zeros(20)}, {"ill": "boolean"})
    for shares in (False, True):
        with pytest.raises(UsageError, match="column 'ill' is constant"):
            plain("pca", frame, terms, {"standardise": True}, shares=shares)
        with pytest.raises(UsageError, match="3 components of 2 columns"):
            plain("pca", frame, terms, {"components": 3}, shares=shares)
        assert plain("pca", frame, terms, shares=shares)["explained_variance"][1] == pytest.approx(
            0, abs=1e-9
        )


@pytest.mark.parametrize("standardise", [False, True])
def test_noise_moves_them_no_further_than_is_said(standardise: bool) -> None:
    rng = np.random.default_rng(4)
    analysis: Any = analyses.find("pca")
    terms = {name: ColumnTerms(name=name, type="number", low=-1.0, high=1.0) for name in "abcd"}
    asked = analyses.Asked(
        analysis.parameters(standardise=standardise), {"rows": Outline(4000, "patient", terms)}, epsilon=1.0
    )
    query = analysis.query(asked)
    table = np.clip(rng.normal(0, [0.5, 0.3, 0.15, 0.14], (4000, 4)), -1, 1) @ _rotation(rng)
    frame = {name: np.clip(table[:, place], -1, 1) for place, name in enumerate("abcd")}
    true = plain(
        "pca",
        frame,
        [one.model_dump(exclude_none=True) for one in terms.values()],
        {"standardise": standardise},
    )
    total, deviation = query.total(frame), 4.0 * np.sqrt(query.sensitivity().l2_squared)
    held = np.zeros(2)
    for _ in range(200):
        noise = np.rint(rng.normal(0, deviation, query.size)).astype(np.int64)
        found = query.read(Noised(total + noise, deviation))
        moved = np.abs(np.subtract(found["explained_variance"], true["explained_variance"])).max()
        cosine = (np.reshape(found["components"], (4, 4)) * np.reshape(true["components"], (4, 4))).sum(1)
        sine = np.sqrt(np.clip(1 - cosine**2, 0, 1))
        held += [moved <= found["noise"], (sine <= found["angle"]).all()]
        assert moved > 0
    assert (held >= 190).all()
    if not standardise:
        assert found["angle"][0] < 0.5
        assert found["angle"][3] == 1  # nearly as wide as the third


def _rotation(rng: np.random.Generator) -> np.ndarray:
    found: np.ndarray = np.linalg.qr(np.eye(4) + 0.3 * rng.normal(size=(4, 4)))[0]
    return found


def test_what_people_see() -> None:
    frame, terms = wine()
    analysis: Any = analyses.find("pca")
    variance, components, plot = analysis.show(plain("pca", frame, terms, {"components": 2}))
    assert isinstance(variance, Table)
    assert variance.columns["cumulative"][-1] == pytest.approx(0.9998, abs=1e-3)
    assert list(components.columns) == ["", "PC1", "PC2"]
    assert isinstance(plot, Bars)
