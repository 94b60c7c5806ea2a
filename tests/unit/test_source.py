"""A party's own table: what is read, what is refused, and that no value is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.data import source
from mpcpriv.data.contained import contained
from mpcpriv.data.scale import Scale
from mpcpriv.errors import UsageError

TERMS: dict[str, dict[str, Any]] = {
    "age": {"type": "integer", "low": 0.0, "high": 120.0},
    "weight": {"type": "number", "low": 1.0, "high": 300.0},
    "ill": {"type": "boolean"},
    "stage": {"type": "category", "categories": ["I", "II", "III"]},
}
HEADER = "age,weight,ill,stage\n"


def dataset(minimum: int = 1) -> Dataset:
    columns = [{"name": name, **terms} for name, terms in TERMS.items()]
    content = {"name": "ours", "owner": "alice", "privacy_unit": "patient", "minimum_rows": minimum}
    return Dataset.model_validate({**content, "columns": columns})


def load(folder: Path, text: str | bytes, minimum: int = 1, columns: list[str] | None = None) -> Any:
    path = folder / "t.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return source.load(path, dataset(minimum), columns or list(TERMS))


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_csv_table(tmp_path: Path, delimiter: str, start: str, end: str) -> None:
    lines = [["note", *TERMS], ["a", "4", " 70.5", "TRUE", "II"], ["", "120", "1e2", "0", "I"]]
    found = load(tmp_path, start + "".join(delimiter.join(line) + end for line in lines))
    assert list(found) == list(TERMS)
    assert found["age"].tolist() == [4, 120]
    assert found["weight"].tolist() == [70.5, 100.0]
    assert found["ill"].tolist() == [1, 0]
    assert found["stage"].tolist() == [1, 0]
    assert [values.dtype.kind for values in found.values()] == ["i", "f", "i", "i"]


def test_a_parquet_table(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).uniform(1, 300, 1000)
    table = {"stage": ["III"] * 1000, "weight": weight, "ill": [True] * 1000, "age": np.arange(1000) % 90}
    pq.write_table(pa.table({**table, "nested": [{"age": 1}] * 1000}), tmp_path / "t.parquet")
    found = source.load(tmp_path / "t.parquet", dataset(), ["age", "weight", "ill", "stage"])
    np.testing.assert_array_equal(found["weight"], weight)
    np.testing.assert_array_equal(found["age"], np.arange(1000) % 90)
    assert found["ill"].tolist() == [1] * 1000
    assert found["stage"].tolist() == [2] * 1000


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            HEADER + "151,70,1,I\n152,70,1,I\n3,70,1,I\n",
            "column 'age' is outside its agreed bounds in 2 rows",
        ),
        (HEADER + "-7,70,1,I\n", "column 'age' is outside its agreed bounds in 1 row;"),
        (HEADER + "45.5,70,1,I\n", "column 'age' is not a whole number below 2^53 in 1 row"),
        (HEADER + "45,NaN,1,I\n46,inf,1,I\n47,abc,1,I\n", "column 'weight' is not a finite number in 3 rows"),
        (HEADER + "45,70,2,I\n", "column 'ill' is not 0, 1, true or false in 1 row"),
        (HEADER + "45,70,1,IV\n46,70,1,i\n", "column 'stage' is not one of the agreed categories in 2 rows"),
        (HEADER + "45,,1,I\n46,  ,1,I\n", "column 'weight' is missing in 2 rows"),
        (HEADER, "0 rows"),
        ("", "is empty"),
        ("age,weight,ill\n45,70,1\n", "has no column 'stage'"),
        ("age,weight,ill,stage,age\n45,70,1,I,46\n", "columns of one name, 'age'"),
        ("age,weight,ill,stage,Age\n45,70,1,I,46\n", "columns of one name, 'age'"),
        (HEADER + "45,70,1,I,47\n", "is no table (line 2)"),
        (HEADER + "45,70\n", "is no table (line 2)"),
        ((HEADER + "45,70,1,I\n").encode() + b"45,70,1,\xff47\n", "is not UTF-8 (line 3)"),
        (b"\xe4" + HEADER.encode(), "is not UTF-8"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str | bytes, said: str) -> None:
    with pytest.raises(UsageError) as error:
        load(tmp_path, text)
    assert said in str(error.value)
    assert "data set ours" in str(error.value)
    for value in ("151", "45", "47", "abc", "IV", "-7"):
        assert value not in str(error.value)
    assert error.value.__cause__ is None


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"1 row, .* asks for 5 .*'age'.*'weight'.*'ill'.*'stage'"):
        load(tmp_path, HEADER + "999,x,7,\n", minimum=5)


def test_enough_rows_are_enough(tmp_path: Path) -> None:
    assert len(load(tmp_path, HEADER + "45,70,1,I\n" * 5, minimum=5)["age"]) == 5


def test_duplicate_names_in_parquet(tmp_path: Path) -> None:
    table = pa.table([pa.array([1]), pa.array([2])], names=["age", "age"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(UsageError, match="columns of one name"):
        source.load(tmp_path / "t.parquet", dataset(), ["age"])


@pytest.mark.parametrize("name", ["t*.csv", "t[1].csv", "t.txt"])
def test_other_names(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(HEADER + "45,70,1,I\n")
    with pytest.raises(UsageError, match=r"rename|neither"):
        source.load(tmp_path / name, dataset(), ["age"])


def test_no_file_and_wrong_columns(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no file"):
        source.load(tmp_path / "absent.csv", dataset(), ["age"])
    with pytest.raises(UsageError, match="no column 'height'"):
        load(tmp_path, HEADER, columns=["height"])
    with pytest.raises(UsageError, match="once"):
        load(tmp_path, HEADER, columns=["age", "age"])


def test_only_this_file_can_be_read(tmp_path: Path) -> None:
    mine, other = tmp_path / "it's mine.csv", tmp_path / "other.csv"
    for path in (mine, other):
        path.write_text(HEADER + "45,70,1,I\n")
    assert source.load(mine, dataset(), ["age"])["age"].tolist() == [45]
    with contained(mine) as connection:
        for statement in (
            f"SELECT * FROM read_csv('{other}')",
            f"COPY (SELECT 1) TO '{tmp_path}/new.csv'",
            "SET enable_external_access = true",
            f"ATTACH '{tmp_path}/new.db'",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it's mine.csv", "other.csv"]


@pytest.mark.parametrize("bounds", [(0.0, 120.0), (-5.0, 2.0), (1.0, 500_000.0), (7.0, 8.0)])
def test_whole_numbers_are_held_exactly(bounds: tuple[float, float]) -> None:
    scale = Scale.of(ColumnTerms(name="n", type="integer", low=bounds[0], high=bounds[1]))
    every = np.arange(bounds[0], bounds[1] + 1)
    scaled = scale.scaled(every)
    assert np.abs(scaled).max() <= 8
    np.testing.assert_array_equal(np.round(scaled * 2**16) / 2**16 * scale.unit + scale.centre, every)
