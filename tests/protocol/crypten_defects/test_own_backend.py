"""CrypTen's own backend fails every check that mpcpriv passes, each for the reason that its row names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.protocol.crypten_defects import own_backend, test_numbers, test_security, test_torch
from tests.protocol.crypten_defects.checks import CHECKS

ROOT = Path(__file__).parents[3]


def answers(module: str, n: int, folder: Path) -> dict[str, list[str]]:
    """How each check of a module ended, at each of n processes of CrypTen that compute together."""
    environment = {
        "WORLD_SIZE": str(n),
        "RENDEZVOUS": f"file://{folder}/rendezvous",
        "DISTRIBUTED_BACKEND": "gloo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-m", own_backend.__name__, module]
    with ExitStack() as stack:
        processes = []
        for rank in range(n):
            process = subprocess.Popen(
                command,
                env=os.environ | environment | {"RANK": str(rank)},
                stdout=stack.enter_context((folder / f"{rank}.out").open("w")),
                stderr=stack.enter_context((folder / f"{rank}.err").open("w")),
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            processes.append(process)
        for rank, process in enumerate(processes):
            assert process.wait(200) == 0, (folder / f"{rank}.err").read_text()[-2000:]
    found: dict[str, list[str]] = {}
    for rank in range(n):
        for line in (folder / f"{rank}.out").read_text().splitlines():
            if line.startswith(own_backend.ANSWER):
                name, ended = json.loads(line.removeprefix(own_backend.ANSWER))
                found.setdefault(name, []).append(ended)
    return found


@pytest.mark.slow  # of a backend that does not change, and is not ours
@pytest.mark.timeout(240)
@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("module", [test_numbers, test_torch, test_security])
def test_crypten_s_own_backend_fails_every_check(module: object, n: int, tmp_path: Path) -> None:
    name = module.__name__
    expected = {key: check.there for key, check in CHECKS[name].items() if check.there is not None}
    found = answers(name, n, tmp_path)
    assert set(found) == set(expected)
    wrong = {
        key: found[key]
        for key, pattern in expected.items()
        if len(found[key]) != n or not any(pattern.search(ended) for ended in found[key])
    }
    assert not wrong


# run_multiprocess forks processes of its own.

PROGRAM = """
from tests.protocol.crypten_defects.own_backend import import_crypten
crypten = import_crypten()
import crypten.mpc, torch

@crypten.mpc.run_multiprocess(world_size={n})
def program():
    {body}

if __name__ == "__main__":
    print("returned", program())
"""


def multiprocess(body: str, n: int, seconds: float) -> str | None:
    """What CrypTen's launcher printed, or None if it did not end."""
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", PROGRAM.format(body=body, n=n)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3])
def test_c14_there_a_small_result_returns_and_a_large_one_never(n: int) -> None:
    assert "returned [1," in (multiprocess("return 1", n, 60) or "")
    assert multiprocess("return torch.zeros(640_000).tolist()", n, 15) is None


@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_c14_there_a_failure_is_none(n: int) -> None:
    assert "returned None" in (multiprocess("raise ValueError('on purpose')", n, 60) or "")
