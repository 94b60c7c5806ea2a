"""A job with its submitter's signature."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv import documents
from mpcpriv.documents import Document, pattern
from mpcpriv.job.model import Job

DOMAIN: Final = "job"

Signature = Annotated[str, pattern(r"^[A-Za-z0-9+/]{86}==$", "write a signature, base64 of 64 bytes")]
"""An Ed25519 signature, base64 of 64 bytes."""


class SignedJob(Document):
    """A job as it travels.

    Attributes:
        job: what is asked.
        signature: over the job's canonical bytes, by the key that the agreement gives its submitter.
    """

    noun: ClassVar[str] = "signed job"

    job: Job
    signature: Signature

    @classmethod
    def sign(cls, job: Job, key: Ed25519PrivateKey) -> Self:
        """The job, signed with this key.

        Raises:
            UsageError: the job holds a number that JSON has no place for.
        """
        return cls(job=job, signature=documents.sign(key, DOMAIN, job.canonical()))

    def verify(self, public_key: str) -> bool:
        """Whether the holder of `public_key` (base64) signed exactly this job."""
        return documents.verify(public_key, DOMAIN, self.job.canonical(), self.signature)

    def to_bytes(self) -> bytes:
        """The canonical JSON of both."""
        return self.canonical()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` wrote; the signature is not verified here.

        Raises:
            UsageError: not a signed job, or not in its one encoding.
        """
        return cls.from_canonical(data)
