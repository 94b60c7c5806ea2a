"""`mpcpriv launch`: a CrypTen program between parties, on this machine or between machines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mpcpriv.errors import UsageError

EXIT_INTERRUPTED = 130

# What follows the script belongs to the script, options included.
CONTEXT = {"allow_interspersed_args": False, "ignore_unknown_options": False}


def launch(
    script: Annotated[
        Path | None,
        typer.Argument(help="The program, a Python file. The dealer needs none.", show_default=False),
    ] = None,
    args: Annotated[
        list[str] | None, typer.Argument(help="Handed to the program as sys.argv[1:].", show_default=False)
    ] = None,
    parties: Annotated[
        int | None,
        typer.Option(
            "-n", "--parties", help="Run this many parties (2 to 16) and a dealer here.", show_default=False
        ),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Run on zeros, share nothing, and print what the program would cost."),
    ] = False,
    party: Annotated[
        str | None,
        typer.Option("--party", help="Run this one member of a cluster.", show_default=False),
    ] = None,
    cluster: Annotated[
        Path | None,
        typer.Option("--cluster", help="The cluster file: all members in rank order.", show_default=False),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            help="The member's own party.toml. Default: beside its certificate.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run a CrypTen program between parties, over gRPC with mutual TLS.

    All on this machine, one process per party and one for the dealer:

        mpcpriv launch -n 3 examples/hello.py

    With --plan it says beforehand what that costs in rounds, bytes and seconds on a network.

    Between machines, one command per member; the dealer needs no program:

        mpcpriv launch --party alice --cluster parties/cluster.toml program.py

        mpcpriv launch --party dealer --cluster parties/cluster.toml

    Lines are prefixed with the party that wrote them. The exit status is not 0 when any party fails.
    """
    try:
        status = _run(script, args or [], parties, party, cluster, config, plan=plan)
    except KeyboardInterrupt:
        typer.echo("mpcpriv: interrupted", err=True)
        status = EXIT_INTERRUPTED
    if party is not None:
        # This process itself was the member, with gRPC in it.
        from mpcpriv.party.worker import leave

        leave(status)
    raise typer.Exit(status)


def _run(
    script: Path | None,
    args: list[str],
    parties: int | None,
    party: str | None,
    cluster: Path | None,
    config: Path | None,
    *,
    plan: bool,
) -> int:
    if party is None and cluster is None and config is None:
        if script is None:
            raise UsageError(
                "launch: no program given; name a Python file, e.g. mpcpriv launch -n 3 program.py"
            )
        from mpcpriv.party.launch import run_script

        return run_script(script, args, parties=3 if parties is None else parties, plan=plan)
    if plan:
        raise UsageError("--plan: all parties of a plan run here; leave out --party, --cluster and --config")
    if party is None or cluster is None:
        missing = "--party" if party is None else "--cluster"
        raise UsageError(
            f"launch: {missing} is missing; between machines name both --party NAME and --cluster FILE"
        )
    if parties is not None:
        raise UsageError(
            f"-n {parties}: the cluster file says how many parties there are; leave -n out with --cluster"
        )
    from mpcpriv.party.member import run_party

    return run_party(party, cluster, config, script, args)
