"""What other members and clients send to a desk cannot spoil its log or end its daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from mpcpriv.audit.receipt import make_receipt
from mpcpriv.errors import UsageError
from mpcpriv.party.desk import MOST_REASONS, Mismatched
from mpcpriv.party.records import MAX_BYTES, MAX_DOCUMENT, Countersigned, Decision, Proposal, SignedRecord
from tests.fuzz import examples
from tests.fuzz.door import ME, PEER, closed, opened
from tests.unit import agreements


@pytest.fixture
def daemon() -> Iterator[Any]:
    daemon = opened()
    try:
        yield daemon
    finally:
        assert closed(daemon) == []


def proposed(daemon: Any, **changes: Any) -> Any:
    digest = daemon.desk.propose(agreements.signed_job(**changes).to_bytes())
    return daemon.state.job(digest)


def decided(daemon: Any, job: Any) -> Any:
    records = [one.record for one in daemon.state.records(job.digest)]
    (decision,) = [record for record in records if isinstance(record.body, Decision)]
    return decision


def test_a_job_that_breaks_thousands_of_terms_is_refused_and_told_so(daemon: Any) -> None:
    columns = [f"{number} \U0001f600 {'é' * 100}" for number in range(3000)]
    job = proposed(daemon, inputs=[{"dataset": "alice-patients", "columns": columns}])
    daemon.scheduler.judge(job)
    (decision,) = [
        one.record for one in daemon.state.records(job.digest) if isinstance(one.record.body, Decision)
    ]
    assert not decision.body.accept
    assert len(decision.body.reasons) == MOST_REASONS
    assert "more reasons" in decision.body.reasons[-1]


def test_the_longest_reasons_fit_into_a_record_and_the_log(daemon: Any) -> None:
    (job,) = daemon.state.jobs()
    daemon.desk.decide(job, accept=False, reasons=["\U0001f600" * 5000] * 5000)
    (decision,) = [
        one.record for one in daemon.state.records(job.digest) if isinstance(one.record.body, Decision)
    ]
    assert len(decision.canonical()) < MAX_BYTES


def test_the_longest_job_fits_into_a_record_and_a_longer_one_is_refused(daemon: Any) -> None:
    def inputs(count: int) -> list[dict[str, Any]]:
        return [{"dataset": "alice-patients", "columns": ["\\" * 120] * count}]

    job = proposed(daemon, inputs=inputs(4000))  # a backslash is four in a record
    (proposal,) = [one.record for one in daemon.state.records(job.digest)]
    assert MAX_DOCUMENT < len(proposal.canonical()) <= MAX_BYTES
    with pytest.raises(UsageError, match="longer than 1048576 bytes"):
        proposed(daemon, inputs=inputs(5000))


@pytest.mark.parametrize(("by", "key"), [("dealer", PEER), (PEER, "dealer"), (PEER, PEER)])
def test_a_receipt_is_its_authors_own_or_does_not_come_into_the_log(daemon: Any, by: str, key: str) -> None:
    head = daemon.audit.head()
    receipt = make_receipt(agreements.key(key), by, ME, head.seq, head.digest)
    record = examples.record(Countersigned(receipt=receipt), PEER)
    signed = SignedRecord.sign(record, agreements.key(PEER))
    if (by, key) == (PEER, PEER):
        assert daemon.desk.receive(signed)
        assert daemon.audit.head().seq == head.seq + 1
    else:
        with pytest.raises(Mismatched):
            daemon.desk.receive(signed)
        assert daemon.audit.head() == head


def test_a_proposal_of_another_job_is_refused(daemon: Any) -> None:
    document = agreements.signed_job(inputs=examples.INPUTS).to_bytes().decode()
    signed = SignedRecord.sign(examples.record(Proposal(document=document), PEER), agreements.key(PEER))
    with pytest.raises(Mismatched, match="another job"):
        daemon.desk.receive(signed)
