"""Many inputs for every parser: `python -m tests.fuzz [--inputs N] [--seed S] [--processes P] [PARSER ...]`.

Says for each parser how many inputs it got, in how many seconds, and how many it accepted and refused. The
first input that breaks a promise is written to a file `fuzz-PARSER`, and its error is shown. Without a seed
each run tries others; the same seed makes the same edits, of examples whose keys are new each time. An
interrupt ends it early. `make fuzz` gives each a million.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import secrets
import signal
import sys
import time
import traceback
import warnings
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path

import structlog

from tests.fuzz.targets import DOOR, TARGETS


def tried(name: str, inputs: int, seed: int) -> dict[str, object]:
    """Tries so many inputs on one parser; fewer when it is interrupted."""
    target, chance = TARGETS[name], random.Random(f"{seed} {name}")
    accepted, number, data, began = 0, 0, b"", time.perf_counter()
    try:
        for data in target.valid:
            assert target.accepts(data)
        while number < inputs:
            data = target.make(chance)
            accepted += target.accepts(data)
            number += 1
        DOOR.close()
    except KeyboardInterrupt:
        pass
    except Exception:  # noqa: BLE001 -- whatever it is, it is what is looked for
        path = Path("fuzz-" + name.replace(" ", "-"))
        path.write_bytes(data)
        return {"failed": f"with seed {seed}, at input {number}, in {path}:\n{traceback.format_exc()}"}
    seconds = round(time.perf_counter() - began, 1)
    return {"inputs": number, "seconds": seconds, "accepted": accepted, "refused": number - accepted}


def main() -> int:
    """All parsers, in processes of their own."""
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz")
    arguments.add_argument("parsers", nargs="*", metavar="PARSER", help=", ".join(TARGETS))
    arguments.add_argument("--inputs", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments.add_argument("--processes", type=int, default=2)
    asked = arguments.parse_args()
    print(f"seed {asked.seed}", flush=True)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    warnings.simplefilter("ignore")  # of cryptography, of certificates that are not as RFC 5280 has it
    failed = []

    def tell(name: str, done: Future[dict[str, object]]) -> None:
        if not done.cancelled():
            found = done.result()
            failed.extend([name] if "failed" in found else [])
            print(f"{name:22}", *(f"{what} {figure}" for what, figure in found.items()), flush=True)

    # Forked: a new process would take seconds to import all that is tried.
    with ProcessPoolExecutor(asked.processes, multiprocessing.get_context("fork")) as pool:
        runs = {name: pool.submit(tried, name, asked.inputs, asked.seed) for name in asked.parsers or TARGETS}
        signal.signal(signal.SIGINT, lambda *_: [run.cancel() for run in runs.values()])
        for name, run in runs.items():
            run.add_done_callback(lambda done, name=name: tell(name, done))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
