"""Daemons, workers and commands that start at once: forked by a process that has loaded their modules.

A daemon is a new interpreter, which imports for two seconds, and so is each of its workers, which imports
torch for more; a test that starts dozens has no time for that. Here both are forked from one server, and are
what they are otherwise: the same `main`, with their own environment, outputs and channel.

python -m tests.integration.warm SOCKET [engine] [analyses]
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

ADDRESS = "WARM_WORKERS"
"""The environment variable that says a daemon or a launcher where the server of its workers listens."""
ROOT = Path(__file__).parents[2]
COMMAND = (
    sys.executable,
    "-c",
    "from tests.integration import warm; warm.install(); from mpcpriv.cli import app; app()",
)
"""The `mpcpriv` command, with `ADDRESS` in its environment; the repository's root must be in PYTHONPATH."""
_REQUEST = 1 << 20


@functools.cache
def server(*loaded: str) -> str:
    """The address of this process's own server, which ends with it.

    Args:
        loaded: "engine" and "analyses" (with what reads tables), if it has loaded them too.
    """
    address = str(Path(tempfile.mkdtemp(prefix="warm")) / "socket")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.integration.warm", address, *loaded],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
    )
    atexit.register(process.communicate)  # closes its standard input
    while not Path(address).exists():
        assert process.poll() is None
        time.sleep(0.01)
    return address


def serve(path: str, *loaded: str) -> None:
    """Forks a daemon, a worker or a command for each connection, until its standard input ends."""
    from mpcpriv import cli
    from mpcpriv.client import control
    from mpcpriv.party import jobs, worker
    from tests.integration import daemon_entry, quick_job

    assert cli
    assert control
    assert jobs
    assert worker
    assert daemon_entry
    assert quick_job
    if "engine" in loaded:
        from mpcpriv import engine

        engine.prepare()
    if "analyses" in loaded:
        from mpcpriv import analyses
        from mpcpriv.data import checks, csv_file

        assert checks
        assert csv_file
        for name in analyses.installed():
            analyses.find(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{path}.new")
    listener.listen(64)
    Path(f"{path}.new").rename(path)  # whoever sees it can connect
    while True:
        if sys.stdin in select.select([listener, sys.stdin], [], [])[0]:
            Path(path).unlink()
            with suppress(OSError):  # there is more in the folder, which is another's
                Path(path).parent.rmdir()
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _nurse(connection)
        connection.close()


def _nurse(connection: socket.socket) -> None:
    """Starts one process, says what its number is, and how it has ended."""
    request, descriptors, _, _ = socket.recv_fds(connection, _REQUEST, 3)
    nurse = os.getpid()
    child = os.fork()
    if child == 0:
        connection.close()
        _become(json.loads(request), descriptors, nurse)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{child}\n".encode())
    _, status = os.waitpid(child, 0)
    with suppress(BrokenPipeError):  # nobody asks any more
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(asked: dict[str, Any], descriptors: Sequence[int], parent: int) -> None:
    """Is the daemon or the command of `asked`, or a worker with a channel. Does not return."""
    from mpcpriv.cli import app
    from mpcpriv.party import worker
    from tests.integration import daemon_entry

    *channel, out, err = descriptors
    os.dup2(out, 1)
    os.dup2(err, 2)
    # New ones: those that are there know where they stood in another file.
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    try:
        if channel:
            os.setsid()
            worker.main(channel[0], parent)
        if "command" in asked:
            sys.argv = ["mpcpriv", *asked["command"]]
            app()
        else:
            daemon_entry.main(*asked["daemon"])
    except SystemExit as ended:
        worker.leave(int(ended.code or 0))
    except BaseException:  # noqa: BLE001 -- as the interpreter does at its end
        traceback.print_exc()
    worker.leave(1)


class Forked:
    """As much of `subprocess.Popen` as a daemon needs of a worker, and a test of a daemon.

    Args:
        address: of the server.
        descriptors: a worker's channel, if it is one, and the two outputs.
        asked: its environment, and the arguments of a daemon or a command.
    """

    def __init__(self, address: str, descriptors: Sequence[int], **asked: Any) -> None:
        self.returncode: int | None = None
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(address)
            asked.setdefault("folder", os.getcwd())
            socket.send_fds(connection, [json.dumps(asked).encode()], descriptors)
            self._said: TextIO = connection.makefile("r")
        self.pid = int(self._said.readline())

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        if self.returncode is None and select.select([self._said], [], [], 0)[0]:
            self.returncode = int(self._said.readline())
            self._said.close()
        return self.returncode

    def wait(self, timeout: float = float("inf")) -> int:
        """Waits for it."""
        deadline = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Sends it a signal, if it is there."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Worker(Forked):
    """A worker, of which the daemon reads two pipes."""

    def __init__(self, channel: int, environment: dict[str, str]) -> None:
        ends = [os.pipe(), os.pipe()]
        super().__init__(
            os.environ[ADDRESS], [channel, *(there for _, there in ends)], environment=environment
        )
        for _, there in ends:
            os.close(there)
        self.stdout, self.stderr = (os.fdopen(here, "rb", 0) for here, _ in ends)


def command(*arguments: str | Path, folder: Path = ROOT, **environment: str) -> tuple[int, str, str]:
    """What `mpcpriv` with these arguments, in this folder, ends with and says."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Forked(
            server(),
            [out.fileno(), err.fileno()],
            environment={**os.environ, **environment},
            folder=str(folder),
            command=[str(one) for one in arguments],
        )
        status = process.wait(100)
        for said in (out, err):
            said.seek(0)
        return status, out.read().decode(), err.read().decode()


class Subprocess:
    """Stands for the module `subprocess` in `mpcpriv.party.process`."""

    PIPE = subprocess.PIPE
    DEVNULL = subprocess.DEVNULL

    @staticmethod
    def Popen(*_: object, pass_fds: list[int], env: dict[str, str], **__: object) -> Worker:  # noqa: N802
        return Worker(pass_fds[0], env)


def install() -> None:
    """Has the workers of this process forked by the server at `ADDRESS`."""
    from mpcpriv.party import process

    process.subprocess = Subprocess  # type: ignore[attr-defined]


if __name__ == "__main__":
    serve(*sys.argv[1:])
