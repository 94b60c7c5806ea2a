"""The budgets of the agreements that a member holds, as its ledger has them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mpcpriv.agreement.model import Agreement, Budget
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.party.state import State
from mpcpriv.privacy.ledger import Entry, period_end, period_of, total
from mpcpriv.privacy.loss import Allowance
from mpcpriv.privacy.odometer import Forecast, Reading, forecast, readings


@dataclass(frozen=True)
class Account:
    """A budget in one period.

    Attributes:
        agreement: the agreement's id.
        dataset: the data set.
        period: which one; `since` and `until` are its ends, where they are known.
        allowance: what may be spent: as the newest version has it, else as it was when last reserved.
        spent: ε of what is debited.
        reserved: ε that what is reserved adds to it.
        readings: by job.
        forecast: what is left, and for how long.
    """

    agreement: str
    dataset: str
    period: int
    since: datetime | None
    until: datetime | None
    allowance: Allowance
    spent: float
    reserved: float
    readings: tuple[Reading, ...]
    forecast: Forecast


def accounts(
    state: State, now: datetime, agreement: str | None = None, dataset: str | None = None
) -> list[Account]:
    """All budgets in the present period, and in all those in which something was charged.

    Args:
        state: of the member.
        now: it says which period is the present one, and foresees from there.
        agreement: only of this one.
        dataset: only this one.
    """
    newest: dict[str, Agreement] = {}
    for document in state.agreements():  # by version: the last one stays
        read = SignedAgreement.from_bytes(document).agreement
        newest[read.id] = read
    granted = {
        (read.id, one.name): (read.valid_from, one.budget)
        for read in newest.values()
        for one in read.datasets
        if one.budget is not None and agreement in {None, read.id} and dataset in {None, one.name}
    }
    charged: dict[tuple[str, str, int], list[Entry]] = {
        (*name, max(period_of(start, budget.period_days, now), 0)): []
        for name, (start, budget) in granted.items()
    }
    present = {key[:2]: key for key in charged}
    for entry in state.ledger.entries(agreement, dataset):
        named = (entry.agreement, entry.dataset)
        charged.setdefault((*named, entry.period), []).append(entry)
        if named in granted and present[named][2] != entry.period and entry.until is not None:
            start, budget = granted[named]
            # As the ledger counts: what an earlier version's period holds stays spent until that ends.
            if entry.until > period_end(start, budget.period_days, present[named][2] - 1):
                charged[present[named]].append(entry)
    return [
        _account(*name, entries, granted.get(name[:2]), now, present=name in present.values())
        for name, entries in sorted(charged.items())
    ]


def _account(
    agreement: str,
    dataset: str,
    period: int,
    entries: Sequence[Entry],
    granted: tuple[datetime, Budget] | None,
    now: datetime,
    *,
    present: bool,
) -> Account:
    if granted is None:
        since, until, allowance = None, entries[-1].until, entries[-1].allowance
    else:
        start, budget = granted
        since = period_end(start, budget.period_days, period - 1)
        until = period_end(start, budget.period_days, period)
        allowance = Allowance(budget.epsilon, budget.delta)
        written = entries[-1].until if entries else None
        # The present one is the newest version's, whatever older ones wrote that counts in it.
        if not present and written not in {None, until}:  # another version had periods of another length
            since, until = None, written
    debited = total(one.loss for one in entries if one.state == "debited").epsilon(allowance.delta)
    counted = total(one.loss for one in entries if one.counts).epsilon(allowance.delta)
    return Account(
        agreement,
        dataset,
        period,
        since,
        until,
        allowance,
        debited,
        counted - debited if counted > debited else 0.0,
        tuple(readings(entries, allowance)),
        forecast(entries, allowance, now),
    )
