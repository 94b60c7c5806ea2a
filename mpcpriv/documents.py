"""Documents that are signed: frozen models, their one canonical encoding, digests and Ed25519 signatures.

The canonical bytes are RFC 8785 JSON of the model, without what is left out; integers above 2^53 are no
numbers there and are refused. A signature (RFC 8032) is over a domain, a zero byte and the canonical bytes,
so that one kind of document never passes for another.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, Final, Self

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, ValidationError

from mpcpriv.errors import UsageError

PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64


class Canonical(BaseModel):
    """What has one encoding: frozen, strict, without unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    def canonical(self) -> bytes:
        """The one encoding of this content: RFC 8785 JSON; defaults are written, absent values are not.

        Raises:
            UsageError: a number has no place in it.
        """
        try:
            return rfc8785.dumps(self.model_dump(mode="json", exclude_none=True))
        except rfc8785.CanonicalizationError as error:
            raise UsageError(f"a number cannot be written exactly as JSON ({error}); use another") from None

    @classmethod
    def from_canonical(cls, data: bytes) -> Self:
        """Reads canonical bytes back.

        Raises:
            UsageError: not such a document, or another encoding of one.
        """
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            raise UsageError(f"not a {cls.__name__.lower()}: {first_problem(error)}") from None
        if document.canonical() != data:
            raise UsageError(f"not the canonical encoding of this {cls.__name__.lower()}")
        return document


class Document(Canonical):
    """Part of a document."""

    def digest(self) -> str:
        """SHA-256 of the canonical bytes, in hexadecimal."""
        return hashlib.sha256(self.canonical()).hexdigest()


def public_key(key: Ed25519PrivateKey | Ed25519PublicKey) -> str:
    """The public half, base64 of 32 bytes."""
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def sign(key: Ed25519PrivateKey, domain: str, content: bytes) -> str:
    """A signature over the content under this domain, base64 of 64 bytes."""
    return base64.b64encode(key.sign(_signed(domain, content))).decode()


def verify(key: str, domain: str, content: bytes, signature: str) -> bool:
    """Whether `signature` is that of the holder of the public key `key` over this content and domain."""
    try:
        raw, mark = base64.b64decode(key, validate=True), base64.b64decode(signature, validate=True)
        Ed25519PublicKey.from_public_bytes(raw).verify(mark, _signed(domain, content))
    except (ValueError, InvalidSignature):
        return False
    # One encoding each: a byte changed in the text of a signature is a change.
    return base64.b64encode(mark).decode() == signature and base64.b64encode(raw).decode() == key


def _signed(domain: str, content: bytes) -> bytes:
    return b"mpcpriv/" + domain.encode() + b"/v1\0" + content


_SHOWN: Final = 60


def first_problem(error: ValidationError) -> str:
    """The first thing that `error` found: the field, its value and the rule, or what to do about it."""
    return problems(error)[0]


def problems(error: ValidationError) -> list[str]:
    """All that `error` found, one sentence each."""
    return [
        f"{_field(found['loc'])}: {_rule(found['type'], found['msg'], found['input'])}"
        for found in error.errors(include_url=False, include_context=False)
    ]


def _field(location: tuple[int | str, ...]) -> str:
    """`('party', 0, 'name')` as `party[0].name`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _rule(kind: str, message: str, value: Any) -> str:
    if kind == "missing":
        return "missing; write it into the file"
    if kind == "extra_forbidden":
        return "no such field; check its spelling or remove it"
    shown = repr(value)
    if len(shown) > _SHOWN:
        shown = f"{shown[:_SHOWN]}..."
    return f"{shown}: {message[0].lower()}{message[1:]}"
