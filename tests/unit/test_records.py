"""The fate of a job follows from the set of records, whatever their order, and never goes back."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from mpcpriv.party.records import (
    RANK,
    SETTLED,
    AuditHead,
    Body,
    Decision,
    Fate,
    Outcome,
    Proposal,
    Ready,
    Record,
    SignedRecord,
    fate,
)

MEMBERS = ("alice", "bob", "reader", "dealer")
PARTIES = ("alice", "bob")
RECIPIENTS = ("bob", "reader")
HEAD = AuditHead(sequence=3, entry="0" * 64)


def record(member: str, body: Body) -> Record:
    return Record(agreement="a" * 64, job="b" * 64, member=member, body=body)


def of(records: Iterable[Record]) -> Fate:
    return fate(records, MEMBERS, PARTIES, RECIPIENTS)


ACCEPT = Decision(accept=True)
REFUSE = Decision(accept=False, reasons=["too much", "too late"])
SUCCESS = Outcome(success=True, head=HEAD)
FAILURE = Outcome(success=False, reason="killed", head=HEAD)
READY = Ready(address="host:1", epoch="0" * 32)

# What one honest member may have written by the end, in all: once each, and success only after acceptance.
LIVES: tuple[tuple[Body, ...], ...] = (
    (),
    (REFUSE,),
    (ACCEPT,),
    (FAILURE,),
    (REFUSE, FAILURE),
    (ACCEPT, READY),
    (ACCEPT, READY, SUCCESS),
    (ACCEPT, READY, FAILURE),
    (ACCEPT, FAILURE),
)


def test_every_set_of_three_members_has_the_expected_fate() -> None:
    members = ("alice", "bob", "dealer")
    for lives in itertools.product(LIVES, repeat=3):
        records = [record(member, body) for member, life in zip(members, lives, strict=True) for body in life]
        state = fate(records, members, members[:2], members[1:]).state
        if any(REFUSE in life for life in lives):
            assert state == "refused"
        elif any(FAILURE in life for life in lives):  # each of the three computes or reads
            assert state == "failed"
        elif all(SUCCESS in life for life in lives):
            assert state == "finished"
        elif all(ACCEPT in life for life in lives):
            assert state == "running"
        else:
            assert state == "proposed"


LIFE = st.sampled_from(LIVES)


@given(st.tuples(*[LIFE] * len(MEMBERS)), st.data())
def test_order_and_duplicates_do_not_matter_and_no_fate_goes_back(
    lives: tuple[tuple[Body, ...], ...], data: st.DataObject
) -> None:
    records = [record(member, body) for member, life in zip(MEMBERS, lives, strict=True) for body in life]
    whole = of(records)
    shuffled = data.draw(st.permutations(records * 2))
    assert of(shuffled) == whole
    before = -1
    for end in range(len(shuffled) + 1):
        state = of(shuffled[:end]).state
        assert RANK[state] >= before
        before = RANK[state]
    assert RANK[whole.state] == before


@given(st.tuples(*[LIFE] * len(MEMBERS)), st.data())
def test_a_finished_job_is_finished_for_everybody(
    lives: tuple[tuple[Body, ...], ...], data: st.DataObject
) -> None:
    """If any part of the records says finished, then what honest members add does not change it."""
    records = [record(member, body) for member, life in zip(MEMBERS, lives, strict=True) for body in life]
    one = data.draw(st.lists(st.sampled_from(records))) if records else []
    if of(one).state == "finished":
        honest_rest = [r for r in records if not (r.member == "dealer" and isinstance(r.body, Outcome))]
        assert of([*one, *honest_rest]).state == "finished"


def test_reasons_name_who_and_all_of_them() -> None:
    found = of([record("bob", REFUSE), record("alice", ACCEPT)])
    assert found == Fate("refused", ("bob: too late", "bob: too much"), ("dealer", "reader"))
    assert of([record("bob", FAILURE)]).reasons == ("bob: killed",)


def test_a_stranger_decides_nothing() -> None:
    assert of([record("eve", REFUSE), record("eve", FAILURE)]).state == "proposed"


def test_a_dealer_that_fails_late_does_not_matter() -> None:
    accepted = [record(member, ACCEPT) for member in MEMBERS]
    assert of([*accepted, record("dealer", FAILURE)]).state == "running"
    succeeded = [record(member, SUCCESS) for member in ("alice", "bob", "reader")]
    assert of([*accepted, record("dealer", FAILURE), *succeeded]).state == "finished"


def test_who_computes_or_reads_and_has_not_succeeded_is_waited_for() -> None:
    accepted = [record(member, ACCEPT) for member in MEMBERS]
    succeeded = [record(member, SUCCESS) for member in ("alice", "bob", "reader")]
    assert of(accepted + succeeded[:-1]).state == "running"
    assert of(accepted + succeeded).state == "finished"
    assert of(accepted[:-1] + succeeded).state == "proposed"
    assert {"finished", "failed", "refused"} == SETTLED


def test_a_signature_is_of_this_record_and_this_key() -> None:
    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    signed = SignedRecord.sign(record("alice", ACCEPT), key)
    assert signed.verify(public_key(key))
    assert not signed.verify(public_key(other))
    assert not SignedRecord(record("bob", ACCEPT), signed.signature).verify(public_key(key))
    assert not SignedRecord(record("alice", REFUSE), signed.signature).verify(public_key(key))


@given(st.binary(max_size=300))
def test_bytes_are_a_record_in_its_one_encoding_or_one_error(data: bytes) -> None:
    try:
        read = Record.from_canonical(data)
    except UsageError:
        return
    assert read.canonical() == data


@given(st.data())
def test_one_changed_byte_of_a_record_is_noticed(data: st.DataObject) -> None:
    key = Ed25519PrivateKey.generate()
    body = data.draw(st.sampled_from([ACCEPT, REFUSE, SUCCESS, FAILURE, READY, Proposal(document="{}")]))
    signed = SignedRecord.sign(record("alice", body), key)
    whole = bytearray(signed.record.canonical())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        changed = Record.from_canonical(bytes(whole))
    except UsageError:
        return
    assert not SignedRecord(changed, signed.signature).verify(public_key(key))


@pytest.mark.parametrize("kind", ["proposal", "decision", "ready", "outcome"])
def test_there_is_one_slot_per_member_and_kind(kind: str) -> None:
    bodies: dict[str, Body] = {
        "proposal": Proposal(document="{}"),
        "decision": ACCEPT,
        "ready": READY,
        "outcome": SUCCESS,
    }
    assert record("alice", bodies[kind]).slot == ("b" * 64, "alice", kind, "")
