"""When a share may leave, whom it goes to, and what a recipient takes for one."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from mpcpriv.party import scheduler
from mpcpriv.party.control import Control
from mpcpriv.party.held import Held
from mpcpriv.party.reading import Unreadable
from mpcpriv.party.records import Commitment, Outcome, Record, Share
from mpcpriv.party.state import StoredJob
from mpcpriv.party.wire import Refused
from mpcpriv.v1 import control_pb2 as pb
from tests.unit.desks import ME, Office
from tests.unit.test_job_ends import ACCEPT, OTHERS, READY, concluded, place, tell

__all__ = ["place"]  # the fixture

CONTENT = b"another share"


@pytest.fixture
def study(place: Office) -> Held:
    return place.agree()


def begun(place: Office, study: Held, recipients: list[str]) -> StoredJob:
    """A job whose workers are all there, and of which nobody has committed to anything yet."""
    job = place.proposed("bob", study, release={"recipients": recipients})
    place.desk.decide(job, accept=True)
    tell(place, study, job, ACCEPT, *OTHERS)
    place.desk.ready(job, "127.0.0.1:9", "1" * 32)
    tell(place, study, job, READY, *OTHERS)
    return job


def commitment(place: Office, job: StoredJob, **changes: Any) -> Commitment:
    """As ours, but to `CONTENT`."""
    (ours,) = place.said(job.digest, Commitment)
    content = {**ours.model_dump(), "share": hashlib.sha256(CONTENT).hexdigest(), **changes}
    return Commitment.model_validate(content)


def shares_to(place: Office, study: Held, peer: str) -> int:
    key = next(one.key for one in study.peers if one.name == peer)
    letters = place.state.outbox(key, 100)
    return sum(isinstance(Record.from_canonical(one.record).body, Share) for one in letters)


def advance(place: Office, job: StoredJob) -> None:
    place.scheduler._advance(place.scheduler._standing(place.state.job(job.digest)))


def test_no_share_leaves_before_all_have_committed_and_then_to_the_recipients_only(
    place: Office, study: Held
) -> None:
    job = begun(place, study, ["bob"])
    concluded(place, job, 200)
    advance(place, job)
    assert [shares_to(place, study, peer) for peer in OTHERS] == [0, 0, 0]
    tell(place, study, job, commitment(place, job), "bob")
    advance(place, job)
    assert [shares_to(place, study, peer) for peer in OTHERS] == [0, 0, 0]
    assert place.said(job.digest, Outcome) == []
    tell(place, study, job, commitment(place, job), "carol")
    advance(place, job)
    advance(place, job)
    assert [shares_to(place, study, peer) for peer in OTHERS] == [1, 0, 0]
    assert place.said(job.digest, Outcome)[0].success


def test_no_share_leaves_of_a_job_that_has_failed(place: Office, study: Held) -> None:
    job = begun(place, study, ["bob"])
    concluded(place, job, 200)
    tell(place, study, job, commitment(place, job), "bob", "carol")
    failure = Outcome(success=False, reason="no", head={"sequence": 7, "entry": "7" * 64})
    tell(place, study, job, failure, "carol")
    advance(place, job)
    assert shares_to(place, study, "bob") == 0
    assert not place.said(job.digest, Outcome)[0].success


def test_a_dealer_that_fails_ends_a_job_only_before_the_commitment(place: Office, study: Held) -> None:
    before, after = begun(place, study, ["bob"]), begun(place, study, ["bob"])
    concluded(place, after, 200)
    failure = Outcome(success=False, reason="out of power", head={"sequence": 7, "entry": "7" * 64})
    for job in (before, after):
        tell(place, study, job, failure, "dealer")
        advance(place, job)
    assert "out of power" in place.said(before.digest, Outcome)[0].reason
    assert place.said(after.digest, Outcome) == []
    tell(place, study, after, commitment(place, after), "bob", "carol")
    advance(place, after)
    assert shares_to(place, study, "bob") == 1


def test_a_daemon_that_comes_back_keeps_to_its_commitment(place: Office, study: Held) -> None:
    ready, committed = begun(place, study, ["bob"]), begun(place, study, ["bob"])
    concluded(place, committed, 200)
    place.scheduler.recover()
    assert place.said(ready.digest, Outcome)[0].reason == scheduler.RESTARTED
    assert place.said(committed.digest, Outcome) == []
    (share,) = place.said(committed.digest, Share)
    tell(place, study, committed, commitment(place, committed), "bob", "carol")
    for _ in range(2):  # an earlier process may have posted it already
        place.scheduler._sent.clear()
        advance(place, committed)
    assert shares_to(place, study, "bob") == 1
    assert place.said(committed.digest, Share) == [share]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"share": "9" * 64}, "the share of bob is not the one that it committed to"),
        ({"rows": {"alice-patients": 201}}, "bob has committed to another result than alice"),
        ({"transcript": "9" * 64}, "bob has computed something else than alice"),
        (
            {"layout": [{"name": "sums", "size": 2, "bits": 0}]},
            "bob has committed to another result than alice",
        ),
    ],
)
def test_a_recipient_takes_no_share_but_the_one_that_was_committed_to(
    place: Office, study: Held, wrong: dict[str, Any], said: str
) -> None:
    job = begun(place, study, [ME])
    concluded(place, job, 200)
    tell(place, study, job, commitment(place, job, **wrong), "bob")
    tell(place, study, job, commitment(place, job), "carol")
    tell(place, study, job, Share.of(CONTENT), "bob")
    advance(place, job)
    assert place.said(job.digest, Outcome) == []  # carol's is still to come
    tell(place, study, job, Share.of(CONTENT), "carol")
    advance(place, job)
    (outcome,) = place.said(job.digest, Outcome)
    assert (outcome.success, outcome.reason) == (False, said)


def test_what_is_committed_to_cannot_be_cancelled_for_a_second_share(place: Office, study: Held) -> None:
    job = begun(place, study, ["bob"])
    concluded(place, job, 200)
    (first,) = place.said(job.digest, Share)
    concluded(place, job, 201)
    assert place.said(job.digest, Share) == [first]
    place.desk.fail(job, "late")
    place.desk.release(job)
    assert shares_to(place, study, "bob") == 0


def test_why_a_result_is_none_is_told_to_its_recipient_only(
    place: Office, study: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: object) -> None:
        raise Unreadable("62 rows are too few")

    job = begun(place, study, [ME])
    concluded(place, job, 200)
    tell(place, study, job, commitment(place, job), "bob", "carol")
    tell(place, study, job, Share.of(CONTENT), "bob", "carol")
    monkeypatch.setattr(scheduler, "read", unreadable)
    advance(place, job)
    (outcome,) = place.said(job.digest, Outcome)
    assert (outcome.success, outcome.reason) == (False, scheduler.UNREADABLE)
    assert "too few" not in place.audit.path.read_text()
    own = place.parties[ME].identity.certificate
    control: Any = Control(own, place.state, place.held, place.audit, place.desk, place.scheduler)
    view = control.show(pb.JobName(job=job.digest))
    told = {one.member: one.failure for one in view.members}
    assert told[ME] == "62 rows are too few"
    assert not view.result
    with pytest.raises(Refused, match="is failed; no result yet"):
        control.fetch(pb.JobName(job=job.digest))
