"""`party.toml`: a member's own name, keys, data and daemon, and how `mpcpriv init` makes them.

name = "alice"
key = "tls.key"                    # relative to this file; readable by its owner only
certificate = "tls.crt"            # what the other members know this one by
signing_key = "signing.key"        # Ed25519; signs agreements, jobs and records

[daemon]                           # optional: `mpcpriv party serve`
listen = "0.0.0.0:9400"            # other daemons and the own client come here
state = "state.sqlite"             # or a URL, as "postgresql+psycopg://..."
audit = "audit.jsonl"
data_host = "alice.example"        # where the other members reach this member's workers
data_ports = [9410, 9419]          # and at which ports; left out, any free one
concurrent_jobs = 1
memory_gb = 8                      # of data, for each worker
minutes = 60                       # that a job may wait for its members, and then run

[control]                          # optional: where the own client reaches the daemon
socket = "127.0.0.1:9400"

[data]                             # where the data sets of agreements are (docs/data.md)
patients = "patients.csv"          # or .parquet, .arrow, .feather
visits = { file = "clinic.duckdb", table = "visits" }
deaths = { postgres = "host=db dbname=registry user=mpcpriv", table = "public.deaths" }
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mpcpriv.data.declared import Postgres, Source, TableFile
from mpcpriv.documents import first_problem, parse_toml
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Name
from mpcpriv.transport.tls import Identity, load_identity, save_identity, self_signed
from mpcpriv.types import PartyId

FILE = "party.toml"
KEY = "tls.key"
CERTIFICATE = "tls.crt"
SIGNING_KEY = "signing.key"

DAEMON: Final = """\
[daemon]                           # of `mpcpriv party serve`
listen = "0.0.0.0:9400"            # the other daemons come here, as to this member's endpoint in an agreement
data_host = "127.0.0.1"            # the address at which the other machines reach this one's workers
# data_ports = [9410, 9419]        # at these ports only, so that a firewall can let them through
state = "state.sqlite"             # or a URL: postgresql+psycopg://...
audit = "audit.jsonl"
concurrent_jobs = 1
memory_gb = 8                      # of data, for each worker
minutes = 60                       # that a job may wait for its members, and then run

# [data]                           # by its name in agreements, where each table of this member is
# alice-patients = "patients.csv"  # or .parquet, .arrow, .feather
# alice-visits = { file = "clinic.duckdb", table = "visits" }  # a table or view
# alice-deaths = { postgres = "host=db dbname=registry user=mpcpriv", table = "public.deaths" }
# # of PostgreSQL, with the password in ~/.pgpass
"""
"""What `mpcpriv init` writes of a daemon: as it stands, for members on one machine."""

_ADDRESS = r"^(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}$"
_HOST = r"^(\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+)$"
_Port = Annotated[int, Field(ge=1, le=65_535)]
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 -- what is replaced


_Place = Annotated[str, Field(pattern=r"^[^\x00]+$")]
"""A path, or the URL of a database: no file's name holds a zero byte."""


_PASSWORD: Final = re.compile(r"password|://[^/@]*:[^/@]*@", re.IGNORECASE)
"""In what libpq connects by; in the form of a URL it may stand before the host, too."""


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class _Daemon(_Part):
    listen: Annotated[str, Field(pattern=_ADDRESS)]
    state: _Place = "state.sqlite"
    audit: _Place = "audit.jsonl"
    data_host: Annotated[str, Field(pattern=_HOST)] = "127.0.0.1"
    data_ports: Annotated[list[_Port], Field(min_length=2, max_length=2)] | None = None
    concurrent_jobs: Annotated[int, Field(ge=1, le=64)] = 1
    memory_gb: Annotated[float, Field(gt=0, le=4096)] = 8.0
    minutes: Annotated[float, Field(gt=0, le=7 * 1440)] = 60.0

    @model_validator(mode="after")
    def _enough_ports(self) -> Self:
        if self.data_ports is not None:
            low, high = self.data_ports
            if high - low + 1 < self.concurrent_jobs:
                raise ValueError(
                    f"data_ports = [{low}, {high}]: write [low, high] with a port for each of the "
                    f"{self.concurrent_jobs} jobs that run at once"
                )
        return self


class _Control(_Part):
    socket: Annotated[str, Field(pattern=_ADDRESS)]


class _Table(_Part):
    file: _Place | None = None
    postgres: str | None = None  # no rule that could be broken: an error would show the password
    table: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _path(cls, value: object) -> object:
        return {"file": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.file is None) == (self.postgres is None):
            raise ValueError("write file, or postgres; and one of the two")
        if self.postgres is not None and self.table is None:
            raise ValueError('write the table that is read, as table = "schema.name"')
        return self

    def source(self, folder: Path) -> Source:
        """What was declared; paths are relative to `folder`."""
        if self.postgres is not None:
            return Postgres(self.postgres, self.table or "")
        path = folder / (self.file or "")
        return path if self.table is None else TableFile(path, self.table)


class _File(_Part):
    name: str
    key: _Place
    certificate: _Place
    signing_key: _Place | None = None
    listen: str | None = None
    daemon: _Daemon | None = None
    control: _Control | None = None
    data: dict[Name, _Table] = Field(default_factory=dict)


@dataclass(frozen=True)
class DaemonConfig:
    """How a member's daemon is run.

    Attributes:
        listen: `host:port`; port 0 takes a free one.
        state: URL of its database.
        audit: path of its audit log.
        data_host: the host at which the other members reach its workers, and at which these listen.
        data_ports: the ports at which they may, first and last; None: any free one.
        concurrent_jobs: how many workers run at once.
        memory: how many bytes of data a worker may have.
        seconds: how long a job may wait for its members, and then run.
    """

    listen: str
    state: str = field(repr=False)  # a password may be in it
    audit: Path
    data_host: str
    concurrent_jobs: int
    memory: int
    seconds: float
    data_ports: tuple[int, int] | None = None


@dataclass(frozen=True)
class Party:
    """A member's own configuration.

    Attributes:
        path: the `party.toml`.
        key: its private key.
        certificate: its certificate.
        identity: both, read and checked.
        listen: `host:port` to listen at; None for the member's address in the cluster.
        signing: path of its signing key, if it has one.
        daemon: how its daemon is run, if it has one.
        control: `host:port` at which its own client reaches the daemon.
        data: by data set, where the table is.
    """

    path: Path
    key: Path
    certificate: Path
    identity: Identity
    listen: str | None = None
    signing: Path | None = None
    daemon: DaemonConfig | None = None
    control: str | None = None
    data: Mapping[str, Source] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def name(self) -> PartyId:
        """The member's name."""
        return self.identity.party

    def signing_key(self) -> Ed25519PrivateKey:
        """Reads the signing key.

        Raises:
            UsageError: there is none, others than its owner may read it, or it is of another kind.
        """
        if self.signing is None:
            raise UsageError(f"{self.path}: signing_key: missing; make a party anew with `mpcpriv init`")
        return read_signing_key(self.signing)


def read_signing_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 private key in PEM.

    Raises:
        UsageError: it cannot be read, others than its owner may read it, or it is of another kind.
    """
    try:
        shared = os.name == "posix" and path.stat().st_mode & 0o077
        pem = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if shared:
        raise UsageError(f"{path}: others than its owner may use this key; run chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError):
        raise UsageError(f"{path}: an unencrypted private key in PEM is needed") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: a signing key is an Ed25519 key")
    return key


def read_party(path: Path) -> Party:
    """Reads `party.toml` and the key and certificate that it names.

    Raises:
        UsageError: a file is missing or malformed, others may read the key, or the certificate is not
            for the party's name; the message names the field, its value, the rule and the way out.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(
            f"{path}: there is no such file; make it with `mpcpriv init {path.parent} --name NAME`, "
            "or name yours with --config"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    content, name = _parse(data, str(path))
    key, certificate = path.parent / content.key, path.parent / content.certificate
    daemon = None if content.daemon is None else _daemon(path, content.daemon)
    return Party(
        path,
        key,
        certificate,
        load_identity(certificate, key, party=name),
        content.listen,
        None if content.signing_key is None else path.parent / content.signing_key,
        daemon,
        _control(content),
        _data(path, content.data),
    )


def _parse(data: bytes, source: str) -> tuple[_File, PartyId]:
    """What a `party.toml` says, and whose it is; errors call it `source`."""
    content = parse_toml(data, source)
    try:
        read = _File.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{source}: {first_problem(error)}") from None
    try:
        return read, PartyId(read.name)
    except UsageError as error:
        raise UsageError(f"{source}: name: {error}") from None


def _daemon(path: Path, content: _Daemon) -> DaemonConfig:
    folder = path.parent
    url = content.state if "://" in content.state else f"sqlite:///{(folder / content.state).absolute()}"
    if urlsplit(url).password:
        _owners_alone(path, "daemon.state")
    return DaemonConfig(
        content.listen,
        url,
        folder / content.audit,
        content.data_host,
        content.concurrent_jobs,
        round(content.memory_gb * 2**30),
        content.minutes * 60,
        None if content.data_ports is None else (content.data_ports[0], content.data_ports[1]),
    )


def _data(path: Path, content: Mapping[str, _Table]) -> Mapping[str, Source]:
    for name, table in content.items():
        if table.postgres is not None and _PASSWORD.search(table.postgres):
            _owners_alone(path, f"data.{name}.postgres")
    return MappingProxyType({name: table.source(path.parent) for name, table in content.items()})


def _owners_alone(path: Path, field_: str) -> None:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise UsageError(
            f"{path}: others may read this file, and the password in {field_}; run chmod 600 {path}"
        )


def _control(content: _File) -> str | None:
    if content.control is not None:
        return content.control.socket
    if content.daemon is None:
        return None
    host, _, port = content.daemon.listen.rpartition(":")
    return f"{_ANYWHERE.get(host, host)}:{port}"


def create(folder: Path, name: str, settings: str = "") -> Party:
    """Makes a party in `folder`: new keys, a certificate and a `party.toml`.

    Args:
        folder: made if it is not there.
        name: of the party.
        settings: the rest of its `party.toml`, as `DAEMON`.

    Raises:
        UsageError: `name` is no party name, the settings are none, one of the four files is there already, or
            the folder cannot be written. Nothing is ever overwritten.
    """
    identity = self_signed(name)
    text = (
        f'name = "{identity.party}"\nkey = "{KEY}"\ncertificate = "{CERTIFICATE}"\n'
        f'signing_key = "{SIGNING_KEY}"\n{settings and chr(10)}{settings}'
    )
    try:
        _File.model_validate(parse_toml(text.encode(), "settings"))
    except ValidationError as error:
        raise UsageError(f"settings: {first_problem(error)}") from None
    path, key, certificate, signing = (folder / file for file in (FILE, KEY, CERTIFICATE, SIGNING_KEY))
    for file in (key, signing, certificate, path):
        if file.exists():
            raise UsageError(
                f"{file}: is there already, and a key is never overwritten; "
                "choose another folder, or move this one away first"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_identity(identity, certificate, key)
        _save_signing_key(signing)
        with path.open("x", encoding="utf-8") as file_:
            file_.write(text)
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    return read_party(path)


def _save_signing_key(path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    # O_EXCL, and the mode at creation: the key is at no moment open to others.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(pem)
