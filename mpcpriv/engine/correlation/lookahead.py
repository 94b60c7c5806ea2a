"""Which correlations to ask the dealer for before they are needed.

The operations of a program do not depend on the data, and programs repeat themselves: training
steps, batches, layers. When the last few requests have been seen before, what followed then is
asked for now, so that the dealer works and sends while the parties are still busy. A prediction
that fails costs its own correlations, which nobody ever uses, and nothing else: all parties see
the same requests, so all predict, and fail, alike.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mpcpriv.engine.correlation.base import Correlation
from mpcpriv.engine.correlation.placement import Placement

CONTEXT: Final = 6
"""How many requests must repeat before anything is predicted; with fewer, too much is dealt in vain."""
MOST_AHEAD: Final = 64
"""Requests asked for and not yet used, at most."""
MOST_BYTES: Final = 64 << 20
"""Bytes of corrections asked for and not yet used, at most: what bounds a party's and the dealer's memory."""
_REMEMBERED: Final = 1 << 16


class Lookahead:
    """Numbers the requests of a party, and says what to ask for with each. No I/O.

    Attributes:
        latest: the request that was taken last, with its masks found.
    """

    latest: Correlation

    def __init__(self) -> None:
        self._next = 0
        self._past: list[Correlation] = []
        self._seen: dict[tuple[Correlation, ...], int] = {}
        self._waiting: deque[tuple[int, Correlation]] = deque()
        self._bytes = 0
        self._cursor: int | None = None
        self._window = 1
        self._taken = 0
        self._placement = Placement()

    def take(self, request: Correlation) -> tuple[int, int, list[Correlation]]:
        """Accounts for one request.

        Returns:
            the number of its correlation; the number of the first correlation to ask for now; and
            the requests to ask for, in order, with their masks found (empty when it was foreseen and
            enough is under way).
        """
        asked: list[Correlation] = []
        first = self._next
        if self._waiting and self._waiting[0][1] == request:
            number = self._waiting.popleft()[0]
            self._bytes -= request.dealt_bytes
            self._window = min(2 * self._window, MOST_AHEAD)
        else:
            self._forget()
            number = self._ask(request, asked)
        self.latest = self._placement.take(self._taken)
        self._remember(request)
        if self._cursor is not None and 2 * len(self._waiting) <= self._window:
            self._foresee(asked)
        return number, first, asked

    def _ask(self, request: Correlation, asked: list[Correlation]) -> int:
        asked.append(self._placement.put(request, self._taken + len(self._waiting), self._next))
        self._next += 1
        return self._next - 1

    def _forget(self) -> None:
        self._waiting.clear()
        self._bytes, self._cursor, self._window = 0, None, 1

    def _remember(self, request: Correlation) -> None:
        if len(self._past) >= _REMEMBERED:
            self._past, self._seen = [], {}
            self._forget()
        self._past.append(request)
        self._taken += 1
        if len(self._past) >= CONTEXT:
            context = tuple(self._past[-CONTEXT:])
            if self._cursor is None:
                self._cursor = self._seen.get(context)
            self._seen[context] = len(self._past)

    def _foresee(self, asked: list[Correlation]) -> None:
        assert self._cursor is not None
        while len(self._waiting) < self._window:
            # What is waiting will be the past: so a loop is followed beyond its next turn.
            ahead = self._cursor - len(self._past)
            request = self._past[self._cursor] if ahead < 0 else self._waiting[ahead][1]
            if self._bytes + request.dealt_bytes > MOST_BYTES:
                break
            if not self._placement.possible(request, self._taken + len(self._waiting)):
                break
            self._cursor += 1
            self._bytes += request.dealt_bytes
            self._waiting.append((self._ask(request, asked), request))
