"""Runs the job files of this folder between four daemons on this machine, on real tables; shows the reports.

    python examples/jobs/run.py                              all of them
    python examples/jobs/run.py count-and-mean covariance    these
    python examples/jobs/run.py --output reports             and each report as an HTML file there

Alice, Bob and Carol have the tables of `tables.py`; a dealer has none. What they sign permits every analysis
that is installed here on all of their columns. No sensible owner would: agreements are written analysis by
analysis.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # `tables`, wherever this is started from

import tables

from mpcpriv import analyses
from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.signed import SUFFIX, SignedAgreement
from mpcpriv.client.connection import Connection, Handle, connect
from mpcpriv.demo import site
from mpcpriv.documents import parse_toml, read_file
from mpcpriv.errors import MpcprivError, UsageError
from mpcpriv.party.config import FILE, read_party
from mpcpriv.report.plots import draw
from mpcpriv.types import DEALER

HERE = Path(__file__).parent
OWNERS = ("alice", "bob", "carol")
MECHANISMS = {"examples": "discrete-gaussian", "examples-laplace": "discrete-laplace"}
"""The agreements; they differ in their noise."""
PURPOSE = "statistics"
BUDGET = {"epsilon": 1000.0, "delta": 1e-4, "period_days": 30}
"""For examples: an epsilon in the hundreds protects nobody."""
ANY = 1e9
"""Of a parameter whose analysis sets no bound."""


def files(names: Sequence[str] = ()) -> list[Path]:
    """The job files of this folder, or those of these names.

    Raises:
        UsageError: there is no such file.
    """
    found = {path.stem: path for path in sorted(HERE.glob("*.toml"))}
    for name in names:
        if name not in found:
            raise UsageError(f"{name}: no job file of this folder; there are {', '.join(found)}")
    return [found[name] for name in names or found]


def settle(folder: Path, concurrent_jobs: int = 1) -> list[str]:
    """Makes the parties, each in a folder of its name, writes their tables, and signs the agreements.

    Returns:
        their names.
    """
    data = tables.datasets()
    own = {name: {one.name: f"{one.name}.csv" for one in data if one.owner == name} for name in OWNERS}
    seats = site.settle(folder, own, concurrent_jobs)
    for one in data:
        one.write(folder / one.owner / f"{one.name}.csv")
    for name, mechanism in MECHANISMS.items():
        signed = SignedAgreement.unsigned(agreement(name, mechanism, seats, data))
        for seat in seats:
            signed = signed.signed_by(seat.name, read_party(folder / seat.name / FILE).signing_key())
        (folder / f"{name}{SUFFIX}").write_bytes(signed.to_bytes())
    return [seat.name for seat in seats]


@contextmanager
def connected(folder: Path, names: Sequence[str]) -> Iterator[dict[str, Connection]]:
    """Connections to these daemons, which run, by name; each holds the agreements."""
    with ExitStack() as stack:
        found = {one: stack.enter_context(connect(folder / one / FILE)) for one in names}
        for connection in found.values():
            for name in MECHANISMS:
                connection.add_agreement(folder / f"{name}{SUFFIX}")
        yield found


def agreement(name: str, mechanism: str, seats: Sequence[Any], data: Sequence[tables.Dataset]) -> Agreement:
    """An agreement for a day, under which everything that is installed here may be run on everything."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=5)
    roles = {DEALER: ["dealer"]}
    inputs = {one.name: [column["name"] for column in one.columns] for one in data}
    return Agreement.model_validate(
        {
            "id": name,
            "version": 1,
            "title": "Example jobs on real tables",
            "purposes": [{"name": PURPOSE, "legal_basis": "public data"}],
            "valid_from": start,
            "valid_until": start + timedelta(days=1),
            "members": [
                {
                    "name": seat.name,
                    "roles": roles.get(seat.name, ["data-owner", "compute", "recipient", "submitter"]),
                    "endpoint": seat.endpoint,
                    "certificate": seat.certificate,
                    "signing_key": seat.signing_key,
                }
                for seat in seats
            ],
            "datasets": [
                {
                    "name": one.name,
                    "owner": one.owner,
                    "privacy_unit": one.unit,
                    "columns": list(one.columns),
                    "budget": BUDGET,
                }
                for one in data
            ],
            "analyses": [
                {
                    "name": analysis,
                    "code": code,
                    "purposes": [PURPOSE],
                    "inputs": inputs,
                    "parameters": limits(analysis, inputs),
                    "recipients": list(OWNERS),
                    "submitters": list(OWNERS),
                }
                for analysis, code in analyses.installed().items()
            ],
            "privacy": {"mechanism": mechanism, "unnoised": True},
            "approval": "automatic",
        }
    )


def limits(analysis: str, inputs: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """What each parameter of an analysis may be: what it allows itself, columns, texts of the jobs here."""
    jobs = [parse_toml(read_file(path, "job"), "job") for path in files()]
    columns = {column for names in inputs.values() for column in names}
    found = {}
    schema = analyses.find(analysis).parameters.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        said = [
            job["parameters"].get(name) for job in jobs if job["analysis"] == analysis and "parameters" in job
        ]
        parts = [part for value in said for part in (value if isinstance(value, list) else [value])]
        words = {part for part in parts if isinstance(part, str)}
        kinds, low, high = _kinds(field)
        if words or not kinds & {"number", "integer"}:
            choices: list[Any] = sorted(columns | words | (kinds - {"string", "boolean"}))
            found[name] = {"choices": choices + [True, False] * ("boolean" in kinds)}
        else:
            found[name] = {"low": low, "high": high}
    return found


def _kinds(field: Mapping[str, Any]) -> tuple[set[str], float, float]:
    """The types that a parameter's schema names, with the words of an enumeration, and its bounds."""
    low, high = float(field.get("minimum", -ANY)), float(field.get("maximum", ANY))
    kinds = {field["type"]} - {"array", "null"} if "type" in field else set()
    kinds |= {word for word in [*field.get("enum", []), field.get("const")] if isinstance(word, str)}
    for part in [*field.get("anyOf", []), *([field["items"]] if "items" in field else [])]:
        inner, below, above = _kinds(part)
        kinds |= inner
        low, high = max(low, below), min(high, above)
    return kinds, low, high


def submit(connections: Mapping[str, Connection], path: Path) -> Handle:
    """Submits a job file at its first recipient, who can then read the result."""
    job = parse_toml(read_file(path, "job"), "job")
    return connections[job["release"]["recipients"][0]].submit(path)


def main() -> None:
    """Runs what the command line names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="of job files, without .toml")
    parser.add_argument("--output", type=Path, help="a folder for HTML reports")
    parser.add_argument("--plots", type=Path, help="a folder for the plots, as SVG")
    chosen = parser.parse_args()
    try:
        paths = files(chosen.names)
        for made in (chosen.output, chosen.plots):
            if made is not None:
                made.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="mpcpriv-jobs-") as name:
            folder = Path(name)
            members = settle(folder)
            with site.daemons(folder, members), connected(folder, members) as connections:
                for path in paths:
                    report = submit(connections, path).result().report
                    print(f"{report.text()}\n")
                    if chosen.output is not None:
                        report.write_html(chosen.output / f"{path.stem}.html")
                    if chosen.plots is not None:
                        for number, plot in enumerate(report.plots, start=1):
                            (chosen.plots / f"{path.stem}-{number}.svg").write_bytes(draw(plot, "svg"))
    except MpcprivError as error:
        sys.exit(f"{error}")


if __name__ == "__main__":
    main()
