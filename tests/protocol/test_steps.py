"""Loops that say how many turns they have: right whatever happens in them, dealt for ahead, and shown."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

import mpcpriv
from mpcpriv.engine import loop
from mpcpriv.engine.correlation import wire
from mpcpriv.engine.loop import Line, Progress, describe
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, UsageError
from tests.protocol.parties import Sight, failures, run


def inputs() -> tuple[Any, Any]:
    import crypten

    crypten.init()
    return crypten.cryptensor(torch.linspace(-1, 1, 12), src=0), crypten.cryptensor(torch.ones(12) / 2, src=1)


@pytest.mark.parametrize("n", [2, 3])
def test_values_are_right_whatever_the_turns_do(n: int) -> None:
    def program(session: Session) -> list[Any]:
        x, y = inputs()
        results = []
        for turn in mpcpriv.steps(12):
            part = slice(0, 5 if turn == 11 else 12)  # the last batch is smaller
            z = x[part] * y[part]
            for _ in mpcpriv.steps(turn % 3):  # as many turns as the outer turn says
                z = z.relu()
            if turn == 6:  # one turn is unlike the others
                z = z.square()
            results.append(z)
            if turn == 8:
                for inner in mpcpriv.steps(50):
                    results.append((x + inner).sigmoid())
                    if inner == 3:
                        break
        return [r.get_plain_text() for r in results]

    x, y = torch.linspace(-1, 1, 12).double(), torch.ones(12).double() / 2
    expected = []
    for turn in range(12):
        part = slice(0, 5 if turn == 11 else 12)
        z = x[part] * y[part]
        z = z.relu() if turn % 3 else z
        expected.append(z.square() if turn == 6 else z)
        if turn == 8:
            expected += [(x + inner).sigmoid() for inner in range(4)]
    for results in run(n, program):
        assert len(results) == len(expected)
        for got, wanted in zip(results, expected, strict=True):
            assert got.shape == wanted.shape
            assert (got - wanted).abs().max() < 2e-4


@pytest.mark.parametrize("n", [2, 3])
def test_nobody_waits_a_round_trip_for_the_dealer(n: int) -> None:
    """Each correction is asked for a turn before the one that needs it, none in vain; seen on the wire."""
    turns = 40
    sight = Sight()

    def program(session: Session) -> list[tuple[int, int]]:
        x, y = inputs()
        seen = []
        asked_before = session.correlations.asked
        for _ in mpcpriv.steps(turns):
            began = session.correlations.asked
            x = (x * y + (x > 0) * y).sigmoid()
            seen.append((asked_before, session.correlations.used))
            asked_before = began
        return [*seen, (session.correlations.asked, session.correlations.used)]

    for seen in run(n, program, sight=sight):
        *loop_turns, (asked, used) = seen
        assert asked - used <= 1, "y is opened in the first turn only, which the second begins by"
        # Correlations are used in the order of asking, so counts are numbers, but for what was in vain. The
        # second and the third turn are alike, as the fourth knows when it begins.
        assert all(before > used for before, used in loop_turns[4:-1])
    messages = [wire.decode(message) for message in sight.sent[0, n][1:]]
    assert sum(len(requests) for _, requests in messages) == asked
    per_turn = asked // turns
    later = [first for first, _ in messages if first >= 2 * per_turn]
    assert len(later) <= turns * per_turn / 16, "asked for in few messages"


def test_a_loop_without_turns_asks_for_nothing() -> None:
    def program(session: Session) -> tuple[list[int], int]:
        x, y = inputs()
        return [turn for turn in mpcpriv.steps(0) if x * y], session.correlations.asked

    assert run(2, program) == [([], 0)] * 2


@pytest.mark.parametrize("turns", [-1, 2.0, "3", None, True])
def test_what_is_no_number_of_turns_is_refused_at_once(turns: Any) -> None:
    def program(session: Session) -> None:
        with pytest.raises(UsageError, match="whole number"):
            mpcpriv.steps(turns)

    run(2, program)


def test_steps_need_parties() -> None:
    with pytest.raises(UsageError, match="no parties"):
        mpcpriv.steps(3)


def test_parties_that_count_differently_stop() -> None:
    def counting(turns: int) -> Any:
        def program(session: Session) -> None:
            x, y = inputs()
            for _ in mpcpriv.steps(turns):
                x = x * y
            x.get_plain_text()

        return program

    errors = failures([counting(5), counting(6)])
    assert any(isinstance(error, Desynchronised) for error in errors)


# Memory.


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_memory_stays_flat_in_a_long_loop_with_a_slow_party() -> None:
    """Parties and dealer share this process: 2000 turns of 3 MB dealt, and what is held does not grow."""
    turns, settled = 2000, 200
    held: list[int] = []

    def program(session: Session) -> int:
        import crypten

        crypten.init()
        session.progress = None
        x = crypten.cryptensor(torch.ones(150_000), src=0)
        for _ in mpcpriv.steps(turns):
            x = x.square()
            if session.rank == 1:
                time.sleep(0.005)
                held.append(resident())
        return session.correlations.received

    received = run(2, program, seconds=500)
    assert sum(received) > 5 << 30
    assert max(held[settled:]) - held[settled] < 96 << 20, "64 MiB may be ahead, the rest is the allocator's"


# Progress.


def test_progress_is_told_by_nested_loops() -> None:
    seen: list[list[tuple[str, int, int, bool]]] = []

    def program(session: Session) -> None:
        if session.rank == 0:
            session.progress = lambda loops: seen.append([(p.name, p.done, p.turns, p.over) for p in loops])
        for _ in mpcpriv.steps(2, "epochs"):
            for batch in mpcpriv.steps(3, "batches"):
                if batch == 1:
                    break

    run(2, program)
    epoch = [("epochs", 0, 2, False)], [("epochs", 1, 2, False)]
    assert seen == [
        [*epoch[0], ("batches", 1, 3, False)],
        [*epoch[0], ("batches", 1, 3, True)],
        [("epochs", 1, 2, False)],
        [*epoch[1], ("batches", 1, 3, False)],
        [*epoch[1], ("batches", 1, 3, True)],
        [("epochs", 2, 2, True)],
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def drawn(monkeypatch: pytest.MonkeyPatch, target: io.StringIO, rank: int, seconds: float) -> str:
    """What a loop of ten turns that takes so long altogether writes to stderr."""
    now = 1000.0
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    monkeypatch.setattr(sys, "stderr", target)
    line, progress = Line(rank), Progress("training", 10, began=now)
    for turn in range(10):
        now += seconds / 10
        progress.done, progress.over = turn + 1, turn == 9
        line((progress,))
    return target.getvalue()


def test_a_short_loop_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, io.StringIO(), 0, 1.9) == ""
    assert drawn(monkeypatch, Terminal(), 0, 1.9) == ""


def test_a_long_loop_writes_a_line_every_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = drawn(monkeypatch, io.StringIO(), 0, 50.0).splitlines()
    assert lines[0] == "training 1/10: 5 s, about 45 s left"
    assert lines[1] == "training 3/10: 15 s, about 35 s left"
    assert lines[-1] == "training 10/10: 50 s"
    assert len(lines) == 6


def test_lines_are_the_first_partys_and_terminals_are_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    assert drawn(monkeypatch, io.StringIO(), 1, 50.0) == ""
    terminal = drawn(monkeypatch, Terminal(), 1, 50.0)
    assert terminal.count("\n") == 1
    assert terminal.count("\r") == 10
    assert terminal.endswith("training 10/10: 50 s\n")


def test_time_left_counts_the_share_of_all_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.time, "monotonic", lambda: 30.0)
    loops = Progress("epochs", 5, 1, 0.0), Progress("batches", 10, 5, 20.0)
    assert describe(loops) == "epochs 1/5, batches 5/10: 30 s, about 70 s left"
