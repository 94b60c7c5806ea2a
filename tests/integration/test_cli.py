"""The `mpcpriv` command as its users run it: another process, a script, an exit status."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mpcpriv import __version__
from tests.integration import warm
from tests.integration.daemons import free_port

COMMAND = (sys.executable, "-c", "from mpcpriv.cli import app; app()")
MEMBERS = ("alice", "bob", "dealer")

SUM = """
import sys
import crypten
from beside import number

crypten.init()
rank = crypten.communicator.get().get_rank()
shared = [crypten.cryptensor([number(rank)], src=source) for source in range(2)]
total = (shared[0] + shared[1]).get_plain_text().item()
print(f"{__name__} {rank} {total} {sys.argv[1:]}")
"""
BESIDE = "def number(rank):\n    return rank + 0.5\n"


def spawn(*arguments: str | Path, cwd: Path, command: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    if command is warm.COMMAND:
        environment[warm.ADDRESS] = warm.server("engine")
    environment.pop("MPCPRIV_MEMBER", None)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell that runs the tests in its background has them ignore interrupts, and that is handed down.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], seconds: float = 90) -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"still there after {seconds} s:\n{out}\n{err}") from None
    return process.returncode, out, err


def run(*arguments: str | Path, cwd: Path, command: Sequence[str] = COMMAND) -> tuple[int, str, str]:
    return finish(spawn(*arguments, cwd=cwd, command=command))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "sum.py").write_text(SUM)
    (tmp_path / "programs" / "beside.py").write_text(BESIDE)
    return tmp_path


def test_version_and_help(tmp_path: Path) -> None:
    assert run("--version", cwd=tmp_path)[:2] == (0, f"mpcpriv {__version__}\n")
    status, out, _ = run("launch", "--help", cwd=tmp_path)
    assert status == 0
    assert "mpcpriv launch -n 3 " in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["launch"], "no program given"),
        (["launch", "-n", "1", "programs/sum.py"], "parties = 1: nothing is secret from oneself"),
        (["launch", "-n", "17", "programs/sum.py"], "parties = 17: on one machine there can be 2 to 16"),
        (["launch", "-n", "2", "absent.py"], "script 'absent.py': there is no such file"),
        (["launch", "--party", "alice", "programs/sum.py"], "--cluster is missing"),
        (["launch", "--cluster", "c.toml", "programs/sum.py"], "--party is missing"),
        (["launch", "--party", "alice", "--cluster", "c.toml"], "c.toml: there is no such file"),
        (["launch", "-n", "2", "--party", "a", "--cluster", "c.toml"], "leave -n out with --cluster"),
        (["init", "x", "--name", "Alice"], "party name 'Alice': use a lower-case letter"),
    ],
)
def test_a_mistake_is_one_line_and_status_2(folder: Path, arguments: list[str], message: str) -> None:
    status, out, err = run(*arguments, cwd=folder)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("mpcpriv: ")
    assert err.count("\n") == 1


def test_a_script_runs_as_main_with_its_arguments_and_its_folder(folder: Path) -> None:
    status, out, err = run("launch", "-n", "2", "programs/sum.py", "--parties", "7", "-n", "x", cwd=folder)
    assert status == 0, err
    assert sorted(out.splitlines()) == [
        "alice  | __main__ 0 2.0 ['--parties', '7', '-n', 'x']",
        "bob    | __main__ 1 2.0 ['--parties', '7', '-n', 'x']",
    ]


def test_a_plan_says_what_a_script_costs_and_shares_nothing(folder: Path) -> None:
    (folder / "programs" / "sum.py").write_text(
        SUM + "sys.exit('not what was expected' if total != 2.0 else 0)\n"
    )
    status, out, err = run("launch", "--plan", "-n", "2", "programs/sum.py", cwd=folder, command=warm.COMMAND)
    assert status == 0, err
    assert "alice  | __main__ 0 0.0 []" in out, "what is opened is zeros, and no program has to like it"
    plan = out[out.index("Plan for 2 parties") :].splitlines()
    assert plan[1] == "1 round"
    assert plan[2] == "144 bytes between the parties, at most 72 bytes from one"  # a header of 64, a number
    assert "opened: open to all (1)" in plan
    status, _, err = run(
        "launch", "--plan", "--party", "alice", "--cluster", "c.toml", "programs/sum.py", cwd=folder
    )
    assert (status, err.count("\n")) == (2, 1)
    assert "--plan" in err


def test_a_script_that_fails_fails_the_command(folder: Path) -> None:
    (folder / "bad.py").write_text(
        "import crypten\n"
        "crypten.init()\n"
        "if crypten.communicator.get().get_rank() == 1:\n"
        "    {}['salary 4711']\n"
        "crypten.cryptensor([1.0], src=1).get_plain_text()\n"
    )
    status, _, err = run("launch", "-n", "2", "bad.py", cwd=folder, command=warm.COMMAND)
    lines = err.splitlines()
    assert status == 1
    assert "mpcpriv: the job failed at bob" in lines
    assert sum("Traceback" in line for line in lines) == 1
    assert 'bob    |   File "bad.py", line 4, in <module>' in lines
    assert re.search(r"^alice  \| (bob stopped|dealer stopped because of bob): KeyError$", err, re.MULTILINE)
    assert not [line for line in lines if "4711" in line and "bob" not in line]


def await_output(process: subprocess.Popen[str], lines: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(lines)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    try:
        # A zombie that nobody has reaped yet is dead.
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pids(lines: Sequence[str]) -> list[int]:
    return [int(line.rpartition("pid ")[2]) for line in lines]


def await_death(processes: Sequence[int], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while any(map(alive, processes)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in processes if alive(pid)]}"
        time.sleep(0.05)


@contextmanager
def sleepers(folder: Path, command: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A launched script at two parties that have printed their process ids and now sleep."""
    (folder / "sleep.py").write_text("import os, time\nprint('pid', os.getpid())\ntime.sleep(100)\n")
    process = spawn("launch", "-n", "2", "sleep.py", cwd=folder, command=command)
    try:
        yield process, pids(await_output(process, 2))
    finally:
        process.kill()
        process.communicate()


def test_interrupting_stops_everything_without_a_trace(folder: Path) -> None:
    with sleepers(folder, warm.COMMAND) as (process, parties):
        process.send_signal(signal.SIGINT)
        status, _, err = finish(process, 8)
        assert status == 130
        assert "Traceback" not in err
        assert err.splitlines()[-1] == "mpcpriv: interrupted"
        await_death(parties, 1)


def test_parties_do_not_outlive_their_launcher(folder: Path) -> None:
    with sleepers(folder, COMMAND) as (process, parties):
        process.kill()
        process.wait()
        await_death(parties, 5)


def test_init_makes_a_key_for_its_owner_only_and_never_overwrites_it(tmp_path: Path) -> None:
    status, out, _ = run("init", "alice", "--name", "alice", cwd=tmp_path)
    key = tmp_path / "alice" / "tls.key"
    assert status == 0
    assert re.search(r"fingerprint [0-9a-f]{64}", out)
    assert key.stat().st_mode & 0o777 == 0o600
    signing = tmp_path / "alice" / "signing.key"
    assert signing.stat().st_mode & 0o777 == 0o600
    assert re.search(r"^signing key [A-Za-z0-9+/]{43}= ", out, re.MULTILINE)
    before = key.read_bytes()
    status, _, err = run("init", "alice", "--name", "alice", cwd=tmp_path)
    assert status == 2
    assert "a key is never overwritten" in err
    assert key.read_bytes() == before


@pytest.fixture
def cluster(folder: Path) -> Path:
    """A cluster of alice, bob and a dealer on loopback, each with its keys."""
    from mpcpriv.party.config import create

    blocks = []
    for name in MEMBERS:
        create(folder / name, name)
        head = "[dealer]" if name == "dealer" else "[[party]]"
        blocks.append(
            f'{head}\nname = "{name}"\naddress = "127.0.0.1:{free_port()}"\ncertificate = "{name}/tls.crt"\n'
        )
    (folder / "cluster.toml").write_text("\n".join([*blocks, "[limits]\nconnect = 30\n"]))
    return folder


def member(folder: Path, name: str, *rest: str) -> subprocess.Popen[str]:
    return spawn("launch", "--party", name, "--cluster", "cluster.toml", *rest, cwd=folder)


def test_members_of_a_cluster_run_one_program(cluster: Path) -> None:
    processes = [
        member(cluster, "alice", "programs/sum.py", "hers"),
        member(cluster, "bob", "--config", "bob/party.toml", "programs/sum.py"),
        member(cluster, "dealer"),
    ]
    results = [finish(process) for process in processes]
    assert [status for status, _, _ in results] == [0, 0, 0], results
    assert results[0][1] == "__main__ 0 2.0 ['hers']\n"
    assert results[1][1] == "__main__ 1 2.0 []\n"


@pytest.mark.slow  # a fast one: tests/unit/test_member.py
def test_different_programs_are_refused_by_name(cluster: Path) -> None:
    (cluster / "other.py").write_text(SUM + "\n# a harmless remark\n")
    processes = [
        member(cluster, "alice", "programs/sum.py"),
        member(cluster, "bob", "other.py"),
        member(cluster, "dealer"),
    ]
    results = [finish(process) for process in processes]
    assert [status for status, _, _ in results] == [1, 1, 1]
    assert any("runs another program than we do: program" in err for _, _, err in results)
    assert not any(out for _, out, _ in results), "nothing has been computed"
    assert not any("Traceback" in err for _, _, err in results)


def test_an_absent_member_is_named(cluster: Path) -> None:
    path = cluster / "cluster.toml"
    path.write_text(path.read_text().replace("connect = 30", "connect = 4"))
    status, _, err = finish(member(cluster, "alice", "programs/sum.py"), 90)
    assert status == 1
    assert "mpcpriv: waiting for bob, dealer" in err
    last = err.splitlines()[-1]
    assert last.startswith("alice: ")
    assert "bob" in last
    assert "dealer" in last
    assert "Traceback" not in err


def test_another_certificate_than_the_clusters_is_refused(cluster: Path) -> None:
    from mpcpriv.party.config import create

    create(cluster / "new", "alice")
    status, _, err = finish(member(cluster, "alice", "--config", "new/party.toml", "programs/sum.py"), 30)
    assert status == 2
    assert "put the current certificate into the cluster" in err


def test_a_key_that_others_may_read_is_refused(cluster: Path) -> None:
    (cluster / "alice" / "tls.key").chmod(0o644)
    status, _, err = finish(member(cluster, "alice", "programs/sum.py"), 30)
    assert status == 2
    assert "chmod 600" in err


def test_a_dealer_runs_no_program_and_a_party_needs_one(cluster: Path) -> None:
    status, _, err = finish(member(cluster, "dealer", "programs/sum.py"), 30)
    assert (status, "the dealer runs none" in err) == (2, True)
    status, _, err = finish(member(cluster, "alice"), 30)
    assert (status, "no program given" in err) == (2, True)


def test_doctor_looks_at_everything(tmp_path: Path) -> None:
    status, out, err = run("doctor", cwd=tmp_path)
    assert status == 0, out + err
    for word in ("Python", "torch", "CrypTen", "gRPC", "ports", "AES", "clock", "cores"):
        assert word in out
