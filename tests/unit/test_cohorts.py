"""Which rows a result is about, as the guard against differences of two results compares them."""

from __future__ import annotations

from typing import Any

import pytest

from mpcpriv.agreement.model import Agreement
from mpcpriv.errors import UsageError
from mpcpriv.release import Cohort, apart, cohorts
from tests.unit import agreements as example
from tests.unit.test_agreed_alignments import A, B, content


def of(
    columns: dict[str, list[str]], rows: dict[str, int], agreed: Any = None, alignment: str | None = None
) -> list[Cohort]:
    inputs = [{"dataset": name, "columns": some} for name, some in columns.items()]
    job = example.job(inputs=inputs, alignment=alignment)
    return cohorts(agreed or example.agreement(), job, rows)


def counted(*rows: dict[str, int]) -> list[Cohort]:
    return [Cohort(one) for one in rows]


def test_rows_below_each_other_are_one_cohort_and_columns_beside_each_other_one_each() -> None:
    rows = {"a": 100, "b": 100}
    assert of({"a": ["age"]}, {"a": 100}) == counted({"a": 100})
    assert of({"a": ["age", "ill"], "b": ["ill", "age"]}, rows) == counted(rows)
    assert of({"a": ["age"], "b": ["ill"]}, rows) == counted({"a": 100}, {"b": 100})


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


def agreed(**changes: Any) -> Agreement:
    """An agreement with two alignments of the same data sets; and the first of them otherwise."""
    found = content()
    (people,) = found["alignments"]
    by_name = {name: keys[:1] for name, keys in people["keys"].items()}
    found["alignments"] = [{**people, **changes}, {**people, "name": "names", "keys": by_name}]
    return Agreement.model_validate(found)


def test_as_many_people_found_by_another_alignment_may_be_others() -> None:
    split, rows = {A: ["age"], B: ["radius"]}, {A: 60, B: 60}
    before = of(split, rows, agreed(), "people")
    names = of(split, rows, agreed(), "names")
    for cohort in names:
        with pytest.raises(UsageError, match=r"as many rows as one .* another alignment found"):
            apart(10, cohort, before)
        apart(1, cohort, before)  # a difference of two people is agreed to
    for cohort in of(split, {A: 70, B: 70}, agreed(), "names"):
        apart(10, cohort, before)
    for cohort in of(split, {A: 69, B: 69}, agreed(), "names"):
        with pytest.raises(UsageError, match="differs by 9 rows"):
            apart(10, cohort, before)
    # The same keys are the same people, whatever minimum is agreed; and all rows of a table are who is in it.
    for cohort in (*of(split, rows, agreed(minimum_rows=5), "people"), *of({A: ["age"]}, {A: 60}, agreed())):
        apart(10, cohort, before)
        apart(10, before[0], [cohort])


def test_an_alignment_of_the_same_name_and_other_keys_is_another() -> None:
    split, rows = {A: ["age"], B: ["radius"]}, {A: 60, B: 60}
    keys = {name: keys[:1] for name, keys in content()["alignments"][0]["keys"].items()}
    before = of(split, rows, agreed(), "people")
    for cohort in of(split, rows, agreed(keys=keys), "people"):
        with pytest.raises(UsageError, match="another alignment found"):
            apart(10, cohort, before)
