"""Workers that start at once: forked by a process that has torch and the engine loaded already.

A worker of a daemon is a new interpreter, which imports torch for seconds; a test that runs dozens of jobs
has no time for that. Here the daemons' workers are forked from one server, and are what they are otherwise:
the same `worker.main`, in a session of its own, with its own environment, pipes and channel.

python -m tests.integration.warm SOCKET
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any, TextIO

ADDRESS = "WARM_WORKERS"
"""The environment variable of a daemon that says where the server listens."""
_REQUEST = 1 << 20


def serve(path: str) -> None:
    """Forks a worker for each connection, until it is killed."""
    from mpcpriv import engine
    from mpcpriv.party import jobs, worker

    engine.prepare()
    assert jobs
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(64)
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _nurse(connection, worker.main)
        connection.close()


def _nurse(connection: socket.socket, main: Any) -> None:
    """Starts one worker, says what its number is, and how it has ended."""
    request, descriptors, _, _ = socket.recv_fds(connection, _REQUEST, 3)
    channel, out, err = descriptors
    nurse = os.getpid()
    worker = os.fork()
    if worker == 0:
        connection.close()
        os.setsid()
        os.dup2(out, 1)
        os.dup2(err, 2)
        # New ones: those that are there know where they stood in another file.
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        os.environ.clear()
        os.environ.update(json.loads(request))
        main(channel, nurse)
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(f"{worker}\n".encode())
    _, status = os.waitpid(worker, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


class Forked:
    """As much of `subprocess.Popen` as a daemon needs of a worker."""

    def __init__(self, descriptor: int, environment: dict[str, str]) -> None:
        self.returncode: int | None = None
        ends = [os.pipe(), os.pipe()]
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(os.environ[ADDRESS])
            request = json.dumps(environment).encode()
            socket.send_fds(connection, [request], [descriptor, *(there for _, there in ends)])
            self._said: TextIO = connection.makefile("r")
        for _, there in ends:
            os.close(there)
        self.stdout, self.stderr = (os.fdopen(here, "rb", 0) for here, _ in ends)
        self.pid = int(self._said.readline())
        os.set_blocking(self._said.fileno(), False)

    def poll(self) -> int | None:
        """Its exit status, once it has ended."""
        if self.returncode is None and (line := self._said.readline()):
            self.returncode = int(line)
        return self.returncode

    def wait(self) -> int:
        """Waits for it."""
        while self.poll() is None:
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode


def install() -> None:
    """Has the workers of this process's daemon forked by the server."""
    from mpcpriv.party import process

    class Warm:
        PIPE = subprocess.PIPE
        DEVNULL = subprocess.DEVNULL

        @staticmethod
        def Popen(*_: object, pass_fds: list[int], env: dict[str, str], **__: object) -> Forked:  # noqa: N802
            return Forked(pass_fds[0], env)

    process.subprocess = Warm  # type: ignore[attr-defined]


if __name__ == "__main__":
    serve(sys.argv[1])
