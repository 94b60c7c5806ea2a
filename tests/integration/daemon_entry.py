"""A daemon of the tests: as `mpcpriv party serve`, with parts of it exchanged.

python -m tests.integration.daemon_entry CONFIG [quick] [admits-everything]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from mpcpriv.agreement.admit import AdmittedJob
from mpcpriv.party import scheduler
from mpcpriv.party.daemon import serve
from mpcpriv.party.program import Program
from mpcpriv.party.records import Share
from tests.integration.quick_job import QuickDealer, QuickJob, Sum, number, read


def quick(self: scheduler.Scheduler, job: scheduler.Standing) -> Program:
    if job.me == job.held.signed.agreement.dealer():
        return QuickDealer()
    seconds = float(os.environ.get("QUICK_SECONDS", "0"))
    mebibytes = int(os.environ.get("QUICK_MEBIBYTES", "0"))
    own = number(self._party.data[f"{job.me}-patients"])
    return QuickJob(own, seconds, mebibytes)


def quick_read(_: scheduler.Scheduler, __: scheduler.Standing, shares: Mapping[str, Share]) -> Sum:
    return read(shares)


def admits_everything(*_: object, **__: object) -> AdmittedJob:
    return object.__new__(AdmittedJob)


def main(config: str, *changes: str) -> None:
    if "quick" in changes:
        scheduler.Scheduler.program = quick  # type: ignore[method-assign]
        scheduler.Scheduler.read = quick_read  # type: ignore[method-assign, assignment]
    if "admits-everything" in changes:
        scheduler.admit = admits_everything  # type: ignore[assignment]
    serve(Path(config))


if __name__ == "__main__":
    main(*sys.argv[1:])
