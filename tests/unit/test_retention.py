"""Results are deleted when the agreement's time is over, the log says so, and records stay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from mpcpriv.party.control import Control
from mpcpriv.party.daily import Daily
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.records import AuditHead, Decision, Outcome, Share
from mpcpriv.party.retention import Retention
from mpcpriv.party.state import StoredJob
from mpcpriv.party.wire import Refused
from mpcpriv.release import Layout
from mpcpriv.v1 import control_pb2 as pb
from tests.unit.agreements import MEMBERS
from tests.unit.desks import ME, Office, office

RESULT = b'{"mean":"a-figure-of-the-result"}'
SALT = "5a17" * 16


REPORT = RunReport(
    rows={},
    layout=(Layout(name="sums", size=1, bits=0),),
    share=b"a-share-of-the-result",
    transcript="1" * 64,
    input_digest="3" * 64,
    input_salt=SALT,
    rounds=1,
    sent=0,
    dealt=0,
    seconds=0.0,
)


class Clock:
    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as opened:
        yield opened


def finished(place: Office, agreement: str) -> StoredJob:
    digest = place.desk.propose(place.job(ME, agreement).to_bytes())
    stored = place.state.job(digest)
    place.desk.commit(stored, REPORT)
    place.desk.succeed(stored, "2" * 64, RESULT)
    place.state.mark(digest, closed=True)
    return place.state.job(digest)


def deletions(place: Office) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (place.folder / "audit.jsonl").read_text().splitlines()]
    return [line["facts"] for line in lines if line["event"] == "result-deleted"]


def on_disk(place: Office, what: bytes) -> bool:
    return any(what in file.read_bytes() for file in place.folder.glob("state.sqlite*"))


def test_results_go_when_their_time_is_over_and_nothing_else_goes(place: Office) -> None:
    place.agree("short", retention_days=10)
    place.agree("long", retention_days=30)
    short, long = finished(place, "short"), finished(place, "long")
    prints = place.folder / "jobs"
    prints.mkdir()
    for job in (short, long):
        (prints / f"{job.digest}.log").write_text("a traceback")
    own = place.parties[ME].identity.certificate
    control: Any = Control(own, place.state, place.held, place.audit, place.desk, place.scheduler)
    head = AuditHead(sequence=7, entry="7" * 64)
    for job in (short, long):
        held = place.held.get(job.agreement)
        place.desk.decide(job, accept=True)
        for name in MEMBERS[1:]:
            for body in (Decision(accept=True), Outcome(success=True, head=head)):
                place.desk.receive(place.record(name, held, job.digest, body))
    clock = Clock()
    began = clock.now
    retention = Daily(Retention(place.state, place.held, place.audit, prints).keep, clock=clock)
    retention()
    clock.now = began + timedelta(days=9, hours=23)
    retention()
    assert place.state.result(short.digest) == RESULT
    assert deletions(place) == []

    before = place.state.records(short.digest)
    clock.now = began + timedelta(days=10, hours=23)
    retention()
    assert place.state.result(short.digest) is None
    assert place.state.salt(short.digest) is None
    assert not place.state.job(short.digest).result
    assert not (prints / f"{short.digest}.log").exists()
    kept = place.state.records(short.digest)
    assert kept == [signed for signed in before if not isinstance(signed.record.body, Share)] != before
    with pytest.raises(Refused, match="was kept for 10 days, as agreed") as found:
        control.fetch(pb.JobName(job=short.digest))
    assert found.value.code == grpc.StatusCode.NOT_FOUND
    assert json.loads(control.fetch(pb.JobName(job=long.digest)).result) == json.loads(RESULT)
    assert deletions(place) == [{"job": short.digest, "retention_days": 10}]
    assert (place.state.result(long.digest), place.state.salt(long.digest)) == (RESULT, SALT)
    assert (prints / f"{long.digest}.log").exists()

    clock.now = began + timedelta(days=31, hours=1)
    retention()
    assert [one["job"] for one in deletions(place)] == [short.digest, long.digest]


def test_it_looks_once_a_day(place: Office) -> None:
    place.agree(retention_days=1)
    clock = Clock()
    retention = Daily(
        Retention(place.state, place.held, place.audit, place.folder / "jobs").keep, clock=clock
    )
    clock.now += timedelta(days=2)
    retention()
    job = finished(place, "study")
    clock.now += timedelta(hours=23)
    retention()
    assert place.state.result(job.digest) == RESULT
    clock.now += timedelta(hours=1)
    retention()
    assert place.state.result(job.digest) is None


def test_a_deleted_result_is_in_no_file_of_the_database(place: Office) -> None:
    place.agree(retention_days=1)
    finished(place, "study")
    assert on_disk(place, RESULT)
    assert on_disk(place, SALT.encode())
    clock = Clock()
    clock.now += timedelta(days=2)
    Retention(place.state, place.held, place.audit, place.folder / "jobs").keep(clock())
    assert not on_disk(place, RESULT)
    assert not on_disk(place, SALT.encode())
