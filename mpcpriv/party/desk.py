"""What this member writes: each record once, told to the audit log first, durable, then on its way."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit.log import AuditLog
from mpcpriv.errors import MpcprivError, PeerRefused, UsageError
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.courier import Courier
from mpcpriv.party.held import Agreements, Held
from mpcpriv.party.jobs import RunReport
from mpcpriv.party.records import (
    JOB_BYTES,
    MOST_REASONS,
    AuditHead,
    Body,
    Commitment,
    Countersigned,
    Decision,
    Outcome,
    Proposal,
    Ready,
    Record,
    Share,
    SignedRecord,
)
from mpcpriv.party.state import State, StoredJob
from mpcpriv.release.unseen import salted
from mpcpriv.transport.tls import Identity

log = structlog.get_logger()

LONGEST_REASON: Final = 2000
OPEN_JOBS: Final = 256
DAILY_JOBS: Final = 2000
"""How many jobs of one submitter may be open here, and come here within a day; the records about each are
bounded by their slots, so that no member fills another's disk faster than is noticed."""


def plain(reason: str) -> str:
    """A reason as one printable line of bounded length."""
    words = " ".join(reason.split())
    return (
        "".join(letter if letter.isprintable() else "?" for letter in words)[:LONGEST_REASON] or "no reason"
    )


def _all(reasons: Sequence[str]) -> list[str]:
    """Reasons as a decision tells them: a job may break more terms than a record has room for."""
    told = [plain(reason) for reason in reasons[:MOST_REASONS]]
    if len(reasons) > MOST_REASONS:
        told[-1] = f"and {len(reasons) - MOST_REASONS + 1} reasons more"
    return told


class Mismatched(UsageError):
    """A record that can never be right."""


class TooMany(MpcprivError):
    """A submitter has too many jobs here; later there may be room."""


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
            UsageError: it is no signed job of this member, or its agreement is not held.
            TooMany: of this member's jobs there are too many.
        """
        if len(document) > JOB_BYTES:
            raise UsageError(f"signed job: {len(document)} bytes; a job has {JOB_BYTES} at most")
        signed = SignedJob.from_bytes(document)
        if signed.job.submitter != self.me:
            raise UsageError(
                f"submitter: the job is {signed.job.submitter}'s, and this is {self.me}'s daemon; "
                "a job is proposed by its submitter's own"
            )
        held = self._agreements.find(signed.job.agreement, signed.job.version)
        digest = signed.job.digest()
        record = self._record(held, digest, Proposal(document=document.decode()))
        with self._lock:
            if not self._state.known(digest):
                self._room(self.me)
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
            said = _all(reasons)
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

    def commit(self, job: StoredJob, report: RunReport) -> None:
        """Fixes this member's share of the result, and pays for it; from here on it is this one or none.

        Raises:
            NotReserved: the budget that pays for it is not reserved.
        """
        held = self._agreements.get(job.agreement)
        asked = SignedJob.from_bytes(job.document).job
        paid = asked.release.epsilon is not None
        with self._lock:
            if self.own(job.digest, "commitment") or self.own(job.digest, "outcome"):
                return
            commitment = Commitment(
                rows=dict(report.rows),
                layout=list(report.layout),
                transcript=report.transcript,
                share=hashlib.sha256(report.share).hexdigest(),
                inputs=report.input_digest,
                people=None if report.people is None else salted(report.input_salt, report.people),
            )
            self._audit.append(
                "committed",
                job=job.digest,
                **_under(held),
                share_digest=commitment.share,
                input_digest=commitment.inputs,
                datasets=[one.dataset for one in asked.inputs],
                epsilon=None if asked.release.epsilon is None else repr(asked.release.epsilon),
                delta=None if asked.release.delta is None else repr(asked.release.delta),
            )
            self._state.commit(
                self._record(held, job.digest, commitment),
                self._record(held, job.digest, Share.of(report.share)),
                [peer.key for peer in held.peers],
                report.input_salt,
                paid=paid,
            )
            self._sent(held)
        log.info("committed", job=job.digest, paid=paid)

    def release(self, job: StoredJob) -> None:
        """Sends this member's share to the recipients, now that all computing members have committed."""
        held = self._agreements.get(job.agreement)
        asked = SignedJob.from_bytes(job.document).job
        with self._lock:
            if self.own(job.digest, "outcome"):
                return
            committed = next(
                signed.record.body
                for signed in self._state.records(job.digest)
                if signed.record.member == self.me and isinstance(signed.record.body, Commitment)
            )
            self._audit.append(
                "released",
                job=job.digest,
                **_under(held),
                analysis=asked.analysis,
                recipients=list(asked.release.recipients),
                share_digest=committed.share,
            )
            to = [peer.key for peer in held.peers if peer.name in asked.release.recipients]
            self._state.post(job.digest, self.me, "share", to)
            self._sent(held)
        log.info("released", job=job.digest, recipients=asked.release.recipients)

    def succeed(self, job: StoredJob, output: str | None = None, result: bytes | None = None) -> None:
        """This member's part is done.

        Args:
            job: the job.
            output: digest of what was released to it.
            result: what was released to it.
        """
        with self._lock:
            if self.own(job.digest, "outcome"):
                return
            self._ended(job.digest, self.me, True, "", output)
            self._write(job, Outcome(success=True, output=output, head=self._head()), result)
        log.info("succeeded", job=job.digest)

    def fail(self, job: StoredJob, reason: str, aside: str = "") -> None:
        """This member's part has failed, or will not be done.

        Args:
            job: the job.
            reason: that the others may read.
            aside: what only this member may, as it follows from the result that was released to it.
        """
        said = plain(reason)
        with self._lock:
            if self.own(job.digest, "outcome"):
                return
            self._ended(job.digest, self.me, False, said, None)
            self._write(job, Outcome(success=False, reason=said, head=self._head()), aside.encode() or None)
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
            UsageError: it holds no signed job, or that of another digest, agreement or submitter, or a
                receipt that its author did not give.
            TooMany: of its submitter's jobs there are too many.
        """
        record, body = signed.record, signed.record.body
        held = self._agreements.get(record.agreement)
        with self._lock:
            known = {one.record.slot for one in self._state.records(record.job)}
            fresh = record.slot not in known
            if isinstance(body, Proposal):
                document = body.document.encode()
                job = SignedJob.from_bytes(document)
                _check_proposal(held, record, job.job)
                if fresh:
                    self._room(record.member)
                    self._proposed(held, job)
                added = self._state.add_job(signed, document, seen=datetime.now(UTC))
            else:
                stored = self._state.job(record.job)
                if stored.agreement != record.agreement:
                    raise Mismatched(f"job {record.job[:16]} is under another agreement")
                if fresh:
                    self._note(held, record)
                added = self._state.add(signed)
                if added and isinstance(body, Outcome) and stored.closed:
                    # It came after this member had stopped waiting for it, and wants its receipt.
                    self._state.mark(record.job, closed=False)
        if added:
            self._changed()
        return added

    def _room(self, submitter: str) -> None:
        opened, today = self._state.proposals(submitter, datetime.now(UTC) - timedelta(days=1))
        if opened >= OPEN_JOBS:
            raise TooMany(
                f"{opened} jobs of {submitter} have not ended at {self.me}; let some end, or cancel them"
            )
        if today >= DAILY_JOBS:
            raise TooMany(f"{today} jobs of {submitter} came to {self.me} within a day; submit more tomorrow")

    def _note(self, held: Held, record: Record) -> None:
        body = record.body
        if isinstance(body, Decision):
            reasons = [plain(reason) for reason in body.reasons]
            if not body.accept and not reasons:
                raise Mismatched("a refusal has a reason")
            self._decided(record.job, record.member, accept=body.accept, reasons=reasons, steward=False)
        elif isinstance(body, Outcome):
            reason = plain(body.reason) if not body.success else ""
            self._ended(record.job, record.member, body.success, reason, body.output)
        elif isinstance(body, Commitment | Share):
            if record.member not in held.signed.agreement.parties():
                raise Mismatched(f"{record.member} does not compute and has no share of a result")
            stored = self._state.job(record.job)
            asked = SignedJob.from_bytes(stored.document).job
            if isinstance(body, Share) and self.me not in asked.release.recipients:
                raise Mismatched(f"{self.me} is no recipient of job {record.job[:16]}")
            if isinstance(body, Share) and stored.closed:
                # Nobody would read it, and when results are deleted it might come after that.
                raise Mismatched(f"job {record.job[:16]} is over at {self.me}, and needs no more shares")
        elif isinstance(body, Countersigned):
            receipt, key = body.receipt, held.signing_key(record.member)
            # Whose receipts there may be is bounded, and a bad one in our log would make it look damaged.
            others = set(held.deciders) - {record.member}
            if key is None or receipt.by != record.member or receipt.owner not in others:
                raise Mismatched("a member gives receipts in its own name, to the other members")
            if not receipt.is_signed_by(key):
                raise Mismatched(f"a receipt that {record.member} did not sign")
            if receipt.owner == self.me:
                try:
                    self._audit.keep_receipt(receipt, key)
                except PeerRefused as error:
                    raise Mismatched(str(error)) from None

    # -- how it is written

    def _record(self, held: Held, job: str, body: Body) -> SignedRecord:
        return SignedRecord.sign(Record(agreement=held.digest, job=job, member=self.me, body=body), self._key)

    def _write(self, job: StoredJob, body: Body, result: bytes | None = None) -> None:
        held = self._agreements.get(job.agreement)
        record = self._record(held, job.digest, body)
        self._state.add(record, [peer.key for peer in held.peers], result)
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

    def _ended(self, job: str, by: str, success: bool, reason: str, output: str | None) -> None:
        self._audit.append(
            "outcome",
            job=job,
            by=by,
            outcome="success" if success else "failure",
            reason=reason or None,
            output_digest=output,
        )


def _check_proposal(held: Held, record: Record, job: Job) -> None:
    """Whoever holds another's signed job could otherwise propose it first, and wrongly: it would stay so."""
    if job.digest() != record.job:
        raise Mismatched(f"the proposal of {record.job[:16]} holds another job")
    if job.submitter != record.member:
        raise Mismatched(f"job {record.job[:16]} is {job.submitter}'s, and {record.member} proposes it")
    agreement = held.signed.agreement
    if (job.agreement, job.version) != (agreement.id, agreement.version):
        raise Mismatched(
            f"job {record.job[:16]} names agreement {job.agreement} version {job.version}, "
            f"and is proposed under {agreement.id} version {agreement.version}"
        )


def _under(held: Held) -> dict[str, str | int]:
    agreement = held.signed.agreement
    return {"agreement": agreement.id, "version": agreement.version, "agreement_digest": held.digest}
