"""One member of a computation between machines: this process is it."""

from __future__ import annotations

import hashlib
import hmac
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mpcpriv.errors import FrameRefused, PeerRefused, UsageError
from mpcpriv.party.cluster import Cluster, read_cluster
from mpcpriv.party.config import FILE, read_party
from mpcpriv.party.pipe import EXIT_FAILED, EXIT_STOPPED, INSIDE, JOB_BYTES, NOTICE_SECONDS
from mpcpriv.party.program import Dealer, Program, Script, script_digest
from mpcpriv.party.worker import run_member
from mpcpriv.transport.base import Transport
from mpcpriv.transport.grpc import GrpcServerPort

_JOB_DOMAIN: Final = b"mpcpriv/launch/v1"
_DIGEST_BYTES: Final = 32


def run_party(
    name: str, cluster_path: Path, config_path: Path | None, script: Path | None, argv: Sequence[str] = ()
) -> int:
    """Runs the member `name` of a cluster in this process, until the job is over.

    Args:
        name: one of the members in the cluster file.
        cluster_path: the cluster file.
        config_path: the member's own `party.toml`; None looks beside its certificate.
        script: the program; None for the dealer.
        argv: becomes `sys.argv[1:]`; each party has its own.

    Returns:
        The exit status: 0 when the program ended normally, else 1 (130 when interrupted), and the reason
        is on stderr.

    Raises:
        UsageError: a file is wrong or missing, or the keys are not those of this member.
    """
    cluster = read_cluster(cluster_path)
    rank = cluster.rank(name)
    path = config_path or cluster.members[rank].folder / FILE
    party = read_party(path)
    mine, expected = party.identity.certificate, cluster.members[rank].certificate
    if mine != expected:
        raise UsageError(
            f"{path}: the certificate of {party.name} has the fingerprint {mine.fingerprint[:16]}..., and "
            f"{cluster_path} knows {name} by {expected.fingerprint[:16]}...; "
            "put the current certificate into the cluster"
        )
    program = _program(cluster, rank, script, argv)
    os.environ[INSIDE] = name
    ports: list[GrpcServerPort] = []

    def start() -> Program:
        pinned = [member.certificate for member in cluster.members]
        listen = party.listen or cluster.addresses[rank]
        ports.append(GrpcServerPort.bind(party.identity, pinned, listen, limits=cluster.limits))
        program.load()
        return program

    def connect() -> Transport:
        with telling_whom_we_await(ports[0]):
            return ports[0].connect(
                cluster.addresses,
                job=hashlib.sha256(_JOB_DOMAIN + cluster.digest).digest()[:JOB_BYTES],
                facts={"cluster": cluster.digest.hex()},
            )

    ending = run_member(start, connect, label=f"{name}: ")
    if ending.failure is None:
        return 0
    return EXIT_STOPPED if ending.failure.kind == "stopped" else EXIT_FAILED


@dataclass(frozen=True)
class Compared:
    """A script that runs once all parties are known to run the same bytes.

    Attributes:
        script: the script.
        digest: SHA-256 of its bytes.
    """

    script: Script
    digest: bytes

    def load(self) -> None:
        self.script.load()

    def run(self, transport: Transport) -> object:
        compare_programs(transport, self.digest)
        return self.script.run(transport)


@contextmanager
def telling_whom_we_await(port: GrpcServerPort) -> Iterator[None]:
    """Meanwhile says on stderr, after two seconds and then every ten, which members are not connected yet."""
    connected = threading.Event()

    def tell() -> None:
        pause = NOTICE_SECONDS
        while not connected.wait(pause):
            pause = 5 * NOTICE_SECONDS
            transport = port.transport
            if transport is not None:
                others = (rank for rank in range(len(transport.members)) if rank != transport.rank)
                names = [transport.members[rank] for rank in others if not transport.link(rank).opened]
                print(f"mpcpriv: waiting for {', '.join(names)}", file=sys.stderr, flush=True)

    threading.Thread(target=tell, name="mpcpriv notice", daemon=True).start()
    try:
        yield
    finally:
        connected.set()


def compare_programs(transport: Transport, digest: bytes) -> None:
    """Makes sure that all parties run the same bytes. The dealer, the last member, runs none of them.

    This is not one of the facts that the transport compares, because those are the same for every member.

    Args:
        transport: connected, with the dealer last.
        digest: SHA-256 of this party's program.

    Raises:
        PeerRefused: a party runs another program.
        FrameRefused: a party sent something else than a digest.
        PeerError: a member failed.
    """
    others = [rank for rank in range(len(transport.members) - 1) if rank != transport.rank]
    for rank in others:
        transport.send(rank, digest)
    for rank in others:
        theirs = bytes(transport.recv(rank))
        peer = transport.members[rank]
        if len(theirs) != _DIGEST_BYTES:
            raise FrameRefused(peer, f"{peer} sent {len(theirs)} bytes where its program's digest was due")
        if not hmac.compare_digest(theirs, digest):
            raise PeerRefused(
                peer,
                f"{peer} runs another program than we do: program {theirs.hex()[:16]}... "
                f"(we: {digest.hex()[:16]}...); give every party the same file",
            )


def _program(cluster: Cluster, rank: int, script: Path | None, argv: Sequence[str]) -> Program:
    is_dealer = rank == len(cluster.members) - 1
    if is_dealer:
        if script is not None:
            raise UsageError(
                f"program {str(script)!r}: the dealer runs none; leave it out, or name a party with --party"
            )
        return Dealer()
    if script is None:
        raise UsageError(
            f"--party {cluster.names[rank]}: no program given; name the Python file that all parties run"
        )
    return Compared(Script(script, tuple(argv)), script_digest(script))
