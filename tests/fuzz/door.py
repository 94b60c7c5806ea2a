"""A daemon's control port without the network: bytes of a call go in, an answer or a status comes out.

An input is a byte that says which call it is, then the protobuf request. A refusal is a status that
`control.proto` documents, never INTERNAL; after whatever was accepted the audit log still verifies.
"""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any
from unittest import mock

from mpcpriv.audit.log import AuditLog
from mpcpriv.audit.verify import verify
from mpcpriv.documents import public_key, sign
from mpcpriv.errors import MpcprivError
from mpcpriv.party import desk, wire
from mpcpriv.party.config import DaemonConfig, Party
from mpcpriv.party.control import Control
from mpcpriv.party.desk import Desk
from mpcpriv.party.held import Agreements
from mpcpriv.party.records import Decision, Proposal
from mpcpriv.party.scheduler import Scheduler
from mpcpriv.party.state import State
from mpcpriv.transport.grpc import grpc
from mpcpriv.v1 import control_pb2
from tests.fuzz import examples
from tests.fuzz.mutate import Message, texts
from tests.unit import agreements

_pb: Any = control_pb2
_CODE = grpc.StatusCode
ME, PEER = "alice", "bob"
DOCUMENTED = {
    _CODE.INVALID_ARGUMENT,
    _CODE.FAILED_PRECONDITION,
    _CODE.NOT_FOUND,
    _CODE.ALREADY_EXISTS,
    _CODE.PERMISSION_DENIED,
    _CODE.UNAVAILABLE,
    _CODE.RESOURCE_EXHAUSTED,
}
MANY = 100
"""Calls that may have written something, after which the daemon begins anew: it holds all its jobs."""

METHODS = (
    wire.DELIVER,
    wire.ADD_AGREEMENT,
    wire.LIST_AGREEMENTS,
    wire.SUBMIT,
    wire.LIST,
    wire.SHOW,
    wire.DECIDE,
    wire.CANCEL,
    wire.WATCH,
    wire.FETCH,
    wire.AUDIT_HEAD,
)
_DELIVER, _ADD, _SUBMIT = map(METHODS.index, (wire.DELIVER, wire.ADD_AGREEMENT, wire.SUBMIT))


class Answered(MpcprivError):
    """The call was refused with a status that is documented."""


class Broken(AssertionError):
    """The call was refused with another one."""


@dataclass
class Context:
    """What a handler asks gRPC."""

    pem: bytes

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"ssl_tls_version": [b"TLSv1.3"], "x509_pem_cert": [self.pem]}

    def is_active(self) -> bool:
        return True

    def abort(self, code: Any, details: str) -> None:
        details.encode()  # as gRPC does
        if code not in DOCUMENTED:
            raise Broken(f"{code}: {details}")
        raise Answered(f"{code.name}: {details}")


class Nobody:
    """Delivers nothing."""

    def __init__(self, *_: object) -> None:
        pass

    def wake(self) -> None:
        pass

    def close(self) -> None:
        pass


class Door:
    """The port of a daemon that holds one agreement and one job."""

    refusal = Answered

    def __init__(self) -> None:
        self._open: Any = None
        self._written = 0
        document = examples.SIGNED_JOB.to_bytes()
        job = examples.SIGNED_JOB.job.digest()
        record = examples.record(Decision(accept=True), PEER).canonical()
        requests = {
            wire.DELIVER: _pb.SignedRecord(
                record=record, signature=sign(agreements.key(PEER), "record", record)
            ),
            wire.ADD_AGREEMENT: _pb.AgreementDocument(document=examples.SIGNED_AGREEMENT.to_bytes()),
            wire.LIST_AGREEMENTS: _pb.Everything(),
            wire.SUBMIT: _pb.JobDocument(document=document),
            wire.LIST: _pb.JobFilter(pending=False, state=[1, 2], agreement="breast-cancer", limit=10),
            wire.SHOW: _pb.JobName(job=job[:12]),
            wire.DECIDE: _pb.Verdict(job=job, approve=False, why="not now"),
            wire.CANCEL: _pb.Cancellation(job=job, why="by mistake"),
            wire.WATCH: _pb.JobName(job=job),
            wire.FETCH: _pb.JobName(job=job),
            wire.AUDIT_HEAD: _pb.Everything(),
        }
        self._requests = [Message((requests[method],)) for method in METHODS]
        self._agreements = texts([examples.SIGNED_AGREEMENT.to_bytes()], structured=True)
        self._jobs = texts([document], structured=True)
        bodies = (*examples.BODIES, Proposal(document=document.decode()))
        self._records = texts([examples.record(body, PEER).canonical() for body in bodies], structured=True)
        self.valid = tuple(
            bytes([METHODS.index(method)]) + requests[method].SerializeToString()
            for method in (
                wire.DELIVER,
                wire.ADD_AGREEMENT,
                wire.SUBMIT,
                wire.LIST,
                wire.SHOW,
                wire.AUDIT_HEAD,
            )
        )

    def make(self, chance: Random) -> bytes:
        """A request, more often than not with a changed document inside it, signed as its sender could."""
        which = chance.choice((_DELIVER, _DELIVER, _DELIVER, _ADD, _SUBMIT, chance.randrange(len(METHODS))))
        if chance.random() < 0.3 or which not in (_DELIVER, _ADD, _SUBMIT):
            return bytes([which]) + self._requests[which](chance)
        if which == _DELIVER:
            record = self._records(chance)
            signature = sign(agreements.key(PEER), "record", record)
            body = _pb.SignedRecord(record=record, signature=signature).SerializeToString()
        elif which == _ADD:
            body = _pb.AgreementDocument(document=self._agreements(chance)).SerializeToString()
        else:
            body = _pb.JobDocument(document=self._jobs(chance)).SerializeToString()
        return bytes([which]) + bytes(body)

    def accept(self, data: bytes) -> None:
        """Makes the call."""
        daemon = self._daemon()
        method = METHODS[(data[0] if data else 0) % len(METHODS)]
        caller = PEER if method is wire.DELIVER else ME
        context = Context(agreements.certificate(caller).encode())
        call = daemon.door.service(SimpleNamespace(method=method.path))
        if method.streams:
            answers = list(call.unary_stream(data[1:], context))
            assert answers
        else:
            answers = [call.unary_unary(data[1:], context)]
        for answer in answers:
            method.response.FromString(answer)
        # What was accepted says the same when it is encoded again.
        request = method.request.FromString(data[1:])
        assert method.request.FromString(request.SerializeToString()) == request
        if method in (wire.DELIVER, wire.SUBMIT, wire.CANCEL, wire.DECIDE):
            self._written += 1

    def _daemon(self) -> Any:
        if self._open is not None and self._written < MANY:
            return self._open
        self.close()
        self._written = 0
        self._open = opened()
        atexit.register(self.close)
        return self._open

    def close(self) -> None:
        """Looks at the log once more, and leaves nothing behind."""
        if self._open is not None:
            daemon, self._open = self._open, None
            assert closed(daemon) == []


def opened() -> Any:
    """The parts of a daemon of `ME` that holds one agreement and one job, and starts and calls nothing."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    key = agreements.key(ME)
    identity = agreements.identity(ME)
    config = DaemonConfig("127.0.0.1:0", f"sqlite:///{folder}/state", folder / "audit.jsonl", "a", 1, 1, 1.0)
    party = Party(
        folder / "party.toml", folder / "k", folder / "c", identity, signing=folder / "s", daemon=config
    )
    state = State(config.state)
    audit = AuditLog(config.audit, key, ME)
    held = Agreements(identity, public_key(key), state)
    with mock.patch.object(desk, "Courier", Nobody):
        counter = Desk(identity, key, state, audit, held, lambda: None)
        scheduler = Scheduler(party, config, state, held, counter)
        control = Control(identity.certificate, state, held, audit, counter, scheduler)
        control.close()  # what streams ends after its first answer
        request = _pb.AgreementDocument(document=examples.SIGNED_AGREEMENT.to_bytes())
        control.add_agreement(request)
    control.submit(_pb.JobDocument(document=examples.SIGNED_JOB.to_bytes()))
    return SimpleNamespace(
        folder=folder,
        state=state,
        audit=audit,
        held=held,
        desk=counter,
        scheduler=scheduler,
        door=wire._Door(held.certificates, control.handlers()),
    )


def closed(daemon: Any) -> list[str]:
    """Leaves nothing behind; returns what is wrong with the audit log."""
    daemon.audit.close()
    daemon.state.close()
    keys = {name: public_key(agreements.key(name)) for name in agreements.MEMBERS}
    problems = verify(daemon.folder / "audit.jsonl", keys[ME], keys)
    shutil.rmtree(daemon.folder)
    return problems
