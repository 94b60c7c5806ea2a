"""How far a budget has gone: by job, what is left, and for how long at this rate.

Of the entries of one budget, that is of one agreement, data set and period. What is foreseen is a guess about
people and decides nothing; `ledger` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from mpcpriv.privacy.ledger import Entry, total
from mpcpriv.privacy.loss import Allowance, Loss

_RECENT: Final = 5
_MOST: Final = 1 << 40
_SHORTEST: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Reading:
    """The budget after one more job.

    Attributes:
        entry: its charge.
        epsilon: what the job costs by itself, at the allowance's delta.
        running: what all up to it cost together, which is at most their sum, and often far less.
    """

    entry: Entry
    epsilon: float
    running: float


@dataclass(frozen=True)
class Forecast:
    """How much further a budget goes.

    Attributes:
        left: ε that is not spent or reserved.
        jobs: how many more jobs as dear as the dearest of the last five it covers; None for no end, or where
            there was none to go by.
        exhausted: when it is used up, at the rate of jobs so far; None where `jobs` is, or after less than a
            minute.
    """

    left: float
    jobs: int | None
    exhausted: datetime | None


def readings(entries: Sequence[Entry], allowance: Allowance) -> list[Reading]:
    """The odometer: one for each charge that counts, in the order in which they were reserved."""
    found, running = [], Loss.none()
    for entry in entries:
        if entry.counts:
            running += entry.loss
            delta = allowance.delta
            found.append(Reading(entry, entry.loss.epsilon(delta), running.epsilon(delta)))
    return found


def forecast(entries: Sequence[Entry], allowance: Allowance, now: datetime) -> Forecast:
    """How far what is left goes, if jobs come and cost as they did."""
    counted = [entry for entry in entries if entry.counts]
    spent = total(entry.loss for entry in counted)
    left = allowance.left(spent)
    if not counted:
        return Forecast(left, None, None)
    dearest = max(
        (entry.loss for entry in counted[-_RECENT:]), key=lambda loss: loss.epsilon(allowance.delta)
    )
    jobs = _covered(spent, dearest, allowance)
    elapsed = now - min(entry.reserved for entry in counted)
    if jobs is None or elapsed < _SHORTEST:
        return Forecast(left, jobs, None)
    try:
        return Forecast(left, jobs, now + elapsed / len(counted) * jobs)
    except OverflowError:  # after the year 9999
        return Forecast(left, jobs, None)


def _covered(spent: Loss, one: Loss, allowance: Allowance) -> int | None:
    """The largest number of such jobs that is still covered; None if there is none that is not."""
    if not allowance.covers(spent + one):
        return 0
    low, high = 1, 2  # covered, and perhaps not
    while allowance.covers(spent + one * high):
        low, high = high, 2 * high
        if high > _MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allowance.covers(spent + one * middle) else (low, middle)
    return low
