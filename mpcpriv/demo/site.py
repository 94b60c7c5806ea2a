"""Four parties in one folder, each with keys, a table, a configuration and a daemon of its own."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from mpcpriv.client.connection import connect
from mpcpriv.demo.study import Seat
from mpcpriv.documents import public_key
from mpcpriv.errors import DaemonError, MpcprivError
from mpcpriv.party.config import FILE, create, read_party
from mpcpriv.types import DEALER

LOG: Final = "daemon.log"
_PORTS: Final = range(10_000, 32_768)
_START: Final = 30.0
"""Seconds that a daemon has until it answers."""
_STOP: Final = 10.0
"""Seconds that it has to stop."""
_SERVE: Final = """\
import sys
sys.path.append({root!r})
from mpcpriv.cli import app
app()
"""


def settle(folder: Path, tables: Mapping[str, Mapping[str, str]], concurrent_jobs: int = 1) -> list[Seat]:
    """Makes the parties and the dealer, each in a folder of its name.

    What `mpcpriv init` makes, and where each one's daemon listens and its tables are.

    Args:
        folder: that they are in.
        tables: of each party but the dealer, by data set, the name of its file in that party's folder.
        concurrent_jobs: how many workers each daemon runs at once.
    """
    seats = []
    names = [*tables, DEALER]
    for name, port in zip(names, _free_ports(len(names)), strict=True):
        party = create(folder / name, name)
        endpoint = f"127.0.0.1:{port}"
        with party.path.open("a", encoding="utf-8") as file:
            file.write(
                f'\n[daemon]\nlisten = "{endpoint}"\nminutes = 5\nconcurrent_jobs = {concurrent_jobs}\n'
            )
            if name != DEALER:
                declared = "".join(f'{dataset} = "{path}"\n' for dataset, path in tables[name].items())
                file.write(f"\n[data]\n{declared}")
        certificate = party.identity.certificate.pem.decode()
        seats.append(Seat(name, endpoint, certificate, public_key(party.signing_key())))
    return seats


@contextmanager
def daemons(folder: Path, names: Sequence[str]) -> Iterator[None]:
    """The daemons of these parties run, each a process of its own, until this is left.

    Raises:
        MpcprivError: one of them does not start; with the end of its log.
    """
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in names:
            running[name] = _serve(folder / name)
        for name, process in running.items():
            _await(folder / name, process)
        yield
    finally:
        for process in running.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + _STOP
        for process in running.values():
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _serve(folder: Path) -> subprocess.Popen[bytes]:
    code = _SERVE.format(root=str(Path(__file__).parents[2]))
    # Workers share this machine; each alone would take all of its cores.
    cores = os.cpu_count() or 1
    environment = {"OMP_NUM_THREADS": str(max(1, cores // 4)), **os.environ}
    with (folder / LOG).open("ab") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the daemons in order.
        return subprocess.Popen(  # noqa: S603 -- this interpreter, with our own code
            [sys.executable, "-P", "-c", code, "party", "serve", "--config", str(folder / FILE)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=environment,
            start_new_session=True,
        )


def _await(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START
    while True:
        if process.poll() is not None:
            raise MpcprivError(
                f"{folder.name}'s daemon ended with status {process.returncode}: {_last_line(folder / LOG)}"
            )
        try:
            with connect(folder / FILE) as daemon:
                daemon.agreements()
        except DaemonError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


def signing_key(folder: Path) -> str:
    """The public signing key of the party in this folder."""
    return public_key(read_party(folder / FILE).signing_key())


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "its log is empty"


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now, below those that systems give out by themselves: nobody gets one of
    these by chance until the daemon listens there."""
    with ExitStack() as held:  # all until the last is found, so they are different
        found: list[int] = []
        while len(found) < count:
            port = secrets.choice(_PORTS)
            with suppress(OSError):
                held.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(port)
        return found
