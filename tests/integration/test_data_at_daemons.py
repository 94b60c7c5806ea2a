"""Tables from a DuckDB file, PostgreSQL and Arrow in one job, and what the others learn of a bad one."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import psycopg
import pyarrow as pa
import pytest

from mpcpriv.party import wire
from mpcpriv.v1 import control_pb2 as pb
from tests.integration.daemons import MEMBERS, OWNERS, Sites, daemons

pytestmark = pytest.mark.timeout(300)

AGES = {"alice": range(30, 50), "bob": range(20, 60), "carol": range(70, 80)}


def in_arrow(sites: Sites, ages: list[int | None]) -> None:
    table = pa.table({"age": pa.array(ages, pa.int64())})
    with pa.ipc.new_file(sites["carol"].folder / "t.arrow", table.schema) as out:
        out.write_table(table)


@pytest.mark.slow
def test_tables_may_lie_anywhere_and_their_mistakes_stay_there(tmp_path: Path, server: str) -> None:
    database = server.replace("+psycopg", "")
    declared = {
        "alice": '{ file = "t.duckdb", table = "people" }',
        "bob": f'{{ postgres = "{database}", table = "clinic.people" }}',
        "carol": '"t.arrow"',
    }
    with daemons(tmp_path) as sites:
        with duckdb.connect(str(sites["alice"].folder / "t.duckdb")) as connection:
            connection.execute(f"CREATE VIEW people AS SELECT unnest({list(AGES['alice'])}) AS age")
        with psycopg.connect(database) as connection:
            connection.execute("DROP SCHEMA IF EXISTS clinic CASCADE; CREATE SCHEMA clinic")
            connection.execute("CREATE TABLE clinic.people AS SELECT generate_series(20, 59) AS age")
        in_arrow(sites, list(AGES["carol"]))
        for owner in OWNERS:
            site = sites[owner]
            site.stop()
            text = site.config.read_text().replace(f'"{owner}.csv"', declared[owner])
            site.config.write_text(text)
            site.restart()
        sites.agree()
        job = sites.submit("bob")
        for site in sites.values():
            assert site.settled(job, 120).state == pb.FINISHED, site.log()
        result = json.loads(sites["bob"].client(wire.FETCH, pb.JobName(job=job)).result)["result"]
        pooled = [age for owner in OWNERS for age in AGES[owner]]
        assert result["rows"] == len(pooled)
        assert abs(result["mean"][0] - sum(pooled) / len(pooled)) < 1e-3

        in_arrow(sites, [71, None, 7777])
        job = sites.submit("bob")
        told = "data set carol-patients of carol, column age: the table does not hold what was agreed"
        for name in MEMBERS:
            view = sites[name].settled(job, 120)
            assert view.state == pb.FAILED
            (carol,) = [one for one in view.members if one.member == "carol"]
            assert carol.failure == told
        own = "".join(path.read_text() for path in sites["carol"].folder.glob("jobs/*.log"))
        assert "column 'age' is missing in 1 row; column 'age' is outside its agreed bounds in 1 row" in own
        for name in MEMBERS:
            files = [path for path in sites[name].folder.rglob("*") if path.suffix in (".log", ".jsonl")]
            texts = [path.read_text() for path in files]
            assert not any("7777" in text for text in texts)
            assert name == "carol" or not any("missing" in text for text in texts)
