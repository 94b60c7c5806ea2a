"""Options of the commands that talk to one's own daemon."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path,
    typer.Option(
        "--config",
        envvar="MPCPRIV_PARTY",
        help="Your party.toml: it says where your daemon is, and which keys are yours.",
    ),
]
HERE = Path("party.toml")
JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id, or its first 8 digits or more.")]
