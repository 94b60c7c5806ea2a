"""`mpcpriv doctor`: is this machine ready?"""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from mpcpriv.errors import MpcprivError

_AES_BYTES = 64 << 20
_AES_SLOW = 0.5  # GB/s: below this the processor has no AES instructions, and masks become the bottleneck


@dataclass(frozen=True)
class Finding:
    """What a check saw. `works` is False when mpcpriv cannot run, `remark` is set when it runs badly."""

    detail: str
    works: bool = True
    remark: str = ""
    mark: str = "slow"


def doctor(
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A party.toml: look at its certificate, too.", show_default=False),
    ] = None,
) -> None:
    """Check this machine: Python, torch, CrypTen, gRPC, ports, AES speed, clock and cores.

        mpcpriv doctor --config parties/alice/party.toml     (and that party's keys and certificate)

    The exit status is 1 when something is broken.
    """
    checks = dict(CHECKS)
    if config is not None:
        checks["certificate"] = lambda: _certificate(config)
    table = Table(show_edge=False, pad_edge=False)
    for column in ("", "check", "found"):
        table.add_column(column, overflow="fold")
    broken = 0
    for name, check in checks.items():
        finding = examine(check)
        mark = "[green]ok[/]" if finding.works and not finding.remark else f"[yellow]{finding.mark}[/]"
        if not finding.works:
            mark = "[red]broken[/]"
            broken += 1
        table.add_row(mark, name, " ".join(part for part in (finding.detail, finding.remark) if part))
    Console(highlight=False).print(table)
    if broken:
        raise typer.Exit(1)


def examine(check: Callable[[], Finding]) -> Finding:
    """Runs one check; what it raises is a finding too."""
    try:
        return check()
    except (ImportError, OSError, MpcprivError, RuntimeError, AttributeError) as error:
        return Finding(f"{type(error).__name__}: {error}", works=False)


def _python() -> Finding:
    version = platform.python_version()
    remark = "" if os.name == "posix" else "not tried on this system"
    return Finding(f"{version} on {platform.system()} {platform.machine()}", remark=remark)


def _torch() -> Finding:
    torch = importlib.import_module("torch")
    total = int((torch.arange(5, dtype=torch.int64) * 2).sum())
    return Finding(f"{torch.__version__}, {torch.get_num_threads()} threads", works=total == 20)


def _crypten() -> Finding:
    importlib.import_module("mpcpriv.engine").activate()
    return Finding(f"{importlib.metadata.version('crypten')}, with mpcpriv's engine")


def _grpc() -> Finding:
    grpc = importlib.import_module("grpc")
    importlib.import_module("mpcpriv.transport.grpc")
    return Finding(str(grpc.__version__))


def _ports() -> Finding:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return Finding("a port of the loopback interface opens and answers")


def _aes() -> Finding:
    ciphers = importlib.import_module("cryptography.hazmat.primitives.ciphers")
    cipher = ciphers.Cipher(
        ciphers.algorithms.AES(os.urandom(16)), ciphers.modes.CTR(os.urandom(16))
    ).encryptor()
    zeros = bytes(_AES_BYTES)
    cipher.update(zeros)
    start = time.perf_counter()
    cipher.update(zeros)
    speed = _AES_BYTES / (time.perf_counter() - start) / 1e9
    remark = "" if speed >= _AES_SLOW else "the processor has no AES instructions: masks will be slow"
    return Finding(f"{speed:.1f} GB/s on one core", remark=remark)


def _clock() -> Finding:
    # Certificates have dates. There is no second clock here; but today is not before this was installed.
    now = time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    installed = Path(__file__).stat().st_mtime
    if now < installed - 60:
        return Finding(shown, works=False, remark="earlier than this file was written: set the clock")
    return Finding(shown)


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    remark = "" if cores > 1 else "parties on this machine will take turns"
    return Finding(str(cores), remark=remark)


def _certificate(config: Path) -> Finding:
    from mpcpriv.party.config import read_party
    from mpcpriv.party.daily import ending

    party = read_party(config)
    party.signing_key()
    certificate = party.identity.certificate
    remark = " ".join(ending([certificate], datetime.now(UTC)))
    return Finding(f"{party.name}'s, until {certificate.not_after:%Y-%m-%d}", remark=remark, mark="soon")


CHECKS: dict[str, Callable[[], Finding]] = {
    "Python": _python,
    "torch": _torch,
    "CrypTen": _crypten,
    "gRPC": _grpc,
    "ports": _ports,
    "AES": _aes,
    "clock": _clock,
    "cores": _cores,
}
