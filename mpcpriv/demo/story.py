"""Tells the story: an agreement is signed, a job refused, another one run, and the logs verified."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mpcpriv.agreement.signed import SUFFIX, SignedAgreement
from mpcpriv.agreement.toml import write_agreement
from mpcpriv.audit.verify import verify
from mpcpriv.client.connection import Connection, Handle, connect
from mpcpriv.client.view import listed
from mpcpriv.demo import site, study, table
from mpcpriv.demo.measure import TOLERANCE, Comparison, compare
from mpcpriv.errors import JobRefused, MpcprivError, UsageError
from mpcpriv.job.toml import write_job
from mpcpriv.party.config import FILE, read_party
from mpcpriv.types import DEALER, NAMES

AUDIT: Final = "audit.jsonl"
_WAIT: Final = 100.0
"""Seconds until the demo gives up on a job."""
_BAR: Final = 24


def run(output: Path | None = None) -> Comparison:
    """The whole demo, on stdout.

    Args:
        output: a folder for the agreement, the jobs, the result and the audit logs; None keeps nothing.

    Raises:
        UsageError: scikit-learn is missing, or `output` is not a folder that can be written.
        MpcprivError: a daemon does not start, or the story does not end as it should.
    """
    began = time.perf_counter()
    console = Console(highlight=False)
    if output is not None:
        _make_folder(output)
    features, labels = table.load()
    *rows, held_out = table.split(labels)
    hospitals = NAMES[: len(rows)]
    with tempfile.TemporaryDirectory(prefix="mpcpriv-demo-") as name:
        folder = Path(name)
        _introduce(console, hospitals, rows, held_out)
        seats = site.settle(folder, {name: {study.dataset(name): "patients.csv"} for name in hospitals})
        for hospital, own in zip(hospitals, rows, strict=True):
            table.write(folder / hospital / "patients.csv", own, features, labels)
        signed = _agree(console, folder, seats)
        members = [seat.name for seat in seats]
        with ExitStack() as stack:
            stack.enter_context(site.daemons(folder, members))
            connections = {one: stack.enter_context(connect(folder / one / FILE)) for one in members}
            for connection in connections.values():
                connection.add_agreement(folder / f"{study.NAME}{SUFFIX}")
            console.print("Each member's daemon runs, and holds its own copy of it.\n")
            _refused(console, connections, folder)
            result = _trained(console, connections, folder)
        comparison = compare(result, features, labels, np.concatenate(rows), held_out)
        _report(console, comparison)
        # Only now: daemons that have stopped have delivered their last countersignatures.
        _verify(console, folder, members, signed)
        if output is not None:
            _keep(console, output, folder, members, result, comparison)
    console.print(f"\nDone in {time.perf_counter() - began:.0f} s.")
    return comparison


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {str(output)!r}: not a folder that can be made ({error.strerror})"
        ) from None


def _introduce(
    console: Console, hospitals: Sequence[str], rows: Sequence[np.ndarray], held_out: np.ndarray
) -> None:
    console.print("[bold]Three hospitals, one model, and no row leaves its hospital[/]\n")
    for name, own in zip(hospitals, rows, strict=True):
        console.print(f"  {name:<7} holds {len(own):>3} patients: 30 measurements and the diagnosis of each")
    console.print(f"  {DEALER:<7} holds nothing; it hands out random numbers that fit together")
    console.print(f"  public  {len(held_out):>9} held-out patients, to measure the model on\n")


def _agree(console: Console, folder: Path, seats: Sequence[study.Seat]) -> SignedAgreement:
    console.print("[bold]1. They sign an agreement[/]\n")
    agreement = study.agreement(seats, datetime.now(UTC))
    signed = SignedAgreement.unsigned(agreement)
    for seat in seats:
        signed = signed.signed_by(seat.name, read_party(folder / seat.name / FILE).signing_key())
    write_agreement(agreement, folder / f"{study.NAME}.toml")
    (folder / f"{study.NAME}{SUFFIX}").write_bytes(signed.to_bytes())
    (purpose,) = agreement.purposes
    terms = agreement.analyses[0]
    console.print(f"  {agreement.id} version {agreement.version}, signed by {', '.join(signed.signatures)}")
    console.print(f"  for {purpose.name} ({purpose.legal_basis}): {purpose.text}")
    console.print(f"  permitted: {terms.name} on 30 measurements and the diagnosis; patient numbers are not")
    console.print(
        f"  results go to {', '.join(terms.recipients)}; each hospital's steward approves each job\n"
    )
    return signed


def _refused(console: Console, connections: Mapping[str, Connection], folder: Path) -> None:
    hospitals = [name for name in connections if name != DEALER]
    asker = connections[hospitals[1]]
    console.print(f"[bold]2. {asker.name} asks for more than was agreed[/]\n")
    console.print("  for the patients' numbers as well, and the result for the dealer, too\n")
    job = asker.new_job(**study.forbidden(hospitals))
    write_job(job, folder / "refused.toml")
    try:
        asker.submit(job).wait(_WAIT, show=False)
    except JobRefused as refusal:
        # Each member decides for itself, and a refusal by one is enough; here all of them refuse.
        console.print(f"[yellow]refused[/] by {', '.join(sorted(refusal.reasons))}:")
        for line in listed(refusal.reasons):
            # What is permitted in its place follows, all thirty columns of it.
            console.print(f"  {escape(line.strip().split('; ')[0])}")
        console.print()
    else:
        raise MpcprivError(
            "a job outside the agreement was run: this is a fault in mpcpriv; please report it"
        )


def _trained(console: Console, connections: Mapping[str, Connection], folder: Path) -> dict[str, Any]:
    hospitals = [name for name in connections if name != DEALER]
    asker = connections[hospitals[0]]
    console.print(f"[bold]3. {asker.name} asks for what was agreed[/]\n")
    job = asker.new_job(**study.permitted(hospitals))
    write_job(job, folder / "job.toml")
    handle = asker.submit(job)
    console.print(
        f"  job {handle.id[:8]}: {job.analysis}, {study.STEPS} steps, on shares of everybody's rows"
    )
    for name in hospitals:
        _approve(connections[name], handle.id)
        console.print(f"  {name}'s steward approves")
    console.print()
    _follow(console, handle)
    results = [connections[name].job(handle.id).result(_WAIT, show=False) for name in hospitals]
    if any(result != results[0] for result in results[1:]):
        raise MpcprivError(
            "the hospitals hold different models: this is a fault in mpcpriv; please report it"
        )
    try:
        connections[DEALER].job(handle.id).result(_WAIT, show=False)
    except UsageError:
        console.print(f"\n  {', '.join(hospitals)} hold the model; {DEALER} has nothing to fetch")
    else:
        raise MpcprivError("the dealer holds a result: this is a fault in mpcpriv; please report it")
    console.print(f"  {escape(handle.document()['statement']['text'])}")
    return results[0]


def _approve(connection: Connection, job: str) -> None:
    """What a steward does: looks what waits for him, and approves it."""
    deadline = time.monotonic() + _WAIT
    while job not in [view.id for view in connection.jobs(pending=True)]:
        view = connection.job(job).status() if connection.jobs() else None
        if time.monotonic() > deadline or (view is not None and view.ended):
            raise MpcprivError(f"job {job[:8]} does not come to {connection.name}'s steward: {view}")
        time.sleep(0.1)
    connection.approve(job)


def _follow(console: Console, handle: Handle) -> None:
    """A line per step. The loss is not in it: nobody knows the loss."""
    blocks = (sys.stdout.encoding or "").lower().startswith("utf")
    full, empty = ("\u2588", "\u2591") if blocks else ("#", ".")
    began, shown, computing = time.perf_counter(), "", False
    for view in handle.watch(_WAIT, show=False):
        line = ""
        for loop in view.progress[:1]:
            done = _BAR * loop.done // max(loop.turns, 1)
            line = f"{full * done + empty * (_BAR - done)} {loop.name}: step {loop.done} of {loop.turns}"
        computing |= bool(view.progress)
        if not computing and not view.ended:
            ready = [part.member for part in view.parts if part.ready]
            line = f"{view.state}" + (f", {', '.join(ready)} ready" if ready else "")
        if line and line != shown:
            console.print(f"  {line}, {time.perf_counter() - began:4.1f} s")
        shown = line


def _report(console: Console, comparison: Comparison) -> None:
    console.print(f"\n[bold]4. Accuracy on {comparison.held_out} held-out patients[/]\n")
    accuracy = Table()
    for column in ("", "accuracy", "trained on"):
        accuracy.add_column(column, justify="right" if column == "accuracy" else "left")
    accuracy.add_row("[bold]mpcpriv[/]", f"[bold]{comparison.shared:.4f}[/]", "shares of everybody's rows")
    accuracy.add_row("scikit-learn", f"{comparison.pooled:.4f}", "everybody's rows in one place")
    console.print(accuracy)
    verdict, colour = ("within", "green") if comparison.close else ("beyond", "red")
    console.print(
        f"accuracy difference {comparison.difference:.4f}: [{colour}]{verdict} {TOLERANCE}[/]; "
        f"the two agree on {comparison.agreeing} of {comparison.held_out} patients"
    )


def _verify(console: Console, folder: Path, members: Sequence[str], signed: SignedAgreement) -> None:
    """Each log is held against itself, against its owner's key, and against what the others countersigned."""
    console.print("\n[bold]5. What each of them wrote down[/]\n")
    keys = {member.name: member.signing_key for member in signed.agreement.members}
    for name in members:
        others = [folder / other / AUDIT for other in members if other != name]
        peers = {other: key for other, key in keys.items() if other != name}
        problems = verify(folder / name / AUDIT, keys[name], peers, others, owner=name)
        if problems:
            raise MpcprivError(f"{name}'s audit log does not verify: {'; '.join(problems)}")
        entries = len((folder / name / AUDIT).read_bytes().splitlines())
        console.print(f"  {name:<7} {entries:>3} entries in its audit log: [green]verified[/]")
    forged = folder / "forged.jsonl"
    whole = (folder / members[0] / AUDIT).read_bytes()
    forged.write_bytes(whole.replace(b'"refuse"', b'"accept"', 1))
    found = verify(forged, keys[members[0]], owner=members[0])
    if not found:
        raise MpcprivError("a forged audit log verifies: this is a fault in mpcpriv; please report it")
    console.print(f"\n  a copy with one word changed does not: {escape(found[0])}")


def _keep(
    console: Console,
    output: Path,
    folder: Path,
    members: Sequence[str],
    result: Mapping[str, Any],
    comparison: Comparison,
) -> None:
    for name in (f"{study.NAME}.toml", f"{study.NAME}{SUFFIX}", "refused.toml", "job.toml"):
        shutil.copyfile(folder / name, output / name)
    for name in members:
        shutil.copyfile(folder / name / AUDIT, output / f"{name}.{AUDIT}")
    model = json.dumps(describe(result, comparison), indent=2)
    (output / "model.json").write_text(model + "\n", encoding="utf-8")
    console.print(f"\nThe agreement, the jobs, the model and the audit logs are in {escape(str(output))}.")


def describe(result: Mapping[str, Any], comparison: Comparison) -> dict[str, Any]:
    """The model in the units of the table: benign if intercept + sum of coefficient * measurement > 0."""
    return {
        "model": "logistic regression",
        "positive class": table.CLASSES[1],
        "intercept": result["intercept"],
        "coefficients": dict(zip(result["features"], result["coefficients"], strict=True)),
        "held-out accuracy": comparison.shared,
        "held-out accuracy of scikit-learn on pooled rows": comparison.pooled,
    }
