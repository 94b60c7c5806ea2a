"""Three owners' daemons align their tables: the result, what the others read of bad keys, and the guards."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mpcpriv import analyses
from mpcpriv.party import wire
from mpcpriv.v1 import control_pb2 as pb
from tests.integration.daemons import MEMBERS, OWNERS, Site, Sites, daemons

pytestmark = [pytest.mark.timeout(600), pytest.mark.slow]

TABLES = {"alice": range(30), "bob": range(59, 9, -1), "carol": [*range(40, 5, -1), 77]}
"""People, by number, in the order of each table: 20 are in all."""


def write(site: Site, people: Sequence[int], spoilt: dict[int, str] | None = None) -> None:
    """Each person's number as this owner writes it, and a value by which one sees whose row it is."""
    with (site.folder / f"{site.name}.csv").open("w", encoding="utf-8", newline="") as file:
        out = csv.writer(file)
        out.writerow(["id", f"x-{site.name}"])
        for i in people:
            written = f" Person-{i:03d}" if site.name == "bob" else f"PERSON {i}"
            out.writerow([(spoilt or {}).get(i, written), i + OWNERS.index(site.name)])


def agree(sites: Sites) -> None:
    number = {"type": "number", "low": 0.0, "high": 100.0}
    content = sites.content(MEMBERS, "study")
    rules = {"alice": ["digits"], "bob": ["digits", "no-leading-zeros"], "carol": ["trim", "digits"]}
    sites.agree(
        datasets=[
            {
                **one,
                "columns": [{"name": f"x-{owner}", **number}, {"name": "id", "type": "identifier"}],
            }
            for one, owner in zip(content["datasets"], OWNERS, strict=True)
        ],
        analyses=[
            {**content["analyses"][0], "inputs": {f"{owner}-patients": [f"x-{owner}"] for owner in OWNERS}}
        ],
        alignments=[
            {
                "name": "people",
                "mode": "all",
                "keys": {f"{o}-patients": [{"column": "id", "rules": rules[o]}] for o in OWNERS},
            }
        ],
    )


def submit(sites: Sites) -> str:
    inputs = [{"dataset": f"{owner}-patients", "columns": [f"x-{owner}"]} for owner in OWNERS]
    return sites.submit("alice", inputs=inputs, alignment="people")


def failures(sites: Sites, job: str) -> dict[str, str]:
    """By member, why it failed, as the dealer knows it."""
    views = [sites[name].settled(job) for name in MEMBERS]
    assert all(view.state == pb.FAILED for view in views), [site.log() for site in sites.values()]
    return {one.member: one.failure for one in views[-1].members}


def own(site: Site) -> str:
    return "".join(path.read_text() for path in site.folder.glob("jobs/*.log"))


def test_three_daemons_align(tmp_path: Path) -> None:
    with daemons(tmp_path) as sites:
        agree(sites)
        for owner in OWNERS:
            write(sites[owner], TABLES[owner])
        job = submit(sites)
        for site in sites.values():
            assert site.settled(job).state == pb.FINISHED, site.log() + own(site)
        result: Any = json.loads(sites["alice"].client(wire.FETCH, pb.JobName(job=job)).result)["result"]
        assert result["rows"] == 20  # 10 to 29
        assert result["mean"] == pytest.approx([19.5, 20.5, 21.5], abs=1e-3)

        # One of the twenty less: what the two results together tell is about that one.
        write(sites["carol"], [i for i in TABLES["carol"] if i != 17])
        job = submit(sites)
        assert "UsageError" in failures(sites, job).values()
        assert "the cohort differs by 1 rows" in own(sites["alice"])

        write(sites["bob"], TABLES["bob"], {30: "nobody", 31: "", 33: "0032"})
        job = submit(sites)
        told = "data set bob-patients of bob, column id: the table does not hold what was agreed"
        assert failures(sites, job)["bob"] == told
        assert "column 'id' is missing in 1 row" in own(sites["bob"])
        write(sites["bob"], TABLES["bob"], {30: "nobody", 33: "0032"})
        assert failures(sites, submit(sites))["bob"] == told
        assert "key column 'id' is missing, or empty once normalised, in 1 row" in own(sites["bob"])
        write(sites["bob"], TABLES["bob"], {33: "0032"})
        assert failures(sites, submit(sites))["bob"] == told
        assert "2 of 50 rows share their key with another row" in own(sites["bob"])
        for name in ("alice", "carol", "dealer"):
            files = [path for path in sites[name].folder.rglob("*") if path.suffix in (".log", ".jsonl")]
            assert not any("normalised" in path.read_text() for path in files)
        for site in sites.values():
            files = [path for path in site.folder.rglob("*") if path.suffix in (".log", ".jsonl")]
            assert not any("Person-" in path.read_text() or "nobody" in path.read_text() for path in files)
        sites.audits_verify()


def test_two_daemons_join_what_nobody_learns(tmp_path: Path) -> None:
    number = {"type": "number", "low": 0.0, "high": 100.0}
    two = ("alice", "bob")
    with daemons(tmp_path) as sites:
        content = sites.content(MEMBERS, "study")
        columns = [{"name": "id", "type": "identifier"}]
        (analysis,) = content["analyses"]
        keys = {"alice": ["digits"], "bob": ["digits", "no-leading-zeros"]}
        terms = {
            "name": "people",
            "mode": "secret",
            "minimum_rows": 15,
            "keys": {f"{o}-patients": [{"column": "id", "rules": keys[o]}] for o in two},
        }
        sites.agree(
            datasets=[
                {**one, "columns": [{"name": f"x-{one['owner']}", **number}, *columns]}
                for one in content["datasets"]
            ],
            analyses=[
                {
                    **analysis,
                    "name": "covariance",
                    "code": analyses.digest("covariance"),
                    "inputs": {f"{o}-patients": [f"x-{o}"] for o in two},
                }
            ],
            alignments=[terms],
        )
        for owner in two:
            write(sites[owner], TABLES[owner])
        inputs = [{"dataset": f"{o}-patients", "columns": [f"x-{o}"]} for o in two]

        def ask() -> str:
            return sites.submit("alice", analysis="covariance", inputs=inputs, alignment="people")

        job = ask()
        for site in sites.values():
            assert site.settled(job).state == pb.FINISHED, site.log() + own(site)
        result: Any = json.loads(sites["alice"].client(wire.FETCH, pb.JobName(job=job)).result)["result"]
        assert result["rows"] == 20  # 10 to 29
        assert result["mean"] == pytest.approx([19.5, 20.5], abs=1e-3)

        # Again, in another order; then somebody is another, of whom nobody knows whether he is in common.
        write(sites["bob"], TABLES["bob"][::-1])
        again = ask()
        assert all(site.settled(again).state == pb.FINISHED for site in sites.values())
        write(sites["bob"], [*TABLES["bob"][:-1], 99])
        assert any("UsageError" in why for why in failures(sites, ask()).values())
        assert "since its first result without noise a table was changed" in own(sites["bob"])
        sites.audits_verify()
