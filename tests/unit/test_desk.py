"""What a desk takes from other members, and what it never takes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from mpcpriv.audit.receipt import make_receipt
from mpcpriv.audit.verify import verify
from mpcpriv.cli.job import _described
from mpcpriv.client.view import View
from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from mpcpriv.party import courier
from mpcpriv.party import desk as module
from mpcpriv.party.control import Control
from mpcpriv.party.desk import Mismatched, TooMany
from mpcpriv.party.records import (
    MOST_REASONS,
    AuditHead,
    Countersigned,
    Decision,
    Outcome,
    Record,
    Share,
    SignedRecord,
)
from mpcpriv.party.state import Letter
from mpcpriv.party.wire import Refused
from mpcpriv.v1 import control_pb2 as pb
from tests.unit.desks import ME, Office, office

HEAD = AuditHead(sequence=7, entry="7" * 64)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Office]:
    with office(tmp_path) as opened:
        yield opened


def test_a_job_is_proposed_under_the_agreement_that_it_names(place: Office) -> None:
    study, other = place.agree(), place.agree("other")
    newer = place.agree(version=4)
    job = place.job("bob")
    for wrong in (other, newer):
        with pytest.raises(Mismatched, match="names agreement study version 3, and is proposed under"):
            place.desk.receive(place.proposal("bob", wrong, job))
    # The wrong one came first and has not taken the place of the right one.
    assert place.desk.receive(place.proposal("bob", study, job))


def test_a_job_is_proposed_by_its_submitter(place: Office) -> None:
    study = place.agree()
    job = place.job("bob")
    with pytest.raises(Mismatched, match="is bob's, and carol proposes it"):
        place.desk.receive(place.proposal("carol", study, job))
    with pytest.raises(UsageError, match="the job is bob's, and this is alice's daemon"):
        place.desk.propose(job.to_bytes())
    assert place.desk.receive(place.proposal("bob", study, job))
    assert [entry["event"] for entry in events(place)].count("proposed") == 1


def events(place: Office) -> list[dict[str, object]]:
    return [json.loads(line) for line in (place.folder / "audit.jsonl").read_text().splitlines()]


def test_jobs_of_one_submitter_are_bounded_and_those_of_others_are_not_held_up(
    place: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_JOBS", 3)
    study = place.agree()
    mine = [place.proposed("bob", study) for _ in range(3)]
    late = place.proposal("bob", study, place.job("bob"))
    with pytest.raises(TooMany, match="3 jobs of bob have not ended at alice"):
        place.desk.receive(late)
    again = place.state.records(mine[0].digest)[0]
    assert not place.desk.receive(again)  # what is here already is confirmed all the same
    place.proposed("carol", study)
    place.state.mark(mine[0].digest, closed=True)
    assert place.desk.receive(late)


def test_a_courier_tries_again_what_was_too_many_and_gives_up_what_is_wrong(
    place: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_JOBS", 1)
    study, other = place.agree(), place.agree("other")
    identity = place.parties[ME].identity
    control = Control(identity.certificate, place.state, place.held, place.audit, place.desk, place.scheduler)
    bob = study.certificates["bob"]

    def answer(signed: SignedRecord) -> grpc.StatusCode | None:
        letter = pb.SignedRecord(record=signed.record.canonical(), signature=signed.signature)
        try:
            control.deliver(letter, bob)
        except Refused as refusal:
            return refusal.code
        except UsageError:
            return grpc.StatusCode.INVALID_ARGUMENT  # as `wire` answers
        return None

    assert answer(place.proposal("bob", study, place.job("bob"))) is None
    later = answer(place.proposal("bob", study, place.job("bob")))
    assert later == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert later not in courier._FOR_EVER
    never = answer(place.proposal("bob", other, place.job("bob")))
    assert never == grpc.StatusCode.INVALID_ARGUMENT
    assert never in courier._FOR_EVER


def test_jobs_of_one_submitter_in_a_day_are_bounded_also_when_all_have_ended(
    place: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DAILY_JOBS", 3)
    place.agree()
    for _ in range(3):
        place.state.mark(place.desk.propose(place.job(ME).to_bytes()), closed=True)
    with pytest.raises(TooMany, match="within a day"):
        place.desk.propose(place.job(ME).to_bytes())


def test_a_share_that_comes_when_all_is_over_is_not_kept(place: Office) -> None:
    study = place.agree()
    job = place.proposed("bob", study)
    place.desk.receive(place.record("carol", study, job.digest, Share.of(b"in time")))
    place.state.mark(job.digest, closed=True)
    with pytest.raises(Mismatched, match="is over at alice"):
        place.desk.receive(place.record("bob", study, job.digest, Share.of(b"late")))
    # Of what is here already the courier only hears that it is.
    assert not place.desk.receive(place.record("carol", study, job.digest, Share.of(b"in time")))


def test_a_job_that_breaks_more_terms_than_can_be_told_is_refused(place: Office) -> None:
    study = place.agree()
    job = place.proposed("bob", study, parameters={f"p{number}": 1 for number in range(3000)})
    place.scheduler.judge(job)
    decision = place.state.records(job.digest)[-1].record.body
    assert isinstance(decision, Decision)
    assert not decision.accept
    assert len(decision.reasons) == MOST_REASONS
    assert decision.reasons[-1].endswith("reasons more")


def test_a_job_too_long_to_be_a_record_is_refused_in_words(place: Office) -> None:
    place.agree()
    many = {f"p{number}": "x" * 9000 for number in range(40)}
    with pytest.raises(UsageError, match="bytes; a job has"):
        place.desk.propose(place.job(ME, parameters=many).to_bytes())


def test_receipts_come_from_who_gives_them_and_are_about_members(place: Office) -> None:
    study = place.agree()
    job = place.proposed("bob", study)
    head = place.audit.head()
    keys = {name: party.signing_key() for name, party in place.parties.items()}

    def give(by: str, owner: str, *, author: str = "bob", key: str | None = None) -> None:
        receipt = make_receipt(keys[key or by], by, owner, head.seq, head.digest)
        place.desk.receive(place.record(author, study, job.digest, Countersigned(receipt=receipt)))

    for number in range(3):
        with pytest.raises(Mismatched, match="to the other members"):
            give("bob", f"stranger-{number}")
    with pytest.raises(Mismatched, match="to the other members"):
        give("bob", "bob")
    with pytest.raises(Mismatched, match="in its own name"):
        give("carol", ME)
    for owner in (ME, "carol"):
        with pytest.raises(Mismatched, match="bob did not sign"):
            give("bob", owner, key="carol")
    unknown = make_receipt(keys["bob"], "bob", ME, 10**6, "9" * 64)
    with pytest.raises(Mismatched, match="of no use"):
        place.desk.receive(place.record("bob", study, job.digest, Countersigned(receipt=unknown)))
    give("bob", ME)
    give("bob", "carol")
    assert len(place.state.records(job.digest)) == 3
    peers = {name: public_key(key) for name, key in keys.items() if name != ME}
    assert verify(place.folder / "audit.jsonl", public_key(keys[ME]), peers, owner=ME) == []


def test_a_late_outcome_opens_a_closed_job_again(place: Office) -> None:
    study = place.agree()
    job = place.proposed("bob", study)
    place.state.mark(job.digest, closed=True)
    place.desk.receive(place.record("carol", study, job.digest, Decision(accept=True)))
    assert place.state.job(job.digest).closed
    place.desk.receive(place.record("carol", study, job.digest, Outcome(success=True, head=HEAD)))
    assert not place.state.job(job.digest).closed


def test_what_others_write_cannot_steer_a_stewards_terminal(place: Office) -> None:
    study = place.agree()
    job = place.proposed("bob", study, parameters={"solver": "\x1b]0;owned\x07\x9b2J"})
    refusal = Decision(accept=False, reasons=["no\x1b[2J\n\u202eyes"])
    place.desk.receive(place.record("carol", study, job.digest, refusal))
    outcome = Outcome(success=False, reason="\x1b[31mred", head=HEAD)
    place.desk.receive(place.record("bob", study, job.digest, outcome))
    own = place.parties[ME].identity.certificate
    control = Control(own, place.state, place.held, place.audit, place.desk, place.scheduler)
    view = View.of(control.show(pb.JobName(job=job.digest)))
    assert {part.member: part.reasons for part in view.parts}["carol"] == ("no?[2J ?yes",)
    shown = "\n".join(_described(view))
    assert "solver = ?]0;owned??2J" in shown
    assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_letters_that_must_wait_keep_nothing_back(place: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    study = place.agree()
    place.desk.close()
    digests = [place.desk.propose(place.job(ME).to_bytes()) for _ in range(120)]
    peer = study.peers[0]
    carrier = courier.Courier(place.parties[ME].identity, peer, place.state)
    carrier.close()
    carrier._over, carrier._said = False, None
    sent = []

    def send(letter: Letter) -> bool:
        sent.append(Record.from_canonical(letter.record).job)
        return False

    monkeypatch.setattr(carrier, "_send", send)
    assert carrier._round() == [False] * 120
    assert sent == digests
