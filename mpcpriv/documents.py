"""Documents that are signed: frozen models, their one canonical encoding, digests and Ed25519 signatures.

The canonical bytes are RFC 8785 JSON of the model, without what is left out; integers above 2^53 are no
numbers there and are refused. A signature (RFC 8032) is over a domain, a zero byte and the canonical bytes,
so that one kind of document never passes for another.
"""

from __future__ import annotations

import base64
import hashlib
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import rfc8785
import tomli_w
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpcpriv.errors import UsageError

MAX_BYTES: Final = 4 << 20
"""A longer document is refused unread."""


class Broken(ValueError):
    """What a validator raises that found several problems, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


class Canonical(BaseModel):
    """What has one encoding: frozen, strict, without unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    noun: ClassVar[str] = "document"
    """What errors call it."""

    def canonical(self) -> bytes:
        """The one encoding of this content: RFC 8785 JSON; defaults are written, absent values are not.

        Raises:
            UsageError: a number has no place in it.
        """
        try:
            return rfc8785.dumps(self.model_dump(mode="json", exclude_none=True))
        except rfc8785.CanonicalizationError:
            raise UsageError(
                f"{self.noun}: a whole number is beyond 2^53 and cannot be written exactly as JSON; "
                "use a smaller one"
            ) from None

    @classmethod
    def from_canonical(cls, data: bytes) -> Self:
        """Reads canonical bytes back.

        Raises:
            UsageError: not such a document, or another encoding of one.
        """
        _bounded(data, cls.noun)
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            raise UsageError(f"{cls.noun}: {listed(problems(error))}") from None
        if document.canonical() != data:
            raise UsageError(f"{cls.noun}: not in its canonical encoding (RFC 8785), so it has been changed")
        return document

    @classmethod
    def from_toml(cls, data: bytes, **given: Any) -> Self:
        """Reads TOML, in which the fields stand under their names.

        Args:
            data: UTF-8.
            given: values for fields that the file leaves out.

        Raises:
            UsageError: not TOML, or not such a document; the message lists all that is wrong.
        """
        content = parse_toml(data, cls.noun)
        try:
            return cls.model_validate({**given, **content})
        except ValidationError as error:
            raise UsageError(f"{cls.noun}: {listed(problems(error))}") from None

    def to_toml(self) -> str:
        """The document as TOML, from which `from_toml` makes an equal one; without comments."""
        # TOML reads the line ends of a multi-line string as it likes, so carriage returns are escaped.
        several = b"\\r" not in self.canonical()
        return tomli_w.dumps(self.model_dump(exclude_none=True), multiline_strings=several)


def parse_toml(data: bytes, noun: str) -> dict[str, Any]:
    """TOML as a mapping.

    Raises:
        UsageError: too long, not UTF-8, or not TOML.
    """
    _bounded(data, noun)
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError:
        raise UsageError(f"{noun}: not UTF-8, so not TOML") from None
    except ValueError as error:
        raise UsageError(f"{noun}: not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{noun}: not TOML that is read here: brackets are nested too deeply") from None


def read_file(path: Path, noun: str) -> bytes:
    """The bytes of a file.

    Raises:
        UsageError: it cannot be read, or is longer than any such document.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; name the file of the {noun}") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    _bounded(data, str(path))
    return data


def write_new(path: Path, content: str | bytes) -> None:
    """Writes a file that is not there yet, text in UTF-8.

    Raises:
        UsageError: it is there already, or cannot be written.
    """
    try:
        with path.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
    except FileExistsError:
        raise UsageError(f"{path}: is there already; choose another name or move it away") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror})") from None


def _bounded(data: bytes, noun: str) -> None:
    if len(data) > MAX_BYTES:
        raise UsageError(f"{noun}: longer than {MAX_BYTES >> 20} MiB, which no document is")


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
_PATTERNS: Final[dict[str, str]] = {}


def pattern(rule: str, words: str) -> Any:
    """A field's regular expression, with what it means in words for those who break it."""
    _PATTERNS[rule] = words
    return Field(pattern=rule)


def first_problem(error: ValidationError) -> str:
    """The first thing that `error` found: the field, its value and the rule, or what to do about it."""
    return problems(error)[0]


def problems(error: ValidationError) -> list[str]:
    """All that `error` found, one sentence each."""
    found = []
    for one in error.errors(include_url=False):
        context = one.get("ctx", {})
        cause, place = context.get("error"), _field(one["loc"])
        if isinstance(cause, Broken):
            found += [f"{place}: {problem}" if place else problem for problem in cause.problems]
        elif one["type"] == "json_invalid":
            found.append(f"not JSON ({one['msg'].removeprefix('Invalid JSON: ')})")
        else:
            found.append(f"{place or 'the whole'}: {_rule(one['type'], one['msg'], one['input'], context)}")
    return found


def listed(found: list[str]) -> str:
    """Problems as one text: one as it is, several one per line."""
    return found[0] if len(found) == 1 else "\n  - ".join([f"{len(found)} problems", *found])


def _field(location: tuple[int | str, ...]) -> str:
    """`('party', 0, 'name')` as `party[0].name`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def _rule(kind: str, message: str, value: Any, context: dict[str, Any]) -> str:
    if kind == "missing":
        return "missing; write it into the file"
    if kind == "extra_forbidden":
        return "no such field; check its spelling or remove it"
    # pydantic's message quotes the pattern, which says nothing to most who will read it.
    message = _PATTERNS.get(context.get("pattern", ""), message.removeprefix("Value error, "))
    if isinstance(value, dict | list | Document):
        return f"{message[0].lower()}{message[1:]}"
    return f"{shown(value)}: {message[0].lower()}{message[1:]}"


def shown(value: object) -> str:
    """A value of a document as errors show it: TOML's names, and not for ever."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return "a number of more than 18 digits"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
