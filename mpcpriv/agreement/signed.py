"""An agreement with its members' signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Final, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv import documents
from mpcpriv.agreement.model import Agreement
from mpcpriv.documents import Document, read_file
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Ordered, Party
from mpcpriv.job.signed import Signature

DOMAIN: Final = "agreement"
SUFFIX: Final = ".agreement.json"


class SignedAgreement(Document):
    """An agreement and the signatures that it has so far.

    Attributes:
        agreement: the terms.
        signatures: by member, over the agreement's canonical bytes.
    """

    noun: ClassVar[str] = "signed agreement"

    agreement: Agreement
    signatures: Annotated[dict[Party, Signature], Ordered]

    @classmethod
    def unsigned(cls, agreement: Agreement) -> Self:
        """The agreement, before anybody signed."""
        return cls(agreement=agreement, signatures={})

    def signed_by(self, name: str, key: Ed25519PrivateKey) -> Self:
        """With the signature of the member `name` as well.

        Raises:
            UsageError: no member is called so, or the agreement has another key for it.
        """
        member = self.agreement.member(name)
        if member is None:
            known = ", ".join(one.name for one in self.agreement.members)
            raise UsageError(f"{name} is no member of agreement {self.agreement.id}; its members are {known}")
        own = documents.public_key(key)
        if own != member.signing_key:
            raise UsageError(
                f"the signing key of {name} is {own}, but the agreement gives it {member.signing_key}; "
                "sign with the key in the agreement, or have a new version made with this one"
            )
        signature = documents.sign(key, DOMAIN, self.agreement.canonical())
        return type(self)(agreement=self.agreement, signatures={**self.signatures, name: signature})

    def merged(self, other: SignedAgreement) -> Self:
        """With the signatures of another copy as well.

        Raises:
            UsageError: the copies are of different texts, or a signature is not that of its member.
        """
        if other.agreement != self.agreement:
            mine, theirs = self.agreement, other.agreement
            raise UsageError(
                f"another text: {theirs.id} version {theirs.version}, digest {theirs.digest()[:16]}..., "
                f"and not {mine.id} version {mine.version}, digest {mine.digest()[:16]}...; "
                "all sign the same one"
            )
        if wrong := other.wrong():
            raise UsageError("; ".join(wrong))
        return type(self)(agreement=self.agreement, signatures={**self.signatures, **other.signatures})

    def missing(self) -> list[str]:
        """The members who have not signed, in their order."""
        return [member.name for member in self.agreement.members if member.name not in self.signatures]

    def wrong(self) -> list[str]:
        """What is wrong with the signatures that are there."""
        content = self.agreement.canonical()
        keys = {member.name: member.signing_key for member in self.agreement.members}
        found = []
        for name, signature in self.signatures.items():
            if name not in keys:
                found.append(f"{name} signed but is no member")
            elif not documents.verify(keys[name], DOMAIN, content, signature):
                found.append(
                    f"the signature of {name} is not for this text; "
                    "either was changed after signing, or it is another's"
                )
        return found

    def problems(self) -> list[str]:
        """Why this is not signed by all its members and nobody else; empty if it is."""
        missing = [
            f"the signature of {name} is missing; all members sign an agreement" for name in self.missing()
        ]
        return [*missing, *self.wrong()]

    def to_bytes(self) -> bytes:
        """The canonical JSON of both."""
        return self.canonical()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Reads what `to_bytes` wrote; the signatures are not verified here.

        Raises:
            UsageError: not an agreement with signatures, or not in its one encoding.
        """
        return cls.from_canonical(data)


def signed_path(path: Path) -> Path:
    """Where the signed form of the agreement in the TOML file `path` is kept: beside it."""
    return path if path.name.endswith(SUFFIX) else path.with_name(path.name.removesuffix(".toml") + SUFFIX)


def read_signed(path: Path) -> SignedAgreement:
    """Reads a signed agreement from its file; the signatures are not verified here.

    Raises:
        UsageError: the file cannot be read or holds no signed agreement.
    """
    data = read_file(path, "signed agreement")
    try:
        return SignedAgreement.from_bytes(data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
