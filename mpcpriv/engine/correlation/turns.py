"""Loops whose number of turns is known: what one turn asked for, the others will."""

from __future__ import annotations

import itertools
from typing import Final

from mpcpriv.engine.correlation.base import Correlation

_HOPED: Final = 3
"""Before this turn the next one is foreseen even if the last two were not alike: the first may differ from
all others, since it does what needs to be done once. All turns are foreseen only from two that were."""


class Loop:
    """One loop of the program, as `Lookahead.turn` follows it.

    Attributes:
        number: of loops, a later one's is higher: an inner one's than that of the loop around it.
        turns: how many there will be, unless the program leaves the loop early.
        begun: how many have begun.
        start: how many requests were taken before the turn that runs.
        last: what the turn before asked for, while nothing was foreseen.
    """

    def __init__(self, number: int, turns: int) -> None:
        self.number, self.turns = number, turns
        self.begun = self.start = 0
        self.last: list[Correlation] | None = None

    def turn(self, asked: list[Correlation] | None, start: int) -> Turns | None:
        """A turn begins: the turns to come, where one that is over shows what they will ask for.

        Args:
            asked: what the turn that is over asked for; None if nobody knows.
            start: how many requests have been taken so far.
        """
        coming = None
        if self.begun and asked and (asked == self.last or self.begun < _HOPED):
            sure = asked == self.last
            coming = Turns(self, asked, self.turns - self.begun if sure else 1, sure)
        self.pass_by(asked, start)
        return coming

    def pass_by(self, asked: list[Correlation] | None, start: int) -> None:
        """A turn begins that is foreseen already."""
        self.begun += 1
        self.last, self.start = asked, start


class Turns:
    """What a loop will ask for: one turn's requests, so many times over.

    Attributes:
        loop: whose they are.
        sure: whether two turns were alike; otherwise this is hoped for, and little is asked for ahead.
    """

    def __init__(self, loop: Loop, turn: list[Correlation], times: int, sure: bool) -> None:
        self.loop, self.sure = loop, sure
        self._turn, self._times = turn, times
        self._foreseen = self._taken = 0

    def peek(self) -> Correlation | None:
        """The next request to foresee; None when all were."""
        if self._foreseen == len(self._turn) * self._times:
            return None
        return self._turn[self._foreseen % len(self._turn)]

    def foresee(self, count: int = 1) -> None:
        """That many more are under way."""
        self._foreseen += count

    def take(self) -> bool:
        """One request came as foreseen; whether it was the last."""
        self._taken += 1
        return self._taken == len(self._turn) * self._times

    def cover(self, loop: Loop) -> bool:
        """Whether they hold the turn of `loop` that begins now: all came as foreseen, in whole turns."""
        if self.loop is loop:
            return self._taken % len(self._turn) == 0
        return self.loop.number < loop.number  # an outer loop's

    def only_begin(self, requests: list[Correlation]) -> bool:
        """Whether they are hoped for only, and these requests hold them all and more turns like them."""
        left = len(self._turn) * (self.loop.turns - self.loop.begun + 1)
        alike = all(a == b for a, b in zip(requests, itertools.cycle(self._turn), strict=False))
        return not self.sure and len(self._turn) < len(requests) <= left and alike

    def begins_with(self, requests: list[Correlation]) -> int:
        """How many of these are what the turns begin with."""
        coming = itertools.chain.from_iterable(itertools.repeat(self._turn, self._times))
        pairs = zip(requests, coming, strict=False)
        return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))
