"""A daemon of the tests: as `mpcpriv party serve`, with parts of it exchanged.

python -m tests.integration.daemon_entry CONFIG [quick] [warm] [admits-everything] [dies-before-3] ...
"""

from __future__ import annotations

import faulthandler
import itertools
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.audit.log import AuditLog
from mpcpriv.party import scheduler
from mpcpriv.party.daemon import serve
from mpcpriv.party.program import Program
from mpcpriv.party.standing import Standing
from mpcpriv.party.state import State
from mpcpriv.privacy.ledger import Ledger
from tests.integration import warm
from tests.integration.quick_job import QuickDealer, QuickJob, Sum, number, read


def quick(self: scheduler.Scheduler, job: Standing) -> Program:
    if job.me == job.held.signed.agreement.dealer():
        return QuickDealer()
    seconds = float(os.environ.get("QUICK_SECONDS", "0"))
    mebibytes = int(os.environ.get("QUICK_MEBIBYTES", "0"))
    own = number(self._party.data[f"{job.me}-patients"])
    return QuickJob(own, seconds, mebibytes)


def quick_read(job: Standing) -> Sum:
    return read(job.shares)


def admits_everything(*_: object, **__: object) -> AdmittedJob:
    return object.__new__(AdmittedJob)


DURABLE = (
    (State, "add_job"),
    (State, "add"),
    (State, "commit"),
    (State, "post"),
    (State, "mark"),
    (State, "delivered"),
    (Ledger, "reserve"),
    (Ledger, "lapse"),
    (AuditLog, "append"),
)
"""All that a daemon writes durably about a job."""


def dies(when: str, count: int, armed: Path) -> None:
    """SIGKILL before or after the count-th durable write, once there is a file `armed`."""
    written = itertools.count(1)
    lock = threading.Lock()

    def wrapped(write: Any) -> Any:
        def counted(*args: Any, **named: Any) -> Any:
            with lock:
                last = armed.exists() and next(written) == count
            if last and when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = write(*args, **named)
            if last:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        return counted

    for owner, name in DURABLE:
        setattr(owner, name, wrapped(getattr(owner, name)))


def main(config: str, *changes: str) -> None:
    faulthandler.register(signal.SIGUSR1)
    if "quick" in changes:
        scheduler.Scheduler.program = quick  # type: ignore[method-assign]
        scheduler.read = quick_read  # type: ignore[assignment]
    for change in changes:
        if change.startswith("dies-"):
            _, when, count = change.split("-")
            dies(when, int(count), Path(config).parent / "armed")
    if "warm" in changes:
        warm.install()
    if "admits-everything" in changes:
        scheduler.admit = admits_everything  # type: ignore[assignment]
        scheduler.Scheduler._unaffordable = lambda *_: []  # type: ignore[method-assign]
    serve(Path(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
