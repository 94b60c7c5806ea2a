"""The `mpcpriv` command. One file per noun; a mistake is one line on stderr, never a traceback.

Exit status: 0 done, 1 something failed, 2 the command was wrong, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mpcpriv import __version__
from mpcpriv.cli import (
    agreement,
    agreement_add,
    agreement_merge,
    analyses,
    audit,
    budget,
    demo,
    doctor,
    init,
    job,
    launch,
    party,
)
from mpcpriv.errors import MpcprivError, UsageError

EXIT_FAILED = 1
EXIT_USAGE = 2

commands = typer.Typer(
    name="mpcpriv",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mpcpriv {__version__}")
        raise typer.Exit


@commands.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Compute on the joint data of organisations that may not show each other their rows."""


agreement.commands.command("merge")(agreement_merge.merge)
agreement.commands.command("add")(agreement_add.add)
agreement.commands.command("list")(agreement_add.held)

commands.command("demo")(demo.demo)
commands.command("launch", context_settings=launch.CONTEXT)(launch.launch)
commands.command("init")(init.init)
commands.add_typer(agreement.commands, name="agreement")
commands.add_typer(job.commands, name="job")
commands.command("analyses")(analyses.analyses)
commands.add_typer(party.party, name="party")
commands.add_typer(audit.audit)
commands.add_typer(budget.commands, name="budget")
commands.command("doctor")(doctor.doctor)


def app() -> None:
    """The console script: runs a command, and turns mpcpriv's errors into a line and an exit status."""
    try:
        commands()
    except MpcprivError as error:
        print(f"mpcpriv: {error}", file=sys.stderr)
        sys.exit(EXIT_USAGE if isinstance(error, UsageError) else EXIT_FAILED)
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
