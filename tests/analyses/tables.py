"""Real tables that ship with statsmodels and scikit-learn, as `answers` takes them: a frame and its terms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import statsmodels.api as sm
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from tests.analyses.answers import column

OPEN: Mapping[str, Any] = {"unnoised": True, "minimum_cohort": 2, "smallest_cell": 1}
"""For tables with small cells, as those of yes-or-nos that exclude each other are."""

Loaded = tuple[dict[str, np.ndarray], list[dict[str, Any]]]


def diabetes() -> Loaded:
    """442 patients: ten measurements, and `target`, the disease a year later."""
    bunch = load_diabetes(scaled=False)
    frame = dict(zip(bunch.feature_names, bunch.data.T, strict=True))
    return with_terms({**frame, "sex": frame["sex"] - 1, "target": bunch.target}, {"sex": "boolean"})


def card() -> Loaded:
    """72 people's expenses by credit card (Greene)."""
    data = sm.datasets.ccard.load_pandas().data
    return with_terms({name: data[name].to_numpy(float) for name in data}, {"OWNRENT": "boolean"})


def visits() -> Loaded:
    """20,190 people: visits to a doctor, `mdvis`, and their insurance (the RAND experiment)."""
    data = sm.datasets.randhie.load_pandas().data
    kinds = {"mdvis": "integer", "idp": "boolean", "hlthg": "boolean", "hlthf": "boolean", "hlthp": "boolean"}
    return with_terms({name: data[name].to_numpy(float) for name in data}, kinds)


def longley() -> Loaded:
    """16 years of a national economy, `TOTEMP` its employment: columns that all but determine each other."""
    data = sm.datasets.longley.load_pandas().data
    return with_terms({name: data[name].to_numpy(float) for name in data}, {"YEAR": "integer"})


def wine() -> Loaded:
    """178 wines: thirteen measurements."""
    bunch = load_wine()
    return with_terms({str(name): one for name, one in zip(bunch.feature_names, bunch.data.T, strict=True)})


def cancer() -> Loaded:
    """569 tumours: ten measurements of thirty, and whether each is benign."""
    bunch = load_breast_cancer()
    frame = {str(name): one for name, one in zip(bunch.feature_names[:10], bunch.data.T, strict=False)}
    return with_terms({**frame, "benign": bunch.target}, {"benign": "boolean"})


def with_terms(frame: Mapping[str, Any], kinds: Mapping[str, str] | None = None) -> Loaded:
    """Numbers, but for those of another kind, with bounds a little wider than they."""
    columns = {name: np.asarray(values) for name, values in frame.items()}
    return columns, [column(name, one, (kinds or {}).get(name, "number")) for name, one in columns.items()]
