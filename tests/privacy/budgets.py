"""Charges of one budget, in pure losses, of which any number adds up to the eye."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import sqlalchemy as sa

from mpcpriv.party import state as state_module
from mpcpriv.party.state import State
from mpcpriv.privacy.ledger import Charge, Ledger
from mpcpriv.privacy.loss import Allowance, Loss

NOW = datetime(2027, 1, 5, 12, tzinfo=UTC)
END = datetime(2027, 1, 31, tzinfo=UTC)
STUDY = "study"
INPUTS = "d" * 64


def job(number: int) -> str:
    return f"{number:064x}"


def charge(epsilon: float, of: float = 1.0, *, delta: float = 1e-6, period: int = 0) -> Charge:
    """`epsilon` of pure privacy, where `of` may be spent."""
    return Charge(Loss.pure_dp(epsilon), Allowance(of, delta), period, END)


def debit(ledger: Ledger, name: str, payload: bytes) -> bytes:
    with ledger._engine.begin() as connection:
        return ledger.debit(connection, name, INPUTS, payload)


def prepared(url: str) -> None:
    """Makes the tables."""
    State(url).close()


@contextmanager
def opened(url: str) -> Iterator[Ledger]:
    """A ledger with connections of its own, on a database that is prepared."""
    engine: sa.Engine = state_module._open(url)
    try:
        yield Ledger(engine)
    finally:
        engine.dispose()
