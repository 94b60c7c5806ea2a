"""Intersection of two parties' identifiers on the loopback interface, beside openmined-psi.

    python benchmarks/alignment.py [identifiers of each party] [--openmined PYTHON] [--secret]

Ours: two processes over gRPC with mutual TLS, half of the identifiers in common, both learn the intersection.
openmined-psi (elliptic-curve Diffie-Hellman on P-256, one of two learns the intersection): one process, no
network, phase after phase, the messages serialised; it pins a protobuf that this package cannot use, so that
PYTHON may be an interpreter that has it. With --secret, in the place of both, three processes, the third a
dealer: the joined table on shares, three columns of each party, of which nobody learns the rows. Memory is
what a process had at most, less what it had before there were identifiers. Nothing here is asserted but the
intersection's size.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

SIZE = 1_000_000


def identifiers(first: int, count: int) -> list[str]:
    """Of so many people, as 13-digit numbers."""
    return [f"756{i:010}" for i in range(first, first + count)]


def memory() -> float:
    """What this process had at most so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def party(rank: int, identities: Sequence[object], count: int, pipe: Connection) -> None:
    """One of our processes; sends (seconds for keys, seconds, CPU seconds, bytes sent, MB, size)."""
    from mpcpriv.alignment import KeyColumn, align, identify
    from mpcpriv.transport.grpc import GrpcServerPort

    port = GrpcServerPort.bind(identities[rank], [i.certificate for i in identities], "127.0.0.1:0")
    pipe.send(port.port)
    transport = port.connect([f"127.0.0.1:{number}" for number in pipe.recv()], job=bytes(16), facts={})
    before, began = memory(), time.perf_counter()
    column = KeyColumn(identifiers(rank * count // 2, count), ("digits",))
    held = memory() - before
    began = time.perf_counter()
    keys = identify(column)
    named = time.perf_counter() - began
    began, worked = time.perf_counter(), time.process_time()
    found = align(transport, keys, job=b"benchmark")
    took, worked = time.perf_counter() - began, time.process_time() - worked
    sent = transport.traffic(1 - rank).bytes_sent
    pipe.send((named, took, worked, sent, memory() - before, held, found.size))
    transport.close()


def members(
    body: Callable[..., None], names: Sequence[str], count: int
) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Runs a process for each name; yields what each party measured, once it has."""
    from mpcpriv.transport.tls import throw_away

    identities = throw_away(tuple(names))
    context = multiprocessing.get_context("spawn")
    pipes, processes = [], []
    for rank in range(len(names)):
        here, there = context.Pipe()
        process = context.Process(target=body, args=(rank, identities, count, there))
        process.start()
        pipes.append(here)
        processes.append(process)
    ports = [pipe.recv() for pipe in pipes]
    for pipe in pipes:
        pipe.send(ports)
    for name, pipe in zip(names, pipes, strict=True):
        if name != "dealer":
            yield name, pipe.recv()
    for process in processes:
        process.join()


def ours(count: int) -> None:
    """Runs both processes and prints their lines."""
    for name, told in members(party, ("alice", "bob"), count):
        named, took, worked, sent, most, held, size = told
        assert size == count - count // 2
        print(
            f"mpcpriv, {name}: {took:.1f} s ({worked:.1f} s of CPU; keys before that {named:.1f} s), "
            f"{sent / 1e6:.1f} MB sent, {most:.0f} MB of memory, {held:.0f} of them the identifiers as text",
            flush=True,
        )


def secret_party(rank: int, identities: Sequence[object], count: int, pipe: Connection) -> None:
    """One of three processes; a party sends (seconds, CPU seconds, bytes sent, bytes received, MB, size)."""
    import torch

    from mpcpriv import engine
    from mpcpriv.alignment import KeyColumn, identify
    from mpcpriv.transport.grpc import GrpcServerPort

    engine.prepare(dealer=rank == 2)
    port = GrpcServerPort.bind(identities[rank], [i.certificate for i in identities], "127.0.0.1:0")
    pipe.send(port.port)
    transport = port.connect([f"127.0.0.1:{number}" for number in pipe.recv()], job=bytes(16), facts={})
    if rank == 2:
        engine.deal(transport)
        return
    from mpcpriv.engine.joining import join_secretly

    session = engine.join(transport)
    session.progress = None
    keys = identify(KeyColumn(identifiers(rank * count // 2, count), ("digits",)))
    columns = torch.arange(3.0 * count).reshape(count, 3) / (3 * count)
    before, began, worked = memory(), time.perf_counter(), time.process_time()
    found = join_secretly(keys, columns, job=b"benchmark")
    took, worked = time.perf_counter() - began, time.process_time() - worked
    cost = session.cost.sent, session.correlations.received
    size = int(found.present.sum().get_plain_text().item())
    assert found.columns.sum().get_plain_text().item() > 0
    pipe.send((took, worked, *cost, memory() - before, size))
    session.close()


def secretly(count: int) -> None:
    """Runs two parties and a dealer and prints the parties' lines."""
    for name, told in members(secret_party, ("alice", "bob", "dealer"), count):
        took, worked, sent, dealt, most, size = told
        assert size == count - count // 2
        print(
            f"mpcpriv, in secret, {name}: {took:.1f} s ({worked:.1f} s of CPU), {sent / 1e6:.1f} MB sent, "
            f"{dealt / 1e6:.1f} MB from the dealer, {most:.0f} MB of memory",
            flush=True,
        )


THEIRS = """
import json, resource, sys, time
import private_set_intersection.python as psi
memory = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
first, second = ([f"756{i:010}" for i in range(s, s + int(sys.argv[1]))] for s in (0, int(sys.argv[1]) // 2))
before, began, worked = memory(), time.perf_counter(), time.process_time()
client, server = psi.client.CreateWithNewKey(True), psi.server.CreateWithNewKey(True)
setup = server.CreateSetupMessage(1e-9, len(first), second, psi.DataStructure.GCS)
request = client.CreateRequest(first)
response = server.ProcessRequest(request)
found = client.GetIntersection(setup, response)
took, worked = time.perf_counter() - began, time.process_time() - worked
sizes = [len(message.SerializeToString()) for message in (setup, request, response)]
print(json.dumps([took, worked, sum(sizes), memory() - before, len(found), psi.__version__]))
"""


def theirs(python: str, count: int) -> None:
    """Runs openmined-psi, where it is there, and prints its line."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", THEIRS, str(count)], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        print(f"openmined-psi: not run ({(done.stderr.strip().splitlines() or ['no word'])[-1]})")
        return
    took, worked, sent, most, size, version = json.loads(done.stdout)
    assert size == count - count // 2
    print(
        f"openmined-psi {version}, both parties: {took:.1f} s ({worked:.1f} s of CPU), "
        f"{sent / 1e6:.1f} MB of messages, {most:.0f} MB of memory"
    )


def main() -> None:
    """Prints a line for each process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("identifiers", nargs="?", type=int, default=SIZE)
    parser.add_argument("--openmined", metavar="PYTHON", default=sys.executable)
    parser.add_argument("--secret", action="store_true")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    print(f"{given.identifiers} identifiers each, {os.cpu_count()} cores, load before {load:.1f}", flush=True)
    if given.secret:
        secretly(given.identifiers)
        return
    ours(given.identifiers)
    theirs(given.openmined, given.identifiers)


if __name__ == "__main__":
    main()
