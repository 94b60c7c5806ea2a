"""What was spent of each budget: reserved before a job runs, debited before anything of its release leaves.

    reserve ---> debit        with the bytes to be released; final, nothing is ever given back
         `-----> lapse        the job failed before; the job may reserve anew

A debit is written together with the bytes that it pays for, in one transaction, and there is one for each
job: whoever comes again is handed the bytes of the first time, so that a retry can release nothing else.
Losses are summed as integers (`loss.py`), from the charges themselves: there is no running total that could
come to differ from them.

Who reserves is alone in the ledger until he has written. On SQLite a transaction begins IMMEDIATE, so there
is one writer at a time. On PostgreSQL the table is locked against all other writers. One lock over the
ledger rather than one for each budget, or SERIALIZABLE: a job charges several data sets or none, and the
same job may be reserved twice at once, so what must hold spans budgets; nothing is retried, nothing can
deadlock, and the snapshot is taken after the lock at every level of isolation. Readers do not wait.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import sqlalchemy as sa

from mpcpriv.errors import MpcprivError
from mpcpriv.privacy.loss import Allowance, Loss
from mpcpriv.privacy.rounding import down, plainly, up

Standing = Literal["reserved", "debited", "lapsed"]

TABLES: Final = sa.MetaData()
_releases: Final = sa.Table(
    "budget_releases",
    TABLES,
    # No reference to the job's own row: a debit outlives whatever is tidied away.
    sa.Column("job", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(8), nullable=False),
    sa.Column("reserved", sa.BigInteger, nullable=False),  # seconds since 1970
    sa.Column("settled", sa.BigInteger),
    sa.Column("inputs", sa.String(64)),
    sa.Column("payload", sa.LargeBinary),
    # The database holds it too: a debit without its bytes, or bytes without a debit, cannot be written.
    sa.CheckConstraint(
        "(state = 'debited') = (payload IS NOT NULL) AND (state = 'debited') = (inputs IS NOT NULL)",
        name="paid",
    ),
    sa.CheckConstraint(f"state IN {get_args(Standing)}", name="state"),
)
_charges: Final = sa.Table(
    "budget_charges",
    TABLES,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job", sa.ForeignKey("budget_releases.job"), nullable=False),
    sa.Column("agreement", sa.String(63), nullable=False),
    sa.Column("dataset", sa.String(63), nullable=False),
    sa.Column("period", sa.BigInteger, nullable=False),
    sa.Column("until", sa.BigInteger),
    sa.Column("epsilon", sa.Double, nullable=False),
    sa.Column("delta", sa.Double, nullable=False),
    sa.Column("loss", sa.Text, nullable=False),
    sa.UniqueConstraint("job", "dataset"),
    sa.Index("budget", "agreement", "dataset", "period"),
)


class NotReserved(MpcprivError):
    """A release of which nobody knows what it costs."""


@dataclass(frozen=True)
class Charge:
    """What a job costs on one data set.

    Attributes:
        loss: the price.
        allowance: how much the agreement lets be spent in a period.
        period: in which it is spent (`period_of`).
        until: when that period ends (`period_end`).
        since: when it begins. With it, what was spent in a period that ends later counts, whichever it was: a
            new version of an agreement may number its periods otherwise, and opens no fresh budget by that.
    """

    loss: Loss
    allowance: Allowance
    period: int
    until: datetime | None = None
    since: datetime | None = None


@dataclass(frozen=True)
class Entry:
    """One charge, as it stands in the ledger.

    Attributes:
        job: digest of the job.
        agreement, dataset, period: the budget that it is of; the agreement by its id, in all its versions.
        until: when the period ends, if whoever reserved knew.
        loss: the price.
        allowance: what might be spent in the period when this was reserved.
        state: reserved and debited count as spent; lapsed does not.
        reserved: when.
        settled: when it was debited or lapsed.
        inputs: of a debit: digest of what was put in.
    """

    job: str
    agreement: str
    dataset: str
    period: int
    until: datetime | None
    loss: Loss
    allowance: Allowance
    state: Standing
    reserved: datetime
    settled: datetime | None
    inputs: str | None

    @property
    def counts(self) -> bool:
        """Whether it is spent, or may yet be."""
        return self.state != "lapsed"


def period_of(valid_from: datetime, period_days: int, now: datetime) -> int:
    """The period of an agreement that `now` falls in: 0 for the first `period_days`; negative before."""
    return (now - valid_from) // timedelta(days=period_days)


def period_end(valid_from: datetime, period_days: int, period: int) -> datetime:
    """When this period ends and the next begins."""
    return valid_from + timedelta(days=period_days) * (period + 1)


class Ledger:
    """The budget ledger of one member. Methods may be called from any thread.

    Args:
        engine: of a database that has the tables, as `party.state` sets it up: what is committed is durable,
            and on SQLite transactions begin IMMEDIATE.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def reserve(self, job: str, agreement: str, charges: Mapping[str, Charge], now: datetime) -> list[str]:
        """Sets aside what a job costs, on all its data sets or on none.

        What other jobs have reserved counts as spent. The same reservation again changes nothing, in
        whatever state it is but lapsed; a lapsed one is made anew, at the price of today.

        Args:
            job: its digest.
            agreement: the agreement's id, under which all its versions share their budgets.
            charges: by data set; with none, a release that costs nothing is reserved.
            now: the time that is written down.

        Returns:
            Why not, a sentence for each data set that has too little left; empty when it is reserved.
        """
        rows = [_row(job, agreement, dataset, charge) for dataset, charge in sorted(charges.items())]
        with self._engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                # The first statement: what is read after it is what all others have written.
                connection.exec_driver_sql(f"LOCK TABLE {_releases.name} IN SHARE ROW EXCLUSIVE MODE")
            state = connection.execute(sa.select(_releases.c.state).where(_releases.c.job == job)).scalar()
            if state in {"reserved", "debited"}:
                return _otherwise(connection, job, rows)
            spent = {
                dataset: _spent(connection, agreement, dataset, charge.period, since=charge.since)
                for dataset, charge in sorted(charges.items())
            }
            refused = [
                dataset
                for dataset, before in spent.items()
                if not charges[dataset].allowance.covers(before + charges[dataset].loss)
            ]
            if not refused:
                if state is not None:
                    connection.execute(_charges.delete().where(_charges.c.job == job))
                    connection.execute(_releases.delete().where(_releases.c.job == job))
                release = {"job": job, "state": "reserved", "reserved": int(now.timestamp())}
                connection.execute(_releases.insert().values(release))
                if rows:
                    connection.execute(_charges.insert(), rows)
        # Others need not wait while this is put into words.
        return [_refusal(dataset, charges[dataset], spent[dataset]) for dataset in refused]

    def debit(self, connection: sa.Connection, job: str, input_digest: str, payload: bytes) -> bytes:
        """Spends what the job has reserved, for good, and keeps the bytes that it may release for it.

        It is durable when the caller's transaction is; before that nothing of `payload` may leave.

        Args:
            connection: in a transaction of the caller's, of this ledger's database.
            job: its digest.
            input_digest: SHA-256 of what went in, in hexadecimal.
            payload: what is to be released.

        Returns:
            What may be released: `payload`, or what was written the first time. Release this and nothing
            else.

        Raises:
            NotReserved: nothing is reserved for the job, or it has lapsed.
        """
        if connection.dialect.name == "postgresql":
            # A server may be set to report a commit before it is on disk. Stricter settings stay.
            lax = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "off"
            if lax:
                connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
        paid = {"state": "debited", "settled": _now(), "inputs": input_digest, "payload": payload}
        # Written first and read then: of two at once, the second waits here, and finds no reservation.
        updated = connection.execute(
            _releases.update().where(_releases.c.job == job, _releases.c.state == "reserved").values(paid)
        )
        if updated.rowcount:
            return payload
        kept = connection.execute(_PAYLOAD.where(_releases.c.job == job)).scalar_one_or_none()
        if kept is None:
            raise NotReserved(f"job {job[:16]}: nothing is reserved for it, so it may release nothing")
        return bytes(kept)

    def lapse(self, job: str) -> None:
        """Gives back what a job has reserved and will not spend; a debit stays, and so does no job at all."""
        with self._engine.begin() as connection:
            connection.execute(
                _releases.update()
                .where(_releases.c.job == job, _releases.c.state == "reserved")
                .values(state="lapsed", settled=_now())
            )

    def payload(self, job: str) -> bytes | None:
        """What the job may release, if it is debited: after a restart, this is sent again."""
        with self._engine.begin() as connection:
            kept = connection.execute(_PAYLOAD.where(_releases.c.job == job)).scalar_one_or_none()
        return None if kept is None else bytes(kept)

    def spent(self, agreement: str, dataset: str, period: int, *, reserved: bool = True) -> Loss:
        """What is spent of a budget, exactly.

        Args:
            agreement: its id.
            dataset: the data set.
            period: which one.
            reserved: with what is reserved and may yet lapse.
        """
        with self._engine.begin() as connection:
            return _spent(connection, agreement, dataset, period, reserved=reserved)

    def entries(self, agreement: str | None = None, dataset: str | None = None) -> list[Entry]:
        """All charges, in the order in which they were reserved; only of this agreement and data set."""
        query = _ENTRY.order_by(_charges.c.number)
        if agreement is not None:
            query = query.where(_charges.c.agreement == agreement)
        if dataset is not None:
            query = query.where(_charges.c.dataset == dataset)
        with self._engine.begin() as connection:
            return [_entry(row) for row in connection.execute(query)]


def total(losses: Iterable[Loss]) -> Loss:
    """Of all together."""
    return sum(losses, Loss.none())


_PAYLOAD: Final = sa.select(_releases.c.payload)
_ENTRY: Final = sa.select(
    _charges, *(_releases.c[name] for name in ("state", "reserved", "settled", "inputs"))
).join(_releases, _releases.c.job == _charges.c.job)


def _spent(
    connection: sa.Connection,
    agreement: str,
    dataset: str,
    period: int,
    *,
    reserved: bool = True,
    since: datetime | None = None,
) -> Loss:
    within = _charges.c.period == period
    if since is not None:
        within = sa.or_(within, _charges.c.until > int(since.timestamp()))
    counted = ("reserved", "debited") if reserved else ("debited",)
    query = (
        # Equal jobs cost the same: each price is read once.
        sa.select(_charges.c.loss, sa.func.count().label("times"))
        .join(_releases, _releases.c.job == _charges.c.job)
        .where(
            _charges.c.agreement == agreement,
            _charges.c.dataset == dataset,
            within,
            _releases.c.state.in_(counted),
        )
        .group_by(_charges.c.loss)
    )
    return total(_read(row.loss) * row.times for row in connection.execute(query))


def _refusal(dataset: str, charge: Charge, spent: Loss) -> str:
    allowance, delta = charge.allowance, charge.allowance.delta
    until = "" if charge.until is None else f" until {charge.until:%Y-%m-%d}"
    has = (
        f"budget: data set {dataset} has epsilon {down(allowance.left(spent))} left of "
        f"{plainly(allowance.epsilon)} at delta {plainly(delta)}{until}, and this job"
    )
    alone = up(charge.loss.epsilon(delta))
    if alone == "inf":
        return f"{has} has no epsilon at that delta; ask for a mechanism and a delta that have one"
    # Together they may cost less than one by one, so what it adds is what is held against what is left.
    added = up((spent + charge.loss).epsilon(delta) - spent.epsilon(delta))
    itself = "" if added == alone else f" ({alone} by itself)"
    return f"{has} would spend {added}{itself}; ask for less{', or wait' if until else ''}"


def _otherwise(connection: sa.Connection, job: str, rows: list[dict[str, Any]]) -> list[str]:
    """Why a job that has its reservation cannot have this one; empty if it is the same."""

    def price(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in ("agreement", "dataset", "period", "loss"))

    held = connection.execute(sa.select(_charges).where(_charges.c.job == job)).mappings()
    if {price(dict(row)) for row in held} == {price(row) for row in rows}:
        return []
    return [f"budget: job {job[:16]} has a reservation at another price; a job is charged once"]


def _row(job: str, agreement: str, dataset: str, charge: Charge) -> dict[str, Any]:
    return {
        "job": job,
        "agreement": agreement,
        "dataset": dataset,
        "period": charge.period,
        "until": None if charge.until is None else int(charge.until.timestamp()),
        "epsilon": charge.allowance.epsilon,
        "delta": charge.allowance.delta,
        "loss": json.dumps(charge.loss.to_json(), separators=(",", ":")),
    }


def _read(text: str) -> Loss:
    return Loss.from_json(json.loads(text))


def _entry(row: Any) -> Entry:
    return Entry(
        row.job,
        row.agreement,
        row.dataset,
        row.period,
        _time(row.until),
        _read(row.loss),
        Allowance(row.epsilon, row.delta),
        row.state,
        datetime.fromtimestamp(row.reserved, UTC),
        _time(row.settled),
        row.inputs,
    )


def _time(seconds: int | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
