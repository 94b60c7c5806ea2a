"""What a linear regression and a group-by cost as tables grow, rows split between three parties.

    python benchmarks/sums_over_rows.py [--most 1e7] [--only group] [--plot cost.svg]

Each party is a process of its own with a Parquet file, gRPC with mutual TLS between them, and a dealer beside
them. Seconds are from when a party begins to read its table to when it has its share of the result, at the
slowest; memory is the most that any party's process ever held, Python and its packages contained; bytes are
those to the other parties and to the recipient. Answers are held against numpy's.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))

from mpcpriv import analyses  # noqa: E402
from mpcpriv.party.jobs import JobProgram, RunReport  # noqa: E402
from mpcpriv.party.launch import _caller_main, start  # noqa: E402
from mpcpriv.party.pipe import unpack  # noqa: E402
from mpcpriv.party.program import Dealer  # noqa: E402
from mpcpriv.release import read_result  # noqa: E402
from mpcpriv.transport.base import Transport  # noqa: E402
from mpcpriv.types import local_members  # noqa: E402
from tests.protocol.job_cases import OWNERS, case  # noqa: E402

SIZES: Final = (10**4, 10**5, 10**6, 10**7)
FEATURES: Final = 19
REGIONS: Final = [f"region {place}" for place in range(26)]
BANDS: Final = [f"{10 * place} to {10 * place + 9}" for place in range(10)]

Frame = dict[str, np.ndarray]


@dataclass(frozen=True)
class Measured:
    """A party's program, what its process had at most, and how long it took once all was imported."""

    program: JobProgram

    def load(self) -> None:
        """See `Program`."""
        from mpcpriv import engine

        engine.prepare()
        began = time.perf_counter()
        self.program.load()
        object.__setattr__(self, "_loading", time.perf_counter() - began)

    def run(self, transport: Transport) -> tuple[RunReport, int, float]:
        """See `Program`; and the most resident memory in bytes, and seconds."""
        report = self.program.run(transport)
        return report, most_held(), self._loading + report.seconds  # type: ignore[attr-defined]


def most_held() -> int:
    """The most resident memory of this process so far, in bytes.

    Not `getrusage`'s, which begins with what the process had that this one was forked from.
    """
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


@dataclass(frozen=True)
class Cost:
    """Of one job.

    Attributes:
        rows: of all parties together.
        seconds: of the slowest party.
        memory: the most that a party's process had, in bytes.
        sent: by the party that sent most, its share of the result contained, in bytes.
    """

    rows: int
    seconds: float
    memory: int
    sent: int


def regression(rows: int, rng: np.random.Generator) -> Frame:
    """A party's rows of 19 features and a target."""
    x = rng.normal(0, 1, (rows, FEATURES)).clip(-5, 5)
    y = x @ np.linspace(-1, 1, FEATURES) + rng.normal(0, 2, rows)
    return {**{f"x{place}": x[:, place] for place in range(FEATURES)}, "y": y.clip(-40, 40)}


def groups(rows: int, rng: np.random.Generator) -> Frame:
    """A party's rows of two categories, as codes."""
    return {"region": rng.integers(len(REGIONS), size=rows), "age": rng.integers(len(BANDS), size=rows)}


def by_regression(frames: list[Frame], answer: dict[str, Any]) -> bool:
    """Whether coefficients are numpy's."""
    gram = np.zeros((FEATURES + 2,) * 2)
    for frame in frames:
        table = np.column_stack([np.ones(len(frame["y"])), *frame.values()])
        gram += table.T @ table
    return bool(np.allclose(answer["estimate"], np.linalg.solve(gram[:-1, :-1], gram[:-1, -1]), atol=1e-5))


def by_groups(frames: list[Frame], answer: dict[str, Any]) -> bool:
    """Whether counts are numpy's."""
    places = np.concatenate([frame["region"] * len(BANDS) + frame["age"] for frame in frames])
    return bool((np.bincount(places, minlength=len(answer["counts"])) == answer["counts"]).all())


@dataclass(frozen=True)
class Workload:
    """A job at every size."""

    title: str
    analysis: str
    columns: list[dict[str, Any]]
    parameters: dict[str, Any]
    made: Callable[[int, np.random.Generator], Frame]
    right: Callable[[list[Frame], dict[str, Any]], bool]


NUMBERS: Final = [
    {"name": f"x{place}", "type": "number", "low": -5.0, "high": 5.0} for place in range(FEATURES)
]
WORKLOADS: Final = (
    Workload(
        "linear regression, 20 columns",
        "linear-regression",
        [*NUMBERS, {"name": "y", "type": "number", "low": -40.0, "high": 40.0}],
        {"target": "y"},
        regression,
        by_regression,
    ),
    Workload(
        "group by two categories, 260 cells",
        "count-by-category",
        [
            {"name": "region", "type": "category", "categories": REGIONS},
            {"name": "age", "type": "category", "categories": BANDS},
        ],
        {},
        groups,
        by_groups,
    ),
)


def measured(folder: Path, workload: Workload, rows: int) -> Cost:
    """Runs a job once.

    Raises:
        SystemExit: a party failed, or the answer is wrong.
    """
    rng = np.random.default_rng(rows)
    frames, paths = [], {}
    for owner in OWNERS:
        frame = workload.made(rows // 3, rng)
        frames.append(frame)
        cells = {
            str(one["name"]): np.array(one["categories"])[frame[str(one["name"])]]
            if one["type"] == "category"
            else frame[str(one["name"])]
            for one in workload.columns
        }
        paths[owner] = folder / f"{owner}.parquet"
        pq.write_table(pa.table(cells), paths[owner])
    empty = {owner: {str(one["name"]): np.array([0]) for one in workload.columns} for owner in OWNERS}
    columns = dict.fromkeys(OWNERS, workload.columns)
    one = case(folder, empty, columns, workload.analysis, workload.parameters)
    programs = [Measured(one.program(name, data={f"{name}-rows": paths[name]})) for name in OWNERS]
    with start(local_members(3), [*programs, Dealer()], _caller_main()) as group:
        group.wait()
        members = group.members
    failed = [f"{member.name}: {member.failure.summary}" for member in members if member.failure]
    if failed:
        sys.exit("; ".join(failed))
    found = [unpack(member.value) for member in members[:-1] if member.value is not None]
    reports = [report for report, _, _ in found]
    first = reports[0]
    result = read_result(
        one.admitted(),
        analyses.find(workload.analysis),
        first.rows,
        first.layout,
        [report.share for report in reports],
    )
    if not workload.right(frames, dict(result.answer)):
        sys.exit(f"{workload.title}: the answer is not numpy's")
    return Cost(
        rows=sum(first.rows.values()),
        seconds=max(seconds for _, _, seconds in found),
        memory=max(most for _, most, _ in found),
        sent=max(report.sent + len(report.share) for report in reports),
    )


def drawn(costs: dict[str, list[Cost]], path: Path) -> None:
    """Seconds and memory against rows."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "mpcpriv"}):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        time_, space = figure.subplots(1, 2)
        for title, some in costs.items():
            rows = [cost.rows for cost in some]
            time_.loglog(rows, [cost.seconds for cost in some], marker="o", label=title)
            space.semilogx(rows, [cost.memory / 1e9 for cost in some], marker="o", label=title)
        time_.set(xlabel="rows of three parties together", ylabel="seconds")
        space.set(xlabel="rows of three parties together", ylabel="most memory of a party, GB", ylim=(0, 2.1))
        space.axhline(2, color="grey", linestyle=":")
        time_.legend()
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--most", type=float, default=1e7, help="rows of the largest table")
    parser.add_argument("--plot", type=Path, help="where to draw it, .svg or .png")
    parser.add_argument("--only", default="", help="workloads that begin with this")
    given = parser.parse_args()
    costs: dict[str, list[Cost]] = {}
    print(f"{'':36}{'rows':>12}{'seconds':>10}{'MB':>8}{'kB sent':>10}")
    for workload in (one for one in WORKLOADS if one.title.startswith(given.only)):
        for rows in (size for size in SIZES if size <= given.most):
            with tempfile.TemporaryDirectory(prefix="mpcpriv-bench-") as folder, redirect_stdout(sys.stderr):
                cost = measured(Path(folder), workload, rows)
            costs.setdefault(workload.title, []).append(cost)
            print(
                f"{workload.title:36}{cost.rows:>12,}{cost.seconds:>10.1f}{cost.memory / 1e6:>8.0f}"
                f"{cost.sent / 1e3:>10.1f}",
                flush=True,
            )
    if given.plot:
        drawn(costs, given.plot)


if __name__ == "__main__":
    main()
