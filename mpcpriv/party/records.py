"""Signed records, and what becomes of a job by those that are there.

Nobody coordinates. Each member writes down what it does about a job, once, signs it and delivers it to all
other members; the fate of the job is a function of the set of records and of nothing else, so that members
who hold the same records agree. Fates only ever move on (`RANK`), in whatever order records come.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Final, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from mpcpriv import documents
from mpcpriv.audit.receipt import Receipt
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Digest, Name, Ordered, Party
from mpcpriv.release.share import MOST_NUMBERS, SALT_BYTES, Layout

DOMAIN: Final = "record"
MAX_BYTES: Final = 1 << 20
"""The longest record, but for a share."""
MAX_SHARE: Final = 4 * ((8 * MOST_NUMBERS + SALT_BYTES) // 3 + 1)
"""The longest share, in base64."""
JOB_BYTES: Final = 1 << 18
"""The longest signed job that is proposed."""
MOST_REASONS: Final = 100
"""Of a refusal."""

Reason = Annotated[str, Field(min_length=1, max_length=2000)]


class AuditHead(Document):
    """The end of a member's audit log at some moment.

    Attributes:
        sequence, entry: number and digest of its last entry.
    """

    sequence: Annotated[int, Field(ge=0, lt=2**53)]
    entry: Digest


class Proposal(Document):
    """The submitter's daemon: the job. `document` is `SignedJob.to_bytes()`, as text."""

    kind: Literal["proposal"] = "proposal"
    document: Annotated[str, Field(max_length=JOB_BYTES)]


class Decision(Document):
    """Every member: whether it takes part; `reasons` of a refusal are all of them, up to `MOST_REASONS`."""

    kind: Literal["decision"] = "decision"
    accept: bool
    reasons: Annotated[list[Reason], Field(default_factory=list, max_length=MOST_REASONS)]


class Ready(Document):
    """Every computing member and the dealer: where its worker listens, `host:port`.

    The worker that wrote it is the only one that ever runs this job at this member: `epoch`, 16 random bytes
    in hexadecimal, says which one it was.
    """

    kind: Literal["ready"] = "ready"
    address: Annotated[str, Field(max_length=261, pattern=r"^(\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+):[0-9]{1,5}$")]
    epoch: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]


class Commitment(Document):
    """A computing party: its share of the result is fixed, paid for, and durable.

    From here on it releases this share or none. It releases it once all computing parties have committed to
    theirs, so that nobody chooses his share in view of another's, and no share leaves that is of no use.

    Attributes:
        rows: by data set, how many rows it has; the same at all.
        layout: what the shares hold; the same at all.
        transcript: of what was done; the same at all.
        share: digest of this party's share, salt and all.
        inputs: digest of what it put in, with a salt that stays with it.
        people: where nobody learns whom the data sets have in common, that of its keys, with the same salt.
    """

    kind: Literal["commitment"] = "commitment"
    rows: Annotated[dict[Name, Annotated[int, Field(ge=0, lt=2**53)]], Ordered]
    layout: Annotated[list[Layout], Field(min_length=1, max_length=1000)]
    transcript: Digest
    share: Digest
    inputs: Digest
    people: Digest | None = None


class Share(Document):
    """A computing party, to the recipients and nobody else: the share that it had committed to, base64."""

    kind: Literal["share"] = "share"
    content: Annotated[str, Field(max_length=MAX_SHARE, pattern=r"^[A-Za-z0-9+/]*={0,2}$")]

    @classmethod
    def of(cls, content: bytes) -> Self:
        """From `release.Sealed.content`."""
        return cls(content=b64encode(content).decode())

    def read(self) -> bytes:
        """What `of` was given.

        Raises:
            UsageError: it is not base64.
        """
        try:
            return b64decode(self.content, validate=True)
        except binascii.Error:
            raise UsageError("a share that is not base64") from None

    def __repr__(self) -> str:
        return f"Share({len(self.content)} characters)"

    __str__ = __repr__


class Outcome(Document):
    """How it ended at a member.

    Attributes:
        success: whether it did what it had to: a computing party has released its share, a recipient has read
            the result, the dealer has dealt.
        reason: why not; without data.
        output: digest of what was released to it.
        head: of its audit log, with the end of this job in it.
    """

    kind: Literal["outcome"] = "outcome"
    success: bool
    reason: Annotated[str, Field(max_length=2000)] = ""
    output: Digest | None = None
    head: AuditHead


class Countersigned(Document):
    """A countersignature of the head in another member's outcome, whose log `receipt.owner` keeps."""

    kind: Literal["receipt"] = "receipt"
    receipt: Receipt


Body = Annotated[
    Proposal | Decision | Ready | Commitment | Share | Outcome | Countersigned, Field(discriminator="kind")
]


class Record(Document):
    """What one member writes, once, about one job.

    Attributes:
        agreement: digest of the agreement under which the job is proposed.
        job: the job's digest.
        member: who writes.
        body: what.
    """

    agreement: Digest
    job: Digest
    member: Party
    body: Body

    @property
    def slot(self) -> tuple[str, str, str, str]:
        """What there may be one record of: the job, the member, the kind, and whom a receipt is about."""
        about = self.body.receipt.owner if isinstance(self.body, Countersigned) else ""
        return self.job, self.member, self.body.kind, about


@dataclass(frozen=True)
class SignedRecord:
    """A record as it travels and is stored.

    Attributes:
        record: the record.
        signature: its author's, base64.
    """

    record: Record
    signature: str

    @classmethod
    def sign(cls, record: Record, key: Ed25519PrivateKey) -> Self:
        """Signs `record`."""
        return cls(record, documents.sign(key, DOMAIN, record.canonical()))

    def verify(self, public_key: str) -> bool:
        """Whether the holder of `public_key` signed it."""
        return documents.verify(public_key, DOMAIN, self.record.canonical(), self.signature)


State = Literal["proposed", "running", "finished", "failed", "refused"]

RANK: Final[Mapping[State, int]] = {"proposed": 0, "running": 1, "finished": 2, "failed": 3, "refused": 4}
"""More records never lower a job's rank, and honest members' records never raise it beyond `finished`."""

SETTLED: Final = frozenset[State]({"finished", "failed", "refused"})


@dataclass(frozen=True)
class Fate:
    """What has become of a job.

    Attributes:
        state: proposed, running, finished, failed or refused.
        reasons: of a refusal or failure, `member: reason`, sorted.
        undecided: who has not decided, sorted.
    """

    state: State
    reasons: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether nothing is computed any more."""
        return self.state in SETTLED


def fate(
    records: Iterable[Record],
    deciders: Iterable[str],
    parties: Iterable[str],
    recipients: Iterable[str],
) -> Fate:
    """What has become of a job by these records, in any order and number.

    Once all have accepted, what computing parties and recipients do decides: a failure of anybody else (the
    dealer, say) makes each computing party fail that has not committed to its share yet, and if all have, it
    comes too late to matter. A member that contradicts itself (which `state` never stores) counts as
    refusing, then as failing.

    Args:
        records: of one job.
        deciders: all members of the agreement.
        parties: the computing members.
        recipients: of the result.
    """
    accepted, succeeded = set[str](), set[str]()
    refusals, failures = set[str](), set[str]()
    everyone, needed = frozenset(deciders), {*parties, *recipients}
    for record in records:
        member, body = record.member, record.body
        if member not in everyone:
            continue
        if isinstance(body, Decision) and body.accept:
            accepted.add(member)
        elif isinstance(body, Decision):
            refusals.update(f"{member}: {reason}" for reason in body.reasons or ["refused"])
        elif isinstance(body, Outcome) and body.success:
            succeeded.add(member)
        elif isinstance(body, Outcome) and member in needed:
            failures.add(f"{member}: {body.reason}")
    undecided = tuple(sorted(everyone - accepted - {refusal.split(":")[0] for refusal in refusals}))
    if refusals:
        return Fate("refused", tuple(sorted(refusals)), undecided)
    if failures:
        return Fate("failed", tuple(sorted(failures)), undecided)
    if undecided:
        return Fate("proposed", undecided=undecided)
    return Fate("finished" if succeeded >= needed else "running")
