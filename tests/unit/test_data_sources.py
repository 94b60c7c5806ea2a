"""One table in every kind of source: the same numbers, or the same words about what is wrong with it."""

from __future__ import annotations

import csv
import datetime as dt
import decimal
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg import sql

from mpcpriv.agreement.model import Dataset
from mpcpriv.data import source
from mpcpriv.data.contained import contained
from mpcpriv.data.declared import Postgres, Source, TableFile
from mpcpriv.data.held import Streamed, Whole
from mpcpriv.errors import DataError, UsageError
from mpcpriv.party.ending import explain
from mpcpriv.party.jobs import input_digest

TERMS: dict[str, dict[str, Any]] = {
    "age": {"type": "integer", "low": 0.0, "high": 120.0},
    "weight": {"type": "number", "low": 1.0, "high": 300.0},
    "ill": {"type": "boolean"},
    "stage": {"type": "category", "categories": ["I", "II", "III"]},
}
GOOD: dict[str, list[Any]] = {
    "age": [45, 46, 47],
    "weight": [70.25, 1.5, 299.0],
    "ill": [True, False, True],
    "stage": ["I", "III", "II"],
}
KINDS = ("csv", "parquet", "arrow", "arrows", "duckdb", "duckdb-view", "postgres", "postgres-view")
Write = Callable[[pa.Table], Source]


def dataset(minimum: int = 1, terms: dict[str, dict[str, Any]] = TERMS) -> Dataset:
    columns = [{"name": name, **one} for name, one in terms.items()]
    content = {"name": "ours", "owner": "alice", "privacy_unit": "patient", "minimum_rows": minimum}
    return Dataset.model_validate({**content, "columns": columns})


def load(place: Source, minimum: int = 1) -> dict[str, np.ndarray]:
    return source.load(place, dataset(minimum), list(TERMS))


def refused(place: Source, minimum: int = 1) -> str:
    with pytest.raises(UsageError) as error:
        load(place, minimum)
    assert error.value.__cause__ is None
    assert str(error.value).startswith("data set ours of alice: ")
    return str(error.value).removeprefix("data set ours of alice: ")


@pytest.fixture(params=KINDS)
def write(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Write]:
    """Writes a table into an empty source of this kind."""
    kind = request.param
    if kind.startswith("postgres"):
        server = request.getfixturevalue("server").replace("+psycopg", "")
        yield lambda table: in_postgres(table, server, view=kind == "postgres-view")
    else:
        writer = {"csv": as_csv, "parquet": as_parquet, "arrow": as_arrow, "arrows": as_stream}
        in_duckdb = lambda table, path: as_duckdb(table, path, view=kind == "duckdb-view")  # noqa: E731
        yield lambda table: writer.get(kind, in_duckdb)(table, tmp_path / f"t.{kind}")


def as_csv(table: pa.Table, path: Path) -> Source:
    with path.open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(table.column_names)
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            out.writerow(str(cell).lower() if isinstance(cell, bool) else cell for cell in row)
    return path


def as_parquet(table: pa.Table, path: Path) -> Source:
    pq.write_table(table, path)
    return path


def as_arrow(table: pa.Table, path: Path) -> Source:
    with pa.ipc.new_file(path, table.schema) as out:
        out.write_table(table, max_chunksize=700)
    return path


def as_stream(table: pa.Table, path: Path) -> Source:
    with pa.ipc.new_stream(path, table.schema) as out:
        out.write_table(table, max_chunksize=700)
    return path


def as_duckdb(table: pa.Table, path: Path, view: bool) -> Source:
    with duckdb.connect(str(path)) as connection:
        connection.register("given", table)
        connection.execute(
            "CREATE SCHEMA IF NOT EXISTS s; CREATE OR REPLACE TABLE s.t AS SELECT * FROM given"
        )
        connection.execute("CREATE OR REPLACE VIEW v AS SELECT * FROM s.t")
    return TableFile(path, "v" if view else "s.t")


def in_postgres(table: pa.Table, server: str, view: bool) -> Source:
    types = {pa.int64(): "bigint", pa.float64(): "float8", pa.bool_(): "boolean", pa.date32(): "date"}
    types |= {pa.float32(): "real", pa.timestamp("us"): "timestamp"}
    columns = sql.SQL(", ").join(
        sql.SQL(
            "{} " + types.get(field.type, "numeric" if pa.types.is_decimal(field.type) else "text")
        ).format(sql.Identifier(field.name))
        for field in table.schema
    )
    with psycopg.connect(server) as connection:
        connection.execute("DROP SCHEMA IF EXISTS s CASCADE; DROP VIEW IF EXISTS v; CREATE SCHEMA s")
        connection.execute(sql.SQL("CREATE TABLE s.t ({})").format(columns))
        with connection.cursor().copy("COPY s.t FROM STDIN") as copy:
            for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
                copy.write_row(row)
        connection.execute("CREATE VIEW v AS SELECT * FROM s.t")
    return Postgres(server, "v" if view else "s.t")


def table(**changes: Any) -> pa.Table:
    return pa.table({**GOOD, **changes})


def test_what_is_read_is_the_same(write: Write) -> None:
    found = load(write(table(note=['a "b",\n', None, "é"])))
    assert list(found) == list(TERMS)
    assert [type(values) for values in found.values()] == [np.ndarray] * 4
    assert [values.dtype.str for values in found.values()] == ["<i8", "<f8", "<i8", "<i8"]
    assert [values.tolist() for values in found.values()] == [
        [45, 46, 47],
        [70.25, 1.5, 299.0],
        [1, 0, 1],
        [0, 2, 1],
    ]


def test_other_types_that_hold_the_same(write: Write) -> None:
    weights = pa.array([decimal.Decimal("70.25"), decimal.Decimal("1.50"), decimal.Decimal(299)])
    changes = {"age": ["45", " 46", "47.0"], "weight": weights, "ill": [1, 0, 1]}
    changes["stage"] = pa.array(["I", "III", "II"])
    for name, values in load(write(table(**changes))).items():
        np.testing.assert_array_equal(values, load(write(table()))[name])


NOT_FINITE = "column 'weight' is not a finite number"
AGE_OUTSIDE = "column 'age' is outside its agreed bounds"
NO_STAGE = "column 'stage' is not one of the agreed categories"
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "wrong type": ({"age": ["forty", "46", "47"]}, "column 'age' is not a whole number below 2^53 in 1 row"),
    "fraction": ({"age": [45.5, 46.5, 47.0]}, "column 'age' is not a whole number below 2^53 in 2 rows"),
    "outside": ({"age": [151, 46, -71]}, "column 'age' is outside its agreed bounds in 2 rows"),
    "not finite": (
        {"weight": [math.nan, math.inf, 70.0]},
        "column 'weight' is not a finite number in 2 rows",
    ),
    "huge": (
        {"age": pa.array([decimal.Decimal(10**30), 46, 2**53], pa.decimal128(38, 0))},
        "column 'age' is not a whole number below 2^53 in 2 rows",
    ),
    "huge text": (
        {"weight": ["1e400", "9" * 30, "70"]},
        f"{NOT_FINITE} in 1 row; column 'weight' is outside its agreed bounds in 1 row",
    ),
    "date": (
        {"weight": [dt.date(1999, 12, 31)] * 3},
        "column 'weight' is not a finite number in 3 rows",
    ),
    "null": ({"weight": [None, 70.25, None]}, "column 'weight' is missing in 2 rows"),
    "blank": ({"weight": ["", "  ", "70.25"]}, "column 'weight' is missing in 2 rows"),
    "letters": ({"ill": ["t", "f", "1"]}, "column 'ill' is not 0, 1, true or false in 2 rows"),
    "two": ({"ill": [0, 1, 22]}, "column 'ill' is not 0, 1, true or false in 1 row"),
    "boolean": ({"weight": [True, False, True]}, "column 'weight' is not a finite number in 3 rows"),
    "spaces": (
        {"stage": ["I ", " II", "III"]},
        "column 'stage' is not one of the agreed categories in 2 rows",
    ),
    "comma": ({"weight": ["70,25", "1,5", "299"]}, "column 'weight' is not a finite number in 2 rows"),
    "several": (
        {"age": [None, 46, 151], "stage": ["IV", "III", "II"]},
        f"column 'age' is missing in 1 row; {AGE_OUTSIDE} in 1 row; {NO_STAGE} in 1 row",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_the_same_words_for_bad_data(write: Write, case: str) -> None:
    changes, said = BAD[case]
    bad = table(**changes)
    found = refused(write(bad))
    assert found == f"{said}; correct the table, or the agreement"
    cells = {str(cell) for name in changes for cell in bad[name].to_pylist() if cell is not None}
    assert not [cell for cell in cells if len(cell.strip()) > 1 and cell in found]


def may_be_missing() -> Dataset:
    return dataset(terms={name: {**one, "missing": True} for name, one in TERMS.items()})


def test_missing_values_where_they_may_be(write: Write) -> None:
    """No number, and of a boolean or a category one code more than there are."""
    holes = table(
        age=[None, 46, 47], weight=[70.25, None, 299.0], ill=[True, None, False], stage=["I", "II", None]
    )
    found = source.load(write(holes), may_be_missing(), list(TERMS))
    assert found["age"].dtype == found["weight"].dtype == np.float64
    np.testing.assert_array_equal(found["age"], [np.nan, 46, 47])
    np.testing.assert_array_equal(found["weight"], [70.25, np.nan, 299.0])
    assert found["ill"].tolist() == [1, 2, 0]
    assert found["stage"].tolist() == [0, 1, 3]


def test_a_missing_value_excuses_no_wrong_one(write: Write) -> None:
    holes = table(age=[None, 46, 151], stage=["IV", None, "II"], weight=["NaN", "x", ""])
    with pytest.raises(UsageError) as error:
        source.load(write(holes), may_be_missing(), list(TERMS))
    assert f"{AGE_OUTSIDE} in 1 row; {NOT_FINITE} in 1 row; {NO_STAGE} in 1 row" in str(error.value)


@pytest.mark.parametrize(("rows", "count"), [(0, "0 rows"), (1, "1 row")])
def test_too_few_rows(write: Write, rows: int, count: str) -> None:
    found = refused(write(table().cast(table().schema).slice(0, rows)), minimum=2)
    assert found.startswith(f"{count}, and the agreement asks for 2 at least")


def test_one_row_is_enough_where_that_was_agreed(write: Write) -> None:
    assert load(write(table().slice(1, 1)))["age"].tolist() == [46]


def test_a_column_that_is_not_there(write: Write) -> None:
    found = refused(write(table().drop_columns(["stage", "age"])))
    assert found.endswith("has no column 'age', 'stage'")


def test_two_columns_of_one_name(write: Write, request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["write"]
    if kind.startswith("duckdb"):
        pytest.skip("a table of DuckDB has no two")
    names = ["Age" if name == "note" else name for name in table(note=GOOD["age"]).column_names]
    found = refused(write(table(note=GOOD["age"]).rename_columns(names)))
    assert found == "the table has columns of one name, 'age' (capitals do not count); rename one"


def test_names_are_names_and_no_statements(write: Write) -> None:
    odd = "a\"b'c FROM t) --{}"
    terms = {odd: TERMS["age"], "weight": TERMS["weight"]}
    given = pa.table({"weight": GOOD["weight"], odd: GOOD["age"]})
    found = source.load(write(given), dataset(terms=terms), list(terms))
    assert found[odd].tolist() == GOOD["age"]
    assert found["weight"].tolist() == GOOD["weight"]


def test_batches_come_in_order_and_are_no_larger_than_asked(write: Write) -> None:
    many = pa.table({"weight": np.linspace(1, 300, 5000), "age": np.arange(5000) % 120})
    names = ["age", "weight"]
    terms = dataset(terms={name: TERMS[name] for name in names})
    place = write(many)
    parts = list(source.batches(place, terms, names, rows=600))
    assert all(0 < len(part["age"]) <= 600 for part in parts)
    for name in names:
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), many[name].to_numpy())
        np.testing.assert_array_equal(source.load(place, terms, names)[name], many[name].to_numpy())


def test_after_the_first_mistake_rows_are_only_counted(write: Write) -> None:
    ages = np.arange(5000) % 120
    ages[[2500, 4900]] = 999
    seen: list[int] = []
    stream = source.batches(write(pa.table({"age": ages})), dataset(), ["age"], rows=100)
    with pytest.raises(DataError, match="'age' is outside its agreed bounds in 2 rows"):
        seen.extend(len(part["age"]) for part in stream)
    assert sum(seen) == 2500


def test_the_others_learn_whose_table_and_which_columns_and_no_more(write: Write) -> None:
    with pytest.raises(DataError) as error:
        load(write(table(**BAD["several"][0])))
    told = explain(error.value).reason
    assert told == "data set ours of alice, columns age, stage: the table does not hold what was agreed"


def text_that_is_not_utf8() -> pa.Table:
    broken = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.array([0, 1, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"I\xffIV")]
    )
    return table(stage=broken)


@pytest.mark.parametrize("writer", [as_parquet, as_arrow, as_stream])
def test_text_that_is_not_utf8(tmp_path: Path, writer: Callable[[pa.Table, Path], Source]) -> None:
    name = {as_parquet: "t.parquet", as_arrow: "t.arrow", as_stream: "t.arrows"}[writer]
    assert refused(writer(text_that_is_not_utf8(), tmp_path / name)) == f"{name!r} is not UTF-8; convert it"


def test_a_database_without_encoding(server: str) -> None:
    place = server.replace("+psycopg", "")
    with psycopg.connect(place, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS bytes")
        connection.execute(
            "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
        )
    other = place.replace("/postgres?", "/bytes?")
    with psycopg.connect(other) as connection:
        connection.execute("CREATE TABLE t (age int, weight int, ill int, stage text)")
        connection.execute(r"INSERT INTO t VALUES (45, 70, 1, E'\xff')")
    assert refused(Postgres(other, "t")) == "table 't' of PostgreSQL is not UTF-8; convert it"


@pytest.mark.parametrize("kind", ["csv", "parquet", "arrow", "arrows", "feather", "duckdb"])
@pytest.mark.parametrize(
    "content", [b"", b"ARROW1\0\0secret", b"PAR1secretPAR1", b"secret\r123\r", b"\xff\xfea\0"]
)
def test_what_is_no_table(tmp_path: Path, kind: str, content: bytes) -> None:
    path = tmp_path / f"t.{kind}"
    path.write_bytes(content)
    found = refused(TableFile(path, "t") if kind == "duckdb" else path)
    assert any(words in found for words in ("no table", "empty", "UTF-8", "no column", "no DuckDB"))
    assert "secret" not in found


@pytest.mark.parametrize("kind", ["parquet", "arrow", "arrows", "duckdb"])
def test_a_file_that_was_cut_or_changed(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"t.{kind}"
    many = pa.table({name: values * 1000 for name, values in GOOD.items()})
    writer: dict[str, Any] = {"parquet": as_parquet, "arrow": as_arrow, "arrows": as_stream}
    place = writer[kind](many, path) if kind in writer else as_duckdb(many, path, view=False)
    whole = path.read_bytes()
    for size in (10, len(whole) // 2, len(whole) - 9):
        path.write_bytes(whole[:size])
        assert "table" in refused(place)


def test_mixed_newlines_are_read_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = ["45,70.25,1,I", "46,1.5,0,III", "47,299,1,II"]
    for ends in ("\r\n\n\n", "\n\r\n\r\n", "\n\n\r\n"):
        ends_ = [ends[:2], ends[2:3], ends[3:]] if ends.startswith("\r\n") else ["\n", "\r\n", "\n"]
        text = "age,weight,ill,stage\n" + "".join(row + end for row, end in zip(rows, ends_, strict=True))
        path.write_text(text, newline="")
        try:
            assert load(path)["age"].tolist() == [45, 46, 47]
        except UsageError as error:
            assert "is no table" in str(error)  # noqa: PT017 -- either is right


def test_a_duckdb_file_reads_nothing_beside_itself(tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    as_csv(table(), other)
    place = as_duckdb(table(), tmp_path / "t.duckdb", view=False)
    assert isinstance(place, TableFile)
    before = place.path.read_bytes()
    with duckdb.connect(str(place.path)) as connection:
        connection.execute(f"CREATE VIEW outside AS SELECT * FROM read_csv('{other}')")
    assert "nothing but the tables of its file" in refused(TableFile(place.path, "outside"))
    with contained(place.path, "source") as connection:
        for statement in (
            f"SELECT * FROM read_csv('{other}')",
            f"ATTACH '{tmp_path}/new.db'",
            "INSERT INTO source.s.t SELECT * FROM source.s.t",
            "CREATE TABLE source.new AS SELECT 1",
            "SET enable_external_access = true",
            "COPY source.s.t TO '/tmp/copied'",
        ):
            with pytest.raises(duckdb.Error):
                connection.execute(statement)
    assert len(before) <= place.path.stat().st_size
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.csv", "t.duckdb"]


@pytest.mark.parametrize("name", ["absent", "s.absent", "absent.t", 't"; DROP TABLE s.t; --', "s.t, s.t"])
def test_only_the_table_that_was_declared(tmp_path: Path, server: str, name: str) -> None:
    file = as_duckdb(table(), tmp_path / "t.duckdb", view=False)
    database = in_postgres(table(), server.replace("+psycopg", ""), view=False)
    assert isinstance(file, TableFile)
    assert isinstance(database, Postgres)
    for place in (TableFile(file.path, name), Postgres(database.server, name)):
        assert refused(place).endswith("is not there; correct its name in the configuration")
    assert load(file)["age"].tolist() == load(database)["age"].tolist() == GOOD["age"]


def test_a_variable_of_ours_is_no_table() -> None:
    ours = pa.table({"a": [1]})
    with contained() as connection, pytest.raises(duckdb.CatalogException):
        connection.execute("SELECT * FROM ours")
    del ours


def test_postgres_is_only_read_and_only_what_its_user_may(server: str) -> None:
    place = server.replace("+psycopg", "")
    in_postgres(table(), place, view=False)
    with psycopg.connect(place) as connection:
        connection.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
        connection.execute(
            "CREATE OR REPLACE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'DELETE FROM s.t; SELECT 1'"
        )
        connection.execute("CREATE VIEW s.writes AS SELECT *, s.f() FROM s.t")
    assert refused(Postgres(place, "s.writes")).endswith("cannot be read (ReadOnlySqlTransaction)")
    assert load(Postgres(place, "s.t"))["age"].tolist() == GOOD["age"]
    guest = place.replace("mpcpriv@", "guest@")
    assert refused(Postgres(guest, "s.t")).endswith("may not be read by this user; GRANT SELECT on it")


@pytest.mark.parametrize(
    "server_",
    [
        "postgresql://me:hidden@127.0.0.1:1/db",
        "host=127.0.0.1 port=1 password=hidden",
        "password hidden",
        "host=/nowhere password='hidden",
    ],
)
def test_no_password_in_any_error(server_: str) -> None:
    found = Postgres(server_, "t")
    assert "hidden" not in repr(found)
    assert "the database cannot be reached" in (said := refused(found))
    assert "hidden" not in said


def test_cells_that_look_like_syntax_come_whole(write: Write) -> None:
    odd = ['a "b"', "c,d\ne", "\\.", "x\ty\\n", "NULL", "é€"]
    terms = {"stage": {"type": "category", "categories": odd}}
    found = source.load(write(pa.table({"stage": odd})), dataset(terms=terms), ["stage"])
    assert found["stage"].tolist() == [0, 1, 2, 3, 4, 5]


def test_a_table_of_one_column_with_nulls(write: Write) -> None:
    place = write(pa.table({"note": ["a"] * 4, "age": [45, None, 46, None]}))
    with pytest.raises(DataError, match="column 'age' is missing in 2 rows"):
        source.load(place, dataset(), ["age"])


def test_what_is_streamed_is_what_is_held_and_has_its_digest(write: Write) -> None:
    many = pa.table({name: values * 1000 for name, values in GOOD.items()})
    place = write(many)
    streamed, whole = Streamed(place, dataset(), list(TERMS)), Whole(load(place))
    assert (streamed.rows, streamed.digests) == (3000, whole.digests)
    salt = b"salt"
    assert input_digest({"ours": streamed}, salt) == input_digest({"ours": whole}, salt)
    for name, values in whole.columns.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in streamed.batches()]), values)
    other = {**whole.columns, "age": whole.columns["age"] + (np.arange(3000) == 2999)}
    assert input_digest({"ours": Whole(other)}, salt) != input_digest({"ours": whole}, salt)


def test_a_table_that_changes_during_a_job_is_refused(write: Write) -> None:
    streamed = Streamed(write(table()), dataset(), list(TERMS))
    write(table(age=[45, 46, 48]))
    with pytest.raises(DataError, match="was changed during the job"):
        list(streamed.batches())


@pytest.mark.parametrize("writer", [as_parquet, as_arrow, as_stream])
def test_how_arrow_holds_text_does_not_matter(
    tmp_path: Path, writer: Callable[[pa.Table, Path], Source]
) -> None:
    path = tmp_path / {as_parquet: "t.parquet", as_arrow: "t.arrow", as_stream: "t.arrows"}[writer]
    stages = pa.array(GOOD["stage"])
    for held in (stages.dictionary_encode(), stages.cast(pa.large_string()), stages.cast(pa.string_view())):
        assert load(writer(table(stage=held), path))["stage"].tolist() == [0, 2, 1]
    nested = pa.array([[45.5], [46.5], [47.5]])
    assert "45" not in refused(writer(table(weight=nested), path))


# ---- Identifiers: text, from whatever type a source has

IDENTIFIERS: dict[str, dict[str, Any]] = {
    "name": {"type": "identifier"},
    "born": {"type": "identifier"},
    "number": {"type": "identifier"},
    "age": TERMS["age"],
}


def people(**changes: list[Any]) -> pa.Table:
    table = {
        "name": ["Zo\u00eb  M\u00fcller", ' "O\'Neill, A." ', "\u5c71\u7530"],
        "born": [dt.date(1961, 12, 3), dt.date(2000, 1, 31), dt.date(1970, 6, 7)],
        "number": [7, 12, 2**40],
        "age": [45, 46, 47],
        **changes,
    }
    types = {"name": pa.string(), "born": pa.date32(), "number": pa.int64(), "age": pa.int64()}
    return pa.table({name: pa.array(values, types[name]) for name, values in table.items()})


def test_identifiers_are_text_as_it_stands(write: Write) -> None:
    found = source.load(write(people()), dataset(terms=IDENTIFIERS), list(IDENTIFIERS))
    assert found["name"].tolist() == people()["name"].to_pylist()
    assert found["born"].tolist() == ["1961-12-03", "2000-01-31", "1970-06-07"]
    assert found["number"].tolist() == ["7", "12", str(2**40)]
    assert found["age"].tolist() == [45, 46, 47]


def test_missing_identifiers_are_counted(write: Write) -> None:
    place = write(people(name=[None, "   ", "Zo\u00eb"], number=[1, None, 3]))
    with pytest.raises(DataError) as error:
        source.load(place, dataset(terms=IDENTIFIERS), list(IDENTIFIERS))
    assert str(error.value) == (
        "data set ours of alice: column 'name' is missing in 2 rows; column 'number' is missing in 1 row; "
        "correct the table, or the agreement"
    )
    assert error.value.columns == ("name", "number")


@pytest.mark.parametrize(
    "written",
    [
        pa.array([7.0, 12.0, 13.0]),
        pa.array([7, 12, 13], pa.float32()),
        pa.array([7, 12, 13], pa.decimal128(9, 2)),
        pa.array([True, False, True]),
        pa.array([dt.datetime(1961, 12, 3), dt.datetime(2000, 1, 31), dt.datetime(1970, 6, 7)]),
    ],
    ids=lambda written: str(written.type),
)
def test_identifiers_that_another_owner_may_write_otherwise_are_refused(
    written: pa.Array, write: Write
) -> None:
    """As text 12.0 is not 12, a boolean is true, t or 1, and a time may have its midnight or not."""
    place = write(people().set_column(2, "number", written))
    if isinstance(place, Path) and place.suffix == ".csv":  # all of which is text
        source.load(place, dataset(terms=IDENTIFIERS), list(IDENTIFIERS))
        return
    with pytest.raises(DataError) as error:
        source.load(place, dataset(terms=IDENTIFIERS), list(IDENTIFIERS))
    assert str(error.value) == (
        "data set ours of alice: identifiers 'number' are neither text, whole numbers nor dates in the "
        "table; other owners may write such cells otherwise, as 12.0 and 12; have text in their place"
    )
    assert error.value.columns == ("number",)


@pytest.mark.parametrize(
    "written", [pa.array([7, 12, 13], pa.uint8()), pa.array(["7", "12", "13"]).dictionary_encode()]
)
def test_identifiers_in_other_types_that_are_text_to_everybody(written: pa.Array, tmp_path: Path) -> None:
    given = people().set_column(2, "number", written)
    for place in (as_parquet(given, tmp_path / "t.parquet"), as_arrow(given, tmp_path / "t.arrow")):
        found = source.load(place, dataset(terms=IDENTIFIERS), list(IDENTIFIERS))
        assert found["number"].tolist() == ["7", "12", "13"]


def test_identifiers_in_postgres_s_own_types_of_text(server: str) -> None:
    server = server.replace("+psycopg", "")
    place = in_postgres(people(number=[7, 12, 13]), server, view=False)
    with psycopg.connect(server) as connection:
        connection.execute(
            "DROP VIEW v; CREATE TYPE s.code AS ENUM ('7', '12', '13'); CREATE DOMAIN s.word AS varchar; "
            "ALTER TABLE s.t ALTER number TYPE s.code USING number::text::s.code, ALTER name TYPE s.word"
        )
    found = source.load(place, dataset(terms=IDENTIFIERS), list(IDENTIFIERS))
    assert found["name"].tolist() == people()["name"].to_pylist()
    assert found["number"].tolist() == ["7", "12", "13"]
