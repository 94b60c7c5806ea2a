"""`mpcpriv init`: the key, certificate and configuration of a new party."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="Where the party's files go; made if it is not there.")],
    name: Annotated[
        str, typer.Option("--name", help="The party's name: lower-case letters, digits and '-'.")
    ],
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="Its [daemon], [control] and [data], TOML, in the place of a [daemon] with defaults.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Make a party: tls.key and signing.key (secret, stay here), tls.crt (for the others) and party.toml.

        mpcpriv init parties/alice --name alice

    party.toml gets a [daemon] section with which `mpcpriv party serve` runs; edit `data_host` where the other
    members are on other machines, and write your tables under [data], as docs/data.md says. An existing key
    is never overwritten.
    """
    from mpcpriv.documents import public_key, read_file
    from mpcpriv.party.config import DAEMON, create

    rest = DAEMON if settings is None else read_file(settings, "settings").decode("utf-8", "replace")
    party = create(folder, name, rest)
    typer.echo(f"{party.key}: the private key; it never leaves this machine")
    typer.echo(f"{party.signing}: the key that it signs with; it never leaves this machine either")
    typer.echo(f"{party.certificate}: the certificate; hand it to the other members")
    typer.echo(f"{party.path}: the configuration that names them")
    typer.echo(f"signing key {public_key(party.signing_key())} (the public half, for agreements)")
    typer.echo(f"fingerprint {party.identity.certificate.fingerprint} (compare it over the telephone)")
