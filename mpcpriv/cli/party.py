"""`mpcpriv party`: this member's daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

party = typer.Typer(help="This member's daemon.", no_args_is_help=True)


@party.command("serve")
def serve(
    config: Annotated[Path, typer.Option("--config", help="The member's own party.toml.")] = Path(
        "party.toml"
    ),
) -> None:
    """Run this member's daemon until it is told to stop (Ctrl-C, SIGTERM).

    It holds every job against its own copy of the agreement, asks the steward where that is agreed, runs
    a worker for each job that all members have accepted, and writes the audit log. Logs are JSON lines on
    stderr.
    """
    from mpcpriv.party.daemon import serve as run

    run(config)
