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
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn import functional

import mpcpriv.engine
from mpcpriv.engine.correlation.base import Correlation
from mpcpriv.engine.correlation.source import Dealt
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
        line: of a function of whole lines, how many values one has; of one line of a fixed length, then.
        lines: how many such lines.
        varies: its rounds and bytes vary a little, by chance.
    """

    name: str
    low: float
    high: float
    scale: str
    run: Callable[[Any], Any]
    reference: Callable[[torch.Tensor], torch.Tensor]
    outside: str
    signs: tuple[int, ...] = (1,)
    line: int = 0
    lines: int = 1
    varies: bool = False

    def operand(self, points: int) -> torch.Tensor:
        """The grid, or lines of it in no order."""
        if not self.line:
            return self.grid(points)
        x = self.grid(self.line * self.lines)
        assert len(x) == self.line * self.lines
        return x[torch.arange(len(x)) * 7919 % len(x)].reshape(self.lines, self.line)

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
        if f.varies:
            costs = f"~{round(self.rounds, -1)} | ~{round(self.sent, -2):.0f} | ~{round(self.dealt, -2):.0f}"
        else:
            costs = f"{self.rounds} | {self.sent:.0f} | {self.dealt:.0f}"
        return f"| {f.name} | {low} | {f.outside} | {self.error:.1e} | {costs} |"


EVERY = 2.0**29
BOTH = (1, -1)
LEAST = 2.0**-14
ORDERED = -(2.0**31), 2.0**31, "even"
COEFFICIENTS = [0.5, -1.25, 0.001]


def gelu_tanh(x: Any) -> Any:
    return functional.gelu(x, approximate="tanh")


def over_flipped(x: Any) -> Any:
    return x / x.flip(0)


def clamped(x: Any) -> Any:
    return x.clamp(-1, 3)


def cubic(x: Any) -> Any:
    return x.polynomial(COEFFICIENTS)


def cubic_plain(x: torch.Tensor) -> torch.Tensor:
    return sum((c * x ** (k + 1) for k, c in enumerate(COEFFICIENTS)), torch.zeros_like(x))


def softmax(x: Any) -> Any:
    return x.softmax(1)


def log_softmax(x: Any) -> Any:
    return x.log_softmax(1)


def logsumexp(x: Any) -> Any:
    return x.logsumexp(1)


def argmax(x: Any) -> Any:
    return x.argmax(1, one_hot=False)


def norm(x: torch.Tensor) -> torch.Tensor:
    return x.norm(2, 1)


def norm_half(x: torch.Tensor) -> torch.Tensor:
    return x.norm(1.5, 1)


def quantile(x: Any) -> Any:
    return x.quantile(0.9, 1)


FUNCTIONS = (
    Function("x < 0", 2**-16, EVERY, "log", lambda x: x < 0, lambda x: (x < 0).double(), "", BOTH),
    Function("x == 1", -2, 2, "even", lambda x: x == 1, lambda x: (x == 1).double(), ""),
    Function("sign", -2, 2, "even", lambda x: x.sign(), torch.sign, ""),
    Function("abs", 2**-16, EVERY, "log", lambda x: x.abs(), torch.abs, "", BOTH),
    Function("relu", 2**-16, EVERY, "log", lambda x: x.relu(), torch.relu, "", BOTH),
    Function(
        "clamp(-1, 3)", 2**-16, EVERY, "log", lambda x: x.clamp(-1, 3), lambda x: x.clamp(-1, 3), "", BOTH
    ),
    Function("leaky_relu", 2**-16, 2**29, "log", functional.leaky_relu, functional.leaky_relu, "", BOTH),
    Function("gelu", 2**-16, EVERY, "log", functional.gelu, functional.gelu, "", BOTH),
    Function("gelu, tanh", 2**-16, EVERY, "log", gelu_tanh, gelu_tanh, "", BOTH),
    Function("silu", 2**-16, EVERY, "log", functional.silu, functional.silu, "", BOTH),
    Function("mish", 2**-16, EVERY, "log", functional.mish, functional.mish, "", BOTH),
    Function("softplus", 2**-16, EVERY, "log", functional.softplus, functional.softplus, "", BOTH),
    Function("elu", 2**-16, EVERY, "log", functional.elu, functional.elu, "", BOTH),
    Function("sigmoid", 2**-16, EVERY, "log", lambda x: x.sigmoid(), torch.sigmoid, "", BOTH),
    Function("fine_sigmoid", 2**-16, EVERY, "log", lambda x: x.fine_sigmoid(), torch.sigmoid, "", BOTH),
    Function("tanh", 2**-16, EVERY, "log", lambda x: x.tanh(), torch.tanh, "", BOTH),
    Function("erf", 2**-16, EVERY, "log", lambda x: x.erf(), torch.erf, "", BOTH),
    Function("exp", -40, 29.9, "even", lambda x: x.exp(), torch.exp, "0 below, e^30 above"),
    Function("fine_exp", -12, 14, "even", lambda x: x.fine_exp(), torch.exp, "0 below, e^14.25 above"),
    Function("log", LEAST, EVERY, "log", lambda x: x.log(), torch.log, "-11.78 for x <= 0, 20.1 above"),
    Function("reciprocal", LEAST, EVERY, "log", lambda x: x.reciprocal(), torch.reciprocal, "0 for 0", BOTH),
    Function("x / y", LEAST, 30000, "log", over_flipped, over_flipped, "0 for y = 0", BOTH),
    Function("sqrt", LEAST, EVERY, "log", lambda x: x.sqrt(), torch.sqrt, "0 for x < 0, 2^14.5 above"),
    Function("inv_sqrt", LEAST, EVERY, "log", lambda x: x.inv_sqrt(), torch.rsqrt, "0 for x <= 0"),
    Function("square", 2**-8, 32000, "log", lambda x: x.square(), torch.square, "wraps from 2^15 on", BOTH),
    Function("x^5", 2**-8, 63, "log", lambda x: x**5, lambda x: x**5, "wraps from 2^6 on", BOTH),
    Function("x^-2", 0.001, EVERY, "log", lambda x: x**-2, lambda x: x**-2, "wraps below 2^-15", BOTH),
    Function("x^0.3", LEAST, EVERY, "log", lambda x: x**0.3, lambda x: x**0.3, "0 for x <= 0"),
    Function("x^2.5", LEAST, 4000, "log", lambda x: x**2.5, lambda x: x**2.5, "0 for x <= 0, wraps above"),
    Function("x^-1.5", LEAST, EVERY, "log", lambda x: x**-1.5, lambda x: x**-1.5, "0 for x <= 0"),
    Function("2^x", -40, 29, "even", lambda x: 2**x, lambda x: 2**x, "0 below, e^30 above"),
    Function("polynomial", -30, 30, "even", cubic, cubic_plain, "wraps where a term leaves 2^30"),
    Function("sin", -1000, 1000, "even", lambda x: x.sin(), torch.sin, "the error grows with x"),
    Function("cos", -1000, 1000, "even", lambda x: x.cos(), torch.cos, "the error grows with x"),
    *(
        Function(f"{name} of {n:,}", low, high, "even", run, plain, outside, line=n, lines=m)
        for name, n, m, low, high, run, plain, outside in (
            ("softmax", 10, 400, -5000, 5000, softmax, softmax, ""),
            ("softmax", 10_000, 1, -5000, 5000, softmax, softmax, ""),
            ("log_softmax", 10_000, 1, -5000, 5000, log_softmax, log_softmax, ""),
            ("logsumexp", 10_000, 1, -5000, 5000, logsumexp, logsumexp, ""),
            ("max", 10, 400, -EVERY, EVERY, lambda x: x.amax(1), lambda x: x.amax(1), ""),
            ("max", 10_000, 1, -EVERY, EVERY, lambda x: x.amax(1), lambda x: x.amax(1), ""),
            ("argmax", 10_000, 1, -EVERY, EVERY, argmax, lambda x: x.argmax(1).double(), ""),
            ("sum", 1000, 4, -1000, 1000, lambda x: x.sum(1), lambda x: x.sum(1), ""),
            ("cumsum", 1000, 4, -1000, 1000, lambda x: x.cumsum(1), lambda x: x.cumsum(1), ""),
            ("cumprod", 16, 250, -1.5, 1.5, lambda x: x.cumprod(1), lambda x: x.cumprod(1), "as a product"),
            ("cummax", 64, 60, -EVERY, EVERY, lambda x: x.cummax(1)[0], lambda x: x.cummax(1)[0], ""),
            ("mean", 1000, 4, -1000, 1000, lambda x: x.mean(1), lambda x: x.mean(1), ""),
            ("var", 1000, 4, -100, 100, lambda x: x.var(1), lambda x: x.var(1), "squares wrap from 2^15 on"),
            ("norm", 1000, 4, -100, 100, lambda x: x.norm(2, 1), norm, "its square wraps from 2^30 on"),
            ("norm 1.5", 1000, 4, -100, 100, lambda x: x.norm(1.5, 1), norm_half, "as a power"),
            ("sort", 64, 60, -EVERY, EVERY, lambda x: x.sort(1)[0], lambda x: x.sort(1)[0], ""),
            ("median", 64, 60, -EVERY, EVERY, lambda x: x.median(1)[0], lambda x: x.median(1)[0], ""),
            ("quantile 0.9", 64, 60, -9999, 9999, quantile, quantile, ""),
        )
    ),
    *(
        Function(
            f"{name} of 10,000",
            -(2.0**31),
            2.0**31,
            "even",
            run,
            run,
            "counts as equal beyond",
            line=10_000,
            varies=True,
        )
        for name, run in (
            ("sort", lambda x: x.sort(1)[0]),
            ("topk(10)", lambda x: x.topk(10, 1)[0]),
            ("median", lambda x: x.median(1)[0]),
        )
    ),
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
    return parties[0]


def _row(session: Session, function: Function, points: int) -> Row:
    import crypten

    dealt = 0
    take = session.correlations.take

    def counted(request: Correlation) -> Dealt:
        nonlocal dealt
        dealt += request.dealt_bytes
        return take(request)

    def spent() -> tuple[int, int, int]:
        return session.cost.rounds, session.cost.sent, dealt

    x = function.operand(points)
    encrypted = crypten.cryptensor(x)
    before = spent()
    with mock.patch.object(session.correlations, "take", counted):
        result = function.run(encrypted)
    rounds, sent, used = (now - then for now, then in zip(spent(), before, strict=True))
    wanted = function.reference(x)
    off = (result.get_plain_text() - wanted).abs()
    error = torch.minimum(off, off / wanted.abs().clamp(min=2.0**-16)).max()
    return Row(function, float(error), rounds, sent / x.numel(), used / x.numel())


def table(rows: list[Row]) -> str:
    """The page as Markdown."""
    lines = "\n".join(row.line() for row in rows)
    return f"""# Functions of encrypted tensors

`python benchmarks/functions.py --write` measures this page: every function on a grid of {POINTS:,} points,
against torch in float64. The error is the lesser of the relative and the absolute one, at its worst. Bytes
are per element of the input: what one party sends to one other, and what the dealer sends in all, with two
parties. In sorting long lines they vary a little, by chance, and with each further party come one round and
24 bytes more. Values are held with 16 fractional bits (1.5e-5) and stay below 2^46; a product stays below
2^30.

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
