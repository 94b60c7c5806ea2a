"""mpcpriv beside CrypTen over an emulated wide-area network: 100 Mbit/s up-links, 40 ms round trip.

    sudo python benchmarks/wan.py [--parties 2] [--turns 2] [WORKLOAD ...]

One network namespace per party and for the dealer, a router in user space between them (`emulated_wan.py`),
measured before anything else. mpcpriv's members are started as between machines: keys, `cluster.toml`, gRPC
with mutual TLS. CrypTen runs its own backend over gloo, in plain text, with a third party (TTP) and with the
first party (TFP) as the source of randomness. One thread per party; they take turns.

"mpcpriv" is the time of one run when runs follow each other, as training steps and batches do: "first" is
that of the first one after a pause, when TCP starts slowly and nothing is foreseen yet. "waited" is how much
of the last run the first party spent waiting for the other. Nothing here is asserted.

TCP's congestion control matters after pauses: reno and cubic start slowly again, bbr (the default of some
machines) does not. The head of the table says which one it was.
"""

from __future__ import annotations

import argparse
import sys

from contest import DEALER, PARTIES, Pace, contest, table, verdicts
from emulated_wan import DELAY, DEVICE, RATE, EmulatedWan, NoNamespaces, why_not

WORKLOADS = (
    "comparison, 10^4",
    "sigmoid, 10^3",
    "logistic step, 128 x 30",
    "MLP inference, batch 128",
    "argmax, 10^3",
)
TARGETS = {"logistic step, 128 x 30": 25.0, "MLP inference, batch 128": 10.0, "comparison, 10^4": 10.0}


class Wan(EmulatedWan):
    """With the device's name, where the contestants look for it."""

    device = DEVICE


def main() -> None:
    """Measures the network, takes turns, prints the table and the targets."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parties", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--against", nargs="*", default=["TTP", "TFP"], choices=["TTP", "TFP"])
    parser.add_argument("--congestion", help="TCP's congestion control, if not the machine's: reno, say")
    parser.add_argument("workload", nargs="*", default=WORKLOADS)
    arguments = parser.parse_args()
    reason = why_not()
    if reason is not None:
        print(f"no emulated network here: {reason}")
        return
    hosts = (*PARTIES[: arguments.parties], DEALER)
    try:
        with Wan(hosts, congestion=arguments.congestion) as wan:
            measured = wan.round_trip(*hosts[:2]), wan.throughput(*hosts[:2])
            print(
                f"{len(hosts)} hosts, {RATE / 1e6:g} Mbit/s up, {2e3 * DELAY:g} ms round trip; measured:",
                end=" ",
            )
            print(
                f"{measured[1] / 1e6:.1f} Mbit/s over TCP ({wan.congestion()}), {measured[0] * 1e3:.1f} ms",
                flush=True,
            )
            paces = (Pace(warm=3, times=5), Pace(warm=0, times=1))
            results = contest(
                wan, arguments.parties, arguments.workload, paces, arguments.turns, arguments.against
            )
    except NoNamespaces as error:
        sys.exit(str(error))
    print(table(results, arguments.against))
    if arguments.against:
        print(verdicts(results, TARGETS))


if __name__ == "__main__":
    main()
