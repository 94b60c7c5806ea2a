"""What this member writes: each record once, told to the audit log first, durable, then on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit.log import AuditLog
from mpcpriv.audit.receipt import Receipt
from mpcpriv.errors import PeerRefused, UsageError
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.courier import Courier
from mpcpriv.party.held import Agreements, Held
from mpcpriv.party.records import (
    MAX_DOCUMENT,
    AuditHead,
    Body,
    Countersigned,
    Decision,
    Outcome,
    Proposal,
    Ready,
    Record,
    SignedRecord,
)
from mpcpriv.party.state import State, StoredJob
from mpcpriv.transport.tls import Identity

log = structlog.get_logger()

LONGEST_REASON = 2000
MOST_REASONS = 100
"""So many of the longest fit into a record and into an entry of the audit log."""


def plain(reason: str) -> str:
    """A reason as one printable line of bounded length."""
    words = " ".join(reason.split())
    return (
        "".join(letter if letter.isprintable() else "?" for letter in words)[:LONGEST_REASON] or "no reason"
    )


def listed(reasons: Sequence[str]) -> list[str]:
    """Reasons as they are told: one line each, and not without end."""
    more = len(reasons) - MOST_REASONS
    said = [plain(reason) for reason in reasons[:MOST_REASONS]]
    return said if more <= 0 else [*said[:-1], f"and {more + 1} more reasons"]


class Mismatched(UsageError):
    """A record that can never be right."""


class Desk:
    """Writes and receives records. Methods may be called from any thread.

    Args:
        identity: this member's certificate and key.
        key: its signing key.
        state: where records are kept.
        audit: its log.
        agreements: that it holds.
        changed: called after every record that is new here.
    """

    def __init__(
        self,
        identity: Identity,
        key: Ed25519PrivateKey,
        state: State,
        audit: AuditLog,
        agreements: Agreements,
        changed: Callable[[], None],
    ) -> None:
        self.me = identity.party
        self._identity = identity
        self._key = key
        self._state = state
        self._audit = audit
        self._agreements = agreements
        self._changed = changed
        # Over the look whether a record is there, its audit entry, and the record.
        self._lock = threading.RLock()
        self._couriers: dict[str, Courier] = {}
        for held in agreements.all():
            self.open(held)

    def open(self, held: Held) -> None:
        """Delivers to the members of this agreement from now on."""
        with self._lock:
            for peer in held.peers:
                if peer.key not in self._couriers:
                    self._couriers[peer.key] = Courier(self._identity, peer, self._state)

    def close(self) -> None:
        """Delivers nothing more."""
        for courier in self._couriers.values():
            courier.close()

    def delivered(self) -> bool:
        """Whether everybody has everything."""
        return not any(self._state.outbox(peer, 1) for peer in self._couriers)

    def own(self, job: str, kind: str) -> bool:
        """Whether this member has written such a record about the job."""
        return any(
            signed.record.member == self.me and signed.record.body.kind == kind
            for signed in self._state.records(job)
        )

    # -- of this member

    def propose(self, document: bytes) -> str:
        """Proposes a signed job; the same one again changes nothing. Returns its digest.

        Raises:
            UsageError: it is no signed job, or a longer one than any record holds, or its agreement is not
                held.
        """
        if len(document) > MAX_DOCUMENT:
            raise UsageError(
                f"signed job: longer than {MAX_DOCUMENT} bytes; name fewer columns or parameters"
            )
        signed = SignedJob.from_bytes(document)
        held = self._agreements.find(signed.job.agreement, signed.job.version)
        digest = signed.job.digest()
        record = self._record(held, digest, Proposal(document=document.decode()))
        with self._lock:
            if not any(job.digest == digest for job in self._state.jobs()):
                self._proposed(held, signed)
                self._state.add_job(
                    record, document, seen=datetime.now(UTC), peers=[peer.key for peer in held.peers]
                )
        self._sent(held)
        return digest

    def decide(
        self, job: StoredJob, *, accept: bool, reasons: Sequence[str] = (), steward: bool = False
    ) -> None:
        """Accepts or refuses, unless that has been done."""
        with self._lock:
            if self.own(job.digest, "decision"):
                return
            said = listed(reasons)
            self._decided(job.digest, self.me, accept=accept, reasons=said, steward=steward)
            self._write(job, Decision(accept=accept, reasons=said))
            self._state.mark(job.digest, pending=False)
        log.info("decided", job=job.digest, accept=accept, reasons=said)

    def ready(self, job: StoredJob, address: str, epoch: str) -> None:
        """Says where the worker listens."""
        with self._lock:
            if not self.own(job.digest, "ready"):
                self._write(job, Ready(address=address, epoch=epoch))

    def started(self, job: StoredJob) -> None:
        """Notes that a worker was started."""
        held = self._agreements.get(job.agreement)
        agreement = held.signed.agreement
        self._audit.append(
            "started",
            job=job.digest,
            **_under(held),
            parties=list(agreement.parties()),
            dealer=agreement.dealer(),
        )
        log.info("started", job=job.digest)

    def cancelled(self, job: StoredJob) -> None:
        """Notes that this member's own client has cancelled a job."""
        self._audit.append("cancelled", job=job.digest, by=self.me)

    def fetched(self, job: StoredJob, output: str) -> None:
        """Notes that the result was handed to this member's own client."""
        self._audit.append("fetched", job=job.digest, by=self.me, output_digest=output)

    def succeed(
        self,
        job: StoredJob,
        inputs: str | None = None,
        output: str | None = None,
        result: bytes | None = None,
        salt: str | None = None,
    ) -> None:
        """This member's part is done.

        Args:
            job: the job.
            inputs: digest of what it put in.
            output: digest of what was released to it.
            result: what was released to it.
            salt: of `inputs`; it stays here.
        """
        held = self._agreements.get(job.agreement)
        with self._lock:
            if self.own(job.digest, "outcome"):
                return
            if result is not None and output is not None:
                asked = SignedJob.from_bytes(job.document).job
                self._audit.append(
                    "released",
                    job=job.digest,
                    **_under(held),
                    analysis=asked.analysis,
                    recipients=list(asked.release.recipients),
                    output_digest=output,
                )
            self._ended(job.digest, self.me, True, "", inputs, output)
            body = Outcome(success=True, inputs=inputs, output=output, head=self._head())
            self._write(job, body, result, salt)
        log.info("succeeded", job=job.digest)

    def fail(self, job: StoredJob, reason: str) -> None:
        """This member's part has failed, or will not be done; for a reason that the others may read."""
        said = plain(reason)
        with self._lock:
            if self.own(job.digest, "outcome"):
                return
            self._ended(job.digest, self.me, False, said, None, None)
            self._write(job, Outcome(success=False, reason=said, head=self._head()))
        log.warning("failed", job=job.digest, reason=said)

    def countersign(self, job: StoredJob, member: str, head: AuditHead) -> None:
        """Countersigns the head in another member's outcome.

        A member that shows two histories gets no receipt, and that is logged.
        """
        with self._lock:
            try:
                receipt = self._audit.give_receipt(member, head.sequence, head.entry)
            except PeerRefused as error:
                log.warning("a peer's audit log has two histories", job=job.digest, why=str(error))
                return
            self._write(job, Countersigned(receipt=receipt))

    # -- of the others

    def receive(self, signed: SignedRecord) -> bool:
        """Keeps another member's record, verified before; False if it was here.

        Raises:
            Contradiction: the member has written another one.
            Unknown: its job is not known here.
            UsageError: it holds no signed job, or that of another digest, or no receipt of its author's.
        """
        record, body = signed.record, signed.record.body
        held = self._agreements.get(record.agreement)
        with self._lock:
            known = {one.record.slot for one in self._state.records(record.job)}
            fresh = record.slot not in known
            if isinstance(body, Proposal):
                document = body.document.encode()
                job = SignedJob.from_bytes(document)
                if job.job.digest() != record.job:
                    raise Mismatched(f"the proposal of {record.job[:16]} holds another job")
                if fresh:
                    self._proposed(held, job)
                added = self._state.add_job(signed, document, seen=datetime.now(UTC))
            else:
                stored = self._state.job(record.job)
                if stored.agreement != record.agreement:
                    raise Mismatched(f"job {record.job[:16]} is under another agreement")
                if fresh:
                    self._note(record, held)
                added = self._state.add(signed)
        if added:
            self._changed()
        return added

    def _note(self, record: Record, held: Held) -> None:
        body = record.body
        if isinstance(body, Decision):
            reasons = [plain(reason) for reason in body.reasons]
            if not body.accept and not reasons:
                raise Mismatched("a refusal has a reason")
            self._decided(record.job, record.member, accept=body.accept, reasons=reasons, steward=False)
        elif isinstance(body, Outcome):
            reason = plain(body.reason) if not body.success else ""
            self._ended(record.job, record.member, body.success, reason, body.inputs, body.output)
        elif isinstance(body, Countersigned):
            self._countersigned(record.member, body.receipt, held)

    def _countersigned(self, member: str, receipt: Receipt, held: Held) -> None:
        """Keeps a receipt for this member's log; one that is none would spoil the log it stands in."""
        if receipt.by != member:
            raise Mismatched(f"a receipt by {receipt.by} in a record of {member}")
        if receipt.owner == self.me:
            try:
                self._audit.keep_receipt(receipt, held.signing_key(member) or "")
            except PeerRefused as error:
                raise Mismatched(str(error)) from None

    # -- how it is written

    def _record(self, held: Held, job: str, body: Body) -> SignedRecord:
        return SignedRecord.sign(Record(agreement=held.digest, job=job, member=self.me, body=body), self._key)

    def _write(
        self, job: StoredJob, body: Body, result: bytes | None = None, salt: str | None = None
    ) -> None:
        held = self._agreements.get(job.agreement)
        record = self._record(held, job.digest, body)
        self._state.add(record, [peer.key for peer in held.peers], result, salt)
        self._sent(held)

    def _sent(self, held: Held) -> None:
        for peer in held.peers:
            self._couriers[peer.key].wake()
        self._changed()

    def _head(self) -> AuditHead:
        head = self._audit.head()
        return AuditHead(sequence=head.seq, entry=head.digest)

    def _proposed(self, held: Held, signed: SignedJob) -> None:
        job = signed.job
        self._audit.append(
            "proposed",
            job=job.digest(),
            **_under(held),
            submitter=job.submitter,
            analysis=job.analysis,
            purpose=job.purpose,
            datasets=[one.dataset for one in job.inputs],
            recipients=list(job.release.recipients),
        )
        log.info("proposed", job=job.digest(), submitter=job.submitter, agreement=job.agreement)

    def _decided(self, job: str, by: str, *, accept: bool, reasons: list[str], steward: bool) -> None:
        self._audit.append(
            "decided",
            job=job,
            by=by,
            decision="accept" if accept else "refuse",
            approval="steward" if steward else "automatic",
            reasons=reasons,
        )

    def _ended(
        self, job: str, by: str, success: bool, reason: str, inputs: str | None, output: str | None
    ) -> None:
        self._audit.append(
            "outcome",
            job=job,
            by=by,
            outcome="success" if success else "failure",
            reason=reason or None,
            input_digest=inputs,
            output_digest=output,
        )


def _under(held: Held) -> dict[str, str | int]:
    agreement = held.signed.agreement
    return {"agreement": agreement.id, "version": agreement.version, "agreement_digest": held.digest}
