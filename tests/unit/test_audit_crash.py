"""What is left of a log after a kill, a full disk, and everybody writing at once."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from mpcpriv.audit import log as log_module
from mpcpriv.audit.events import Recovered
from mpcpriv.audit.log import AuditDamaged, AuditLog
from mpcpriv.audit.verify import read, verify
from mpcpriv.errors import UsageError
from tests.unit.audit_logs import KEYS, PUBLIC

KEY = KEYS["alice"]
JOB = "1" * 64

WRITER = """
import sys
from pathlib import Path
from cryptography.hazmat.primitives import serialization
from mpcpriv.audit.log import AuditLog

key = serialization.load_pem_private_key(Path(sys.argv[2]).read_bytes(), None)
print("ready", flush=True)
with AuditLog(Path(sys.argv[1]), key, "alice") as log:
    while True:
        entry = log.append("cancelled", job="1" * 64, by="alice")
        print(entry.seq, entry.digest, flush=True)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def log_of_three(path: Path) -> bytes:
    with AuditLog(path, KEY, "alice") as log:
        log.append("cancelled", job=JOB, by="alice")
        log.append("cancelled", job=JOB, by="bob")
    return path.read_bytes()


def key_file(folder: Path) -> Path:
    file = folder / "signing.key"
    file.write_bytes(
        KEY.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


def writer(path: Path, key: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(key)], stdout=subprocess.PIPE, text=True
    )


def killed(path: Path, key: Path, moments: int) -> None:
    """Kills a writer again and again; the log opens, and lacks nothing of which its writer had heard."""
    chance = random.Random()
    heard: dict[int, str] = {}
    log_of_three(path)
    for moment in range(moments):
        process = writer(path, key)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(chance.expovariate(1 / 0.03))
        process.kill()
        for line in process.stdout.read().splitlines(keepends=True):
            if line.endswith("\n"):
                seq, digest = line.split()
                heard[int(seq)] = digest
        process.wait()
        process.stdout.close()
        torn = len(read(path).torn)
        if moment % 3 == 0 and not torn:
            # The kernel writes short lines whole; a power cut does not.
            with path.open("ab") as file:
                file.write(path.read_bytes().splitlines(keepends=True)[-1][: chance.randrange(1, 300)])
        if moment % 2:
            with AuditLog(path, KEY, "alice"):
                pass
            assert verify(path, PUBLIC["alice"]) == []
            found = {entry.seq: entry.digest for entry in read(path).entries}
            assert heard.items() <= found.items()
    assert len(heard) > moments
    recovered = [entry.facts for entry in read(path).entries if isinstance(entry.facts, Recovered)]
    asides = {file.name for file in path.parent.glob(f"{path.name}.torn-*")}
    assert {facts.moved_to for facts in recovered} == asides
    assert asides


def test_a_killed_writer_loses_nothing(path: Path) -> None:
    killed(path, key_file(path.parent), 6)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_writer_killed_two_hundred_times_loses_nothing(path: Path) -> None:
    killed(path, key_file(path.parent), 200)


def test_a_torn_end_is_moved_aside_and_recorded(tmp_path: Path) -> None:
    whole = log_of_three(tmp_path / "a.jsonl")
    last = whole.rindex(b"\n", 0, -1) + 1
    for length in [*range(1, len(whole) - last, 20), len(whole) - last - 1]:
        path = tmp_path / f"{length}" / "audit.jsonl"
        path.parent.mkdir()
        torn = whole[last : last + length]
        path.write_bytes(whole[:last] + torn)
        assert verify(path, PUBLIC["alice"]) != []
        with AuditLog(path, KEY, "alice") as log:
            facts = log.head().facts
            assert isinstance(facts, Recovered)
            assert (path.parent / facts.moved_to).read_bytes() == torn
            assert facts.length == length
        content = path.read_bytes()
        assert content.startswith(whole[:last])
        assert verify(path, PUBLIC["alice"]) == []
        AuditLog(path, KEY, "alice").close()
        assert path.read_bytes() == content, "recorded once"


@pytest.mark.parametrize("step", ["replace", "ftruncate", "append"])
def test_a_recovery_that_is_interrupted_is_recorded(
    path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    whole = log_of_three(path)
    path.write_bytes(whole + whole[:50])

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    where = {"replace": (Path, "replace"), "ftruncate": (os, "ftruncate"), "append": (log_module, "seal")}
    with monkeypatch.context() as patch:
        patch.setattr(*where[step], die)
        with pytest.raises(KeyboardInterrupt):
            AuditLog(path, KEY, "alice")
    with AuditLog(path, KEY, "alice") as log:
        assert isinstance(log.head().facts, Recovered)
        assert log.head().seq == 3
    assert verify(path, PUBLIC["alice"]) == []


def test_any_other_damage_is_refused(path: Path) -> None:
    whole = log_of_three(path)
    lines = whole.splitlines(keepends=True)
    first = len(lines[0])
    damaged = {
        b"": "entry 0 is missing",
        whole[: first - 1]: "entry 0 is missing",
        lines[0] + lines[2]: "entry 1 is missing before entry 2, line 2",
        lines[0] + lines[2] + lines[1]: "entry 1 is missing",
        whole + lines[2]: "entry 2 stands where entry 3 should be",
        whole.replace(b'"by":"bob"', b'"by":"bop"'): "line 3, where entry 2 should be: its digest",
        whole[:-1] + b"x": "the newline after the last entry was changed",
        whole + b"\n": "line 4, where entry 3 should be",
    }
    for content, reason in damaged.items():
        path.write_bytes(content)
        with pytest.raises(AuditDamaged) as refused:
            AuditLog(path, KEY, "alice")
        assert reason in str(refused.value)
        assert path.read_bytes() == content, "what is damaged is left as it is"
        assert list(path.parent.iterdir()) == [path]


def test_a_log_of_another_key_or_owner_is_refused(path: Path) -> None:
    log_of_three(path)
    with pytest.raises(AuditDamaged, match="not signed with the owner's key"):
        AuditLog(path, KEYS["bob"], "alice")
    with pytest.raises(AuditDamaged, match="the log is alice's, not bob's"):
        AuditLog(path, KEY, "bob")


def test_an_entry_is_on_the_disk_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[bool, bytes]] = []
    fsync = os.fsync

    def watched(file: int) -> None:
        folder = os.path.isdir(f"/proc/self/fd/{file}")
        synced.append((folder, path.read_bytes() if path.exists() else b""))
        fsync(file)

    monkeypatch.setattr(os, "fsync", watched)
    with AuditLog(path, KEY, "alice") as log:
        # The draft, then the folder in which it has its name.
        assert [folder for folder, _ in synced] == [False, True]
        assert synced[-1][1] == log.head().line()
        entry = log.append("cancelled", job=JOB, by="alice")
        assert synced[-1] == (False, path.read_bytes())
        assert path.read_bytes().endswith(entry.line())
    assert path.stat().st_mode & 0o077 == 0


def test_a_full_disk_stops_the_log_and_costs_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(file: int, data: bytes) -> int:
        if len(data) < 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data[: len(data) // 2])

    with AuditLog(path, KEY, "alice") as log:
        head = log.append("cancelled", job=JOB, by="alice")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            with pytest.raises(AuditDamaged, match="No space left"):
                log.append("cancelled", job=JOB, by="alice")
        assert log.head() == head
        with pytest.raises(AuditDamaged, match="open it anew"):
            log.append("cancelled", job=JOB, by="alice")
    with AuditLog(path, KEY, "alice") as log:
        assert isinstance(log.head().facts, Recovered)
        assert log.head().seq == 2
    assert verify(path, PUBLIC["alice"]) == []


def test_a_failed_fsync_is_no_append(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with AuditLog(path, KEY, "alice") as log:
        head = log.head()
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", failing)
            with pytest.raises(AuditDamaged, match="Input/output error"):
                log.append("cancelled", job=JOB, by="alice")
        assert log.head() == head
        with pytest.raises(AuditDamaged):
            log.append("cancelled", job=JOB, by="alice")


def test_all_threads_may_append(path: Path) -> None:
    returned: list[tuple[int, str]] = []
    start = threading.Barrier(8)

    def appends(log: AuditLog) -> None:
        start.wait()
        for _ in range(25):
            entry = log.append("cancelled", job=JOB, by="alice")
            returned.append((entry.seq, entry.digest))

    with AuditLog(path, KEY, "alice") as log:
        threads = [threading.Thread(target=appends, args=[log]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert verify(path, PUBLIC["alice"]) == []
    written = [(entry.seq, entry.digest) for entry in read(path).entries]
    assert written[1:] == sorted(returned)
    assert len(written) == 201


def test_two_processes_cannot_append_at_once(path: Path) -> None:
    log = AuditLog(path, KEY, "alice")
    with pytest.raises(UsageError, match="another process writes this audit log"):
        AuditLog(path, KEY, "alice")
    process = subprocess.run(
        [sys.executable, "-c", WRITER, str(path), str(key_file(path.parent))],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode != 0
    assert "another process writes this audit log" in process.stderr
    log.close()
    AuditLog(path, KEY, "alice").close()
    assert len(read(path).entries) == 1


def test_of_two_that_make_a_log_at_once_one_has_it(path: Path) -> None:
    opened: list[AuditLog] = []
    start = threading.Barrier(6)

    def opens() -> None:
        start.wait()
        with contextlib.suppress(UsageError):
            opened.append(AuditLog(path, KEY, "alice"))

    threads = [threading.Thread(target=opens) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    opened[0].append("cancelled", job=JOB, by="alice")
    opened[0].close()
    assert verify(path, PUBLIC["alice"]) == []
    assert list(path.parent.iterdir()) == [path]


def test_a_forked_child_does_not_append(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with AuditLog(path, KEY, "alice") as log:
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(UsageError, match="opened by another process"):
            log.append("cancelled", job=JOB, by="alice")


@pytest.mark.parametrize("how", ["replaced", "removed", "written to", "cut", "closed"])
def test_a_log_that_was_changed_while_open_takes_no_more(path: Path, how: str) -> None:
    whole = log_of_three(path)
    with AuditLog(path, KEY, "alice") as log:
        if how == "replaced":
            backup = path.with_name("backup")
            backup.write_bytes(whole)
            backup.replace(path)
        elif how == "removed":
            path.unlink()
        elif how == "closed":
            log.close()
        else:
            path.write_bytes(whole + whole[:5] if how == "written to" else whole[:-200])
        with pytest.raises(AuditDamaged):
            log.append("cancelled", job=JOB, by="alice")
        with pytest.raises(AuditDamaged):
            log.append("cancelled", job=JOB, by="alice")
