"""A member's daemon: opens what it has, serves, and drives its jobs until it is told to stop."""

from __future__ import annotations

import signal
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from mpcpriv.audit.log import AuditLog
from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from mpcpriv.party.config import Party, read_party
from mpcpriv.party.control import Control
from mpcpriv.party.daily import Daily, ending
from mpcpriv.party.desk import Desk
from mpcpriv.party.held import Agreements
from mpcpriv.party.retention import Retention
from mpcpriv.party.scheduler import Scheduler
from mpcpriv.party.state import State
from mpcpriv.party.wire import CONTROL, DAEMON, Server
from mpcpriv.party.worker import leave

_FLUSH_SECONDS: Final = 3.0
"""How long a daemon that stops tries to deliver its last records."""

log = structlog.get_logger()


def serve(config: Path) -> None:
    """Runs the daemon of the party in that file until SIGTERM or SIGINT. Ends the process.

    Raises:
        UsageError: the configuration, the database, the audit log or the port is not in order.
        AuditDamaged: the audit log does not verify, or it or the database is not the newest.
    """
    _log_to_stderr()
    daemon = Daemon(read_party(config))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: daemon.stop())
    daemon.run()
    leave(0)


class Daemon:
    """All the parts of a daemon.

    Args:
        party: its configuration.
    """

    def __init__(self, party: Party) -> None:
        config = party.daemon
        if config is None:
            raise UsageError(
                f'{party.path}: [daemon]: missing; write [daemon] and listen = "host:port" into the file'
            )
        key = party.signing_key()
        self._config = config
        self._identity = party.identity
        self._state = State(config.state)
        self._audit = AuditLog(config.audit, key, party.name, self._state)
        self._agreements = Agreements(party.identity, public_key(key), self._state)
        self._desk = Desk(party.identity, key, self._state, self._audit, self._agreements, self._wake)
        prints = config.audit.parent / "jobs"
        retention = Retention(self._state, self._agreements, self._audit, prints)
        self._daily = Daily(retention.keep, self._warn)
        self._scheduler = Scheduler(party, config, self._state, self._agreements, self._desk)
        self._control = Control(
            party.identity.certificate,
            self._state,
            self._agreements,
            self._audit,
            self._desk,
            self._scheduler,
        )
        self._health = health.HealthServicer()
        self._server = Server(
            party.identity, self._agreements.certificates, self._control.handlers(), self._add_health
        )

    def run(self) -> None:
        """Serves until `stop`."""
        # Before anybody can come in: what was lost with the daemon that ran before.
        self._scheduler.recover()
        self._daily()
        port = self._server.start(self._config.listen)
        for name in ("", DAEMON, CONTROL):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info("serving", listen=self._config.listen, port=port)
        self._scheduler.run(self._daily)
        log.info("stopping")
        self._health.enter_graceful_shutdown()
        self._control.close()
        self._scheduler.close()
        deadline = time.monotonic() + _FLUSH_SECONDS
        while time.monotonic() < deadline and not self._desk.delivered():
            time.sleep(0.05)
        self._server.stop(0.5)
        self._desk.close()
        self._audit.close()
        self._state.close()
        log.info("stopped")

    def stop(self) -> None:
        """Ends `run`."""
        self._scheduler.stop()

    def _warn(self, now: datetime) -> None:
        held = [one for one in self._agreements.all() if self._agreements.is_newest(one)]
        known = dict.fromkeys(certificate for one in held for certificate in one.certificates.values())
        for warning in ending(dict.fromkeys((self._identity.certificate, *known)), now):
            log.warning("a certificate ends soon", why=warning)

    def _wake(self) -> None:
        self._scheduler.wake()

    def _add_health(self, server: Any) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)


def _log_to_stderr() -> None:
    """One JSON object per line. Job ids, names and reasons; no data ever comes here."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
