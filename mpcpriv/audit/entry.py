"""One entry of a log: one line of canonical JSON, bound to the one before and signed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.audit.events import Event, Facts, read_facts
from mpcpriv.audit.receipt import Seq, Signature
from mpcpriv.documents import Canonical, sign, verify
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Digest, Time

DOMAIN: Final = "audit-entry"
NOTHING: Final = "0" * 64
"""What the first entry has for the digest of the one before."""
LONGEST_LINE: Final = 1 << 20


class _Content(Canonical):
    seq: Seq
    time: Time
    event: Event
    facts: dict[str, Any]
    previous: Digest


class _Line(_Content):
    digest: Digest
    signature: Signature


@dataclass(frozen=True)
class Entry:
    """One entry. `seal` and `parse` make one; its digest is always that of its content.

    Attributes:
        seq: 0, 1, 2 ...
        time: of writing, UTC, whole seconds, by the owner's clock.
        event: what happened.
        facts: of this event, as its class in `events`.
        previous: the digest of the entry before, or `NOTHING`.
        digest: SHA-256 of all of the above, in hexadecimal.
        signature: the owner's, over the digest.
    """

    seq: int
    time: datetime
    event: Event
    facts: Facts
    previous: str
    digest: str
    signature: str

    def line(self) -> bytes:
        """The entry as it stands in the log, with the newline."""
        line = _Line(
            seq=self.seq,
            time=self.time,
            event=self.event,
            facts=_plain(self.facts),
            previous=self.previous,
            digest=self.digest,
            signature=self.signature,
        )
        return line.canonical() + b"\n"

    def is_signed_by(self, public_key: str) -> bool:
        """Whether the holder of this public key signed it."""
        return verify(public_key, DOMAIN, self.digest.encode(), self.signature)


def seal(
    key: Ed25519PrivateKey, seq: int, time: datetime, event: Event, facts: Facts, previous: str
) -> Entry:
    """An entry, with its digest and signature."""
    content = _Content(seq=seq, time=time, event=event, facts=_plain(facts), previous=previous)
    digest = _digest(content)
    return Entry(seq, time, event, facts, previous, digest, sign(key, DOMAIN, digest.encode()))


def parse(line: bytes) -> Entry:
    """Reads a line of a log, without its newline. What it accepts, `Entry.line` writes identically.

    Raises:
        UsageError: no entry, another encoding of one, or its digest is not that of its content.
    """
    if len(line) > LONGEST_LINE:
        raise UsageError(f"an entry has {LONGEST_LINE} bytes at most, this line has {len(line)}")
    read = _Line.from_canonical(line)
    facts = read_facts(read.event, read.facts)
    # The facts' own model may write them otherwise, where a default was left out.
    if _plain(facts) != read.facts:
        raise UsageError("not the canonical encoding of this entry")
    if _digest(_Content(**read.model_dump(exclude={"digest", "signature"}))) != read.digest:
        raise UsageError("its digest is not that of its content")
    return Entry(read.seq, read.time, read.event, facts, read.previous, read.digest, read.signature)


def _digest(content: _Content) -> str:
    return hashlib.sha256(content.canonical()).hexdigest()


def _plain(facts: Facts) -> dict[str, Any]:
    return facts.model_dump(mode="json", exclude_none=True)
