"""`mpcpriv budget`: how much privacy was spent, on what, and how far the rest goes."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from mpcpriv.cli.own import HERE
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.party.budgets import Account
    from mpcpriv.party.state import State

commands = typer.Typer(
    no_args_is_help=True, help="How much privacy was spent, on what, and how far the rest goes."
)

_SHORT: Final = 8


@commands.callback()
def main() -> None:
    """How much privacy was spent, on what, and how far the rest goes."""


@commands.command()
def show(
    config: Annotated[
        Path, typer.Option("--config", envvar="MPCPRIV_PARTY", help="Your party.toml: whose ledger it is.")
    ] = HERE,
    agreement: Annotated[
        str | None, typer.Option("--agreement", help="Only of this agreement: its id.", show_default=False)
    ] = None,
    dataset: Annotated[
        str | None, typer.Option("--dataset", help="Only of this data set.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot", help="Draw spent against time into this new file, .svg or .png.", show_default=False
        ),
    ] = None,
) -> None:
    """Show the budgets of your agreements as your ledger has them; the daemon may run meanwhile.

        mpcpriv budget show --dataset alice-patients --plot budget.svg

    **spent** is for good: something was released, or could have been. **reserved** is for jobs that run; it
    is spent or given back when they end. **left** is what a job may still ask for until the period ends; then
    the budget is whole again.

    All are epsilon at the delta of the budget; what is spent is rounded up, what is left down. Jobs together
    cost less than the sum of what each costs by itself: that is why the total of a row can be less than the
    rows above suggest. The forecast supposes that jobs go on to come as often as they did, and as dear as the
    dearest of the last five.
    """
    from mpcpriv.party.budgets import accounts

    state = _state(config)
    try:
        now = datetime.now(UTC)
        found = accounts(state, now, agreement, dataset)
        names = _analyses(state, found)
    finally:
        state.close()
    if plot is not None:
        from mpcpriv.cli.budget_plot import draw

        draw(found, now, plot)
    if as_json:
        typer.echo(json.dumps([_plain(one, names) for one in found], indent=2))
    elif not found:
        typer.echo("no agreement here has such a budget")
    else:
        _print(found, names)


def _state(config: Path) -> State:
    import sqlalchemy as sa

    from mpcpriv.party.config import read_party
    from mpcpriv.party.state import State

    daemon = read_party(config).daemon
    if daemon is None:
        raise UsageError(f"{config}: there is no [daemon] in it, so this party keeps no ledger")
    url = sa.make_url(daemon.state)
    if url.get_backend_name() == "sqlite" and url.database and not Path(url.database).exists():
        raise UsageError(
            f"{url.database}: there is no such file yet; `mpcpriv party serve` makes it, "
            "or daemon.state names another"
        )
    return State(daemon.state)


def _analyses(state: State, found: list[Account]) -> dict[str, str]:
    """By job, what it computes."""
    from mpcpriv.job.signed import SignedJob

    wanted = {one.entry.job for account in found for one in account.readings}
    return {
        job.digest: SignedJob.from_bytes(job.document).job.analysis
        for job in state.jobs()
        if job.digest in wanted
    }


def _print(found: list[Account], names: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mpcpriv.privacy.rounding import down, plainly, up

    out = Console(highlight=False)
    table = Table(show_edge=False, pad_edge=False)
    for column in ("agreement", "data set", "period until"):
        table.add_column(column, overflow="fold")
    for column in ("budget", "delta", "spent", "reserved", "left"):
        table.add_column(column, justify="right", no_wrap=True)
    for one in found:
        allowance = one.allowance
        cells = (
            one.agreement,
            one.dataset,
            _day(one.until) if one.until else f"number {one.period}",
            plainly(allowance.epsilon),
            plainly(allowance.delta),
            up(one.spent),
            up(one.reserved),
            down(one.forecast.left),
        )
        table.add_row(*map(Text, cells))
    out.print(table)
    for one in found:
        if not one.readings:
            continue
        out.print(f"\n{one.dataset}, until {_day(one.until)}" if one.until else f"\n{one.dataset}")
        jobs = Table(show_edge=False, pad_edge=False)
        for column in ("job", "reserved (UTC)", "analysis", "state"):
            jobs.add_column(column, overflow="fold")
        for column in ("epsilon", "total"):
            jobs.add_column(column, justify="right", no_wrap=True)
        for reading in one.readings:
            entry = reading.entry
            row = (
                entry.job[:_SHORT],
                f"{entry.reserved:%Y-%m-%d %H:%M}",
                names.get(entry.job, "?"),
                entry.state,
                up(reading.epsilon),
                up(reading.running),
            )
            jobs.add_row(*map(Text, row))
        out.print(jobs)
        out.print(_foreseen(one))


def _foreseen(one: Account) -> str:
    foreseen = one.forecast
    if foreseen.jobs is None:
        return "forecast: jobs like these do not use it up"
    if foreseen.jobs == 0:
        return "forecast: no more jobs like the dearest of the last five" + (
            f" until {_day(one.until)}" if one.until else ""
        )
    more = f"forecast: {foreseen.jobs} more job{'s' * (foreseen.jobs != 1)} like the dearest of the last five"
    if foreseen.exhausted is None:
        return more
    if one.until is not None and foreseen.exhausted >= one.until:
        return f"{more}; at this rate it lasts until the period ends"
    return f"{more}; at this rate it is used up on {_day(foreseen.exhausted)}"


def _plain(one: Account, names: dict[str, str]) -> dict[str, Any]:
    from mpcpriv.privacy.rounding import down, up

    return {
        "agreement": one.agreement,
        "dataset": one.dataset,
        "period": one.period,
        "since": _time(one.since),
        "until": _time(one.until),
        "epsilon": one.allowance.epsilon,
        "delta": one.allowance.delta,
        "spent": _number(up(one.spent)),
        "reserved": _number(up(one.reserved)),
        "left": _number(down(one.forecast.left)),
        "jobs": [
            {
                "job": reading.entry.job,
                "reserved": _time(reading.entry.reserved),
                "settled": _time(reading.entry.settled),
                "analysis": names.get(reading.entry.job),
                "state": reading.entry.state,
                "epsilon": _number(up(reading.epsilon)),
                "total": _number(up(reading.running)),
            }
            for reading in one.readings
        ],
        "forecast": {"jobs": one.forecast.jobs, "exhausted": _time(one.forecast.exhausted)},
    }


def _number(text: str) -> float | None:
    """JSON has no infinity: null where there is no epsilon at the budget's delta."""
    return float(text) if math.isfinite(float(text)) else None


def _day(time: datetime) -> str:
    return f"{time:%Y-%m-%d}"


def _time(time: datetime | None) -> str | None:
    return None if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}"
