"""Real tables with categories, that ship with statsmodels, scikit-learn and lifelines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import statsmodels.api as sm
from lifelines.datasets import load_rossi
from sklearn.datasets import load_iris, load_wine

from tests.analyses.answers import column

Loaded = tuple[dict[str, np.ndarray], list[dict[str, Any]]]


def wine() -> Loaded:
    """178 wines of three growers."""
    bunch = load_wine()
    alcohol, acid = bunch.data[:, 0], bunch.data[:, 1]
    return _with_terms(
        {"alcohol": alcohol, "grower": bunch.target, "acid": acid}, {"grower": ["a", "b", "c"]}
    )


def iris() -> Loaded:
    """150 flowers of three species."""
    bunch = load_iris()
    length, width = bunch.data[:, 0], bunch.data[:, 1]
    return _with_terms(
        {"length": length, "species": bunch.target, "width": width},
        {"species": [str(name) for name in bunch.target_names]},
    )


def elections() -> Loaded:
    """944 voters in 1996: `vote`, `party` (of three), education, age, income."""
    data = sm.datasets.anes96.load_pandas().data
    party = np.digitize(data["PID"].to_numpy(), [2.5, 3.5])
    frame = {
        "age": data["age"].to_numpy(),
        "party": party,
        "educ": data["educ"].to_numpy(),
        "vote": data["vote"].to_numpy(),
        "income": data["income"].to_numpy(),
    }
    kinds = {"age": "integer", "educ": "integer", "income": "integer", "vote": "boolean"}
    return _with_terms(frame, {"party": ["left", "middle", "right"]}, kinds)


def prisoners() -> Loaded:
    """432 released prisoners: arrested again or not, whether with money or work, age, weeks."""
    data = load_rossi()
    kinds = {"arrest": "boolean", "fin": "boolean", "age": "integer", "prio": "integer", "week": "integer"}
    return _with_terms({name: data[name].to_numpy() for name in kinds}, {}, kinds)


TABLES: list[Callable[[], Loaded]] = [wine, iris, elections]


def some(loaded: Loaded, *names: str) -> Loaded:
    """Of a table some columns, in this order."""
    frame, terms = loaded
    by_name = {one["name"]: one for one in terms}
    return {name: frame[name] for name in names}, [by_name[name] for name in names]


def _with_terms(
    frame: Mapping[str, Any],
    categories: Mapping[str, list[str]],
    kinds: Mapping[str, str] | None = None,
) -> Loaded:
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in frame.items()}
    terms = [
        {"name": name, "type": "category", "categories": categories[name]}
        if name in categories
        else column(name, values, (kinds or {}).get(name, "number"))
        for name, values in columns.items()
    ]
    return columns, terms
