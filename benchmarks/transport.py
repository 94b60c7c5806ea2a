"""Openings on this machine beside gloo: two parties and a dealer over gRPC with mutual TLS, turn by turn.

    python benchmarks/transport.py

Small: an opening of 8 bytes (each party sends its 8 bytes to the other, both add) against gloo's all-reduce
of 8 bytes, without TLS, between the same two processes. Big: an opening of 64 MB, in MB/s in each direction:
bytes one way over the time of the whole opening, with the addition. The first round warms up and does not
count. Nothing here is asserted.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable

import torch
import torch.distributed

import mpcpriv
from mpcpriv.engine import session

ROUNDS = 6
SMALL = 400
BIG = 64_000_000
BIG_PER_ROUND = 4
LATENCY_RATIO = 3.0
THROUGHPUT = 400.0


def seconds(operation: Callable[[], object], times: int) -> float:
    """Of one run, the parties starting together."""
    torch.distributed.barrier()
    began = time.perf_counter()
    for _ in range(times):
        operation()
    return (time.perf_counter() - began) / times


def party(rendezvous: str) -> list[tuple[float, float, float]]:
    """What each of the two processes runs: (our small opening, gloo's, our big one) in seconds, by round."""
    s = session.current()
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{rendezvous}", rank=s.rank, world_size=s.size
    )
    small, big = torch.zeros(1, dtype=torch.int64), torch.zeros(BIG // 8, dtype=torch.int64)
    rounds = [
        (
            seconds(lambda: s.open("small", [small]), SMALL),
            seconds(lambda: torch.distributed.all_reduce(small), SMALL),
            seconds(lambda: s.open("big", [big]), BIG_PER_ROUND),
        )
        for _ in range(ROUNDS + 1)
    ]
    torch.distributed.destroy_process_group()
    return rounds[1:]


def main() -> None:
    """Prints the rounds and their medians beside the targets."""
    with tempfile.TemporaryDirectory() as folder:
        rounds = mpcpriv.launch(party, parties=2, args=(f"{folder}/rendezvous",))[0]
    print(f"{'round':>6}{'opening, 8 B':>15}{'gloo, 8 B':>15}{'ratio':>8}{'opening, 64 MB':>18}")
    lines = [(ours * 1e6, gloo * 1e6, ours / gloo, BIG / big / 1e6) for ours, gloo, big in rounds]
    for number, line in enumerate(lines, 1):
        print(f"{number:>6}{line[0]:>12.0f} us{line[1]:>12.0f} us{line[2]:>8.2f}{line[3]:>13.0f} MB/s")
    ratio, speed = (statistics.median(line[i] for line in lines) for i in (2, 3))
    print(f"median ratio {ratio:.2f} (target: at most {LATENCY_RATIO:g})")
    print(f"median {speed:.0f} MB/s in each direction (target: at least {THROUGHPUT:g})")


if __name__ == "__main__":
    main()
