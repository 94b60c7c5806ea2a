"""A receipt: a member's signature over the head of another member's log.

The owner of a log could sign another history of it. It cannot sign for its peers: what stands before an
entry that a peer has countersigned stays as it is, or differs from the receipt.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field

from mpcpriv.documents import Canonical, sign, verify
from mpcpriv.job.model import Digest, Party, Time

DOMAIN: Final = "audit-receipt"

Seq = Annotated[int, Field(ge=0, lt=2**53)]
Signature = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]


class _Statement(Canonical):
    owner: Party
    seq: Seq
    digest: Digest
    by: Party
    time: Time


class Receipt(_Statement):
    """`by` has seen that entry `seq` of the log of `owner` has this digest.

    Attributes:
        owner: whose log it is.
        seq, digest: of the entry.
        by: who countersigns.
        time: when, by the clock of `by`.
        signature: of `by` over all of the above, domain `audit-receipt`.
    """

    signature: Signature

    def is_signed_by(self, public_key: str) -> bool:
        """Whether the holder of this public key signed it."""
        return verify(public_key, DOMAIN, self._statement(), self.signature)

    def _statement(self) -> bytes:
        return _Statement(**self.model_dump(exclude={"signature"})).canonical()


def make_receipt(key: Ed25519PrivateKey, by: str, owner: str, seq: int, digest: str) -> Receipt:
    """Countersigns a head. A daemon uses `AuditLog.give_receipt`, which writes it down before.

    Raises:
        ValueError: a name, the number or the digest is none.
    """
    statement = _Statement(owner=owner, seq=seq, digest=digest, by=by, time=now())
    return Receipt(**statement.model_dump(), signature=sign(key, DOMAIN, statement.canonical()))


def now() -> datetime:
    """UTC, whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def moment(time: datetime) -> str:
    """A time for people."""
    return f"{time:%Y-%m-%d %H:%M:%S} UTC"
