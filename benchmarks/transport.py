"""Two processes on this machine: gRPC with mutual TLS against gloo without, turn by turn in one run.

python benchmarks/transport.py

Latency: an exchange of 8 bytes (each sends 8 bytes to the other and receives 8) against gloo's all-reduce of
8 bytes. Throughput: each sends 64 MB to the other and receives 64 MB at the same time; bytes one way over
the time of the whole exchange. The first round warms up and is not counted.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import torch.distributed

from mpcpriv.transport.base import Limits
from mpcpriv.transport.grpc import GrpcServerPort, GrpcTransport
from mpcpriv.transport.tls import load_certificate, load_identity, save_identity, throw_away

NAMES = ("alice", "bob")
JOB = bytes(16)
ROUNDS = 6
SMALL = 400
BIG = 64_000_000
BIG_PER_ROUND = 4
LATENCY_RATIO = 3.0
THROUGHPUT = 400.0  # MB/s, each direction


def small_exchange(transport: GrpcTransport, times: int) -> float:
    """Seconds of one exchange of 8 bytes."""
    peer = 1 - transport.rank
    body = bytes(8)
    began = time.perf_counter()
    for _ in range(times):
        transport.send(peer, body)
        transport.recv(peer)
    return (time.perf_counter() - began) / times


def gloo_reduce(times: int) -> float:
    """Seconds of one all-reduce of 8 bytes."""
    value = torch.zeros(1, dtype=torch.int64)
    began = time.perf_counter()
    for _ in range(times):
        torch.distributed.all_reduce(value)
    return (time.perf_counter() - began) / times


def big_exchange(transport: GrpcTransport, body: bytes) -> float:
    """MB/s in each direction."""
    peer = 1 - transport.rank
    transport.send(peer, b"ready")
    transport.recv(peer)
    began = time.perf_counter()
    transport.send(peer, body)
    received = transport.recv(peer)
    elapsed = time.perf_counter() - began
    if len(received) != len(body):
        raise RuntimeError(f"{len(received)} bytes came instead of {len(body)}")
    return len(body) / elapsed / 1e6


def member(folder: Path, rank: int, gloo_port: int) -> None:
    """One side; alice prints."""
    torch.set_num_threads(1)
    members = [load_certificate(folder / f"{name}.crt", party=name) for name in NAMES]
    identity = load_identity(folder / f"{NAMES[rank]}.crt", folder / f"{NAMES[rank]}.key")
    port = GrpcServerPort.bind(identity, members, "127.0.0.1:0")
    print(port.port, flush=True)
    table = sys.stdin.readline().split()
    transport = port.connect(table, job=JOB, limits=Limits(connect=60))
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{gloo_port}", rank=rank, world_size=2
    )
    body = os.urandom(BIG)
    theirs, ours, rates = [], [], []
    for number in range(ROUNDS + 1):
        gloo = gloo_reduce(SMALL) * 1e6
        mine = small_exchange(transport, SMALL) * 1e6
        round_rates = [big_exchange(transport, body) for _ in range(BIG_PER_ROUND)]
        if number:
            theirs.append(gloo)
            ours.append(mine)
            rates.extend(round_rates)
            if rank == 0:
                shown = " ".join(f"{rate:5.0f}" for rate in round_rates)
                print(
                    f"round {number}: 8 B gloo {gloo:5.0f} us, mpcpriv {mine:5.0f} us ({mine / gloo:4.2f}x)"
                    f" | 64 MB both ways, MB/s each: {shown}",
                    flush=True,
                )
    if rank == 0:
        ratio = statistics.median(mine / gloo for mine, gloo in zip(ours, theirs, strict=True))
        rate = statistics.median(rates)
        print(
            f"latency: median {ratio:.2f}x gloo; target at most {LATENCY_RATIO:g}x: "
            f"{_met(ratio <= LATENCY_RATIO)}"
        )
        print(
            f"throughput: median {rate:.0f} MB/s each way; target {THROUGHPUT:g} MB/s: "
            f"{_met(rate >= THROUGHPUT)}"
        )
    transport.close()
    torch.distributed.destroy_process_group()


def main() -> int:
    """Starts both sides and relays alice's lines."""
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as probe:
        folder = Path(name)
        for identity in throw_away(NAMES):
            save_identity(identity, folder / f"{identity.party}.crt", folder / f"{identity.party}.key")
        gloo_port = probe.getsockname()[1]
        probe.close()
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, name, str(rank), str(gloo_port)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(2)
        ]
        ports = [process.stdout.readline().strip() for process in processes if process.stdout]
        table = " ".join(f"127.0.0.1:{port}" for port in ports) + "\n"
        for process in processes:
            if process.stdin:
                process.stdin.write(table)
                process.stdin.flush()
        for line in processes[0].stdout or ():
            print(line, end="", flush=True)
        return max(process.wait() for process in processes)


def _met(yes: bool) -> str:
    return "met" if yes else "MISSED"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        member(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    else:
        sys.exit(main())
