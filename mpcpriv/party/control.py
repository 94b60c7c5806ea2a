"""The calls that a daemon answers: records from the other daemons, and the wishes of its own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

import structlog
from google.protobuf.message import Message

from mpcpriv.audit.log import AuditLog
from mpcpriv.errors import UsageError
from mpcpriv.party import wire
from mpcpriv.party.desk import Desk, TooMany, plain
from mpcpriv.party.held import Agreements, Held
from mpcpriv.party.records import MAX_BYTES, MAX_SHARE, Decision, Outcome, Record, SignedRecord
from mpcpriv.party.scheduler import Scheduler
from mpcpriv.party.standing import Standing, standing
from mpcpriv.party.state import Contradiction, State, StoredJob, Unknown
from mpcpriv.party.wire import Handler, Method, Refused
from mpcpriv.transport.grpc import grpc
from mpcpriv.transport.tls import Certificate
from mpcpriv.v1 import control_pb2

_pb: Any = control_pb2
_CODE: Final = grpc.StatusCode
_LISTED: Final = 100
_WATCH_SECONDS: Final = 0.25
_LINGER_SECONDS: Final = 5.0
"""How long a watcher of a job that has ended is told what else members say about it."""

_STATES: Final = {
    "proposed": _pb.PROPOSED,
    "running": _pb.RUNNING,
    "finished": _pb.FINISHED,
    "refused": _pb.REFUSED,
    "failed": _pb.FAILED,
}

log = structlog.get_logger()


class Control:
    """Answers calls. Methods may be called from any thread.

    Args:
        own: this member's certificate: whose holder is its client.
        state, agreements, audit: what is known.
        desk, scheduler: what acts.
    """

    def __init__(
        self,
        own: Certificate,
        state: State,
        agreements: Agreements,
        audit: AuditLog,
        desk: Desk,
        scheduler: Scheduler,
    ) -> None:
        self._own = own
        self._state = state
        self._agreements = agreements
        self._audit = audit
        self._desk = desk
        self._scheduler = scheduler
        self._over = threading.Event()

    def handlers(self) -> dict[Method, Handler]:
        """What answers which call."""
        mine = {
            wire.ADD_AGREEMENT: self.add_agreement,
            wire.LIST_AGREEMENTS: self.list_agreements,
            wire.SUBMIT: self.submit,
            wire.LIST: self.list,
            wire.SHOW: self.show,
            wire.DECIDE: self.decide,
            wire.CANCEL: self.cancel,
            wire.WATCH: self.watch,
            wire.FETCH: self.fetch,
            wire.AUDIT_HEAD: self.audit_head,
        }
        return {wire.DELIVER: self.deliver} | {method: self._client(call) for method, call in mine.items()}

    def close(self) -> None:
        """Ends what streams."""
        self._over.set()

    def _client(self, call: Any) -> Handler:
        def answer(request: Any, who: Certificate) -> Any:
            if who != self._own:
                raise Refused(_CODE.PERMISSION_DENIED, "only this member's own client may ask for that")
            try:
                return call(request)
            except Unknown as error:
                raise Refused(_CODE.NOT_FOUND, str(error)) from None
            except Contradiction as error:
                raise Refused(_CODE.ALREADY_EXISTS, str(error)) from None
            except TooMany as error:
                raise Refused(_CODE.RESOURCE_EXHAUSTED, str(error)) from None

        return answer

    # -- between daemons

    def deliver(self, request: Any, who: Certificate) -> Message:
        """A record of the member that calls."""
        if len(request.record) > MAX_BYTES + MAX_SHARE:
            raise Refused(_CODE.INVALID_ARGUMENT, f"a record is at most {MAX_BYTES + MAX_SHARE} bytes")
        record = Record.from_canonical(request.record)
        try:
            held = self._agreements.get(record.agreement)
            key = held.signing_key(record.member)
            if record.member != who.party or held.certificates.get(record.member) != who or key is None:
                raise Refused(_CODE.INVALID_ARGUMENT, "a record is delivered by the member that wrote it")
            signed = SignedRecord(record, request.signature)
            if not signed.verify(key):
                raise Refused(_CODE.INVALID_ARGUMENT, f"not signed by {record.member}")
            self._desk.receive(signed)
        except Unknown as error:
            raise Refused(_CODE.FAILED_PRECONDITION, str(error)) from None
        except TooMany as error:
            log.warning("a member proposes too many jobs", member=record.member, why=str(error))
            raise Refused(_CODE.RESOURCE_EXHAUSTED, str(error)) from None
        except Contradiction as error:
            log.warning("a member contradicts itself", job=record.job, member=record.member, why=str(error))
            raise Refused(_CODE.ALREADY_EXISTS, str(error)) from None
        return _message(_pb.Delivered())

    # -- the own client

    def add_agreement(self, request: Any) -> Message:
        """Holds an agreement from now on."""
        held, new = self._agreements.add(request.document)
        agreement = held.signed.agreement
        if new:
            self._audit.append(
                "agreement-added",
                agreement=agreement.id,
                version=agreement.version,
                agreement_digest=held.digest,
                members=list(held.deciders),
            )
            log.info("agreement added", agreement=agreement.id, version=agreement.version)
        self._desk.open(held)
        return self._summary(held)

    def list_agreements(self, _: Any) -> Message:
        """All agreements."""
        return _message(
            _pb.AgreementList(agreements=[self._summary(held) for held in self._agreements.all()])
        )

    def submit(self, request: Any) -> Message:
        """Proposes a job."""
        return _message(_pb.JobName(job=self._desk.propose(request.document)))

    def list(self, request: Any) -> Message:
        """Jobs, the newest first."""
        views = []
        for stored in self._state.jobs():
            view: Any = self._view(self._standing(stored))
            if request.pending and not view.pending:
                continue
            if request.state and view.state not in request.state:
                continue
            if request.agreement and view.agreement != request.agreement:
                continue
            views.append(view)
            if len(views) == (request.limit or _LISTED):
                break
        return _message(_pb.JobList(jobs=views))

    def show(self, request: Any) -> Message:
        """One job."""
        return self._view(self._standing(self._state.job(request.job)))

    def decide(self, request: Any) -> Message:
        """The steward's verdict."""
        stored = self._state.job(request.job)
        if not stored.pending or self._desk.own(stored.digest, "decision"):
            raise Refused(_CODE.FAILED_PRECONDITION, f"job {request.job}: no approval is due here")
        if request.approve:
            self._scheduler.judge(stored, approved=True)
        elif not request.why.strip():
            raise UsageError("why: missing; the other members are told why a job is rejected")
        else:
            reason = f"rejected by the steward of {self._own.party}: {request.why}"
            self._desk.decide(stored, accept=False, reasons=[reason], steward=True)
        return self._view(self._standing(self._state.job(stored.digest)))

    def cancel(self, request: Any) -> Message:
        """Ends a job that has not ended."""
        stored = self._state.job(request.job)
        if self._standing(stored).fate.settled or self._desk.own(stored.digest, "outcome"):
            raise Refused(_CODE.FAILED_PRECONDITION, f"job {request.job}: has ended already here")
        if self._desk.own(stored.digest, "commitment"):
            raise Refused(_CODE.FAILED_PRECONDITION, f"job {request.job}: its result is on its way")
        reason = f"cancelled: {request.why}" if request.why.strip() else "cancelled"
        self._desk.cancelled(stored)
        if self._desk.own(stored.digest, "decision"):
            self._desk.fail(stored, reason)
        else:
            self._desk.decide(stored, accept=False, reasons=[reason])
        return self._view(self._standing(self._state.job(stored.digest)))

    def watch(self, request: Any) -> Iterator[Message]:
        """One job, at each change, until it has ended."""
        return self._watched(self._state.job(request.job).digest)

    def _watched(self, digest: str) -> Iterator[Message]:
        last, ended = None, None
        while True:
            job = self._standing(self._state.job(digest))
            view = self._view(job)
            if view != last:
                last = view
                yield view
            if job.fate.settled:
                ended = ended or time.monotonic()
                if job.stored.closed or time.monotonic() - ended > _LINGER_SECONDS:
                    return
            if self._over.wait(_WATCH_SECONDS):
                raise Refused(_CODE.UNAVAILABLE, "the daemon stops")

    def fetch(self, request: Any) -> Message:
        """The result, at a recipient, once all members have succeeded."""
        stored = self._state.job(request.job)
        job = self._standing(stored)
        result = self._state.result(stored.digest)
        outcome = job.written(Outcome)
        if job.fate.state != "finished":
            raise Refused(_CODE.FAILED_PRECONDITION, f"job {request.job}: is {job.fate.state}; no result yet")
        released = outcome is not None and isinstance(outcome.body, Outcome) and outcome.body.output
        if result is None and released:
            days = job.held.signed.agreement.retention_days
            raise Refused(
                _CODE.NOT_FOUND, f"job {request.job}: its result was kept for {days} days, as agreed"
            )
        if result is None or outcome is None or not isinstance(outcome.body, Outcome):
            raise Refused(_CODE.NOT_FOUND, f"job {request.job}: {self._own.party} is no recipient of it")
        digest = outcome.body.output or ""
        self._desk.fetched(stored, digest)
        return _message(_pb.ResultDocument(result=result, digest=digest, budgets=self._budgets(job)))

    def _budgets(self, job: Standing) -> Sequence[Any]:
        """Of the data sets that paid for the result, as they stand now; none where none did, here."""
        ledger = self._state.ledger
        agreement = job.held.signed.agreement.id
        return [
            _pb.Budget(
                dataset=entry.dataset,
                epsilon=entry.allowance.epsilon,
                delta=entry.allowance.delta,
                left=entry.allowance.left(ledger.spent(agreement, entry.dataset, entry.period)),
                until="" if entry.until is None else f"{entry.until:%Y-%m-%dT%H:%M:%SZ}",
            )
            for entry in ledger.entries(agreement)
            if entry.job == job.stored.digest
        ]

    def audit_head(self, _: Any) -> Message:
        """The end of this member's audit log."""
        head = self._audit.head()
        return _message(
            _pb.Head(member=self._own.party, sequence=head.seq, digest=head.digest, signature=head.signature)
        )

    # -- as messages

    def _standing(self, stored: StoredJob) -> Standing:
        held = self._agreements.get(stored.agreement)
        return standing(stored, held, self._state, self._own.party)

    def _summary(self, held: Held) -> Message:
        agreement = held.signed.agreement
        return _message(
            _pb.AgreementSummary(
                id=agreement.id,
                version=agreement.version,
                digest=held.digest,
                title=agreement.title,
                members=held.deciders,
                valid_until=f"{agreement.valid_until:%Y-%m-%dT%H:%M:%SZ}",
                newest=self._agreements.is_newest(held),
            )
        )

    def _view(self, job: Standing) -> Message:
        agreement, stored = job.held.signed.agreement, job.stored
        loops = self._scheduler.progress(stored.digest)
        return _message(
            _pb.JobView(
                job=stored.digest,
                document=stored.document,
                agreement=agreement.id,
                version=agreement.version,
                state=_STATES[job.fate.state],
                pending=stored.pending,
                started=self._scheduler.started(stored.digest),
                result=stored.result and job.fate.state == "finished",
                members=[self._member(job, name) for name in job.held.deciders],
                progress=[_pb.Loop(name=name, done=done, turns=turns) for name, done, turns in loops],
                created=f"{job.job.created:%Y-%m-%dT%H:%M:%SZ}",
            )
        )

    def _member(self, job: Standing, name: str) -> Any:
        view = _pb.MemberView(member=name, ready=name in job.ready)
        for record in job.records:
            body = record.body
            if record.member != name:
                continue
            if isinstance(body, Decision):
                view.decision = "accept" if body.accept else "refuse"
                # Other members' words end on a steward's terminal.
                view.reasons.extend(map(plain, body.reasons))
            elif isinstance(body, Outcome):
                view.outcome = "success" if body.success else "failure"
                view.failure = "" if body.success else plain(self._why(job, name, body))
        return view

    def _why(self, job: Standing, name: str, outcome: Outcome) -> str:
        """Why a member has failed: at itself, what it alone knows of that."""
        aside = self._state.result(job.stored.digest) if name == job.me else None
        return outcome.reason if aside is None else aside.decode()


def _message(message: Any) -> Message:
    assert isinstance(message, Message)
    return message
