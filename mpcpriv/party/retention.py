"""Results are kept for as long as the agreement says, and no longer.

What goes: the result, the shares of it, the salt of the digest of what was put in (without which that digest
proves nothing and tells nothing), and what the job's worker printed. What stays: the other records and the
audit log, which hold names, digests and reasons. Copies that somebody made, and backups, are not within a
daemon's reach.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import structlog

from mpcpriv.audit.log import AuditLog
from mpcpriv.party.held import Agreements
from mpcpriv.party.state import State

log = structlog.get_logger()


class Retention:
    """Deletes what has been kept long enough.

    Args:
        state: what holds results.
        agreements: that say for how long.
        audit: where each deletion is told, before it is made: after a crash it may stand there twice.
        prints: the folder of what workers print, a file per job.
    """

    def __init__(self, state: State, agreements: Agreements, audit: AuditLog, prints: Path) -> None:
        self._state = state
        self._agreements = agreements
        self._audit = audit
        self._prints = prints

    def keep(self, now: datetime) -> None:
        """Deletes what is older than it may be at that time."""
        for stored in self._state.jobs():
            days = self._agreements.get(stored.agreement).signed.agreement.retention_days
            if now - stored.seen <= timedelta(days=days):
                continue
            if stored.result or self._state.salt(stored.digest) is not None:
                self._audit.append("result-deleted", job=stored.digest, retention_days=days)
                self._state.forget(stored.digest)
                log.info("a result was kept long enough", job=stored.digest, days=days)
            (self._prints / f"{stored.digest}.log").unlink(missing_ok=True)
