"""Many inputs for every parser: `python -m tests.fuzz [--inputs N] [--seed S] [--processes P] [PARSER ...]`.

Says for each parser how many inputs it got, in how many seconds, and how many it accepted and refused. The
first input that breaks a promise is written to a file `fuzz-PARSER`, and its error is shown. Without a seed
each run tries others; the same seed makes the same edits, of examples whose keys are new each time.
`make fuzz` gives each a million.
"""

from __future__ import annotations

import argparse
import json
import random
import secrets
import subprocess
import sys
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path


def tried(name: str, inputs: int, seed: int) -> dict[str, object]:
    """Tries so many inputs on one parser."""
    from tests.fuzz.targets import TARGETS

    target, chance = TARGETS[name], random.Random(f"{seed} {name}")
    for valid in target.valid:
        assert target.accepts(valid), name
    accepted, began = 0, time.perf_counter()
    for number in range(inputs):
        data = target.make(chance)
        try:
            accepted += target.accepts(data)
        except Exception:  # noqa: BLE001 -- whatever it is, it is what is looked for
            path = Path("fuzz-" + name.replace(" ", "-"))
            path.write_bytes(data)
            error = traceback.format_exc()
            return {"inputs": number, "failed": f"seed {seed}, input {number} (in {path}):\n{error}"}
    seconds = time.perf_counter() - began
    return {
        "inputs": inputs,
        "seconds": round(seconds, 1),
        "accepted": accepted,
        "refused": inputs - accepted,
    }


def main() -> int:
    """All parsers, in processes of their own."""
    from tests.fuzz.targets import TARGETS

    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz")
    arguments.add_argument("parsers", nargs="*", choices=[*TARGETS, []])
    arguments.add_argument("--inputs", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=secrets.randbits(32))
    arguments.add_argument("--processes", type=int, default=2)
    arguments.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    names = asked.parsers or list(TARGETS)
    if asked.here:
        print(json.dumps(tried(names[0], asked.inputs, asked.seed)))
        return 0

    def child(name: str) -> bool:
        words = [name, "--here", f"--inputs={asked.inputs}", f"--seed={asked.seed}"]
        done = subprocess.run(
            [sys.executable, "-m", "tests.fuzz", *words],
            capture_output=True,
            text=True,
        )
        try:
            found = json.loads(done.stdout.splitlines()[-1])
        except (ValueError, IndexError):
            found = {"failed": f"status {done.returncode}: {done.stderr[-3000:]}"}
        print(f"{name:22}", *(f"{what} {figure}" for what, figure in found.items()), flush=True)
        return "failed" not in found

    print(f"seed {asked.seed}", flush=True)
    with ThreadPoolExecutor(asked.processes) as pool:
        return 0 if all(list(pool.map(child, names))) else 1


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of cryptography, of what is not as RFC 5280 has it
    sys.exit(main())
