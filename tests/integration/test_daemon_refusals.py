"""Each member sees for itself what breaks a term, whatever the submitter's daemon admits."""

from __future__ import annotations

import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from mpcpriv.job.signed import SignedJob
from mpcpriv.party import wire
from mpcpriv.v1 import control_pb2 as pb
from tests.integration.daemons import MEMBERS, OWNERS, Sites, daemons, now

pytestmark = pytest.mark.timeout(300)

SPLIT = [{"dataset": f"{owner}-patients", "columns": [f"x-{owner}"]} for owner in OWNERS]
AGES = [{"dataset": f"{owner}-patients", "columns": ["age"]} for owner in OWNERS]


def broken(sites: Sites) -> dict[str, tuple[SignedJob, str]]:
    """By the term that it breaks: a job, and a word of the reason."""

    def job(**changes: Any) -> SignedJob:
        return sites.job("alice", **changes)

    other_column = [{"dataset": "alice-patients", "columns": ["age", "name"]}]
    once = job()
    by_another = SignedJob.sign(once.job, sites["bob"].party.signing_key())
    return {
        "purpose": (job(purpose="curiosity"), "purpose: curiosity"),
        "analysis": (job(analysis="everything"), "analysis: everything"),
        "dataset": (job(inputs=[{"dataset": "eve-patients", "columns": ["age"]}]), "eve-patients"),
        "column": (job(inputs=other_column), "'name'"),
        "dataset twice": (job(inputs=[AGES[0], AGES[0]]), "2 times"),
        "parameter": (job(parameters={"depth": 3}), "parameters: depth"),
        "recipient": (job(release={"recipients": ["dealer"]}), "recipients: dealer"),
        "noise": (job(release={"recipients": ["alice"], "epsilon": 1.0}), "epsilon"),
        "created": (job(created=now() + timedelta(hours=24), expires=now() + timedelta(hours=25)), "created"),
        "expired": (job(created=now() - timedelta(hours=24), expires=now() - timedelta(hours=1)), "expired"),
        "signature": (by_another, "signature"),
        "superseded": (job(agreement="old"), "superseded by 2"),
        "ended": (job(agreement="ended"), "valid_until"),
        "not yet": (job(agreement="later"), "valid_from"),
        "code": (job(agreement="code"), "code"),
        "without noise": (job(agreement="noise"), "without noise"),
        "submitter": (job(agreement="submitter"), "alice may not ask"),
        "alignment": (job(alignment="folk"), "alignment: folk is not agreed"),
        "not aligned": (job(agreement="aligned", inputs=SPLIT), "alignment: none is named"),
        "two of three": (job(agreement="aligned", inputs=SPLIT[:2], alignment="people"), "name all of its"),
        "same column": (
            job(agreement="aligned", inputs=AGES, alignment="people"),
            "'age' is asked of several",
        ),
    }


def test_each_member_refuses_what_breaks_a_term(tmp_path: Path) -> None:
    with daemons(tmp_path, "quick", modified="alice") as sites:
        sites.agree()
        sites.agree(name="old")
        sites.agree(name="old", version=2)
        day = timedelta(days=1)
        sites.agree(name="ended", valid_from=now() - 2 * day, valid_until=now() - day)
        sites.agree(name="later", valid_from=now() + day, valid_until=now() + 2 * day)
        terms = sites.content(MEMBERS, "any")["analyses"][0]
        sites.agree(name="code", analyses=[{**terms, "code": "0" * 64}])
        sites.agree(name="submitter", analyses=[{**terms, "submitters": ["bob"]}])
        sites.agree(name="aligned", **aligned(sites.content(MEMBERS, "any")))
        budget = {"epsilon": 1.0, "delta": 1e-6, "period_days": 30}
        datasets = [{**one, "budget": budget} for one in sites.content(MEMBERS, "any")["datasets"]]
        sites.agree(name="noise", privacy={"mechanism": "discrete-gaussian"}, datasets=datasets)
        cases = broken(sites)
        submitted = {}
        for term, (job, _) in cases.items():
            document = pb.JobDocument(document=job.to_bytes())
            submitted[term] = sites["alice"].client(wire.SUBMIT, document).job
        for term, name in submitted.items():
            for site in sites.values():
                refusals = reasons(site, name)
                assert set(refusals) == {"bob", "carol", "dealer"}, (term, site.name)
                assert all(cases[term][1] in said for said in refusals.values()), (term, refusals)
        for site in sites.values():
            assert site.workers() == []
            assert not (site.folder / "jobs").exists()


def aligned(content: dict[str, Any]) -> dict[str, Any]:
    """Columns of each owner's own, and an alignment of all three."""
    age = {"type": "integer", "low": 0.0, "high": 120.0}
    names = [one["name"] for one in content["datasets"]]
    columns = {name: [f"x-{owner}", "age"] for name, owner in zip(names, OWNERS, strict=True)}
    datasets = [
        {
            **one,
            "columns": [
                *({"name": name, **age} for name in columns[one["name"]]),
                {"name": "id", "type": "identifier"},
            ],
        }
        for one in content["datasets"]
    ]
    return {
        "datasets": datasets,
        "analyses": [{**content["analyses"][0], "inputs": columns}],
        "alignments": [
            {"name": "people", "mode": "all", "keys": {name: [{"column": "id"}] for name in names}}
        ],
    }


def reasons(site: Any, job: str) -> dict[str, str]:
    """Why each member refuses, once all have decided, as `site` knows it."""
    deadline = time.monotonic() + 60
    view = site.settled(job)
    assert view.state == pb.REFUSED
    while any(not one.decision for one in view.members) and time.monotonic() < deadline:
        time.sleep(0.1)
        view = site.show(job)
    return {one.member: " ".join(one.reasons) for one in view.members if one.decision == "refuse"}


def test_no_more_results_are_released_than_agreed(tmp_path: Path) -> None:
    with daemons(tmp_path, "quick", "warm") as sites:
        sites.agree(privacy={"unnoised": True, "minimum_cohort": 2, "releases": 1})
        first = sites.submit("alice")
        for site in sites.values():
            assert site.settled(first).state == pb.FINISHED
        second = sites.submit("bob")
        for site in sites.values():
            refusals = reasons(site, second)
            assert set(refusals) == set(MEMBERS)
            assert all("agreement allows 1" in said for said in refusals.values())
