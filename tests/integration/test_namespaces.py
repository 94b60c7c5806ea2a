"""Members on machines of their own: a network namespace each, and 40 ms and 100 Mbit/s between them."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-c", "from mpcpriv.cli import app; app()")
PARTIES = ("alice", "bob", "carol")
DEALER = "dealer"
NAMES = (*PARTIES, DEALER)
PORT = 9301
SCRIPT = """
import crypten, sys, torch

crypten.init()
mine = torch.tensor([float(word) for word in sys.argv[1:]])
shared = [crypten.cryptensor(mine, src=rank) for rank in range(3)]
largest = shared[0]
for other in shared[1:]:
    larger = other > largest
    largest = larger * other + (1 - larger) * largest
print("sum", sum(shared).get_plain_text().tolist(), "largest", largest.get_plain_text().tolist(), flush=True)
"""


def _emulated_wan() -> ModuleType:
    path = ROOT / "benchmarks" / "emulated_wan.py"
    spec = importlib.util.spec_from_file_location("emulated_wan", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


emulated_wan = _emulated_wan()


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    reason = emulated_wan.why_not()
    if reason is not None:
        pytest.skip(reason)


def _namespace() -> str:
    return os.readlink("/proc/thread-self/ns/net")


def test_the_network_is_as_slow_as_it_says_and_leaves_nothing_behind() -> None:
    before = _namespace()
    with emulated_wan.EmulatedWan(["one", "other"], rate=20e6, delay=0.015) as wan:
        assert 0.030 <= wan.round_trip("one", "other") < 0.090
        assert 5e6 < wan.throughput("one", "other", seconds=1.0) <= 21e6
        with wan.inside("one"):
            assert _namespace() != before
            # Nothing of the machine can be reached from there.
            assert [name for _, name in socket.if_nameindex() if name in ("lo", "wan0")] == ["lo", "wan0"]
            with pytest.raises(OSError, match="unreachable"):
                socket.create_connection(("192.0.2.1", 9), timeout=1.0)
        assert _namespace() == before
    assert _namespace() == before


@pytest.mark.slow
def test_three_parties_and_a_dealer_in_four_namespaces(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    with ExitStack() as stack:
        wan = stack.enter_context(emulated_wan.EmulatedWan(NAMES))
        # Each member's key is in a folder of its own; the cluster knows certificates and addresses only.
        shared = tmp_path / "cluster"
        shared.mkdir()
        entries = []
        for name in NAMES:
            done = subprocess.run(
                [*COMMAND, "init", str(tmp_path / name), "--name", name], capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            (shared / f"{name}.crt").write_bytes((tmp_path / name / "tls.crt").read_bytes())
            kind = "[dealer]" if name == DEALER else "[[party]]"
            entries.append(f'{kind}\nname = "{name}"\naddress = "{wan.address(name)}:{PORT}"\n')
            entries.append(f'certificate = "{name}.crt"\n')
        (shared / "cluster.toml").write_text("".join(entries))
        members = []
        for rank, name in enumerate(NAMES):
            own = ("--cluster", str(shared / "cluster.toml"), "--config", str(tmp_path / name / "party.toml"))
            script = () if name == DEALER else (str(program), str(rank), str(-rank), str(10 * rank))
            with wan.inside(name):
                member = subprocess.Popen(
                    [*COMMAND, "launch", "--party", name, *own, *script],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                    env=os.environ | {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
                )
            stack.callback(member.wait, 10)
            stack.callback(member.kill)
            members.append(member)
        said = [member.communicate(timeout=100) for member in members]
    assert [member.returncode for member in members] == [0] * 4, said
    for out, _ in said[:-1]:
        assert re.findall(r"sum (\[.*?\]) largest (\[.*?\])", out) == [
            ("[3.0, -3.0, 30.0]", "[2.0, 0.0, 20.0]")
        ]
    assert said[-1][0] == ""
