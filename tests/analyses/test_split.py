"""The same table, split by rows, split by columns, and whole: the same answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_diabetes

from tests.analyses.answers import column, plain, split_by_columns, split_by_rows

_X = load_diabetes(scaled=False).data
FRAME = {"age": _X[:, 0], "sex": _X[:, 1] - 1, "bmi": _X[:, 2]}
TERMS = [
    column("age", FRAME["age"], "integer"),
    column("sex", FRAME["sex"], "boolean"),
    column("bmi", FRAME["bmi"]),
]


@pytest.mark.parametrize("split", [split_by_rows, split_by_columns])
def test_a_split_table_gives_the_answer_of_the_whole(tmp_path: Path, split: object) -> None:
    assert callable(split)
    found = split(tmp_path, "count-and-mean", FRAME, TERMS)
    order = [found["columns"].index(name) for name in FRAME]
    for shares in (False, True):
        expected = plain("count-and-mean", FRAME, TERMS, shares=shares)
        assert np.array(found["mean"])[order] == pytest.approx(expected["mean"], rel=1e-5)
        assert np.array(found["variance"])[order] == pytest.approx(expected["variance"], rel=1e-4)
    assert expected["variance"] == pytest.approx([values.var(ddof=1) for values in FRAME.values()], rel=1e-4)
