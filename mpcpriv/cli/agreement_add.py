"""`mpcpriv agreement add` and `list`: the signed agreements that one's own daemon holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcpriv.cli.own import HERE, Config


def add(
    file: Annotated[
        Path, typer.Argument(metavar="NAME.agreement.json", help="The agreement, signed by all its members.")
    ],
    config: Config = HERE,
) -> None:
    """Hand a signed agreement to your daemon: from then on it takes part in jobs under it.

        mpcpriv agreement add breast-cancer-study.agreement.json --config alice/party.toml

    Each member does so for itself. A higher version of the same agreement supersedes the lower ones; what was
    added cannot be taken back, and ends with its validity.
    """
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        held = daemon.add_agreement(file)
    typer.echo(f"{held.id} version {held.version}, valid until {held.valid_until}: {', '.join(held.members)}")
    typer.echo(f"digest {held.digest} (the same at every member)")


def held(config: Config = HERE) -> None:
    """List the agreements that your daemon holds; a job names the newest version."""
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        for one in daemon.agreements():
            rest = "" if one.newest else ", superseded"
            typer.echo(
                f"{one.id} version {one.version} ({', '.join(one.members)}), until {one.valid_until}{rest}: "
                f"{one.title}"
            )
