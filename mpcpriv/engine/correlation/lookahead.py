"""Which correlations to ask the dealer for before they are needed.

The operations of a program do not depend on the data, and programs repeat themselves: training
steps, batches, layers. A loop that says how many turns it has (`engine.loop`) is foreseen to its end
and no further once its first turn is over. Elsewhere, when the last few requests have been seen
before, what followed then is asked for now. So the dealer works and sends while the parties are
still busy. A prediction that fails costs its own correlations, which nobody ever uses, and nothing
else: all parties see the same requests, so all predict, and fail, alike.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from mpcpriv.engine.correlation.base import Correlation
from mpcpriv.engine.correlation.placement import Placement
from mpcpriv.engine.correlation.turns import Loop, Turns

CONTEXT: Final = 6
"""How many requests must repeat before anything is predicted elsewhere; with fewer, too much is in vain."""
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
        self._turns: Turns | None = None
        self._loops = 0

    def loop(self, turns: int) -> Loop:
        """A loop begins, of so many turns; `turn` follows for each."""
        self._loops += 1
        return Loop(self._loops, turns)

    def turn(self, loop: Loop) -> tuple[int, list[Correlation]]:
        """Accounts for the beginning of a loop's next turn: what it asks for is foreseen to the loop's end.

        Loops may be nested. While all goes as an outer loop foresees, that one counts: its turn holds the
        inner one's. A loop that was left early is superseded by what comes next.

        Returns:
            as `take`, but for the number of a correlation.
        """
        asked: list[Correlation] = []
        first, turns = self._next, self._turns
        back = len(self._past) - (self._taken - loop.start)
        over = self._past[back:] if back >= 0 else None
        if turns is not None and turns.cover(loop):
            loop.pass_by(over, self._taken)
        elif (coming := loop.turn(over, self._taken)) is not None:
            self._follow(coming)
            self._foresee(asked)
        return first, asked

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
            # What is guessed wrongly is in vain: no more is guessed than came true. Of a loop more is known.
            more = 1 if self._turns is None else self._window
            self._window = min(self._window + more, MOST_AHEAD)
        elif self._turns is not None and self._turns.peek() == request and not self._waiting:
            self._turns.foresee()  # too large to be asked for ahead
            number = self._ask(request, asked)
        else:
            self._forget()
            number = self._ask(request, asked)
        self.latest = self._placement.take(self._taken)
        self._remember(request)
        if self._turns is not None and self._turns.take():
            self._turns = None
        if self._coming() is not None and 2 * len(self._waiting) <= self._window:
            self._foresee(asked)
        return number, first, asked

    def _ask(self, request: Correlation, asked: list[Correlation]) -> int:
        asked.append(self._placement.put(request, self._taken + len(self._waiting), self._next))
        self._next += 1
        return self._next - 1

    def _forget(self) -> None:
        self._waiting.clear()
        self._bytes, self._cursor, self._turns, self._window = 0, None, None, 1

    def _follow(self, turns: Turns) -> None:
        """From here on the loop's turns are what is foreseen; of what is under way the rest is in vain."""
        waiting = [request for _, request in self._waiting]
        if turns.only_begin(waiting):
            return  # what is under way is as was hoped, and already more of it: nothing to add
        kept = turns.begins_with(waiting)
        while len(self._waiting) > kept:
            self._bytes -= self._waiting.pop()[1].dealt_bytes
        turns.foresee(kept)
        self._cursor, self._turns, self._window = None, turns, MOST_AHEAD if turns.sure else 1

    def _remember(self, request: Correlation) -> None:
        if len(self._past) >= _REMEMBERED:
            self._past, self._seen = [], {}
            if self._turns is None:
                self._forget()
        self._past.append(request)
        self._taken += 1
        if len(self._past) >= CONTEXT:
            context = tuple(self._past[-CONTEXT:])
            if self._cursor is None and self._turns is None:
                self._cursor = self._seen.get(context)
            self._seen[context] = len(self._past)

    def _coming(self) -> Correlation | None:
        """What will be asked for after all that is waiting, as far as is known."""
        if self._turns is not None:
            return self._turns.peek()
        if self._cursor is None:
            return None
        # What is waiting will be the past: so a loop is followed beyond its next turn.
        ahead = self._cursor - len(self._past)
        return self._past[self._cursor] if ahead < 0 else self._waiting[ahead][1]

    def _foresee(self, asked: list[Correlation]) -> None:
        while len(self._waiting) < self._window and (request := self._coming()) is not None:
            if self._bytes + request.dealt_bytes > MOST_BYTES:
                break
            if not self._placement.possible(request, self._taken + len(self._waiting)):
                break
            if self._turns is not None:
                self._turns.foresee()
            elif self._cursor is not None:
                self._cursor += 1
            self._bytes += request.dealt_bytes
            self._waiting.append((self._ask(request, asked), request))
