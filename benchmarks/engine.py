"""The same CrypTen programs on mpcpriv and on CrypTen's own backend, side by side on this machine.

    python benchmarks/engine.py [--parties 2] [--turns 2]

CrypTen runs with its trusted third party (seeds of 32 bits) over gloo, in plain text; mpcpriv with its
dealer over gRPC with mutual TLS. The two take turns (A B A B); the table shows the fastest time of each,
the ratio, and the largest error against torch. Nothing here is asserted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent


def workloads() -> dict[str, tuple[float, float]]:
    """Seconds and largest error of each workload, at this party; runs on either backend."""
    import crypten
    from crypten import nn

    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1_000_000, generator=generator)
    y = torch.randn(1_000_000, generator=generator)
    matrix = torch.randn(256, 256, generator=generator)
    table, labels = torch.randn(128, 30, generator=generator), torch.ones(128, 1)
    a, b = crypten.cryptensor(x, src=0), crypten.cryptensor(y, src=1)
    large, medium, small = a[:100_000], a[:10_000], a[:1000] + 40
    m = crypten.cryptensor(matrix)
    features, target = crypten.cryptensor(table), crypten.cryptensor(labels)
    model = nn.Linear(30, 1)
    model.encrypt().train()
    loss, optimiser = nn.BCEWithLogitsLoss(skip_forward=True), crypten.optim.SGD(model.parameters(), lr=0.1)

    def step() -> None:
        optimiser.zero_grad()
        loss(model(features), target).backward()
        optimiser.step()

    cases: dict[str, tuple[Callable[[], object], torch.Tensor | None]] = {
        "product, 10^6": (lambda: a * b, x * y),
        "matmul, 256": (lambda: m @ m, matrix @ matrix),
        "comparison, 10^5": (lambda: large < 0, (x[:100_000] < 0).float()),
        "sigmoid, 10^4": (medium.sigmoid, x[:10_000].sigmoid()),
        "reciprocal, 10^3": (small.reciprocal, 1 / (x[:1000] + 40)),
        "argmax, 10^3": (small.argmax, None),
        "logistic step, 128 x 30": (step, None),
    }
    results = {}
    for name, (run, wanted) in cases.items():
        result = run()
        run()
        crypten.communicator.get().barrier()
        began = time.perf_counter()
        for _ in range(3):
            run()
        seconds = (time.perf_counter() - began) / 3
        error = float("nan")
        if wanted is not None:
            error = float((result.get_plain_text() - wanted).abs().max())  # type: ignore[attr-defined]
        results[name] = (seconds, error)
    return results


def ours(parties: int) -> dict[str, tuple[float, float]]:
    """The workloads on mpcpriv."""
    import mpcpriv

    result: dict[str, tuple[float, float]] = mpcpriv.launch(launched, parties=parties)[0]
    return result


def launched() -> dict[str, tuple[float, float]]:
    """What each party of `ours` runs."""
    import crypten

    crypten.init()
    return workloads()


def theirs(parties: int) -> dict[str, tuple[float, float]]:
    """The workloads on CrypTen's own backend, one process per party and one for its third party."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {
            "WORLD_SIZE": str(parties),
            "RENDEZVOUS": f"file://{folder}/rendezvous",
            "DISTRIBUTED_BACKEND": "gloo",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONWARNINGS": "ignore",
        }
        processes = [
            subprocess.Popen(
                [sys.executable, __file__, "--crypten-rank", str(rank)],
                env=environment | {"RANK": str(rank)},
                stdout=subprocess.PIPE,
                text=True,
            )
            for rank in range(parties + 1)
        ]
        output = [process.communicate(timeout=600)[0] for process in processes]
    answer: dict[str, tuple[float, float]] = json.loads(output[0].splitlines()[-1])
    return answer


def crypten_party(rank: int) -> None:
    """One process of CrypTen as it is, but for the import that current torch breaks."""
    from mpcpriv.engine.compat import _MovedInTorch

    sys.meta_path.insert(0, _MovedInTorch())
    import crypten

    crypten.cfg.mpc.provider = "TTP"
    if rank == int(os.environ["WORLD_SIZE"]):
        crypten.mpc.provider.TTPServer()
        return
    crypten.init()
    results = workloads()
    if rank == 0:
        print(json.dumps(results))
    crypten.uninit()


def main() -> None:
    """Takes turns, then prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parties", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--crypten-rank", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.crypten_rank is not None:
        crypten_party(arguments.crypten_rank)
        return
    turns: dict[str, list[dict[str, tuple[float, float]]]] = {"mpcpriv": [], "crypten": []}
    for turn in range(arguments.turns):
        for name, run in (("mpcpriv", ours), ("crypten", theirs)):
            print(f"turn {turn + 1} of {arguments.turns}: {name}", file=sys.stderr)
            turns[name].append(run(arguments.parties))
    print(f"{arguments.parties} parties and a dealer, loopback, milliseconds (fastest turn)")
    print(f"{'':26}{'mpcpriv':>10}{'CrypTen':>10}{'ratio':>8}{'error':>12}{'its error':>12}")
    for case in turns["mpcpriv"][0]:
        mine = min(turn[case][0] for turn in turns["mpcpriv"])
        its = min(turn[case][0] for turn in turns["crypten"])
        errors = [turns[name][0][case][1] for name in ("mpcpriv", "crypten")]
        times = f"{mine * 1e3:>10.1f}{its * 1e3:>10.1f}{its / mine:>7.1f}x"
        print(f"{case:26}{times}{errors[0]:>12.1e}{errors[1]:>12.1e}")


if __name__ == "__main__":
    main()
