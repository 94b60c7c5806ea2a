"""Writing a log: every entry is on the disk before anybody hears of it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NoReturn, Protocol, Self, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit.entry import LONGEST_LINE, NOTHING, Entry, parse, seal
from mpcpriv.audit.events import (
    Event,
    Facts,
    LossAcknowledged,
    Opened,
    ReceiptGiven,
    ReceiptReceived,
    Recovered,
    facts_of,
)
from mpcpriv.audit.receipt import Receipt, make_receipt, moment, now
from mpcpriv.audit.verify import chain_problems, read
from mpcpriv.documents import public_key
from mpcpriv.errors import MpcprivError, PeerRefused, UsageError
from mpcpriv.types import PartyId

TORN: Final = ".torn-"
"""Between the name of a log and the digest of what a crash had left at its end."""


class AuditDamaged(MpcprivError):
    """The log is not what was written, or cannot be written any more."""


class Memory(Protocol):
    """What remembers the end of a log apart from it, durably: so that a log that was lost is not begun anew.

    It is told of an entry once that is on the disk: it is at most one entry behind, whatever crashes.
    """

    def audit_head(self) -> tuple[int, str] | None:
        """Number and digest of the last entry that it was told of."""

    def keep_audit_head(self, sequence: int, digest: str) -> None:
        """Remembers this one instead."""


class AuditLog:
    """A member's own log, open for writing; by one process at a time, by any number of its threads.

    Opening makes the log if it is not there, and verifies it if it is. What a crash left of an entry whose
    `append` had not returned is moved aside, and this is recorded.

    Args:
        path: the file, JSON lines.
        key: the owner's signing key.
        owner: the owner's name.
        memory: what remembers its end; without one a log that is not there is begun.
        acknowledged: why the log and the memory differ, where the owner knows that they do; it is recorded.

    Attributes:
        loss: in what they differed.

    Raises:
        AuditDamaged: the log does not verify, the message says where; or it and the memory differ.
        UsageError: another process has it open, it is somebody else's, or it cannot be read or written.
    """

    def __init__(
        self,
        path: Path,
        key: Ed25519PrivateKey,
        owner: str,
        memory: Memory | None = None,
        *,
        acknowledged: str | None = None,
    ) -> None:
        self.path = path
        self.owner = PartyId(owner)
        self._key = key
        self._lock = threading.RLock()
        self._process = os.getpid()
        self._failed: str | None = None
        self._head: Entry
        self._size: int
        self._digests: list[str] = []
        self._given: dict[tuple[str, int], Receipt] = {}
        self._kept: set[tuple[str, int]] = set()
        self._memory = memory
        self.loss: str | None = None
        remembered = memory.audit_head() if memory is not None else None
        with _refused(path):
            if not path.exists():
                if remembered is not None:
                    self._lost(f"the log is not there, and entry {remembered[0]} was written", acknowledged)
                self._create()
            self._file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        try:
            with _refused(path):
                self._claim()
                self._read(remembered, acknowledged)
            self._acknowledge(acknowledged)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets another process open the log. A closed log is not written any more."""
        with self._lock:
            if self._failed != "closed":
                self._failed = "closed"
                os.close(self._file)

    def head(self) -> Entry:
        """The last entry: its `seq` and `digest` are what the peers countersign."""
        with self._lock:
            return self._head

    def append(self, event: str, **facts: Any) -> Entry:
        """Writes an entry. It is on the disk when this returns.

        Args:
            event: one of `events.Event`.
            facts: of that event, as its class in `events` has them.

        Raises:
            UsageError: no such event, or not its facts.
            AuditDamaged: the disk did not take it, or the file was replaced or written to by another; the
                log takes no more entries until it is opened, and so verified, anew.
        """
        stated = facts_of(cast("Event", event), facts)
        if isinstance(stated, Opened | Recovered | LossAcknowledged):
            raise UsageError(f"audit event {event}: only the log itself can tell it")
        return self._append(cast("Event", event), stated)

    def give_receipt(self, owner: str, seq: int, digest: str) -> Receipt:
        """Countersigns the head of a peer's log; the receipt stands in ours before the peer can have it.

        The same head again gets the same receipt.

        Raises:
            PeerRefused: the peer has shown us another entry of that number: it has two histories.
            UsageError: not a name, a number or a digest.
        """
        try:
            receipt = make_receipt(self._key, self.owner, owner, seq, digest)
        except ValueError:
            raise UsageError(
                "a receipt is of a member's name, the number of an entry and its digest"
            ) from None
        with self._lock:
            given = self._given.get((owner, seq))
            if given is None:
                self._append("receipt-given", ReceiptGiven(receipt=receipt))
                return receipt
        if given.digest != digest:
            raise PeerRefused(
                owner,
                f"{owner} shows another entry {seq} of its audit log than it did at {moment(given.time)}",
            )
        return given

    def keep_receipt(self, receipt: Receipt, signing_key: str) -> None:
        """Writes down that a peer countersigned a head of this log. The same one again is written once.

        Args:
            receipt: what the peer sent.
            signing_key: the peer's signing key, from the agreement.

        Raises:
            PeerRefused: the peer did not sign it, or it names no entry of this log.
        """
        if not receipt.is_signed_by(signing_key):
            raise PeerRefused(receipt.by, f"{receipt.by} sent a receipt that it did not sign")
        with self._lock:
            if (receipt.by, receipt.seq) in self._kept:
                return
            kept = ReceiptReceived(receipt=receipt)
            try:
                self._check_receipt(kept)
            except UsageError as error:
                raise PeerRefused(receipt.by, f"{receipt.by} sent a receipt of no use: {error}") from None
            self._append("receipt-received", kept)

    def _append(self, event: Event, facts: Facts) -> Entry:
        with self._lock:
            self._check_writable()
            self._check_receipt(facts)
            entry = seal(self._key, self._head.seq + 1, now(), event, facts, self._head.digest)
            line = entry.line()
            if len(line) > LONGEST_LINE:
                raise UsageError(
                    f"audit event {event}: {len(line)} bytes; an entry has {LONGEST_LINE} at most"
                )
            try:
                _write(self._file, line)
                os.fsync(self._file)
            except OSError as error:
                # After a failed fsync nobody knows what is on the disk (Rebello et al., ATC 2020).
                self._fail(f"cannot be written ({error.strerror})")
            self._size += len(line)
            self._note(entry)
            if self._memory is not None:
                self._memory.keep_audit_head(entry.seq, entry.digest)
            return entry

    def _check_writable(self) -> None:
        if os.getpid() != self._process:
            raise UsageError(
                f"{self.path}: was opened by another process; open it anew, when that one is done"
            )
        if self._failed is not None:
            raise AuditDamaged(f"{self.path}: {self._failed}; open it anew")
        mine = os.fstat(self._file)
        try:
            there = os.stat(self.path)
        except OSError as error:
            self._fail(f"has gone while it was open ({error.strerror})")
        if (mine.st_dev, mine.st_ino) != (there.st_dev, there.st_ino):
            self._fail("was replaced while it was open")
        if mine.st_size != self._size:
            self._fail(f"has {mine.st_size} bytes and not the {self._size} that were written")

    def _fail(self, reason: str) -> NoReturn:
        self._failed = reason
        raise AuditDamaged(f"{self.path}: {reason}")

    def _create(self) -> None:
        # The file appears with its first entry in it, so that an empty one is damage and no beginning.
        opened = Opened(owner=self.owner, signing_key=public_key(self._key), nonce=secrets.token_hex(16))
        line = seal(self._key, 0, now(), "opened", opened, NOTHING).line()
        draft = self.path.with_name(f".{self.path.name}.{secrets.token_hex(8)}")
        _write_new(draft, line)
        try:
            os.link(draft, self.path)
        except FileExistsError:
            pass  # another process was faster; its lock decides
        finally:
            draft.unlink()
        _sync_folder(self.path)

    def _claim(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{self.path}: another process writes this audit log; stop that one first"
            ) from None

    def _lost(self, found: str, acknowledged: str | None) -> None:
        if acknowledged is None:
            raise AuditDamaged(
                f"{self.path}: {found}; put the newest log and state database back in their places, or, if "
                'that cannot be done, record the loss with `mpcpriv audit acknowledge --why "..."`'
            )
        self.loss = self.loss or found

    def _acknowledge(self, reason: str | None) -> None:
        # Also where nothing shows: of log and database restored from one moment only the owner can tell.
        if reason is not None:
            found = self.loss or "the log and the database are of one time"
            self._append("loss-acknowledged", LossAcknowledged(found=found, reason=reason))

    def _hold_against(self, remembered: tuple[int, str] | None, acknowledged: str | None) -> None:
        last = len(self._digests) - 1
        seq, digest = remembered or (-1, "")
        if last < seq:
            found = f"the log ends with entry {last}, and entry {seq} was written: an old copy, or cut"
        elif remembered and self._digests[seq] != digest:
            found = f"entry {seq} is not the one that was written: another log, or an old copy written on"
        elif last > seq + 1:
            known = f"entry {seq} only" if remembered else "nothing of it"
            found = (
                f"the log ends with entry {last}, and the state database knows {known}: "
                "that one is new, or an old copy, and has forgotten what this member decided"
            )
        else:
            return
        self._lost(found, acknowledged)

    def _read(self, remembered: tuple[int, str] | None, acknowledged: str | None) -> None:
        content = read(self.path)
        torn = content.torn
        found = chain_problems(content.lines, public_key(self._key), self.owner)
        if torn and _is_entry(torn[:-1]):
            # No crash leaves more than a beginning of a line.
            found.append("the newline after the last entry was changed")
        if found:
            more = f" (and {len(found) - 1} more: `mpcpriv audit verify`)" if len(found) > 1 else ""
            raise AuditDamaged(f"{self.path}: {found[0]}{more}")
        entries = content.entries
        self._size = content.length
        for entry in entries:
            self._note(entry)
        if self._memory is not None:
            self._hold_against(remembered, acknowledged)
            self._memory.keep_audit_head(self._head.seq, self._head.digest)
        if torn:
            self._move_aside(torn)
        recorded = {entry.facts.moved_to for entry in entries if isinstance(entry.facts, Recovered)}
        # Also of a recovery that was itself interrupted, after the tail had been moved.
        for aside in sorted(self.path.parent.glob(f"{self.path.name}{TORN}*")):
            if aside.name not in recorded:
                tail = aside.read_bytes()
                digest = hashlib.sha256(tail).hexdigest()
                self._append("recovered", Recovered(moved_to=aside.name, length=len(tail), digest=digest))

    def _move_aside(self, torn: bytes) -> None:
        aside = self.path.with_name(self.path.name + TORN + hashlib.sha256(torn).hexdigest()[:16])
        draft = self.path.with_name(f".{aside.name}.{secrets.token_hex(8)}")
        _write_new(draft, torn)
        draft.replace(aside)
        _sync_folder(self.path)
        os.ftruncate(self._file, self._size)
        os.fsync(self._file)

    def _note(self, entry: Entry) -> None:
        self._head = entry
        self._digests.append(entry.digest)
        if isinstance(entry.facts, ReceiptGiven):
            receipt = entry.facts.receipt
            self._given.setdefault((receipt.owner, receipt.seq), receipt)
        elif isinstance(entry.facts, ReceiptReceived):
            self._kept.add((entry.facts.receipt.by, entry.facts.receipt.seq))

    def _check_receipt(self, facts: Facts) -> None:
        """No receipt gets in that `verify` would complain of."""
        if isinstance(facts, ReceiptGiven):
            receipt = facts.receipt
            if receipt.by != self.owner or not receipt.is_signed_by(public_key(self._key)):
                raise UsageError(f"a receipt by {receipt.by} is none that {self.owner} gives")
        elif isinstance(facts, ReceiptReceived):
            receipt = facts.receipt
            if receipt.owner != self.owner:
                raise UsageError(f"it is of an entry of {receipt.owner}'s log, not of {self.owner}'s")
            if receipt.seq >= len(self._digests) or receipt.digest != self._digests[receipt.seq]:
                raise UsageError(f"entry {receipt.seq} of this log is another one")


def _is_entry(line: bytes) -> bool:
    try:
        parse(line)
    except UsageError:
        return False
    return True


def _write(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]


def _write_new(path: Path, data: bytes) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        _write(file, data)
        os.fsync(file)
    finally:
        os.close(file)


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


@contextmanager
def _refused(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: the audit log cannot be opened ({error.strerror})") from None
