"""A connection to one's own daemon, and the jobs behind it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pydantic import ValidationError

from mpcpriv.agreement.signed import read_signed
from mpcpriv.client.control import Control, NotFound
from mpcpriv.client.result import Result
from mpcpriv.client.show import Display
from mpcpriv.client.view import STATES, State, View, listed
from mpcpriv.documents import problems
from mpcpriv.errors import DaemonError, JobError, JobFailed, JobRefused, JobUnfinished, UsageError
from mpcpriv.job.model import Job, Value
from mpcpriv.job.signed import SignedJob
from mpcpriv.job.toml import LIFETIME, read_job
from mpcpriv.party import wire
from mpcpriv.party.config import Party, read_party
from mpcpriv.v1 import control_pb2

_STATES: Final[tuple[str, ...]] = STATES


@dataclass(frozen=True)
class Held:
    """An agreement that one's own daemon holds, signed by all its members.

    Attributes:
        id, version: its name.
        digest: of the signed document.
        title: in words.
        members: all of them.
        valid_until: UTC, as 2027-01-31T12:00:00Z.
        newest: of the versions that are held here; a job names the newest.
    """

    id: str
    version: int
    digest: str
    title: str
    members: tuple[str, ...]
    valid_until: str
    newest: bool


class Connection:
    """What `mpcpriv.connect` gives: one's own daemon. Use it in a `with` statement, or close it.

    Every method raises `UsageError` where the daemon says what is wrong with the request, and `DaemonError`
    where it does not answer; no error of gRPC's own ever comes out.
    """

    def __init__(self, party: Party) -> None:
        self._party = party
        self._control = Control(party)

    @property
    def name(self) -> str:
        """The party's name."""
        return self._party.name

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __deepcopy__(self, memo: object) -> Self:
        """The same one: what holds a connection may be copied, as scikit-learn's `clone` does."""
        return self

    def close(self) -> None:
        """Hangs up; jobs go on."""
        self._control.close()

    # -- agreements

    def agreements(self) -> list[Held]:
        """The agreements that the daemon holds."""
        reply = self._control.call(wire.LIST_AGREEMENTS, control_pb2.Everything())
        return [_held(one) for one in reply.agreements]

    def add_agreement(self, path: str | Path) -> Held:
        """Hands a signed agreement to the daemon.

        Args:
            path: a `NAME.agreement.json` with the signatures of all its members.

        Raises:
            UsageError: the file holds no such agreement, a signature is missing or wrong, or another
                agreement of this name and version is held already.
        """
        document = read_signed(Path(path)).to_bytes()
        return _held(self._control.call(wire.ADD_AGREEMENT, control_pb2.AgreementDocument(document=document)))

    # -- jobs

    def new_job(
        self,
        agreement: str,
        analysis: str,
        *,
        purpose: str,
        inputs: Mapping[str, Sequence[str]],
        recipients: Sequence[str],
        parameters: Mapping[str, Value] | None = None,
        alignment: str | None = None,
        epsilon: float | None = None,
        delta: float | None = None,
        expires_in: timedelta = LIFETIME,
    ) -> Job:
        """A job of this party's, created now, under the newest version of an agreement that is held here.

        Args:
            agreement: its id.
            analysis: its name.
            purpose: one of the agreement's.
            inputs: by data set, the columns in the order in which the analysis takes them.
            recipients: who gets the result.
            parameters: of the analysis.
            alignment: the agreement's, by which owners first find the rows that are about the same people.
            epsilon, delta: of differential privacy; None asks for a release without noise.
            expires_in: how long it may wait for decisions; members refuse more than 7 days.

        Raises:
            UsageError: no such agreement is held here, or a value is none that a job can hold.
        """
        held = {one.id: one.version for one in self.agreements() if one.newest}
        if agreement not in held:
            known = ", ".join(sorted(held)) or "none"
            raise UsageError(f"agreement {agreement!r} is not held by {self.name}'s daemon; held: {known}")
        created = datetime.now(UTC).replace(microsecond=0)
        release: dict[str, Any] = {"recipients": list(recipients), "epsilon": epsilon, "delta": delta}
        try:
            return Job.model_validate(
                {
                    "agreement": agreement,
                    "version": held[agreement],
                    "analysis": analysis,
                    "purpose": purpose,
                    "inputs": [
                        {"dataset": name, "columns": list(columns)} for name, columns in inputs.items()
                    ],
                    "alignment": alignment,
                    "parameters": dict(parameters or {}),
                    "release": release,
                    "submitter": self.name,
                    "created": created,
                    "expires": created + expires_in,
                    "nonce": secrets.token_hex(16),
                }
            )
        except ValidationError as error:
            raise UsageError(f"job: {'; '.join(problems(error))}") from None

    def submit(self, job: Job | str | Path) -> Handle:
        """Signs a job with the party's signing key and proposes it to all members of its agreement.

        Args:
            job: as `new_job` makes it, or a TOML file in which submitter, created, expires and nonce may be
                left out.

        Raises:
            UsageError: the file holds no job, the job names another submitter, or the daemon holds no such
                agreement. A refusal is no error here; it is the job's fate.
        """
        if not isinstance(job, Job):
            job = read_job(Path(job), submitter=self.name, now=datetime.now(UTC))
        if job.submitter != self.name:
            raise UsageError(
                f"submitter: the job names {job.submitter}, and this is {self.name}'s daemon; "
                f"leave submitter out, or submit it at {job.submitter}"
            )
        document = SignedJob.sign(job, self._party.signing_key()).to_bytes()
        return Handle(
            self._control, self._control.call(wire.SUBMIT, control_pb2.JobDocument(document=document)).job
        )

    def jobs(
        self,
        *,
        pending: bool = False,
        state: State | Sequence[State] = (),
        agreement: str = "",
        limit: int = 0,
    ) -> list[View]:
        """The jobs that the daemon knows, the newest first.

        Args:
            pending: only those that wait for this party's steward.
            state: only those in this state, or in one of these.
            agreement: only those under the agreement of this id.
            limit: at most so many; 0 is the daemon's own limit, 100.
        """
        states: tuple[str, ...] = (state,) if isinstance(state, str) else tuple(state)
        for name in states:
            if name not in _STATES:
                raise UsageError(f"state {name!r}: there are {', '.join(_STATES)}")
        numbers: Any = [control_pb2.PROPOSED + _STATES.index(name) for name in states]
        request = control_pb2.JobFilter(
            pending=pending,
            state=numbers,
            agreement=agreement,
            limit=limit,
        )
        return [View.of(one) for one in self._control.call(wire.LIST, request).jobs]

    def job(self, job: str) -> Handle:
        """A job by its id, or the first 8 or more digits of it.

        Raises:
            UsageError: the daemon knows no such job, or several.
        """
        return Handle(self._control, self._control.call(wire.SHOW, control_pb2.JobName(job=job)).job)

    def approve(self, job: str) -> View:
        """The steward's yes to a job that waits for it.

        Raises:
            UsageError: it does not wait for this party's steward.
        """
        return View.of(self._control.call(wire.DECIDE, control_pb2.Verdict(job=job, approve=True)))

    def reject(self, job: str, why: str) -> View:
        """The steward's no; all members are told why.

        Raises:
            UsageError: no reason is given, or the job does not wait for this party's steward.
        """
        _given(why)
        return View.of(self._control.call(wire.DECIDE, control_pb2.Verdict(job=job, approve=False, why=why)))

    def cancel(self, job: str, why: str) -> View:
        """Ends a job that has not ended, at every member; all are told why.

        Raises:
            UsageError: no reason is given, or the job has ended.
        """
        _given(why)
        return View.of(self._control.call(wire.CANCEL, control_pb2.Cancellation(job=job, why=why)))


class Handle:
    """A job at one's own daemon.

    Attributes:
        id: the job's digest, 64 hexadecimal digits.
    """

    def __init__(self, control: Control, job: str) -> None:
        self.id = job
        self._control = control

    def __repr__(self) -> str:
        return f"Handle({self.id[:8]})"

    def status(self) -> View:
        """The job as it stands."""
        return View.of(self._control.call(wire.SHOW, control_pb2.JobName(job=self.id)))

    def watch(self, timeout: float | None = None, *, show: bool = True) -> Iterator[View]:
        """A view at each change, the last one when the job has ended or the time is over.

        Args:
            timeout: seconds; None is as long as it takes.
            show: draw the progress, too, where that can be done: on a terminal, or in a notebook.
        """
        with Display(shown=show) as display:
            for message in self._control.stream(wire.WATCH, control_pb2.JobName(job=self.id), timeout):
                view = View.of(message)
                display.show(view)
                yield view

    def wait(self, timeout: float | None = None, *, show: bool = True) -> View:
        """Waits until the job has finished.

        Args:
            timeout: seconds; None is as long as it takes.
            show: as `watch`.

        Raises:
            JobRefused: with all reasons of all members that refuse.
            JobFailed: with who failed and why.
            JobUnfinished: it has not ended in this time.
        """
        end = None if timeout is None else time.monotonic() + timeout
        view = self.status()
        if not view.ended:
            for seen in self.watch(timeout, show=show):
                view = seen
        if view.ended:
            if view.state != "finished":
                raise _fate(view)
            return view
        if end is None or time.monotonic() < end:
            raise DaemonError(
                f"the daemon at {self._control.address} stopped telling about job {self.id[:8]}: it is being "
                "stopped; the job's fate is known when it is there again"
            )
        raise JobUnfinished(
            self.id, {}, f"job {self.id[:8]} is {view.state} after {timeout:g} s; it goes on: ask again later"
        )

    def result(self, timeout: float | None = None, *, show: bool = True) -> Result:
        """Waits for the result: by name, numbers or lists, as the analysis describes them.

        It is a dictionary that has a `report`, and tables as frames: `to_pandas()`, `to_polars()`.

        Raises:
            JobRefused, JobFailed, JobUnfinished: as `wait`.
            UsageError: this party is no recipient of the result.
        """
        view = self.wait(timeout, show=show)
        return Result(view.job, self.document())

    def document(self) -> dict[str, Any]:
        """All that was released: the result, the statement of what was released to whom, the job's digest,
        and the salt without which the result's digest in the members' records tells nothing; and `budgets`,
        which are not part of the digest: what is left of those that paid for it, by this member's ledger.

        Raises:
            UsageError: there is none here: the job has not finished, or this party is no recipient.
        """
        try:
            reply = self._control.call(wire.FETCH, control_pb2.JobName(job=self.id))
        except NotFound:
            view = self.status()
            if view.state != "finished":
                raise UsageError(f"job {self.id[:8]} is {view.state}; there is no result") from None
            raise UsageError(
                f"the result of job {self.id[:8]} went to {', '.join(view.job.release.recipients)}; "
                "this party is no recipient"
            ) from None
        document: dict[str, Any] = json.loads(reply.result)
        if reply.budgets:
            document["budgets"] = [
                {
                    "dataset": one.dataset,
                    "epsilon": one.epsilon,
                    "delta": one.delta,
                    "left": one.left,
                    "until": one.until,
                }
                for one in reply.budgets
            ]
        return document


def connect(config: str | Path) -> Connection:
    """Connects to one's own daemon, the one that `mpcpriv party serve` runs from the same file.

    Args:
        config: the party's `party.toml`; its certificate is shown, and only this certificate is accepted.

    Raises:
        UsageError: a file is missing or malformed, or it configures no daemon.
    """
    return Connection(read_party(Path(config)))


def _held(message: Any) -> Held:
    return Held(
        id=message.id,
        version=message.version,
        digest=message.digest,
        title=message.title,
        members=tuple(message.members),
        valid_until=message.valid_until,
        newest=message.newest,
    )


def _fate(view: View) -> JobError:
    kind, verb = (JobRefused, "was refused") if view.state == "refused" else (JobFailed, "failed")
    lines = listed(view.reasons) or ["  no member said why"]
    return kind(view.id, view.reasons, "\n".join([f"job {view.id[:8]} ({view.job.analysis}) {verb}", *lines]))


def _given(why: str) -> None:
    if not why.strip():
        raise UsageError("why: say it in a sentence; the other members read it")
