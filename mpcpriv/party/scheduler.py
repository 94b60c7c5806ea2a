"""What a daemon does about its jobs: whatever the records call for, again and again, until nothing is left.

Nothing is remembered here that matters: a daemon that is started anew looks at the records and goes on. Only
a worker is lost with its daemon, so a job whose worker others have been told of is failed.

Workers wait for each other, and a daemon runs a bounded number of them. Each therefore starts its own for a
job only after all members whose names come before its own are ready for that job: a job holds places in one
order, so jobs never wait for each other in a circle.

Nothing waits for ever. What has not begun by `expires` fails. A worker waits for the others for `minutes` at
most, and then runs for as long; so what has begun has ended by `expires` and twice that time, or this member
says that it has failed (`Scheduler.latest`). Nor does it wait longer for the others' outcomes.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from mpcpriv import analyses
from mpcpriv.agreement.admit import LedgerView, Refusal, admit
from mpcpriv.audit.log import AuditDamaged
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.party.aligning import installed
from mpcpriv.party.config import DaemonConfig, Party
from mpcpriv.party.desk import Desk
from mpcpriv.party.held import Agreements, Held
from mpcpriv.party.jobs import JobProgram, RunReport
from mpcpriv.party.pipe import JOB_BYTES, Setup, pack
from mpcpriv.party.program import Dealer, Program
from mpcpriv.party.reading import Unreadable, read
from mpcpriv.party.records import (
    Commitment,
    Countersigned,
    Decision,
    Outcome,
    Ready,
)
from mpcpriv.party.running import Run
from mpcpriv.party.standing import Standing, standing
from mpcpriv.party.state import State, StoredJob
from mpcpriv.privacy.ledger import NotReserved
from mpcpriv.release import Cohort, Unseen, apart, charges, cohorts, held_apart, secret
from mpcpriv.transport.base import Limits

RESTARTED: Final = "the daemon was restarted"
UNREADABLE: Final = "what was opened is no result, or was withheld; the recipient is told why"
_TICK_SECONDS: Final = 1.0
_NOTICE_SECONDS: Final = 3.0
"""How long a worker has to notice by itself that another member has failed."""
_THREAD_SETTINGS: Final = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")

log = structlog.get_logger()


class Scheduler:
    """Drives the jobs of one daemon.

    Args:
        party: this member's configuration.
        daemon: how its daemon is run.
        state, agreements: what is known.
        desk: what writes records.
    """

    def __init__(
        self, party: Party, daemon: DaemonConfig, state: State, agreements: Agreements, desk: Desk
    ) -> None:
        self._party = party
        self._daemon = daemon
        self._state = state
        self._agreements = agreements
        self._desk = desk
        # A steward's call and this thread's step must not both give away the last release.
        self._judging = threading.Lock()
        self._runs: dict[str, Run] = {}
        self._sent: set[str] = set()
        """Jobs whose shares were handed to the couriers by this process; by an earlier one: again."""
        self._wake = threading.Event()
        self._over = False

    def wake(self) -> None:
        """Something has changed."""
        self._wake.set()

    def progress(self, job: str) -> tuple[tuple[str, int, int], ...]:
        """How far this member's worker is: see `Run.progress`."""
        run = self._runs.get(job)
        return () if run is None else run.progress

    def started(self, job: str) -> bool:
        """Whether this member's worker for that job is there."""
        return job in self._runs

    def recover(self) -> None:
        """Fails the jobs whose workers were lost with the daemon that ran before this one."""
        for stored in self._state.jobs(open_only=True):
            job = self._standing(stored)
            if job.written(Ready) and not job.written(Outcome) and not job.written(Commitment):
                self._desk.fail(stored, RESTARTED)

    def run(self, besides: Callable[[], None] = lambda: None) -> None:
        """Drives the jobs until `stop`, and does this besides after each step."""
        while not self._over:
            self._wake.clear()
            self._step()
            besides()
            self._wake.wait(_TICK_SECONDS)

    def stop(self) -> None:
        """Ends `run`. From a signal handler too."""
        self._over = True
        self._wake.set()

    def close(self) -> None:
        """Stops all workers and fails their jobs; after `run` has returned."""
        for run in self._runs.values():
            run.stop("the daemon was stopped")
        for digest, run in self._runs.items():
            run.join(5.0)
            self._conclude(self._standing(self._state.job(digest)), run)
        self._runs.clear()

    def judge(self, stored: StoredJob, *, approved: bool = False, ask: bool = True) -> None:
        """Holds a job against the agreement and decides, or asks the steward.

        Args:
            stored: the job.
            approved: the steward has approved it.
            ask: the steward is asked where he has to be; otherwise such a job is left undecided.
        """
        with self._judging:
            self._judge(stored, approved, ask)

    def _judge(self, stored: StoredJob, approved: bool, ask: bool) -> None:
        held = self._agreements.get(stored.agreement)
        agreement, signed = held.signed.agreement, SignedJob.from_bytes(stored.document)
        # A steward may take days, and the agreement may have ended meanwhile.
        now = datetime.now(UTC) if approved else stored.seen
        verdict = admit(
            held.signed,
            signed,
            now=now,
            received=stored.seen,
            me=self._party.name,
            ledger=LedgerView(releases=self._releases(stored, held)),
            newest=self._agreements.newest(agreement.id),
            analyses=analyses.installed(),
            aligns=installed(),
        )
        if isinstance(verdict, Refusal):
            self._desk.decide(stored, accept=False, reasons=verdict.reasons)
            return
        asked = {one.dataset for one in signed.job.inputs}
        mine = any(one.name in asked and one.owner == self._party.name for one in agreement.datasets)
        if agreement.approval == "steward" and mine and not approved:
            if ask:
                self._state.mark(stored.digest, pending=True)
                log.info("the steward is asked", job=stored.digest)
            return
        # The last question, since the answer is a reservation: others may have spent what was left before.
        if reasons := self._unaffordable(stored, held, signed.job, now):
            self._desk.decide(stored, accept=False, reasons=reasons)
        else:
            self._desk.decide(stored, accept=True, steward=approved)
            if self._standing(stored).fate.settled:
                # Another refused while this member's steward thought: by now the job may be closed, and
                # nobody would look at the reservation again.
                self._state.ledger.lapse(stored.digest)

    def _unaffordable(self, stored: StoredJob, held: Held, job: Job, now: datetime) -> list[str]:
        """Why its release cannot be paid for; if it can, that is reserved, at each computing member."""
        agreement = held.signed.agreement
        if job.release.epsilon is None or self._party.name not in agreement.parties():
            return []
        try:
            costs = charges(agreement, job, analyses.find(job.analysis), now)
        except UsageError as error:
            return [str(error)]
        return self._state.ledger.reserve(stored.digest, agreement.id, costs, now)

    def _step(self) -> None:
        jobs = [self._standing(stored) for stored in reversed(self._state.jobs(open_only=True))]
        for job in jobs:
            self._guarded(self._advance, job)
        due = [job for job in map(self._refreshed, jobs) if self._due(job)]
        for job in sorted(due, key=lambda job: (job.job.created, job.stored.digest)):
            if len(self._runs) < self._daemon.concurrent_jobs:
                self._guarded(self._start, job)

    def _guarded(self, act: Callable[[Standing], None], job: Standing) -> None:
        """What one job breaks ends that job, and not the daemon; that ends without its log or database."""
        try:
            act(job)
        except (AuditDamaged, SQLAlchemyError):
            raise
        except Exception as error:
            log.exception("a job cannot be driven", job=job.stored.digest)
            self._desk.fail(job.stored, f"its daemon failed ({type(error).__name__})")

    def latest(self, job: Standing) -> datetime:
        """When it has ended here at the latest."""
        return _later(job.job.expires, 2 * self._daemon.seconds)

    def _advance(self, job: Standing) -> None:
        stored, settled = job.stored, job.fate.settled
        if stored.pending and settled:
            self._state.mark(stored.digest, pending=False)
        elif not stored.pending and not job.written(Decision):
            # Also where others have refused already: all members' reasons are told.
            self.judge(stored, ask=not settled)
            job = self._refreshed(job)
        run = self._runs.get(stored.digest)
        if run is not None:
            self._follow(job, run)
        elif job.lost and not job.written(Outcome):
            self._desk.fail(stored, job.cause)
        elif set(job.commitments) >= set(job.held.signed.agreement.parties()) and not job.written(Outcome):
            self._release(job)
        elif not settled and not job.begun and datetime.now(UTC) > job.job.expires:
            late = f"; no decision of {', '.join(job.fate.undecided)}" if job.fate.undecided else ""
            self._desk.fail(stored, f"the job expired before it had begun{late}")
        if not settled and datetime.now(UTC) > self.latest(job):
            missing = [name for name in job.held.runners if not job.written(Outcome, name)]
            self._desk.fail(stored, f"the job has not ended in time; no outcome of {', '.join(missing)}")
        if settled:
            self._state.ledger.lapse(stored.digest)  # what was debited stays so
        self._countersign(self._refreshed(job))

    def _release(self, job: Standing) -> None:
        """All computing members have committed: their shares leave, and a recipient reads them."""
        stored = job.stored
        if job.me in job.commitments and stored.digest not in self._sent:
            self._desk.release(stored)
            self._sent.add(stored.digest)
        if job.me not in job.job.release.recipients:
            if job.me in job.commitments:
                self._desk.succeed(stored)
            return
        if set(job.shares) >= set(job.commitments):
            try:
                result = read(job)
            except Unreadable as error:
                self._desk.fail(stored, UNREADABLE, str(error))
            except UsageError as error:
                self._desk.fail(stored, str(error))
            else:
                self._desk.succeed(stored, result.digest(), result.canonical())

    def _countersign(self, job: Standing) -> None:
        """Receipts for the others' outcomes; then nothing may be left to do."""
        signed = {
            r.body.receipt.owner
            for r in job.records
            if r.member == job.me and isinstance(r.body, Countersigned)
        }
        ended = {r.member: r.body for r in job.records if isinstance(r.body, Outcome)}
        for member, outcome in ended.items():
            if member != job.me and member not in signed:
                self._desk.countersign(job.stored, member, outcome.head)
        finishers = {*job.held.runners, *job.job.release.recipients}
        expected = {"refused": set(), "failed": set(job.held.deciders), "finished": finishers}
        over = job.fate.settled and ended.keys() >= expected[job.fate.state]
        # An outcome that comes later opens it again (`Desk.receive`).
        if over or (job.me in ended and datetime.now(UTC) > self.latest(job)):
            self._state.mark(job.stored.digest, closed=True)

    def _due(self, job: Standing) -> bool:
        """Whether this member's worker is to be started."""
        if job.fate.state != "running" or job.me not in job.held.runners or job.stored.digest in self._runs:
            return False
        if job.written(Ready) or job.written(Outcome):
            return False
        return all(member in job.ready for member in job.held.runners if member < job.me)

    def _start(self, job: Standing) -> None:
        held, digest = job.held, job.stored.digest
        setup = Setup(
            members=tuple(held.certificates[name] for name in held.runners),
            rank=held.runners.index(job.me),
            identity=self._party.identity,
            job=bytes.fromhex(digest)[:JOB_BYTES],
            facts={"agreement": held.digest, "job digest": digest},
            limits=Limits(connect=self._daemon.seconds),
            main=None,
            program=pack(self.program(job)),
            listen=f"{self._daemon.data_host}:0",
            memory=self._daemon.memory,
            ports=self._daemon.data_ports,
        )
        output = self._daemon.audit.parent / "jobs" / f"{digest}.log"
        self._desk.started(job.stored)
        self._runs[digest] = Run(setup, _environment(self._daemon.concurrent_jobs), output, self.wake)

    def program(self, job: Standing) -> Program:
        """What this member's worker runs."""
        if job.me == job.held.signed.agreement.dealer():
            return Dealer()
        return JobProgram(
            job.held.signed.to_bytes(),
            job.stored.document,
            job.me,
            dict(self._party.data),
            job.stored.seen,
            self._agreements.newest(job.held.signed.agreement.id),
            self._releases(job.stored, job.held),
            *self._unnoised(job.stored, job.held),
        )

    def _follow(self, job: Standing, run: Run) -> None:
        if run.port is not None and not run.ended:
            self._desk.ready(job.stored, f"{self._daemon.data_host}:{run.port}", secrets.token_hex(16))
        if job.begun:
            run.address([job.ready[name] for name in job.held.runners])
        limit = self._daemon.seconds
        since = run.began if run.addressed is None else run.addressed
        if time.monotonic() - since > limit:
            missing = sorted(set(job.held.runners) - set(job.ready))
            what = f"{', '.join(missing)} not ready" if run.addressed is None else "still running"
            run.stop(f"{what} after {limit / 60:g} minutes")
        if job.lost and not run.ended:
            self._hurry(job, run)
        if run.ended:
            self._conclude(job, run)
            del self._runs[job.stored.digest]
            self.wake()

    def _hurry(self, job: Standing, run: Run) -> None:
        if run.addressed is None or job.written(Outcome):
            run.stop(job.cause)
        elif run.hurried is None:
            run.hurried = time.monotonic()
        elif time.monotonic() - run.hurried > _NOTICE_SECONDS:
            run.stop(job.cause)

    def _conclude(self, job: Standing, run: Run) -> None:
        stored = job.stored
        if not run.succeeded:
            self._desk.fail(stored, run.reason)
        elif not isinstance(run.report, RunReport):  # the dealer's
            self._desk.succeed(stored)
        elif self._refreshed(job).lost:
            self._desk.fail(stored, self._refreshed(job).cause)  # rather than pay for nothing
        else:
            try:
                if job.job.release.epsilon is None:
                    # Once more: of two jobs that ran at the same time, neither knew of the other's.
                    agreement, report = job.held.signed.agreement, run.report
                    earlier, unseen = self._unnoised(stored, job.held)
                    held_apart(agreement, job.job, report.rows, report.people, earlier, unseen)
                    known = [] if secret(agreement, job.job) else cohorts(agreement, job.job, report.rows)
                    for cohort in known:
                        apart(agreement.privacy.minimum_cohort, cohort, earlier)
                self._desk.commit(stored, run.report)
            except (NotReserved, UsageError) as error:
                self._desk.fail(stored, str(error))

    def _releases(self, asking: StoredJob, held: Held) -> Mapping[str, int]:
        """By data set, how many results were or may yet be released under this agreement, in any version."""
        counts: dict[str, int] = {}
        for stored in self._state.jobs():
            other = self._agreements.get(stored.agreement)
            if stored.digest == asking.digest or other.signed.agreement.id != held.signed.agreement.id:
                continue
            job = self._standing(stored)
            decision = job.written(Decision)
            accepted = decision is not None and isinstance(decision.body, Decision) and decision.body.accept
            # Once all workers are there a recipient may have it, whatever a member says that came of it.
            lost = job.fate.state == "refused" or (job.fate.state == "failed" and not job.begun)
            if accepted and not lost:
                for one in job.job.inputs:
                    counts[one.dataset] = counts.get(one.dataset, 0) + 1
        return counts

    def _unnoised(self, asking: StoredJob, held: Held) -> tuple[list[Cohort], list[Unseen]]:
        """The cohorts of each release without noise under this agreement, in any version; and those unseen.

        Those that this member has committed to: it counted them itself, and without its share there is none.
        """
        found: list[Cohort] = []
        unseen: list[Unseen] = []
        for stored in self._state.jobs():
            other = self._agreements.get(stored.agreement)
            if stored.digest == asking.digest or other.signed.agreement.id != held.signed.agreement.id:
                continue
            job = self._standing(stored)
            own = job.commitments.get(job.me)
            if job.job.release.epsilon is not None or own is None:
                continue
            terms = secret(other.signed.agreement, job.job)
            if terms is None:
                found += cohorts(other.signed.agreement, job.job, own.rows)
            else:
                salt = self._state.salt(stored.digest)
                unseen.append(Unseen(terms.digest(), own.rows, salt, own.people))
        return found, unseen

    def _standing(self, stored: StoredJob) -> Standing:
        return standing(stored, self._agreements.get(stored.agreement), self._state, self._party.name)

    def _refreshed(self, job: Standing) -> Standing:
        return self._standing(self._state.job(job.stored.digest))


def _later(time: datetime, seconds: float) -> datetime:
    try:
        return time + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _environment(concurrent: int) -> dict[str, str]:
    environment = dict(os.environ)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for setting in _THREAD_SETTINGS:
        environment.setdefault(setting, str(max(1, cores // concurrent)))
    return environment
