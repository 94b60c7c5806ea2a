"""`cluster.toml`: who takes part in programs between machines, where they listen, and their certificates.

    [[party]]                          # in rank order; the first is rank 0
    name = "alice"
    address = "alice.example:9301"
    certificate = "alice.crt"          # relative to this file; alice holds the key

    [[party]]
    ...

    [dealer]                           # same fields; deals correlated randomness, never sees data
    ...

    [limits]                           # optional
    connect = 60                       # seconds within which all members must be connected
    wait = 600                         # seconds to wait for a live but silent member
    message = 1073741824               # the longest message, in bytes

The members compare a digest of the names, their order and the certificates before they share anything.
Addresses and limits are each member's own view of the network and are not part of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mpcpriv.documents import first_problem, parse_toml
from mpcpriv.errors import UsageError
from mpcpriv.transport.base import Limits
from mpcpriv.transport.tls import Certificate, load_certificate
from mpcpriv.types import PartyId

_DIGEST_DOMAIN = b"mpcpriv/cluster/v1"


class _Model(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Entry(_Model):
    name: str
    address: str
    certificate: Annotated[str, Field(pattern=r"^[^\x00]+$")]  # a path


class _Limits(_Model):
    connect: Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)] = Limits.connect
    wait: Annotated[float, Field(gt=0, le=7 * 86_400, allow_inf_nan=False)] = Limits.wait
    message: Annotated[int, Field(ge=1 << 16, le=1 << 34)] = Limits.message


class _File(_Model):
    party: list[_Entry]
    dealer: _Entry
    limits: _Limits = _Limits()


@dataclass(frozen=True)
class Member:
    """One member of a cluster.

    Attributes:
        name: its name, which its certificate carries as a SAN URI.
        address: `host:port` where it listens.
        certificate: its certificate, exactly which it must show.
        folder: where the certificate was found.
    """

    name: PartyId
    address: str
    certificate: Certificate
    folder: Path


@dataclass(frozen=True)
class Cluster:
    """Everyone who takes part.

    Attributes:
        path: the file that this was read from.
        members: the parties in rank order, then the dealer.
    """

    path: Path
    members: tuple[Member, ...]
    limits: Limits

    @property
    def names(self) -> tuple[PartyId, ...]:
        """The members' names by rank, the dealer last."""
        return tuple(member.name for member in self.members)

    @property
    def addresses(self) -> tuple[str, ...]:
        """The members' addresses by rank, the dealer last."""
        return tuple(member.address for member in self.members)

    @property
    def digest(self) -> bytes:
        """SHA-256 over the order of the members and their certificates' fingerprints, 32 bytes."""
        state = hashlib.sha256(_DIGEST_DOMAIN)
        for member in self.members:
            # A name is at most 63 characters and a fingerprint 32 bytes: the encoding is unambiguous.
            state.update(bytes([len(member.name)]) + member.name.encode())
            state.update(hashlib.sha256(member.certificate.der).digest())
        return state.digest()

    def rank(self, name: str) -> int:
        """The rank of the member called `name`.

        Raises:
            UsageError: nobody is called so.
        """
        if name not in self.names:
            raise UsageError(
                f"--party {name!r}: {self.path} knows {', '.join(self.names)}; "
                "name one of them or add a [[party]]"
            )
        return self.names.index(PartyId(name))


def read_cluster(path: Path) -> Cluster:
    """Reads and checks `cluster.toml` and the certificates that it names.

    Raises:
        UsageError: the file or a certificate is missing, malformed, or contradicts the rest; the message
            names the field, its value, the rule and the way out.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; name the cluster file with --cluster") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    content = _parse(data, str(path))
    entries = _entries(content)
    members = tuple(_member(path, field, entry) for field, entry in entries)
    # A certificate carries one name, so equal certificates are caught as equal names.
    for attribute in ("name", "address"):
        _refuse_duplicates(path, [field for field, _ in entries], members, attribute)
    limits = Limits(message=content.limits.message, connect=content.limits.connect, wait=content.limits.wait)
    return Cluster(path, members, limits)


def _parse(data: bytes, source: str) -> _File:
    """What a `cluster.toml` says; errors call it `source`. The certificates are not read here."""
    raw = parse_toml(data, source)
    try:
        content = _File.model_validate(raw)
    except ValidationError as error:
        raise UsageError(f"{source}: {first_problem(error)}") from None
    if len(content.party) < 2:
        raise UsageError(
            f"{source}: {len(content.party)} [[party]]: a computation needs at least 2 parties; "
            "add the other ones"
        )
    for field, entry in _entries(content):
        try:
            PartyId(entry.name)
        except UsageError as error:
            raise UsageError(f"{source}: {field}.name: {error}") from None
        _check_address(f"{source}: {field}.address", entry.address)
    return content


def _entries(content: _File) -> list[tuple[str, _Entry]]:
    """All members by rank, each with what the file calls it."""
    return [
        *((f"party[{rank}]", entry) for rank, entry in enumerate(content.party)),
        ("dealer", content.dealer),
    ]


def _member(path: Path, field: str, entry: _Entry) -> Member:
    name = PartyId(entry.name)
    certificate = path.parent / entry.certificate
    if not certificate.exists():
        raise UsageError(
            f"{path}: {field}.certificate {entry.certificate!r}: there is no such file; get it from {name}, "
            f"or make a party of your own with `mpcpriv init DIR --name {name}`"
        )
    try:
        checked = load_certificate(certificate, party=name)
    except UsageError as error:
        raise UsageError(f"{path}: {field}.certificate: {error}") from None
    return Member(name, entry.address, checked, certificate.parent)


def _check_address(where: str, address: str) -> None:
    host, colon, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host != bare
    # By its length first: Python converts no text of thousands of digits.
    valid = bool(colon and bare) and port.isascii() and port.isdigit() and len(port) < 6
    valid = valid and 1 <= int(port) <= 65535
    if not valid or (":" in bare and not bracketed) or any(c.isspace() or c == "/" for c in address):
        raise UsageError(
            f'{where} {address!r}: write host:port with a port from 1 to 65535, e.g. "alice.example:9301"'
        )


def _refuse_duplicates(path: Path, fields: list[str], members: tuple[Member, ...], attribute: str) -> None:
    seen: dict[str, str] = {}
    for field, member in zip(fields, members, strict=True):
        value: str = getattr(member, attribute)
        if value in seen:
            raise UsageError(
                f"{path}: {field}.{attribute} {str(value)!r}: {seen[value]} has the same; "
                "each member needs its own"
            )
        seen[value] = field
