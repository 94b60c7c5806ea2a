"""The table of functions: range, worst error on a dense grid, rounds and bytes per element.

    python benchmarks/functions.py            prints it
    python benchmarks/functions.py --write    writes it to docs/functions.md

Two parties and a dealer run as threads of this process over the in-process transport, which counts rounds and
bytes as any other. The reference is torch in float64. `tests/protocol/test_functions.py` holds the engine to
the table.
"""

from __future__ import annotations

import argparse
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

import mpcpriv.engine
from mpcpriv.engine.session import Session
from mpcpriv.transport.memory import MemoryHub

TABLE = Path(__file__).resolve().parent.parent / "docs" / "functions.md"
POINTS = 100_000


@dataclass(frozen=True)
class Function:
    """One row to be measured.

    Attributes:
        name: as the table calls it.
        low, high: the ends of the range.
        scale: how the grid is spaced: evenly, or evenly in the logarithm of the magnitude.
        signs: the signs of the grid, where it is logarithmic.
        run: on an encrypted tensor.
        reference: the same on a float64 tensor.
        outside: what holds outside the range.
    """

    name: str
    low: float
    high: float
    scale: str
    run: Callable[[Any], Any]
    reference: Callable[[torch.Tensor], torch.Tensor]
    outside: str
    signs: tuple[int, ...] = (1,)

    def grid(self, points: int) -> torch.Tensor:
        """Points that fixed point holds exactly, so that only the function's own error shows."""
        if self.scale == "even":
            x = torch.linspace(self.low, self.high, points, dtype=torch.float64)
        else:
            steps = torch.linspace(0, 1, points // len(self.signs), dtype=torch.float64)
            size = self.low * (self.high / self.low) ** steps
            x = torch.cat([sign * size for sign in self.signs])
        x = torch.round(x * 2**16) / 2**16
        return x[(x.abs() >= self.low) | (self.scale == "even")]


@dataclass(frozen=True)
class Row:
    """What was measured: the error is the lesser of the relative and the absolute one, at its worst."""

    function: Function
    error: float
    rounds: int
    sent: float
    dealt: float

    def line(self) -> str:
        """As the table shows it."""
        f = self.function
        low = f"±[{f.low:g}, {f.high:g}]" if len(f.signs) == 2 else f"[{f.low:g}, {f.high:g}]"
        return (
            f"| {f.name} | {low} | {f.outside} | {self.error:.1e} | {self.rounds} | {self.sent:.0f} "
            f"| {self.dealt:.0f} |"
        )


EVERY = 2.0**29
BOTH = (1, -1)
FUNCTIONS = (
    Function("relu", 2**-16, EVERY, "log", lambda x: x.relu(), torch.relu, "", BOTH),
    Function("abs", 2**-16, EVERY, "log", lambda x: x.abs(), torch.abs, "", BOTH),
    Function("x < 0", 2**-16, EVERY, "log", lambda x: x < 0, lambda x: (x < 0).double(), "", BOTH),
    Function("square", 2**-8, 32000, "log", lambda x: x.square(), torch.square, "wraps from 2^15 on", BOTH),
    Function("sigmoid", 2**-16, EVERY, "log", lambda x: x.sigmoid(), torch.sigmoid, "", BOTH),
    Function("tanh", 2**-16, EVERY, "log", lambda x: x.tanh(), torch.tanh, "", BOTH),
    Function("erf", 2**-16, EVERY, "log", lambda x: x.erf(), torch.erf, "", BOTH),
    Function("exp", -40, 29.9, "even", lambda x: x.exp(), torch.exp, "0 below, e^30 above"),
    Function("log", 2**-14, EVERY, "log", lambda x: x.log(), torch.log, "-11.78 for x <= 0, 20.1 above"),
    Function("reciprocal", 2**-14, EVERY, "log", lambda x: x.reciprocal(), torch.reciprocal, "0 for 0", BOTH),
    Function("sqrt", 2**-14, EVERY, "log", lambda x: x.sqrt(), torch.sqrt, "0 for x < 0, 2^14.5 above"),
    Function("inv_sqrt", 2**-14, EVERY, "log", lambda x: x.inv_sqrt(), torch.rsqrt, "0 for x <= 0"),
    Function("sin", -1000, 1000, "even", lambda x: x.sin(), torch.sin, "the error grows with x"),
    Function("cos", -1000, 1000, "even", lambda x: x.cos(), torch.cos, "the error grows with x"),
)


def measure(points: int) -> list[Row]:
    """All rows, on grids of so many points."""
    hub = MemoryHub(["alice", "bob", "dealer"])
    parties: dict[int, list[Row]] = {}

    def party(rank: int) -> None:
        session = mpcpriv.engine.join(hub.endpoints[rank])
        parties[rank] = [_row(session, function, points) for function in FUNCTIONS]
        session.close()

    mpcpriv.engine.activate()
    threads = [threading.Thread(target=party, args=(rank,)) for rank in (0, 1)]
    threads.append(threading.Thread(target=mpcpriv.engine.deal, args=(hub.endpoints[-1],)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # A correction goes to one party: what was dealt is the sum of what both received.
    return [replace(one, dealt=one.dealt + two.dealt) for one, two in zip(*parties.values(), strict=True)]


def _row(session: Session, function: Function, points: int) -> Row:
    import crypten

    def spent() -> tuple[int, int, int]:
        return session.cost.rounds, session.cost.sent, session.correlations.received

    x = function.grid(points)
    encrypted = crypten.cryptensor(x)
    before = spent()
    result = function.run(encrypted)
    rounds, sent, dealt = (now - then for now, then in zip(spent(), before, strict=True))
    wanted = function.reference(x)
    off = (result.get_plain_text() - wanted).abs()
    error = torch.minimum(off, off / wanted.abs().clamp(min=2.0**-16)).max()
    return Row(function, float(error), rounds, sent / len(x), dealt / len(x))


def table(rows: list[Row]) -> str:
    """The page as Markdown."""
    lines = "\n".join(row.line() for row in rows)
    return f"""# Functions of encrypted tensors

`python benchmarks/functions.py --write` measures this page: every function on a grid of {POINTS:,} points,
against torch in float64. The error is the lesser of the relative and the absolute one, at its worst. Bytes
are per element: what one party sends to one other, and what the dealer sends in all, with two parties.
Values are held with 16 fractional bits (1.5e-5) and stay below 2^46; a product stays below 2^30.

| function | range | outside the range | worst error | rounds | bytes sent | bytes dealt |
| --- | --- | --- | --- | --- | --- | --- |
{lines}
"""


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help=f"write {TABLE.parent.name}/{TABLE.name}")
    arguments = parser.parse_args()
    text = table(measure(POINTS))
    if arguments.write:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
