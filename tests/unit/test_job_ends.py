"""No job waits for ever, whatever the other members do not do; and none of them takes the daemon with it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.audit.log import AuditDamaged
from mpcpriv.party import scheduler
from mpcpriv.party.held import Held
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.records import AuditHead, Commitment, Countersigned, Decision, Outcome, Ready
from mpcpriv.party.state import StoredJob
from mpcpriv.release import Cohort, Layout
from tests.unit.agreements import content
from tests.unit.desks import ME, Office, office

ACCEPT = Decision(accept=True)
READY = Ready(address="127.0.0.1:9", epoch="0" * 32)
SUCCESS = Outcome(success=True, head=AuditHead(sequence=7, entry="7" * 64))
OTHERS = ("bob", "carol", "dealer")
MINUTES = 10.0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Office]:
    """A daemon that admits everything and never has a place for a worker."""
    monkeypatch.setattr(scheduler, "admit", lambda *_, **__: object.__new__(AdmittedJob))
    monkeypatch.setattr(scheduler.Scheduler, "_start", lambda *_: None)
    with office(tmp_path, minutes=MINUTES) as opened:
        yield opened


def proposed(place: Office, held: Held, ago: timedelta) -> StoredJob:
    """A job that expired that long ago, or will."""
    expires = datetime.now(UTC).replace(microsecond=0) - ago
    return place.proposed("bob", held, created=expires - timedelta(hours=1), expires=expires)


def tell(place: Office, held: Held, job: StoredJob, body: Any, *members: str) -> None:
    for member in members:
        place.desk.receive(place.record(member, held, job.digest, body))


def step(place: Office) -> None:
    for _ in range(3):
        place.scheduler._step()


def fate(place: Office, job: StoredJob) -> str:
    return place.scheduler._standing(place.state.job(job.digest)).fate.state


def test_a_job_that_a_member_never_decides_has_failed_when_it_expires(place: Office) -> None:
    study = place.agree()
    waits, late = proposed(place, study, -timedelta(hours=1)), proposed(place, study, timedelta(seconds=2))
    for job in (waits, late):
        tell(place, study, job, ACCEPT, "bob", "dealer")
    step(place)
    assert (fate(place, waits), fate(place, late)) == ("proposed", "failed")
    (outcome,) = place.said(late.digest, Outcome)
    assert outcome.reason.endswith("no decision of carol")


def test_a_job_whose_members_never_get_ready_has_failed_when_it_expires(place: Office) -> None:
    study = place.agree()
    job = proposed(place, study, timedelta(seconds=2))
    tell(place, study, job, ACCEPT, *OTHERS)
    tell(place, study, job, READY, "bob", "carol")
    step(place)
    assert "expired before it had begun" in place.said(job.digest, Outcome)[0].reason


def test_who_runs_no_worker_does_not_wait_for_ever_for_those_who_do(place: Office) -> None:
    terms = content()
    analysis = {**terms["analyses"][0], "recipients": ["bob"]}
    datasets = [{**one, "owner": "bob" if one["owner"] == ME else one["owner"]} for one in terms["datasets"]]
    study = place.agree(roles={ME: ["submitter"]}, datasets=datasets, analyses=[analysis])
    limit = timedelta(minutes=2 * MINUTES)
    waits = proposed(place, study, limit - timedelta(minutes=1))
    late = proposed(place, study, limit + timedelta(seconds=2))
    for job in (waits, late):
        tell(place, study, job, ACCEPT, *OTHERS)
        tell(place, study, job, READY, *OTHERS)
        tell(place, study, job, SUCCESS, "bob")
    step(place)
    assert fate(place, waits) == "running"
    assert not place.state.job(waits.digest).closed
    (outcome,) = place.said(late.digest, Outcome)
    assert outcome.reason == "the job has not ended in time; no outcome of carol, dealer"
    assert place.state.job(late.digest).closed


def test_a_member_that_never_says_how_it_ended_keeps_no_job_open(place: Office) -> None:
    study = place.agree()
    limit = timedelta(minutes=2 * MINUTES)
    job = proposed(place, study, limit + timedelta(seconds=2))
    tell(place, study, job, ACCEPT, *OTHERS)
    place.desk.decide(job, accept=True)
    tell(place, study, job, READY, *OTHERS)
    place.desk.ready(job, "127.0.0.1:9", "1" * 32)
    place.desk.succeed(job)
    tell(place, study, job, SUCCESS, "bob", "dealer")
    step(place)
    assert fate(place, job) == "running"
    assert place.state.job(job.digest).closed
    # It comes back after all.
    tell(place, study, job, SUCCESS, "carol")
    step(place)
    assert fate(place, job) == "finished"
    assert place.state.job(job.digest).closed
    assert {one.receipt.owner for one in place.said(job.digest, Countersigned)} == set(OTHERS)


def test_a_job_that_cannot_be_driven_ends_and_the_others_go_on(
    place: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = place.agree()
    bad, good = (proposed(place, study, -timedelta(hours=1)) for _ in range(2))
    judge = scheduler.Scheduler.judge

    def judging(self: scheduler.Scheduler, stored: StoredJob, **how: Any) -> None:
        if stored.digest == bad.digest:
            raise ValueError("42 rows")
        judge(self, stored, **how)

    monkeypatch.setattr(scheduler.Scheduler, "judge", judging)
    step(place)
    assert place.said(bad.digest, Outcome)[0].reason == "its daemon failed (ValueError)"
    assert place.said(good.digest, Decision) == [ACCEPT]


def test_a_daemon_without_its_log_does_not_go_on(place: Office) -> None:
    study = place.agree()
    proposed(place, study, -timedelta(hours=1))
    (place.folder / "audit.jsonl").rename(place.folder / "gone")
    with pytest.raises(AuditDamaged):
        step(place)


def test_a_release_that_may_have_been_made_counts_whatever_came_of_the_job(place: Office) -> None:
    study = place.agree()
    never, maybe, asking = (proposed(place, study, -timedelta(hours=1)) for _ in range(3))
    for job in (never, maybe):
        place.desk.decide(job, accept=True)
        tell(place, study, job, ACCEPT, *OTHERS)
    # Of the second all workers were there; a recipient that has the result says that it has failed.
    place.desk.ready(maybe, "127.0.0.1:9", "1" * 32)
    tell(place, study, maybe, READY, *OTHERS)
    failure = Outcome(success=False, reason="oh", head=SUCCESS.head)
    for job in (never, maybe):
        tell(place, study, job, failure, "bob")
        assert fate(place, job) == "failed"
    counts = place.scheduler._releases(asking, study)
    assert counts == {"alice-patients": 1, "bob-patients": 1, "carol-patients": 1}


# -- what was released before, and what was set aside


def report(rows: int, people: str | None = None) -> RunReport:
    layout = (Layout(name="sums", size=1, bits=0),)
    counts = {"alice-patients": rows}
    return RunReport(counts, layout, b"a share", "1" * 64, "2" * 64, "3" * 64, 1, 0, 0, 0.0, people)


def concluded(place: Office, job: StoredJob, rows: int, people: str | None = None) -> None:
    run: Any = SimpleNamespace(succeeded=True, report=report(rows, people))
    place.scheduler._conclude(place.scheduler._standing(job), run)


def test_cohorts_of_jobs_that_run_at_once_are_held_against_each_other(place: Office) -> None:
    study = place.agree()
    jobs = [proposed(place, study, -timedelta(hours=1)) for _ in range(4)]
    for job in jobs:
        tell(place, study, job, ACCEPT, *OTHERS)
        place.desk.decide(job, accept=True)
    for job, rows in zip(jobs, (200, 201, 200, 250), strict=True):
        concluded(place, job, rows)
    committed = [bool(place.said(job.digest, Commitment)) for job in jobs]
    assert committed == [True, False, True, True]
    assert "differs by 1 rows from one that was released" in place.said(jobs[1].digest, Outcome)[0].reason


def test_how_many_rows_were_released_is_what_this_member_counted(place: Office) -> None:
    study = place.agree()
    job, other = (proposed(place, study, -timedelta(hours=1)) for _ in range(2))
    false = Commitment(
        rows={"alice-patients": 90_000},
        layout=list(report(1).layout),
        transcript="1" * 64,
        share="2" * 64,
        inputs="3" * 64,
    )
    tell(place, study, job, false, "carol")
    assert place.scheduler._unnoised(other, study) == ([], [])
    concluded(place, job, 200)
    assert place.scheduler._unnoised(other, study) == ([Cohort({"alice-patients": 200})], [])


def test_of_rows_that_nobody_knows_a_second_result_is_of_the_same_people(place: Office) -> None:
    terms = content()
    for one in terms["datasets"]:
        one["columns"].append({"name": "who", "type": "identifier"})
    names = ("alice-patients", "bob-patients")
    keys = {name: [{"column": "who"}] for name in names}
    study = place.agree(
        datasets=terms["datasets"], alignments=[{"name": "people", "keys": keys, "mode": "secret"}]
    )
    same, other = "a" * 64, "b" * 64
    inputs = [{"dataset": names[0], "columns": ["age"]}, {"dataset": names[1], "columns": ["radius"]}]
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=1)

    def job(alignment: str | None = "people") -> StoredJob:
        created = expires - timedelta(hours=1)
        given = {"inputs": inputs, "created": created, "expires": expires}
        found = place.proposed("bob", study, alignment=alignment, **given)
        tell(place, study, found, ACCEPT, *OTHERS)
        place.desk.decide(found, accept=True)
        return found

    first, jobs = job(), [job() for _ in range(4)]
    concluded(place, first, 200, same)
    (said,) = place.said(first.digest, Commitment)
    assert said.people is not None
    assert same not in str(said)
    assert place.scheduler._unnoised(jobs[0], study)[0] == []
    for one, rows, people in zip(jobs, (200, 200, 201), (same, other, same), strict=False):
        concluded(place, one, rows, people)
    assert [bool(place.said(one.digest, Commitment)) for one in jobs[:3]] == [True, False, False]
    assert "since its first result without noise" in place.said(jobs[1].digest, Outcome)[0].reason
    # Others' rows are known, by their number: nothing says how far those are from rows that nobody knows.
    known = job(None)
    concluded(place, known, 200)
    assert "is not known" in place.said(known.digest, Outcome)[0].reason
    place.state.forget(first.digest)
    concluded(place, jobs[3], 200, same)
    assert "what tells is deleted" in place.said(jobs[3].digest, Outcome)[0].reason


def test_what_a_steward_approves_too_late_sets_nothing_aside(place: Office) -> None:
    budget = {"epsilon": 1.0, "delta": 1e-6, "period_days": 30}
    datasets = [{**one, "budget": budget} for one in content()["datasets"]]
    privacy = {"mechanism": "discrete-gaussian"}
    study = place.agree(approval="steward", datasets=datasets, privacy=privacy)
    release = {"recipients": [ME], "epsilon": 0.5, "delta": 1e-6}
    in_time, late = (place.proposed("bob", study, release=release) for _ in range(2))
    step(place)
    asked = place.state.job(late.digest)
    assert asked.pending
    refusal = Decision(accept=False, reasons=["no"])
    tell(place, study, late, refusal, "carol")
    step(place)
    assert place.state.job(late.digest).closed
    # The steward's call had looked before.
    place.scheduler.judge(asked, approved=True)
    place.scheduler.judge(place.state.job(in_time.digest), approved=True)
    states = {entry.job: entry.state for entry in place.state.ledger.entries("study")}
    assert states == {late.digest: "lapsed", in_time.digest: "reserved"}
