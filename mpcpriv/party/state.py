"""What a daemon must not forget: agreements, records, what is still to be delivered to whom, results.

SQLite beside the configuration, or PostgreSQL by URL; one schema (`migrations/`). What a method has written
is durable when it returns. A record is written once: the second one for the same place (`Record.slot`) is
refused unless it is the same.

To back it up: `sqlite3 state.sqlite ".backup copy"`, or pg_dump. A daemon that is set up from an old copy has
forgotten what it decided; its audit log is then ahead of what is remembered here of it, and it does not start
(`mpcpriv.audit.log.Memory`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.exc import IntegrityError, OperationalError

from mpcpriv.errors import MpcprivError, UsageError
from mpcpriv.party.records import Commitment, Record, SignedRecord
from mpcpriv.privacy.ledger import Ledger

_META: Final = sa.MetaData()
_agreements: Final = sa.Table(
    "agreements",
    _META,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("id", sa.String(63), nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.UniqueConstraint("id", "version"),
)
_jobs: Final = sa.Table(
    "jobs",
    _META,
    sa.Column("digest", sa.String(64), primary_key=True),
    sa.Column("agreement", sa.ForeignKey("agreements.digest"), nullable=False),
    sa.Column("document", sa.LargeBinary, nullable=False),
    sa.Column("seen", sa.BigInteger, nullable=False),  # seconds since 1970: the one `now` of this job here
    sa.Column("pending", sa.Boolean, nullable=False),
    sa.Column("closed", sa.Boolean, nullable=False, index=True),
    sa.Column("result", sa.LargeBinary),
    sa.Column("salt", sa.String(64)),  # of the digest of what this member put in
)
_records: Final = sa.Table(
    "records",
    _META,
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("job", sa.ForeignKey("jobs.digest"), nullable=False),
    sa.Column("member", sa.String(63), nullable=False),
    sa.Column("kind", sa.String(16), nullable=False),
    sa.Column("about", sa.String(63), nullable=False),
    sa.Column("record", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.String(100), nullable=False),
    sa.UniqueConstraint("job", "member", "kind", "about"),
)
_outbox: Final = sa.Table(
    "outbox",
    _META,
    sa.Column("record", sa.ForeignKey("records.number"), primary_key=True),
    sa.Column("peer", sa.String(64), primary_key=True),
)

_audit_head: Final = sa.Table(
    "audit_head",
    _META,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.String(64), nullable=False),
    sa.CheckConstraint("id = 1", name="one"),
)

_BUSY_SECONDS: Final = 30
_READS: Final = "mpcpriv_reads"


class Contradiction(MpcprivError):
    """A member wrote two different records where one is allowed."""


class Unknown(UsageError):
    """There is no such job or agreement here."""


@dataclass(frozen=True)
class StoredJob:
    """A job as it is stored.

    Attributes:
        digest: the job's.
        agreement: the digest of its agreement.
        document: `SignedJob.to_bytes()`.
        seen: when it first came here; by this time it is judged when it was made.
        pending: it waits for this member's steward.
        closed: nothing is left to do about it here.
        result: whether there is one here.
    """

    digest: str
    agreement: str
    document: bytes
    seen: datetime
    pending: bool
    closed: bool
    result: bool


@dataclass(frozen=True)
class Letter:
    """A record that is still to be delivered to a peer."""

    number: int
    record: bytes
    signature: str


class State:
    """A daemon's memory. Methods may be called from any thread.

    Args:
        url: of the database, as `sqlite:///state.sqlite` or `postgresql+psycopg://...`.

    Raises:
        UsageError: the database cannot be opened.
    """

    def __init__(self, url: str) -> None:
        try:
            self._engine = _open(url)
            self._reading = self._engine.execution_options(**{_READS: True})
            with self._engine.begin() as connection:
                _migrate(connection)
        except (OperationalError, sa.exc.ArgumentError, ModuleNotFoundError) as error:
            cause = str(getattr(error, "orig", error)).strip().splitlines()[0]
            raise UsageError(f"daemon.state: the database cannot be opened ({cause})") from None

    def close(self) -> None:
        """Lets go of the database."""
        self._engine.dispose()

    @property
    def ledger(self) -> Ledger:
        """What was spent of the budgets, in the same database."""
        return Ledger(self._engine)

    # -- the audit log's end

    def audit_head(self) -> tuple[int, str] | None:
        """Number and digest of the last entry of the audit log, as far as is known here."""
        query = sa.select(_audit_head.c.sequence, _audit_head.c.digest)
        with self._engine.begin() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (row.sequence, row.digest)

    def keep_audit_head(self, sequence: int, digest: str) -> None:
        """Remembers it, in the place of what was remembered."""
        row = {"id": 1, "sequence": sequence, "digest": digest}
        with self._engine.begin() as connection:
            if not connection.execute(_audit_head.update().values(row)).rowcount:
                connection.execute(_audit_head.insert().values(row))

    # -- agreements

    def add_agreement(self, digest: str, name: str, version: int, document: bytes) -> None:
        """Keeps an agreement; the same one twice is one.

        Raises:
            Contradiction: another one of this name and version is here.
        """
        row = {"digest": digest, "id": name, "version": version, "document": document}
        with self._engine.begin() as connection:
            known = connection.execute(
                sa.select(_agreements.c.digest).where(
                    _agreements.c.id == name, _agreements.c.version == version
                )
            ).scalar_one_or_none()
            if known is None:
                connection.execute(_agreements.insert().values(row))
            elif known != digest:
                raise Contradiction(
                    f"agreement {name} version {version}: another one is held here ({known[:16]}...); "
                    "a changed agreement needs a higher version"
                )

    def agreements(self) -> list[bytes]:
        """All agreements, by name and version."""
        query = sa.select(_agreements.c.document).order_by(_agreements.c.id, _agreements.c.version)
        with self._reading.begin() as connection:
            return [bytes(document) for document in connection.execute(query).scalars()]

    # -- jobs

    def add_job(
        self, signed: SignedRecord, document: bytes, *, seen: datetime, peers: Iterable[str] = ()
    ) -> bool:
        """Keeps a proposal and its job; False if it is here already.

        Args:
            signed: the proposal.
            document: the signed job in it.
            seen: now.
            peers: to whom it is to be delivered.
        """
        job = signed.record.job
        with self._engine.begin() as connection:
            if self._has_job(connection, job):
                return False
            values = {
                "digest": job,
                "agreement": signed.record.agreement,
                "document": document,
                "seen": int(seen.timestamp()),
                "pending": False,
                "closed": False,
            }
            connection.execute(_jobs.insert().values(values))
            self._insert(connection, signed, peers)
        return True

    def job(self, prefix: str) -> StoredJob:
        """The job whose digest begins so.

        Raises:
            Unknown: there is none, or more than one, or the prefix is shorter than 8.
        """
        if len(prefix) < 8 or not all(letter in "0123456789abcdef" for letter in prefix):
            raise Unknown(f"job {prefix[:70]!r}: give 8 or more hexadecimal digits of its digest")
        query = _JOB.where(_jobs.c.digest.startswith(prefix)).limit(2)
        with self._reading.begin() as connection:
            rows = connection.execute(query).all()
        if len(rows) != 1:
            many = "more than one begins so" if rows else "there is none here"
            raise Unknown(f"job {prefix}: {many}; see `mpcpriv job list`")
        return _stored(rows[0])

    def jobs(self, *, open_only: bool = False) -> list[StoredJob]:
        """All jobs, those that came last first."""
        query = _JOB.order_by(_jobs.c.seen.desc(), _jobs.c.digest)
        if open_only:
            query = query.where(_jobs.c.closed.is_(False))
        with self._reading.begin() as connection:
            return [_stored(row) for row in connection.execute(query)]

    def known(self, digest: str) -> bool:
        """Whether the job with exactly this digest is here."""
        with self._engine.begin() as connection:
            return self._has_job(connection, digest)

    def proposals(self, member: str, since: datetime) -> tuple[int, int]:
        """How many jobs that `member` proposed are open, and how many came since then."""
        mine = (
            sa.select(sa.func.count())
            .select_from(_records.join(_jobs, _records.c.job == _jobs.c.digest))
            .where(_records.c.member == member, _records.c.kind == "proposal")
        )
        with self._engine.begin() as connection:
            opened = connection.execute(mine.where(_jobs.c.closed.is_(False))).scalar_one()
            recent = connection.execute(mine.where(_jobs.c.seen >= int(since.timestamp()))).scalar_one()
        return opened, recent

    def mark(self, job: str, *, pending: bool | None = None, closed: bool | None = None) -> None:
        """Notes where a job stands here."""
        values = {"pending": pending, "closed": closed}
        known = {name: value for name, value in values.items() if value is not None}
        with self._engine.begin() as connection:
            connection.execute(_jobs.update().where(_jobs.c.digest == job).values(known))

    def result(self, job: str) -> bytes | None:
        """The result that was released to this member, if one was; or in UTF-8, why it could not be read."""
        query = sa.select(_jobs.c.result).where(_jobs.c.digest == job)
        with self._reading.begin() as connection:
            found = connection.execute(query).scalar_one_or_none()
        return None if found is None else bytes(found)

    def salt(self, job: str) -> str | None:
        """The salt of the digest of what this member put in, in hexadecimal, if it has computed."""
        query = sa.select(_jobs.c.salt).where(_jobs.c.digest == job)
        with self._reading.begin() as connection:
            found: str | None = connection.execute(query).scalar_one_or_none()
        return found

    def forget(self, job: str) -> None:
        """Deletes the result of a job, the shares of it, and the salt, also from the database's file."""
        shares = sa.select(_records.c.number).where(_records.c.job == job, _records.c.kind == "share")
        with self._engine.begin() as connection:
            connection.execute(_outbox.delete().where(_outbox.c.record.in_(shares)))
            connection.execute(_records.delete().where(_records.c.number.in_(shares)))
            connection.execute(_jobs.update().where(_jobs.c.digest == job).values(result=None, salt=None))
        if self._engine.dialect.name == "sqlite":
            # secure_delete overwrites what is freed; this brings it from the write-ahead log into the file.
            connection_ = self._engine.raw_connection()
            try:
                connection_.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection_.close()

    # -- records

    def add(self, signed: SignedRecord, peers: Iterable[str] = (), result: bytes | None = None) -> bool:
        """Keeps a record; False if it is here already.

        Args:
            signed: the record, verified.
            peers: to whom it is to be delivered.
            result: of an outcome: what was released, or why that is no result.

        Raises:
            Contradiction: another one is in its place.
            Unknown: its job is not here.
        """
        job = signed.record.job
        with self._engine.begin() as connection:
            if not self._has_job(connection, job):
                raise Unknown(f"job {job[:16]}: not proposed here yet")
            known = connection.execute(
                sa.select(_records.c.record).where(_place(signed.record))
            ).scalar_one_or_none()
            if known is not None:
                if bytes(known) != signed.record.canonical():
                    author, kind = signed.record.member, signed.record.body.kind
                    raise Contradiction(f"{author} wrote two different {kind}s about {job[:16]}")
                return False
            try:
                self._insert(connection, signed, peers)
            except IntegrityError:
                raise Contradiction(f"two writers at once about {job[:16]}") from None
            if result is not None:
                connection.execute(_jobs.update().where(_jobs.c.digest == job).values(result=result))
        return True

    def commit(
        self, commitment: SignedRecord, share: SignedRecord, peers: Iterable[str], salt: str, *, paid: bool
    ) -> None:
        """Keeps a commitment with the share that it is to, and the debit that pays for it: all or nothing.

        The share stays here until `post`.

        Args:
            commitment: of this member.
            share: of this member.
            peers: to whom the commitment is to be delivered.
            salt: of the digest of what was put in; it never leaves this member.
            paid: whether the release costs budget, which has been reserved.

        Raises:
            Contradiction: this member has committed already.
            NotReserved: nothing is reserved for it.
            Unknown: its job is not here.
        """
        job, body = commitment.record.job, commitment.record.body
        assert isinstance(body, Commitment)
        with self._engine.begin() as connection:
            if not self._has_job(connection, job):
                raise Unknown(f"job {job[:16]}: not proposed here yet")
            if paid:
                digest = bytes.fromhex(body.share)
                if self.ledger.debit(connection, job, body.inputs, digest) != digest:
                    raise Contradiction(f"job {job[:16]} was debited for another share")
            try:
                self._insert(connection, commitment, peers)
                self._insert(connection, share, ())
            except IntegrityError:
                raise Contradiction(f"two commitments to job {job[:16]}") from None
            connection.execute(_jobs.update().where(_jobs.c.digest == job).values(salt=salt))

    def post(self, job: str, member: str, kind: str, peers: Iterable[str]) -> None:
        """Has a record that is kept here delivered to these, too; the same ones again are the same.

        Raises:
            Unknown: it is not kept here, or no longer.
        """
        place = sa.and_(_records.c.job == job, _records.c.member == member, _records.c.kind == kind)
        with self._engine.begin() as connection:
            number = connection.execute(sa.select(_records.c.number).where(place)).scalar_one_or_none()
            if number is None:
                raise Unknown(f"job {job[:16]}: its {kind} was kept for as long as was agreed")
            known = set(
                connection.execute(sa.select(_outbox.c.peer).where(_outbox.c.record == number)).scalars()
            )
            letters = [{"record": number, "peer": peer} for peer in peers if peer not in known]
            if letters:
                connection.execute(_outbox.insert(), letters)

    def records(self, job: str) -> list[SignedRecord]:
        """All records about a job, in the order in which they came."""
        query = (
            sa.select(_records.c.record, _records.c.signature)
            .where(_records.c.job == job)
            .order_by(_records.c.number)
        )
        with self._reading.begin() as connection:
            rows = connection.execute(query).all()
        return [SignedRecord(Record.from_canonical(bytes(row.record)), row.signature) for row in rows]

    # -- what is still to be delivered

    def outbox(self, peer: str, limit: int = 100, after: int = 0) -> list[Letter]:
        """What `peer` has not confirmed, the oldest first, of the records after this number."""
        query = (
            sa.select(_records.c.number, _records.c.record, _records.c.signature)
            .join(_outbox, _outbox.c.record == _records.c.number)
            .where(_outbox.c.peer == peer, _records.c.number > after)
            .order_by(_records.c.number)
            .limit(limit)
        )
        with self._reading.begin() as connection:
            return [Letter(row.number, bytes(row.record), row.signature) for row in connection.execute(query)]

    def delivered(self, number: int, peer: str) -> None:
        """`peer` has it."""
        with self._engine.begin() as connection:
            connection.execute(_outbox.delete().where(_outbox.c.record == number, _outbox.c.peer == peer))

    def _has_job(self, connection: sa.Connection, job: str) -> bool:
        query = sa.select(_jobs.c.digest).where(_jobs.c.digest == job)
        return connection.execute(query).scalar_one_or_none() is not None

    def _insert(self, connection: sa.Connection, signed: SignedRecord, peers: Iterable[str]) -> None:
        job, member, kind, about = signed.record.slot
        values = {
            "job": job,
            "member": member,
            "kind": kind,
            "about": about,
            "record": signed.record.canonical(),
            "signature": signed.signature,
        }
        number = connection.execute(
            _records.insert().values(values).returning(_records.c.number)
        ).scalar_one()
        letters = [{"record": number, "peer": peer} for peer in peers]
        if letters:
            connection.execute(_outbox.insert(), letters)


_JOB: Final = sa.select(
    *(column for column in _jobs.c if column.name not in ("result", "salt")),
    _jobs.c.result.is_not(None).label("result"),
)


def _place(record: Record) -> sa.ColumnElement[bool]:
    job, member, kind, about = record.slot
    place = _records.c
    return sa.and_(place.job == job, place.member == member, place.kind == kind, place.about == about)


def _stored(row: Any) -> StoredJob:
    seen = datetime.fromtimestamp(row.seen, UTC)
    return StoredJob(
        row.digest, row.agreement, bytes(row.document), seen, row.pending, row.closed, bool(row.result)
    )


def _open(url: str) -> sa.Engine:
    # Parameters are hidden: a write that fails ends in a log, and what is written are shares and results.
    parsed = sa.make_url(url)
    if parsed.get_backend_name() != "sqlite":
        # Two transactions that would contradict each other: unique constraints refuse the second.
        return sa.create_engine(parsed, pool_pre_ping=True, hide_parameters=True)
    if parsed.database and parsed.database != ":memory:":
        # It holds results; SQLite gives the files beside it the mode of this one.
        try:
            os.close(os.open(parsed.database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            Path(parsed.database).chmod(0o600)
        except OSError as error:
            raise UsageError(
                f"daemon.state: {parsed.database}: cannot be opened ({error.strerror})"
            ) from None
    engine = sa.create_engine(parsed, connect_args={"timeout": _BUSY_SECONDS}, hide_parameters=True)

    def connect(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions by itself
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}")

    def begin(connection: sa.Connection) -> None:
        # IMMEDIATE: what is read in a transaction is still so when it writes. Who only reads waits for
        # nobody: a writer that waits for the disk must not keep a daemon from answering.
        reads = connection.get_execution_options().get(_READS, False)
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    sa.event.listen(engine, "connect", connect)
    sa.event.listen(engine, "begin", begin)
    return engine


def _migrate(connection: sa.Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "heads")
