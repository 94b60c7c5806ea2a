"""Which rows a result is about, as the guard against differences of two results compares them."""

from __future__ import annotations

import pytest

from mpcpriv.errors import UsageError
from mpcpriv.release import apart, cohorts
from tests.unit import agreements as example


def of(columns: dict[str, list[str]], rows: dict[str, int]) -> list[dict[str, int]]:
    inputs = [{"dataset": name, "columns": some} for name, some in columns.items()]
    return [dict(one) for one in cohorts(example.job(inputs=inputs), rows)]


def test_rows_below_each_other_are_one_cohort_and_columns_beside_each_other_one_each() -> None:
    rows = {"a": 100, "b": 100}
    assert of({"a": ["age"]}, {"a": 100}) == [{"a": 100}]
    assert of({"a": ["age", "ill"], "b": ["ill", "age"]}, rows) == [rows]
    assert of({"a": ["age"], "b": ["ill"]}, rows) == [{"a": 100}, {"b": 100}]


@pytest.mark.parametrize("fewer", [1, 9])
def test_people_who_are_in_several_tables_count_once(fewer: int) -> None:
    """Of two tables a difference of five people is one of five, not of ten."""
    split = {"a": ["age"], "b": ["ill"]}
    before = [*of(split, {"a": 100, "b": 100}), *of({"c": ["x"]}, {"c": 10})]
    for cohort in of(split, {"a": 100, "b": 100}):
        apart(10, cohort, before)
    for cohort in of(split, {"a": 90, "b": 90}):
        apart(10, cohort, before)
    for cohort in of(split, {"a": 100 - fewer, "b": 100 - fewer}):
        with pytest.raises(UsageError, match=f"differs by {fewer} rows"):
            apart(10, cohort, before)
