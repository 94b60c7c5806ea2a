"""Real tables of times and events, as they ship with lifelines."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is written for an older pandas
    from lifelines import datasets

Frame = dict[str, np.ndarray]
Terms = list[dict[str, Any]]


def loaded(name: str, columns: Mapping[str, str]) -> tuple[Frame, Terms]:
    """Some columns of a table, without the rows that miss one.

    Args:
        name: `load_NAME` of lifelines' data sets.
        columns: by name in the table, the type: boolean, integer or number.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = getattr(datasets, f"load_{name}")()[list(columns)].dropna()
    frame = {column: np.asarray(table[column], dtype=np.float64) for column in columns}
    terms: Terms = []
    for column, kind in columns.items():
        one: dict[str, Any] = {"name": column, "type": kind}
        if kind != "boolean":
            one |= {"low": float(np.floor(frame[column].min())), "high": float(np.ceil(frame[column].max()))}
        terms.append(one)
    return frame, terms


def leukemia() -> tuple[Frame, Terms]:
    """42 rows; one treatment against another (E. J. Freireich et al., Blood 21, 1963)."""
    return loaded("leukemia", {"t": "integer", "status": "boolean", "Rx": "boolean"})


def larynx() -> tuple[Frame, Terms]:
    """90 rows, times in tenths of years."""
    return loaded("larynx", {"time": "number", "death": "boolean", "Stage_IV": "boolean"})


def rossi() -> tuple[Frame, Terms]:
    """432 rows: weeks until an arrest, with and without financial aid."""
    return loaded("rossi", {"week": "integer", "arrest": "boolean", "fin": "boolean"})


def kidney() -> tuple[Frame, Terms]:
    """863 rows; times in days."""
    return loaded("kidney_transplant", {"time": "integer", "death": "boolean", "black_male": "boolean"})
