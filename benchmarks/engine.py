"""mpcpriv beside CrypTen's own backend on this machine, one thread per party.

    python benchmarks/engine.py [--parties 2] [--turns 3] [WORKLOAD ...]

CrypTen runs over gloo, in plain text, with its third party (TTP; seeds of 32 bits) and with the first party
(TFP) as the source of randomness; mpcpriv with its dealer over gRPC with mutual TLS. The workloads are those
of `workloads.py`; the three take turns. The table shows the median turn of each, the ratios, and the largest
error against torch. Nothing here is asserted.
"""

from __future__ import annotations

import argparse

from contest import Loopback, Pace, contest, table, verdicts

WORKLOADS = (
    "product, 10^6",
    "matmul, 512",
    "comparison, 10^6",
    "sigmoid, 10^5",
    "10 logistic steps, 10^4 x 30",
    "MLP inference, batch 128",
    "argmax, 10^4",
)
TARGETS = dict.fromkeys(WORKLOADS, 1.0) | {"comparison, 10^6": 5.0}


def main() -> None:
    """Takes turns, then prints the table and the targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parties", type=int, default=2)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--against", nargs="*", default=["TTP", "TFP"], choices=["TTP", "TFP"])
    parser.add_argument("workload", nargs="*", default=WORKLOADS)
    arguments = parser.parse_args()
    paces = (Pace(warm=2, times=3), Pace(warm=1, times=2))
    results = contest(
        Loopback(), arguments.parties, arguments.workload, paces, arguments.turns, arguments.against
    )
    print(f"{arguments.parties} parties on loopback, one thread each")
    print(table(results, arguments.against))
    if arguments.against:
        print(verdicts(results, TARGETS))


if __name__ == "__main__":
    main()
