"""One member's desk and scheduler without a network; the tests are the other members."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.audit.log import AuditLog
from mpcpriv.documents import public_key
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.config import DaemonConfig, Party, create
from mpcpriv.party.desk import Desk
from mpcpriv.party.held import Agreements, Held
from mpcpriv.party.records import Body, Proposal, Record, SignedRecord
from mpcpriv.party.scheduler import Scheduler
from mpcpriv.party.state import State, StoredJob
from tests.unit import agreements

ME = "alice"


@dataclass(frozen=True)
class Office:
    """All that is alice's, and the keys of the others."""

    folder: Path
    parties: dict[str, Party]
    state: State
    audit: AuditLog
    held: Agreements
    desk: Desk
    scheduler: Scheduler

    def agree(self, name: str = "study", roles: dict[str, list[str]] | None = None, **changes: Any) -> Held:
        """An agreement of all, held here; members have other `roles` than usually."""
        now = datetime.now(UTC).replace(microsecond=0)
        members = []
        for port, one in enumerate(agreements.content()["members"], start=1):
            party = self.parties[one["name"]]
            keys = {
                "certificate": party.identity.certificate.pem.decode(),
                "signing_key": public_key(party.signing_key()),
            }
            role = (roles or {}).get(one["name"], one["roles"])
            members.append({**one, **keys, "roles": role, "endpoint": f"127.0.0.1:{port}"})
        validity = {"valid_from": now - timedelta(days=1), "valid_until": now + timedelta(days=9)}
        terms = agreements.agreement(**{"id": name, "members": members, **validity, **changes})
        signed = SignedAgreement.unsigned(terms)
        for member, party in self.parties.items():
            signed = signed.signed_by(member, party.signing_key())
        held, _ = self.held.add(signed.to_bytes())
        self.desk.open(held)
        return held

    def job(self, submitter: str, agreement: str = "study", **changes: Any) -> SignedJob:
        now = datetime.now(UTC).replace(microsecond=0)
        times = {"created": now, "expires": now + timedelta(hours=1)}
        content = {**agreements.job_content(), "agreement": agreement, "submitter": submitter}
        job = Job.model_validate({**content, **times, **changes})
        return SignedJob.sign(job, self.parties[submitter].signing_key())

    def record(self, member: str, held: Held, job: str, body: Body) -> SignedRecord:
        record = Record(agreement=held.digest, job=job, member=member, body=body)
        return SignedRecord.sign(record, self.parties[member].signing_key())

    def proposal(self, member: str, held: Held, job: SignedJob) -> SignedRecord:
        return self.record(member, held, job.job.digest(), Proposal(document=job.to_bytes().decode()))

    def proposed(self, member: str, held: Held, **changes: Any) -> StoredJob:
        """A job that `member` has proposed."""
        job = self.job(member, held.signed.agreement.id, **changes)
        assert self.desk.receive(self.proposal(member, held, job))
        return self.state.job(job.job.digest())

    def said(self, job: str, kind: type) -> list[Any]:
        """What alice has written of that kind."""
        records = [signed.record for signed in self.state.records(job)]
        return [one.body for one in records if one.member == ME and isinstance(one.body, kind)]


@contextmanager
def office(folder: Path, minutes: float = 60.0) -> Iterator[Office]:
    parties = {name: create(folder / name, name) for name in agreements.MEMBERS}
    mine = parties[ME]
    state = State(f"sqlite:///{folder / 'state.sqlite'}")
    audit = AuditLog(folder / "audit.jsonl", mine.signing_key(), ME)
    held = Agreements(mine.identity, public_key(mine.signing_key()), state)
    desk = Desk(mine.identity, mine.signing_key(), state, audit, held, lambda: None)
    config = DaemonConfig("127.0.0.1:0", "", folder / "audit.jsonl", "127.0.0.1", 1, 1 << 30, minutes * 60)
    try:
        yield Office(folder, parties, state, audit, held, desk, Scheduler(mine, config, state, held, desk))
    finally:
        desk.close()
        audit.close()
        state.close()
