"""What a daemon must not forget, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import sqlite3
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy.exc import SQLAlchemyError

from mpcpriv.errors import UsageError
from mpcpriv.party import state as module
from mpcpriv.party.records import (
    AuditHead,
    Body,
    Commitment,
    Decision,
    Outcome,
    Proposal,
    Record,
    Share,
    SignedRecord,
)
from mpcpriv.party.state import Contradiction, State, Unknown
from mpcpriv.privacy.ledger import Charge, NotReserved
from mpcpriv.privacy.loss import Allowance, Loss
from mpcpriv.release import Layout

KEY = Ed25519PrivateKey.generate()
AGREEMENT, JOB = "a" * 64, "b" * 64
SEEN = datetime(2027, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def state(url: str) -> Iterator[State]:
    opened = State(url)
    opened.add_agreement(AGREEMENT, "study", 1, b"terms")
    yield opened
    opened.close()


def signed(member: str, body: Body, job: str = JOB) -> SignedRecord:
    return SignedRecord.sign(Record(agreement=AGREEMENT, job=job, member=member, body=body), KEY)


PROPOSAL = signed("alice", Proposal(document="{}"))
ACCEPT, REFUSE = Decision(accept=True), Decision(accept=False, reasons=["no"])
OUTCOME = Outcome(success=True, head=AuditHead(sequence=1, entry="c" * 64))


def test_everything_is_there_again_after_a_restart(url: str, state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN, peers=["p1", "p2"])
    state.add(signed("bob", ACCEPT))
    state.add(signed("alice", OUTCOME), ["p1"], result=b"result")
    state.mark(JOB, pending=True)
    other = State(url)
    (job,) = other.jobs()
    assert (job.digest, job.agreement, job.document, job.seen) == (JOB, AGREEMENT, b"job", SEEN)
    assert (job.pending, job.closed, job.result) == (True, False, True)
    assert other.result(JOB) == b"result"
    assert other.agreements() == [b"terms"]
    assert [one.record.body for one in other.records(JOB)] == [Proposal(document="{}"), ACCEPT, OUTCOME]
    assert [letter.record for letter in other.outbox("p2")] == [PROPOSAL.record.canonical()]
    assert len(other.outbox("p1")) == 2
    other.close()


COMMITMENT = Commitment(
    rows={"north": 3},
    layout=[Layout(name="query", size=1, bits=0)],
    transcript="1" * 64,
    share="2" * 64,
    inputs="3" * 64,
)
CHARGE = Charge(Loss.pure_dp(0.5), Allowance(1.0, 0.0), 0)


def test_a_commitment_its_share_and_its_debit_are_kept_together_or_not_at_all(url: str, state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    commitment, share = signed("bob", COMMITMENT), signed("bob", Share.of(b"share"))
    with pytest.raises(NotReserved):
        state.commit(commitment, share, ["p"], "5a", paid=True)
    assert len(state.records(JOB)) == 1
    assert (state.outbox("p"), state.salt(JOB)) == ([], None)
    assert state.ledger.reserve(JOB, "study", {"north": CHARGE}, SEEN) == []
    state.commit(commitment, share, ["p"], "5a", paid=True)
    other = State(url)
    assert other.salt(JOB) == "5a"
    assert [letter.record for letter in other.outbox("p")] == [commitment.record.canonical()]
    (entry,) = other.ledger.entries()
    assert (entry.state, entry.inputs) == ("debited", "3" * 64)
    with pytest.raises(Contradiction):
        other.commit(commitment, share, ["p"], "5a", paid=True)
    # The share waits until it is posted; to post it again is no second letter.
    for _ in range(2):
        other.post(JOB, "bob", "share", ["r"])
    assert [letter.record for letter in other.outbox("r")] == [share.record.canonical()]
    other.close()


def test_a_write_that_fails_does_not_say_what_was_written(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    with state._engine.begin() as connection:
        for table in ("outbox", "records"):
            connection.exec_driver_sql(f"DROP TABLE {table}")
    with pytest.raises(SQLAlchemyError) as found:
        state.commit(signed("bob", COMMITMENT), signed("bob", Share.of(b"share")), [], "5a", paid=False)
    said = "".join(traceback.format_exception(found.value))
    assert "INSERT INTO records" in said
    assert COMMITMENT.share not in said
    # And so with what comes with the share, the result, and the salt.
    with pytest.raises(SQLAlchemyError) as found, state._engine.begin() as connection:
        connection.execute(sa.text("UPDATE records SET record = :share"), {"share": b"a-share"})
    assert "a-share" not in str(found.value)


def test_what_is_no_longer_kept_is_not_posted(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    state.commit(signed("bob", COMMITMENT), signed("bob", Share.of(b"share")), [], "5a", paid=False)
    state.forget(JOB)
    with pytest.raises(Unknown, match="share was kept for as long as was agreed"):
        state.post(JOB, "bob", "share", ["r"])


def test_a_second_share_for_one_debit_is_refused(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    state.ledger.reserve(JOB, "study", {"north": CHARGE}, SEEN)
    state.commit(signed("bob", COMMITMENT), signed("bob", Share.of(b"share")), [], "5a", paid=True)
    again = COMMITMENT.model_copy(update={"share": "4" * 64})
    with pytest.raises(Contradiction, match="another share"):
        state.commit(signed("bob", again), signed("bob", Share.of(b"other")), [], "5b", paid=True)
    assert [one.record.body for one in state.records(JOB)][1:] == [COMMITMENT, Share.of(b"share")]


def test_a_record_is_written_once(state: State) -> None:
    assert state.add_job(PROPOSAL, b"job", seen=SEEN)
    assert not state.add_job(PROPOSAL, b"job", seen=SEEN)
    assert state.add(signed("bob", ACCEPT), ["p"])
    assert not state.add(signed("bob", ACCEPT), ["p"])
    with pytest.raises(Contradiction, match="bob wrote two different decisions"):
        state.add(signed("bob", REFUSE))
    assert [one.record.body for one in state.records(JOB)][1:] == [ACCEPT]
    assert len(state.outbox("p")) == 1


def test_of_writers_at_once_one_wins(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    bodies = [Decision(accept=False, reasons=[f"reason {n}"]) for n in range(8)]
    won: list[Body] = []
    lost: list[str] = []
    start = threading.Barrier(len(bodies))

    def write(body: Body) -> None:
        start.wait()
        try:
            state.add(signed("bob", body))
            won.append(body)
        except Contradiction as error:
            lost.append(str(error))

    threads = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(won) == 1
    assert len(lost) == len(bodies) - 1
    assert [one.record.body for one in state.records(JOB)][1:] == won


def test_what_is_confirmed_is_not_delivered_again(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN, peers=["p1", "p2"])
    (letter,) = state.outbox("p1")
    state.delivered(letter.number, "p1")
    assert state.outbox("p1") == []
    assert len(state.outbox("p2")) == 1


def test_a_record_of_an_unknown_job_is_not_kept(state: State) -> None:
    with pytest.raises(Unknown):
        state.add(signed("bob", ACCEPT))


def test_a_changed_agreement_needs_a_higher_version(state: State) -> None:
    state.add_agreement(AGREEMENT, "study", 1, b"terms")
    with pytest.raises(Contradiction, match="higher version"):
        state.add_agreement("d" * 64, "study", 1, b"others")
    state.add_agreement("d" * 64, "study", 2, b"others")
    assert state.agreements() == [b"terms", b"others"]


def test_a_job_is_found_by_the_beginning_of_its_digest(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    assert state.job(JOB[:8]).digest == JOB
    for wrong in (JOB[:7], "c" * 8, "%" * 8, ""):
        with pytest.raises(Unknown):
            state.job(wrong)
    other = JOB[:10] + "0" * 54
    state.add_job(signed("alice", Proposal(document="[]"), other), b"job", seen=SEEN)
    with pytest.raises(Unknown, match="more than one"):
        state.job(JOB[:8])


def test_closed_jobs_are_left_out_where_only_open_ones_are_asked_for(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN)
    assert len(state.jobs(open_only=True)) == 1
    state.mark(JOB, closed=True)
    assert state.jobs(open_only=True) == []
    assert len(state.jobs()) == 1


def test_the_migrations_make_what_the_code_uses(url: str, state: State) -> None:
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = sa.inspect(connection)
        for table in module._META.tables.values():
            columns = {column["name"]: column["nullable"] for column in found.get_columns(table.name)}
            assert columns == {column.name: bool(column.nullable) for column in table.columns}
            assert set(found.get_pk_constraint(table.name)["constrained_columns"]) == {
                column.name for column in table.primary_key
            }
    engine.dispose()


def test_sqlite_syncs_every_transaction(tmp_path: Path) -> None:
    opened = State(f"sqlite:///{tmp_path / 's.sqlite'}")
    with opened._engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
    opened.close()


def test_reading_waits_for_no_writer(state: State) -> None:
    state.add_job(PROPOSAL, b"job", seen=SEEN, peers=["p"])
    with state._engine.begin() as connection:
        connection.execute(module._jobs.update().values(pending=True))
        assert [state.job(JOB).pending, state.jobs()[0].pending] == [False, False]
        assert len(state.records(JOB)) == len(state.outbox("p")) == len(state.agreements()) == 1
        assert (state.result(JOB), state.salt(JOB)) == (None, None)
    assert state.job(JOB).pending


def test_a_database_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"daemon\.state"):
        State(f"sqlite:///{tmp_path / 'nowhere' / 's.sqlite'}")
    with pytest.raises(UsageError, match=r"daemon\.state"):
        State("no such url")
    (tmp_path / "text").write_text("not a database, but long enough to be looked at as one" * 20)
    with pytest.raises((UsageError, sqlite3.DatabaseError, sa.exc.DatabaseError)):
        State(f"sqlite:///{tmp_path / 'text'}")
