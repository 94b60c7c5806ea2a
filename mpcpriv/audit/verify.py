"""What was done to a log: every edit, deletion and reordering from the log alone, a lost end by receipts.

A log shows by itself that nothing in it was changed by anybody but its owner. That its end was cut off, that
a backup was put in its place, or that its owner wrote another history, shows against what its peers have
countersigned. What came after the last receipt, only the owner knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mpcpriv.audit import entry as entries_
from mpcpriv.audit.entry import NOTHING, Entry
from mpcpriv.audit.events import Opened, ReceiptGiven, ReceiptReceived
from mpcpriv.audit.receipt import Receipt, moment
from mpcpriv.errors import UsageError


def verify(
    path: Path,
    public_key: str,
    peers: Mapping[str, str] | None = None,
    others: Iterable[Path | Receipt] = (),
    *,
    owner: str | None = None,
) -> list[str]:
    """All that is wrong with a log, in plain words; nothing when it is whole.

    Args:
        path: the log.
        public_key: its owner's signing key, base64.
        peers: the other members' signing keys by name.
        others: their logs, or receipts that they gave.
        owner: whose log it should be. Without it the log is believed about its owner's name, and whoever
            holds the key could hide from receipts by another name.

    Raises:
        UsageError: a file cannot be read.
    """
    keys = dict(peers or {})
    content = read(path)
    problems = chain_problems(content.lines, public_key, owner)
    if content.torn:
        problems.append(
            f"the last line has no end: {len(content.torn)} bytes of an entry, torn by a crash or cut"
        )
    entries = content.entries
    owner = owner or _owner(entries)
    problems += _problems_of_receipts(entries, public_key, keys, owner)
    if owner is not None:
        keys.pop(owner, None)
    receipts: list[tuple[Receipt, str]] = []
    for other in others:
        if isinstance(other, Receipt):
            receipts.append((other, "a receipt"))
        else:
            theirs = read(other)
            problems += [f"{other}, {problem}" for problem in _problems_of_peer(theirs, keys)]
            receipts += [(receipt, f"{other}, entry {seq}") for seq, receipt in _receipts(theirs)]
    known = _Known(
        owner,
        public_key,
        {entry.seq: entry.digest for entry in entries},
        {_statement(entry.facts.receipt) for entry in entries if isinstance(entry.facts, ReceiptGiven)},
    )
    for receipt, where in receipts:
        problems += _against(known, receipt, where, keys)
    return list(dict.fromkeys(problems))


def countersigned(
    path: Path, peers: Mapping[str, str], others: Iterable[Path | Receipt] = ()
) -> dict[str, int]:
    """Up to which entry each peer has countersigned a log, by its own receipts and those in `others`.

    Raises:
        UsageError: a file cannot be read.
    """
    content = read(path)
    owner = _owner(content.entries)
    digests = {entry.seq: entry.digest for entry in content.entries}
    receipts = [receipt for _, receipt in _receipts(content)]
    for other in others:
        receipts += (
            [other] if isinstance(other, Receipt) else [receipt for _, receipt in _receipts(read(other))]
        )
    reached: dict[str, int] = {}
    for receipt in receipts:
        if (
            receipt.owner == owner
            and receipt.by in peers
            and digests.get(receipt.seq) == receipt.digest
            and receipt.is_signed_by(peers[receipt.by])
        ):
            reached[receipt.by] = max(receipt.seq, reached.get(receipt.by, -1))
    return reached


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        lines: each whole line as an entry, or why it is none.
        length: bytes of the whole lines, newlines included.
        torn: what follows the last newline.
    """

    lines: list[Entry | UsageError]
    length: int
    torn: bytes

    @property
    def entries(self) -> list[Entry]:
        """The lines that are entries."""
        return [line for line in self.lines if isinstance(line, Entry)]


def read(path: Path) -> Content:
    """Reads a log as it is, whole or not.

    Raises:
        UsageError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the audit log cannot be read ({error.strerror})") from None
    *lines, torn = content.split(b"\n")
    return Content([_entry(line) for line in lines], len(content) - len(torn), torn)


def _entry(line: bytes) -> Entry | UsageError:
    try:
        return entries_.parse(line)
    except UsageError as error:
        return error


def chain_problems(lines: Iterable[Entry | UsageError], public_key: str, owner: str | None) -> list[str]:
    """What the lines of a log show by themselves.

    Args:
        lines: as `read` has them.
        public_key: of the owner, base64.
        owner: its name, where it is known.
    """
    problems: list[str] = []
    before: Entry | None = None
    expected = 0
    for number, entry in enumerate(lines, start=1):
        if isinstance(entry, UsageError):
            problems.append(f"line {number}, where entry {expected} should be: {entry}")
            before, expected = None, expected + 1
            continue
        if not entry.is_signed_by(public_key):
            problems.append(f"entry {entry.seq}: not signed with the owner's key")
        if entry.seq > expected:
            missing = (
                f"entries {expected} to {entry.seq - 1} are"
                if entry.seq - expected > 1
                else f"entry {expected} is"
            )
            problems.append(f"{missing} missing before entry {entry.seq}, line {number}")
        elif entry.seq < expected:
            problems.append(
                f"entry {entry.seq} stands where entry {expected} should be, line {number}: "
                "repeated or reordered"
            )
        elif expected == 0 and entry.previous != NOTHING:
            problems.append("entry 0 names an entry before it, and none stands there")
        elif before is not None and entry.previous != before.digest:
            problems.append(
                f"entry {entry.seq} was not written after the entry that stands before it: "
                "one of the two was replaced"
            )
        problems += _opening(entry, public_key, owner)
        before, expected = entry, entry.seq + 1
    if expected == 0:
        problems.append("entry 0 is missing: the log holds no whole entry, and every log begins with one")
    return problems


def _opening(entry: Entry, public_key: str, owner: str | None) -> list[str]:
    facts = entry.facts
    if isinstance(facts, Opened) != (entry.seq == 0):
        return [f"entry {entry.seq}: a log begins with `opened`, and nothing else is called so"]
    if not isinstance(facts, Opened):
        return []
    problems = []
    if facts.signing_key != public_key:
        problems.append("entry 0: the log is of another signing key")
    if owner is not None and facts.owner != owner:
        problems.append(f"entry 0: the log is {facts.owner}'s, not {owner}'s")
    return problems


def _owner(entries: list[Entry]) -> str | None:
    return next((entry.facts.owner for entry in entries if isinstance(entry.facts, Opened)), None)


def _problems_of_receipts(
    entries: list[Entry], public_key: str, peers: Mapping[str, str], owner: str | None
) -> list[str]:
    """Whether the receipts in a log are signed by whom they name, and those for it name its entries."""
    problems = []
    digests = {entry.seq: entry.digest for entry in entries}
    for entry in entries:
        if isinstance(entry.facts, ReceiptGiven):
            receipt = entry.facts.receipt
            if receipt.by != owner or not receipt.is_signed_by(public_key):
                problems.append(f"entry {entry.seq}: a receipt given that its owner did not sign")
        elif isinstance(entry.facts, ReceiptReceived):
            receipt = entry.facts.receipt
            if receipt.owner != owner or receipt.seq >= entry.seq:
                problems.append(f"entry {entry.seq}: a receipt of another log, or of a later entry")
                continue
            if receipt.by in peers and not receipt.is_signed_by(peers[receipt.by]):
                problems.append(f"entry {entry.seq}: a receipt that {receipt.by} did not sign")
            if digests.get(receipt.seq, receipt.digest) != receipt.digest:
                problems.append(
                    f"entry {receipt.seq} is not the one that {receipt.by} countersigned (entry {entry.seq})"
                )
    return problems


def _problems_of_peer(content: Content, peers: Mapping[str, str]) -> list[str]:
    name = _owner(content.entries)
    if name is None:
        return ["a log without its first entry: nobody knows whose it is"]
    if name not in peers:
        return [f"the log of {name}, whose signing key is not given"]
    problems = chain_problems(content.lines, peers[name], name)
    if content.torn:
        problems.append("the last line has no end")
    return [f"the log of {name}: {problem}" for problem in problems]


def _receipts(content: Content) -> list[tuple[int, Receipt]]:
    """All receipts in a log, each with the number of its entry."""
    return [
        (entry.seq, entry.facts.receipt)
        for entry in content.entries
        if isinstance(entry.facts, ReceiptGiven | ReceiptReceived)
    ]


@dataclass(frozen=True)
class _Known:
    """What a receipt from elsewhere is held against: a log's entries and receipts."""

    owner: str | None
    public_key: str
    digests: dict[int, str]
    given: set[_Statement]


_Statement = tuple[str, int, str]


def _statement(receipt: Receipt) -> _Statement:
    return receipt.owner, receipt.seq, receipt.digest


def _against(known: _Known, receipt: Receipt, where: str, peers: Mapping[str, str]) -> list[str]:
    """What a receipt from elsewhere says of this log."""
    if receipt.by == known.owner:
        # Ours in a peer's log. Receipts are written down before they are given.
        if receipt.is_signed_by(known.public_key) and _statement(receipt) not in known.given:
            held = (
                f"{where}: {receipt.owner} holds a receipt that {receipt.by} signed at {moment(receipt.time)}"
            )
            return [f"{held}, and no such entry is here: this log was cut, or a backup was restored"]
        return []
    if receipt.owner != known.owner:
        return []
    if receipt.by not in peers:
        return [f"{where}: by {receipt.by}, whose signing key is not given"]
    if not receipt.is_signed_by(peers[receipt.by]):
        return [f"{where}: not signed by {receipt.by}"]
    seen = f"{receipt.by} countersigned entry {receipt.seq} at {moment(receipt.time)} ({where})"
    last = max(known.digests, default=-1)
    if receipt.seq > last:
        return [f"{seen}, and the log ends with entry {last}: its end was cut off, or a backup was restored"]
    # Where the entry itself cannot be read, that has been said.
    if known.digests.get(receipt.seq, receipt.digest) != receipt.digest:
        return [f"{seen}, and another one stands there: rewritten, or a backup was restored and written on"]
    return []
