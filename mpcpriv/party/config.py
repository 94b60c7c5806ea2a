"""`party.toml`: a member's own name and keys, and how `mpcpriv init` makes them.

name = "alice"
key = "tls.key"                    # relative to this file; readable by its owner only
certificate = "tls.crt"            # what the other members know this one by
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from mpcpriv.documents import first_problem
from mpcpriv.errors import UsageError
from mpcpriv.transport.tls import Identity, load_identity, save_identity, self_signed
from mpcpriv.types import PartyId

FILE = "party.toml"
KEY = "tls.key"
CERTIFICATE = "tls.crt"


class _File(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    key: str
    certificate: str
    listen: str | None = None


@dataclass(frozen=True)
class Party:
    """A member's own configuration.

    Attributes:
        path: the `party.toml`.
        key: its private key.
        certificate: its certificate.
        identity: both, read and checked.
        listen: `host:port` to listen at; None for the member's address in the cluster.
    """

    path: Path
    key: Path
    certificate: Path
    identity: Identity
    listen: str | None = None

    @property
    def name(self) -> PartyId:
        """The member's name."""
        return self.identity.party


def read_party(path: Path) -> Party:
    """Reads `party.toml` and the key and certificate that it names.

    Raises:
        UsageError: a file is missing or malformed, others may read the key, or the certificate is not
            for the party's name; the message names the field, its value, the rule and the way out.
    """
    try:
        content = _File.model_validate(tomllib.loads(path.read_text("utf-8")))
        name = PartyId(content.name)
    except FileNotFoundError:
        raise UsageError(
            f"{path}: there is no such file; make it with `mpcpriv init {path.parent} --name NAME`, "
            "or name yours with --config"
        ) from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValidationError as error:
        raise UsageError(f"{path}: {first_problem(error)}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not TOML: {error}") from None
    except UsageError as error:
        raise UsageError(f"{path}: name: {error}") from None
    key, certificate = path.parent / content.key, path.parent / content.certificate
    return Party(path, key, certificate, load_identity(certificate, key, party=name), content.listen)


def create(folder: Path, name: str) -> Party:
    """Makes a party in `folder`: a new key, its certificate and a `party.toml`.

    Raises:
        UsageError: `name` is no party name, one of the three files is there already, or the folder cannot
            be written. Nothing is ever overwritten.
    """
    identity = self_signed(name)
    path, key, certificate = folder / FILE, folder / KEY, folder / CERTIFICATE
    for file in (key, certificate, path):
        if file.exists():
            raise UsageError(
                f"{file}: is there already, and a key is never overwritten; "
                "choose another folder, or move this one away first"
            )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_identity(identity, certificate, key)
        with path.open("x", encoding="utf-8") as file_:
            file_.write(f'name = "{identity.party}"\nkey = "{KEY}"\ncertificate = "{CERTIFICATE}"\n')
    except OSError as error:
        raise UsageError(f"{folder}: cannot be written ({error.strerror}); choose another folder") from None
    return Party(path, key, certificate, identity)
