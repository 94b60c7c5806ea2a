"""Daemons as processes on this machine, with throw-away keys and an agreement between them."""

from __future__ import annotations

import itertools
import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc

from mpcpriv import analyses
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.audit.verify import verify
from mpcpriv.documents import public_key
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.party import wire
from mpcpriv.party.config import Party, create, read_party
from mpcpriv.v1 import control_pb2 as pb
from tests.integration import warm

OWNERS = ("alice", "bob", "carol")
MEMBERS = (*OWNERS, "dealer")
ROOT = Path(__file__).parents[2]
NUMBERS = {"alice": 100, "bob": 20, "carol": 3}
PATIENCE = 120.0
"""Seconds; a loaded machine is slow, not wrong."""
SETTLED = {pb.FINISHED, pb.REFUSED, pb.FAILED}


_SLICE = 1400
_slice = 10_000 + int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 16 * _SLICE
_ports = itertools.cycle(range(_slice, _slice + _SLICE))
for _ in range(random.randrange(_SLICE)):
    next(_ports)


def free_port() -> int:
    """A port that nobody else gets before a daemon listens there, or while it is away: no other worker of the
    tests chooses from these, and the system gives out higher ones."""
    for port in _ports:
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Client:
    """What a member's own client calls."""

    def __init__(self, party: Party, silent: Callable[[], str]) -> None:
        assert party.control is not None
        self.channel = wire.channel(party.identity, party.identity.certificate, party.control)
        self._silent = silent

    def __call__(self, method: wire.Method, request: Any = None, timeout: float = PATIENCE) -> Any:
        answer = request if request is not None else pb.Everything()
        try:
            return wire.stub(self.channel, method)(answer, timeout=timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and timeout == PATIENCE:
                raise AssertionError(self._silent()) from error
            raise


class Site:
    """One member: its folder, its keys, its daemon and a client of it."""

    def __init__(self, folder: Path, name: str, settings: str = "", port: int | None = None) -> None:
        create(folder / name, name)
        self.name = name
        self.port = port or free_port()
        self.folder = folder / name
        self.config = self.folder / "party.toml"
        with self.config.open("a") as file:
            file.write(f'[daemon]\nlisten = "127.0.0.1:{self.port}"\n{settings}\n')
            if name in OWNERS:
                file.write(f'[data]\n{name}-patients = "{name}.csv"\n')
                (self.folder / f"{name}.csv").write_text(str(NUMBERS[name]))
        self.party = read_party(self.config)
        self.client = Client(self.party, self.silent)
        self.process: warm.Forked | None = None
        self.changes: Sequence[str] = ()
        self.environment: dict[str, str] = {}

    def start(self, *changes: str, **environment: str) -> None:
        self.changes, self.environment = changes, environment
        self.restart()

    def restart(self) -> None:
        here = warm.server()
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = warm.Forked(
                here,
                [log.fileno(), log.fileno()],
                environment={
                    **os.environ,
                    "OMP_NUM_THREADS": "1",
                    "PYTHONPATH": str(ROOT),
                    warm.ADDRESS: here,
                    **self.environment,
                },
                daemon=[str(self.config), *self.changes],
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def workers(self) -> list[int]:
        assert self.process is not None
        found: list[int] = []
        for task in Path(f"/proc/{self.process.pid}/task").glob("*/children"):
            with suppress(FileNotFoundError, ProcessLookupError):  # the thread has ended
                found += map(int, task.read_text().split())
        return found

    def log(self) -> str:
        return (self.folder / "daemon.log").read_text()

    def show(self, job: str) -> Any:
        return self.client(wire.SHOW, pb.JobName(job=job))

    def silent(self) -> str:
        """What its log says of why it does not answer."""
        assert self.process is not None
        self.process.send_signal(signal.SIGUSR1)  # it writes down where each of its threads is
        time.sleep(1)
        return f"{self.name} does not answer ({self.process.poll()}):\n{self.log()[-10000:]}"

    def settled(self, job: str, patience: float = PATIENCE) -> Any:
        """The job once it has ended; somebody's word on it may still be on its way here."""
        deadline = time.monotonic() + patience
        view = None
        while time.monotonic() < deadline:
            try:
                view = self.show(job)
            except grpc.RpcError as error:
                if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNAVAILABLE):
                    raise
            if view is not None and view.state in SETTLED:
                return view
            time.sleep(0.1)
        raise AssertionError(f"{self.name}: job {job[:8]} has not ended: {view}\n{self.log()[-3000:]}")


class Sites(dict[str, Site]):
    """All members."""

    def agree(self, members: Sequence[str] = MEMBERS, name: str = "study", **changes: Any) -> SignedAgreement:
        """An agreement between some, signed by all, held by all of them."""
        agreement = Agreement.model_validate({**self.content(members, name), **changes})
        signed = SignedAgreement.unsigned(agreement)
        for member in members:
            signed = signed.signed_by(member, self[member].party.signing_key())
        for member in members:
            self[member].client(wire.ADD_AGREEMENT, pb.AgreementDocument(document=signed.to_bytes()))
        return signed

    def content(self, members: Sequence[str], name: str) -> dict[str, Any]:
        owners = [member for member in members if member not in ("dealer", "reader")]
        installed = analyses.installed()
        return {
            "id": name,
            "version": 1,
            "title": "A study",
            "purposes": [{"name": "research", "legal_basis": "GDPR Art. 9(2)(j)"}],
            "valid_from": now() - timedelta(days=1),
            "valid_until": now() + timedelta(days=1),
            "members": [self.member(member) for member in members],
            "datasets": [
                {
                    "name": f"{owner}-patients",
                    "owner": owner,
                    "privacy_unit": "patient",
                    "columns": [{"name": "age", "type": "integer", "low": 0.0, "high": 120.0}],
                }
                for owner in owners
            ],
            "analyses": [
                {
                    "name": "count-and-mean",
                    "code": installed["count-and-mean"],
                    "purposes": ["research"],
                    "inputs": {f"{owner}-patients": ["age"] for owner in owners},
                    "recipients": [member for member in members if member != "dealer"],
                    "submitters": owners,
                }
            ],
            "privacy": {"unnoised": True, "minimum_cohort": 2},
            "approval": "automatic",
        }

    def member(self, name: str) -> dict[str, Any]:
        roles = ["data-owner", "compute", "recipient", "submitter"]
        party = self[name].party
        return {
            "name": name,
            "roles": {"dealer": ["dealer"], "reader": ["recipient"]}.get(name, roles),
            "endpoint": f"127.0.0.1:{self[name].port}",
            "certificate": party.identity.certificate.pem.decode(),
            "signing_key": public_key(party.signing_key()),
        }

    def job(
        self, submitter: str, agreement: str = "study", owners: Sequence[str] = OWNERS, **changes: Any
    ) -> SignedJob:
        content = {
            "agreement": agreement,
            "version": 1,
            "analysis": "count-and-mean",
            "purpose": "research",
            "inputs": [{"dataset": f"{owner}-patients", "columns": ["age"]} for owner in owners],
            "release": {"recipients": [submitter]},
            "submitter": submitter,
            "created": now(),
            "expires": now() + timedelta(hours=1),
            "nonce": secrets.token_hex(16),
            **changes,
        }
        return SignedJob.sign(Job.model_validate(content), self[submitter].party.signing_key())

    def submit(self, submitter: str, **changes: Any) -> str:
        document = self.job(submitter, **changes).to_bytes()
        name: str = self[submitter].client(wire.SUBMIT, pb.JobDocument(document=document)).job
        return name

    def audits_verify(self) -> None:
        for site in self.values():
            key = public_key(site.party.signing_key())
            assert verify(site.folder / "audit.jsonl", key) == []


@contextmanager
def daemons(
    folder: Path,
    *changes: str,
    settings: str = "",
    modified: str | None = None,
    members: Sequence[str] = MEMBERS,
    **environment: str,
) -> Iterator[Sites]:
    """All daemons, started; none is left behind. `modified` admits everything."""
    sites = Sites({name: Site(folder, name, settings) for name in members})
    try:
        for site in sites.values():
            extra = ("admits-everything",) if site.name == modified else ()
            site.start(*changes, *extra, **environment)
        yield sites
    finally:
        for site in sites.values():
            if site.process is not None:
                site.kill()
            site.client.channel.close()
