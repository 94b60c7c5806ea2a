"""`mpcpriv demo`: the main job, end to end, on real data."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

EXIT_INTERRUPTED = 130


def demo(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            help="A folder for the agreement, the jobs, the model and the audit logs.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Watch three hospitals train one model on data that none of them shows to another.

    Three parties and a dealer run their daemons on this machine for a minute. They sign an agreement; one
    of them asks for more than was agreed and is refused; another asks for what was agreed, the stewards
    approve, and a model is trained on secret shares of the Wisconsin breast-cancer table (it comes with
    scikit-learn: `pip install 'mpcpriv[demo]'`). Its held-out accuracy is measured beside scikit-learn's
    on the pooled rows, and the audit logs of all four are verified. Nothing is left behind but the output
    folder.

    The exit status is 1 when the two accuracies differ by more than 0.01.
    """
    from mpcpriv.demo.story import run

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)  # the daemons are stopped then, too
    try:
        comparison = run(output)
    except KeyboardInterrupt:
        typer.echo("mpcpriv: interrupted; the daemons are stopped and their folder is gone", err=True)
        raise typer.Exit(EXIT_INTERRUPTED) from None
    finally:
        signal.signal(signal.SIGTERM, before)
    if not comparison.close:
        raise typer.Exit(1)
