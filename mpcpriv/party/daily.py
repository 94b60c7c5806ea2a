"""What a daemon does at its start and then once a day."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from mpcpriv.transport.tls import Certificate

_DAY: Final = timedelta(days=1)
_SOON: Final = timedelta(days=30)


class Daily:
    """Calls each task, with the time, when a day has passed since it last did.

    Args:
        tasks: in order.
        clock: UTC.
    """

    def __init__(
        self,
        *tasks: Callable[[datetime], None],
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._tasks = tasks
        self._clock = clock
        self._last: datetime | None = None

    def __call__(self) -> None:
        now = self._clock()
        if self._last is None or now - self._last >= _DAY:
            self._last = now
            for task in self._tasks:
                task(now)


def ending(certificates: Iterable[Certificate], now: datetime) -> list[str]:
    """Which certificates end within 30 days, or have ended; one sentence each."""
    return [
        f"the certificate of {one.party} {'ended' if one.not_after <= now else 'ends'} on "
        f"{one.not_after:%Y-%m-%d}; a new one needs a new version of each agreement that names it"
        for one in certificates
        if one.not_after - now < _SOON
    ]
