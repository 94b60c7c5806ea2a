"""Backends side by side: all their processes alive at once, taking turns at one workload after the other."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, Self

from workloads import ANSWER, Answer

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = ROOT / "benchmarks" / "workloads.py"
PARTIES: Final = ("alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi")
DEALER: Final = "dealer"
_CLI: Final = (sys.executable, "-c", "from mpcpriv.cli import app; app()")
_WITH_PARENT: Final = (
    "import ctypes, os, sys; ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"
)
_DIE_WITH_PARENT: Final = (sys.executable, "-S", "-c", _WITH_PARENT) if sys.platform == "linux" else ()
"""Before a command: the kernel kills it when we die, whatever we die of."""
_PATIENCE: Final = 120.0  # seconds for any one answer
_HEAD_START: Final = 0.1  # seconds from a command to when all processes begin


class Place(Protocol):
    """Where processes run and reach each other."""

    @property
    def device(self) -> str:
        """The network device's name."""

    def address(self, name: str) -> str:
        """Of a host, without a port."""

    def inside(self, name: str) -> AbstractContextManager[None]:
        """Meanwhile, what is started and bound is the host's."""


class Loopback:
    """All on this machine."""

    device = "lo"

    def address(self, name: str) -> str:  # noqa: ARG002 -- a Place
        """The same for all."""
        return "127.0.0.1"

    def inside(self, name: str) -> AbstractContextManager[None]:  # noqa: ARG002 -- a Place
        """Here as anywhere."""
        return nullcontext()


class Failed(Exception):
    """A process of a contestant ended or did not answer."""


@dataclass
class Turns:
    """What one contestant did at one workload.

    Attributes:
        seconds: of each timed run.
        first: of the first run of each turn, after a pause in which the others ran.
        rounds: of one run.
        waited: seconds of one run, the last, that the first party waited for the other parties.
        error: largest difference to plain torch.
    """

    seconds: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    rounds: int | None = None
    waited: float | None = None
    error: float = 0.0

    @property
    def median(self) -> float:
        """Of the timed runs, in seconds."""
        return statistics.median(self.seconds)


class Contestant:
    """The processes of one backend, from `with` to its end.

    Args:
        label: what the table calls it.
        place: where it runs.
        parties: how many.
    """

    def __init__(self, label: str, place: Place, parties: int) -> None:
        self.label = label
        self.place = place
        self.names = PARTIES[:parties]
        self._cleanup = ExitStack()
        self._processes: list[subprocess.Popen[str]] = []
        self._lines: list[queue.SimpleQueue[str | None]] = []

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mpcpriv-bench-")))
            stack.callback(self._stop)
            self._start(folder)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def prepare(self, workload: str) -> None:
        """Makes the inputs of a workload, and drops those of the one before."""
        self._ask({"prepare": workload})

    def run(self, workload: str, warm: int, times: int, turns: Turns) -> None:
        """Takes a turn: all parties begin at one moment, run it a few times to warm up, and then timed.

        A run lasts until the last party is done; runs that follow each other overlap between parties, so
        those that are timed are timed together and divided.
        """
        start = time.monotonic() + _HEAD_START
        answers = self._ask({"run": workload, "start": start, "warm": warm, "times": times})
        done = [max(answer["spans"][i][1] for answer in answers) for i in range(warm + times)]
        began = done[warm - 1] if warm else start
        turns.seconds += [(done[-1] - began) / times]
        turns.first.append(done[0] - start)
        turns.rounds, turns.waited = answers[0]["rounds"], answers[0]["waited"]
        turns.error = max([turns.error, *(answer["error"] for answer in answers)])

    def _start(self, folder: Path) -> None:
        raise NotImplementedError

    def _spawn(self, host: str, command: Sequence[str], environment: dict[str, str]) -> None:
        fixed = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with self.place.inside(host):
            process = subprocess.Popen(
                [*_DIE_WITH_PARENT, *command],
                env=os.environ | fixed | {"PYTHONPATH": path} | environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        self._processes.append(process)
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._lines.append(lines)
        threading.Thread(target=_read, args=(process, lines), daemon=True).start()

    def _ask(self, command: dict[str, object]) -> list[Answer]:
        parties = range(len(self.names))
        for rank in parties:
            channel = self._processes[rank].stdin
            assert channel is not None
            try:
                channel.write(json.dumps(command) + "\n")
                channel.flush()
            except BrokenPipeError:
                raise Failed(f"{self.label}: {self.names[rank]} has ended") from None
        return [self._answer(rank) for rank in parties]

    def _answer(self, rank: int) -> Answer:
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                line = self._lines[rank].get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{self.label}: {self.names[rank]} does not answer") from None
            if line is None:
                raise Failed(f"{self.label}: {self.names[rank]} has ended")
            if line.startswith(ANSWER):
                answer: Answer = json.loads(line.removeprefix(ANSWER))
                return answer

    def _stop(self) -> None:
        """The end of its input ends a party, and the last party its dealer; whoever lingers is killed."""
        for process in self._processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        deadline = time.monotonic() + 10
        for process in self._processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Mpcpriv(Contestant):
    """Members of a cluster, each with its own key and its own process, as between machines."""

    def _start(self, folder: Path) -> None:
        names = (*self.names, DEALER)
        entries = []
        for name in names:
            subprocess.run(
                [*_CLI, "init", str(folder / name), "--name", name],
                check=True,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
            with self.place.inside(name), socket.create_server((self.place.address(name), 0)) as free:
                address = f"{self.place.address(name)}:{free.getsockname()[1]}"
            kind = "[dealer]" if name == DEALER else "[[party]]"
            entries.append(
                f'{kind}\nname = "{name}"\naddress = "{address}"\ncertificate = "{name}/tls.crt"\n'
            )
        cluster = folder / "cluster.toml"
        cluster.write_text("\n".join(entries))
        for name in names:
            own = ("--cluster", str(cluster), "--config", str(folder / name / "party.toml"))
            program = () if name == DEALER else (str(PROGRAM), "--mpcpriv")
            self._spawn(name, [*_CLI, "launch", "--party", name, *own, *program], {})


class CrypTen(Contestant):
    """CrypTen's own backend over gloo, in plain text: one process per party and one for a third party.

    Args:
        provider: "TTP", a third process deals, or "TFP", the first party does and knows all it deals.
    """

    def __init__(self, provider: str, place: Place, parties: int) -> None:
        super().__init__(f"CrypTen {provider}", place, parties)
        self.provider = provider

    def _start(self, folder: Path) -> None:
        environment = {
            "WORLD_SIZE": str(len(self.names)),
            "RENDEZVOUS": f"file://{folder}/rendezvous",
            "DISTRIBUTED_BACKEND": "gloo",
            "GLOO_SOCKET_IFNAME": self.place.device,
        }
        hosts = (*self.names, DEALER) if self.provider == "TTP" else self.names
        for rank, host in enumerate(hosts):
            command = [sys.executable, str(PROGRAM), "--crypten", self.provider]
            self._spawn(host, command, environment | {"RANK": str(rank)})


def _read(process: subprocess.Popen[str], lines: queue.SimpleQueue[str | None]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        lines.put(line)
    lines.put(None)


@dataclass(frozen=True)
class Pace:
    """How often a contestant runs a workload in each turn.

    Attributes:
        warm: runs that are not timed, first.
        times: runs that are.
    """

    warm: int
    times: int


def contest(
    place: Place,
    parties: int,
    workloads: Sequence[str],
    paces: tuple[Pace, Pace],
    turns: int = 2,
    against: Sequence[str] = ("TTP", "TFP"),
) -> dict[str, list[Turns]]:
    """Runs the workloads on mpcpriv and on CrypTen, A B C A B C; the progress is on stderr.

    Args:
        place: the network.
        parties: how many, besides the dealers.
        workloads: names in `workloads.WORKLOADS`.
        paces: mpcpriv's and CrypTen's.
        turns: of each contestant at each workload.
        against: CrypTen's providers.

    Returns:
        by workload, what each contestant did, mpcpriv first.

    Raises:
        Failed: a process ended or hangs.
    """
    results: dict[str, list[Turns]] = {}
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that all is cleared away
    with ExitStack() as stack:
        contestants: list[Contestant] = [stack.enter_context(Mpcpriv("mpcpriv", place, parties))]
        contestants += [stack.enter_context(CrypTen(provider, place, parties)) for provider in against]
        for workload in workloads:
            results[workload] = [Turns() for _ in contestants]
            for contestant in contestants:
                contestant.prepare(workload)
            for _ in range(turns):
                for index, contestant in enumerate(contestants):
                    pace = paces[min(index, 1)]
                    contestant.run(workload, pace.warm, pace.times, results[workload][index])
            times = "  ".join(
                f"{contestant.label} {done.median:.3g} s"
                for contestant, done in zip(contestants, results[workload], strict=True)
            )
            print(f"{workload}: {times}", file=sys.stderr, flush=True)
    return results


def table(results: dict[str, list[Turns]], against: Sequence[str] = ("TTP", "TFP")) -> str:
    """The results as text: seconds, the ratios of CrypTen's to mpcpriv's, rounds, errors."""
    head = f"{'seconds':30}{'mpcpriv':>9}{'first':>8}" + "".join(f"{name:>9}" for name in against)
    head += "".join(f"{'x ' + name:>8}" for name in against) + f"{'rounds':>8}{'waited':>8}{'error':>9}"
    lines = [head + "".join(f"{'its':>9}" for _ in against[:1])]
    for workload, (ours, *theirs) in results.items():
        line = f"{workload:30}{ours.median:>9.3f}{statistics.median(ours.first):>8.3f}"
        line += "".join(f"{turns.median:>9.3f}" for turns in theirs)
        line += "".join(f"{turns.median / ours.median:>7.1f}x" for turns in theirs)
        line += f"{ours.rounds or 0:>8}{ours.waited or 0:>8.3f}{ours.error:>9.0e}"
        lines.append(line + "".join(f"{turns.error:>9.0e}" for turns in theirs[:1]))
    return "\n".join(lines)


def verdicts(results: dict[str, list[Turns]], targets: dict[str, float]) -> str:
    """What the targets are and whether they were met: ratios to CrypTen with a third party."""
    lines = []
    for workload, least in targets.items():
        if workload in results:
            ours, its, *_ = results[workload]
            ratio = its.median / ours.median
            word = "met" if ratio >= least else "MISSED"
            lines.append(f"{workload}: {ratio:.1f}x CrypTen TTP (target: at least {least:g}x) {word}")
    return "\n".join(lines)
