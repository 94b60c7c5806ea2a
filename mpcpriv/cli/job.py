"""`mpcpriv job`: ask for a computation, decide about those of others, watch, fetch the result."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mpcpriv.cli.own import HERE, Config, JobId
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.client.connection import Handle
    from mpcpriv.client.offline import Draft
    from mpcpriv.client.view import View
    from mpcpriv.party.planning import JobPlan

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

commands = typer.Typer(no_args_is_help=True, rich_markup_mode="markdown")

JobFile = Annotated[Path, typer.Argument(metavar="JOB.toml", help="What is asked; see `mpcpriv job --help`.")]
AgreementFile = Annotated[
    Path,
    typer.Option("--agreement", help="The agreement: NAME.agreement.json, or its TOML while it is a draft."),
]
OptionalConfig = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="MPCPRIV_PARTY", help="Your party.toml, if the job leaves out submitter."
    ),
]
Why = Annotated[str, typer.Option("--why", help="The reason, in a sentence; all members read it.")]


@commands.callback()
def main() -> None:
    """Ask for a computation under an agreement, decide about those of others, fetch results.

    A job is a TOML file:

        agreement = "breast-cancer-study"
        version = 1
        analysis = "logistic-regression"
        purpose = "research"
        inputs = [
            { dataset = "alice-patients", columns = ["age", "radius", "malignant"] },
            { dataset = "bob-patients", columns = ["age", "radius", "malignant"] },
        ]
        parameters = { target = "malignant" }
        release = { recipients = ["alice"] }

    Where the tables have different columns about the same people, `alignment = "NAME"` of the agreement has
    their owners first find the rows that all have.

    `check` and `plan` need no daemon. `submit` signs the job and hands it to your daemon, which proposes
    it to the other members; each of them holds it against its own copy of the agreement, asks its steward
    where the agreement says so, and only if all accept does it run.
    """


@commands.command()
def check(job: JobFile, agreement: AgreementFile, config: OptionalConfig = None) -> None:
    """Say whether a job is within an agreement, and list every term that it breaks. Nobody is asked.

        mpcpriv job check job.toml --agreement breast-cancer-study.agreement.json

    The exit status is 1 when a member would refuse it. What earlier jobs released, and whether a newer
    version is agreed by now, only the daemons know.
    """
    from mpcpriv.agreement.admit import Refusal

    draft = _draft(job, agreement, config)
    verdict = draft.admit()
    broken = [*draft.problems, *(verdict.reasons if isinstance(verdict, Refusal) else ())]
    name = f"{draft.agreement.id} version {draft.agreement.version}"
    if not draft.signed:
        typer.echo(f"{agreement} is a draft: nobody has signed it, so nothing can run under it yet")
    if broken:
        typer.echo(f"not within {name}: {len(broken)} broken term{'s' * (len(broken) != 1)}")
        for reason in broken:
            typer.echo(f"  - {reason}")
        raise typer.Exit(EXIT_FAILED)
    typer.echo(f"within {name}: {draft.job.analysis} for {draft.job.purpose}")
    typer.echo(f"the result goes to {', '.join(draft.job.release.recipients)}")
    if draft.agreement.approval == "steward":
        typer.echo(
            "it runs once the stewards have approved it, until " + f"{draft.job.expires:%Y-%m-%d %H:%M} UTC"
        )
    else:
        typer.echo("it runs as soon as all daemons have admitted it")


@commands.command()
def plan(
    job: JobFile,
    agreement: AgreementFile,
    rows: Annotated[
        list[str] | None,
        typer.Option(
            "--rows",
            help="DATASET=ROWS, once for each; left out: the agreed minimum. ALIGNMENT=ROWS: in common; "
            "left out: as many as the smallest has.",
            show_default=False,
        ),
    ] = None,
    config: OptionalConfig = None,
) -> None:
    """Say what a job would cost, and tell whom, without running it or asking anybody.

        mpcpriv job plan job.toml --agreement NAME.agreement.json --rows alice-patients=192

    Rounds are exact; bytes are those between each two parties and from the dealer.
    """
    from mpcpriv.agreement.admit import Refusal
    from mpcpriv.party.planning import plan_job

    draft = _draft(job, agreement, config)
    verdict = draft.admit()
    if isinstance(verdict, Refusal):
        reasons = "".join(f"\n  - {reason}" for reason in verdict.reasons)
        raise UsageError(f"{job}: not within {draft.agreement.id}, so there is nothing to plan:{reasons}")
    typer.echo("\n".join(_planned(plan_job(verdict, dict(map(_rows, rows or []))))))


@commands.command()
def submit(
    job: JobFile,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show what becomes of it.")] = False,
    config: Config = HERE,
) -> None:
    """Sign a job with your signing key and propose it to all members of its agreement; prints its id.

    mpcpriv job submit job.toml --watch
    """
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        handle = daemon.submit(job)
        typer.echo(handle.id)
        if watch:
            _watch(handle)


@commands.command("list")
def list_(
    pending: Annotated[
        bool, typer.Option("--pending", help="Only those that wait for your approval.")
    ] = False,
    state: Annotated[
        list[str] | None,
        typer.Option(
            "--state",
            help="proposed, running, finished, refused or failed; may be repeated.",
            show_default=False,
        ),
    ] = None,
    agreement: Annotated[str, typer.Option("--agreement", help="Only those under this agreement.")] = "",
    config: Config = HERE,
) -> None:
    """List the jobs that your daemon knows, the newest first.

    mpcpriv job list --pending
    """
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        views = daemon.jobs(pending=pending, state=tuple(state or ()), agreement=agreement)  # type: ignore[arg-type]
    for view in views:
        job = view.job
        waits = ", waits for your approval" if view.pending else ""
        typer.echo(
            f"{view.id[:8]}  {job.created:%Y-%m-%d %H:%M}  {view.state:<8}  {job.submitter}: {job.analysis} "
            f"under {job.agreement} version {job.version}{waits}"
        )


@commands.command()
def status(job: JobId, config: Config = HERE) -> None:
    """Show a job: what is asked, and what each member is at."""
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        view = daemon.job(job).status()
    typer.echo("\n".join(_described(view)))


@commands.command()
def watch(job: JobId, config: Config = HERE) -> None:
    """Show what becomes of a job until it has ended; the exit status is 1 when it was refused or failed."""
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        _watch(daemon.job(job))


@commands.command()
def approve(job: JobId, config: Config = HERE) -> None:
    """Say yes, as the steward of your data, to a job that waits for it. `status` shows what it asks.

    mpcpriv job list --pending
    mpcpriv job status 3f2a91c0
    mpcpriv job approve 3f2a91c0
    """
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        typer.echo(daemon.approve(job))


@commands.command()
def reject(job: JobId, why: Why, config: Config = HERE) -> None:
    """Say no, as the steward of your data; the job is refused everywhere.

    mpcpriv job reject 3f2a91c0 --why "the ethics board meets on Monday"
    """
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        typer.echo(daemon.reject(job, why))


@commands.command()
def cancel(job: JobId, why: Why, config: Config = HERE) -> None:
    """End a job that has not ended, at every member.

    mpcpriv job cancel 3f2a91c0 --why "wrong column"
    """
    from mpcpriv.client.connection import connect

    with connect(config) as daemon:
        typer.echo(daemon.cancel(job, why))


@commands.command()
def result(
    job: JobId,
    as_json: Annotated[bool, typer.Option("--json", help="All that was released, as JSON.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The JSON, into this new file.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Each table, into a CSV file in this folder.", show_default=False),
    ] = None,
    parquet: Annotated[
        Path | None,
        typer.Option("--parquet", help="Each table, into a Parquet file in this folder.", show_default=False),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="The whole report, into this new file.", show_default=False),
    ] = None,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", help="The same as PDF, into this new file.", show_default=False)
    ] = None,
    config: Config = HERE,
) -> None:
    """Fetch the result of a job and show its tables; waits if it still runs.

        mpcpriv job result 3f2a91c0
        mpcpriv job result 3f2a91c0 --html report.html --pdf report.pdf --csv tables

    HTML and PDF need the extra `report`: pip install 'mpcpriv[report]'.
    """
    from mpcpriv.client.connection import connect
    from mpcpriv.documents import write_new

    with connect(config) as daemon:
        handle = daemon.job(job)
        asked = handle.wait().job
        document = handle.document()
    text = json.dumps(document, indent=2)
    if output is not None:
        write_new(output, f"{text}\n")
    if as_json:
        typer.echo(text)
    files = any((csv, parquet, html, pdf))
    if (as_json or output is not None) and not files:
        return
    from mpcpriv.report import Report

    report = Report.of(asked, document)
    if csv is not None:
        report.write_csv(csv)
    if parquet is not None:
        report.write_parquet(parquet)
    if html is not None:
        report.write_html(html)
    if pdf is not None:
        report.write_pdf(pdf)
    if not files:
        typer.echo(report.text(shutil.get_terminal_size().columns))


def _draft(job: Path, agreement: Path, config: Path | None) -> Draft:
    from mpcpriv.client.offline import read_draft
    from mpcpriv.party.config import read_party

    return read_draft(job, agreement, None if config is None else read_party(config))


def _rows(text: str) -> tuple[str, int]:
    dataset, _, number = text.partition("=")
    if not number.isascii() or not number.isdigit():
        raise UsageError(f"--rows {text}: write DATASET=ROWS or ALIGNMENT=ROWS, as alice-patients=192")
    return dataset, int(number)


def _planned(plan: JobPlan) -> list[str]:
    cost = plan.cost
    lines = [f"rounds   {cost.rounds:,}"]
    for one, row in zip(cost.parties, cost.sent, strict=True):
        lines += [
            f"bytes    {size:>14,}  {one} to {other}"
            for other, size in zip(cost.parties, row, strict=True)
            if other != one
        ]
    lines += [
        f"bytes    {size:>14,}  the dealer to {one}"
        for one, size in zip(cost.parties, cost.dealt_to, strict=True)
    ]
    for name, trip, speed, line in (
        ("LAN", 0.0005, 1e9, "0.5 ms, 1 Gbit/s"),
        ("WAN", 0.04, 1e8, "40 ms, 100 Mbit/s"),
    ):
        lines.append(
            f"seconds  {plan.seconds(trip, speed):>14,.2f}  on a {name} ({line}), and computing on top"
        )
    return [*lines, "", "Who could learn what", *(f"  {who}: {what}" for who, what in plan.learns)]


def _described(view: View) -> list[str]:
    job = view.job
    lines = [
        str(view),
        "",
        f"id          {view.id}",
        f"agreement   {job.agreement} version {job.version}",
        f"purpose     {job.purpose}",
        f"submitter   {job.submitter}, {job.created:%Y-%m-%d %H:%M} UTC",
        f"expires     {job.expires:%Y-%m-%d %H:%M} UTC",
        *(f"input       {one.dataset}: {', '.join(one.columns)}" for one in job.inputs),
        *([f"alignment   {job.alignment}"] if job.alignment else []),
        *(f"parameter   {name} = {value}" for name, value in job.parameters.items()),
        f"release     to {', '.join(job.release.recipients)}, "
        + ("without noise" if job.release.epsilon is None else f"epsilon {job.release.epsilon:g}"),
        "",
        *(f"{part.member:<11} {part.word}" for part in view.parts),
    ]
    if view.pending:
        lines += ["", f"It waits for you: mpcpriv job approve {view.id[:8]}, or reject with --why"]
    if view.result:
        lines += ["", f"Its result is here: mpcpriv job result {view.id[:8]}"]
    # The submitter's words end on a steward's terminal, which must show them and not obey them.
    return ["".join(one if one.isprintable() or one == "\n" else "?" for one in line) for line in lines]


def _watch(handle: Handle) -> None:
    """Shows it until it has ended: drawn anew on a terminal, elsewhere one line for each change."""
    terminal = sys.stderr.isatty()
    view: Any = None
    shown = ""
    try:
        for view in handle.watch(show=terminal):
            if not terminal and (line := str(view)) != shown:
                typer.echo(line, err=True)
                shown = line
    except KeyboardInterrupt:
        typer.echo(
            f"mpcpriv: no longer watching; the job goes on: mpcpriv job watch {handle.id[:8]}", err=True
        )
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if view is None or view.state != "finished":
        raise typer.Exit(EXIT_FAILED)
