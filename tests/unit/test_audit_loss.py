"""A log or a database that was lost, or is an old copy, does not go on in silence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mpcpriv.audit.log import AuditDamaged, AuditLog
from mpcpriv.audit.verify import read, verify
from mpcpriv.cli import commands
from mpcpriv.documents import public_key
from mpcpriv.errors import UsageError
from mpcpriv.party.config import Party, create, read_party
from mpcpriv.party.state import State

JOB = "1" * 64


@pytest.fixture
def party(tmp_path: Path) -> Party:
    create(tmp_path, "alice")
    text = (tmp_path / "party.toml").read_text()
    if "[daemon]" not in text:
        (tmp_path / "party.toml").write_text(f'{text}[daemon]\nlisten = "127.0.0.1:0"\n')
    return read_party(tmp_path / "party.toml")


@pytest.fixture
def state(party: Party) -> Iterator[State]:
    assert party.daemon is not None
    opened = State(party.daemon.state)
    yield opened
    opened.close()


def path_of(party: Party) -> Path:
    assert party.daemon is not None
    return party.daemon.audit


def write(party: Party, state: State, entries: int) -> None:
    with AuditLog(path_of(party), party.signing_key(), "alice", state) as log:
        for _ in range(entries):
            log.append("cancelled", job=JOB, by="alice")
            assert state.audit_head() == (log.head().seq, log.head().digest)


def refused(party: Party, state: State) -> str:
    with pytest.raises(AuditDamaged, match="mpcpriv audit acknowledge") as found:
        AuditLog(path_of(party), party.signing_key(), "alice", state)
    return str(found.value)


def acknowledged(party: Party) -> str:
    arguments = ["audit", "acknowledge", "--config", str(party.path), "--why", "the disk\nfailed"]
    done = CliRunner().invoke(commands, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_a_log_goes_on_with_its_memory(party: Party, state: State) -> None:
    write(party, state, 3)
    write(party, state, 2)
    assert len(read(path_of(party)).entries) == 6
    # Restored from one moment, say, which only the owner knows.
    assert "are of one time" in acknowledged(party)
    assert len(read(path_of(party)).entries) == 7


def test_a_log_that_is_gone_is_not_begun_anew(party: Party, state: State) -> None:
    write(party, state, 3)
    path_of(party).unlink()
    assert "the log is not there, and entry 3 was written" in refused(party, state)
    assert not path_of(party).exists()
    assert "recorded as entry 1" in acknowledged(party)
    last = read(path_of(party)).entries[-1]
    assert last.event == "loss-acknowledged"
    assert last.facts.model_dump()["reason"] == "the disk failed"
    write(party, state, 1)
    assert verify(path_of(party), public_key(party.signing_key()), owner="alice") == []


def test_a_log_that_was_cut_or_replaced_is_refused(party: Party, state: State, tmp_path: Path) -> None:
    write(party, state, 3)
    old = tmp_path / "old.jsonl"
    shutil.copy(path_of(party), old)
    write(party, state, 3)
    shutil.copy(old, path_of(party))
    assert "ends with entry 3, and entry 6 was written" in refused(party, state)
    # Written on until it is as long as it was, by somebody with the key.
    with AuditLog(path_of(party), party.signing_key(), "alice") as log:
        for _ in range(3):
            log.append("cancelled", job="2" * 64, by="alice")
    assert "entry 6 is not the one that was written" in refused(party, state)
    assert "entry 6 is not the one" in acknowledged(party)
    write(party, state, 1)


def test_a_database_that_is_older_than_the_log_is_refused(party: Party, state: State) -> None:
    write(party, state, 3)
    old = state.audit_head()
    assert old is not None
    write(party, state, 4)
    state.keep_audit_head(*old)
    assert "knows entry 3 only" in refused(party, state)
    assert "knows entry 3 only" in acknowledged(party)
    write(party, state, 1)
    state.close()
    (path_of(party).parent / "state.sqlite").unlink()
    anew = State(f"sqlite:///{path_of(party).parent / 'state.sqlite'}")
    assert "knows nothing of it" in refused(party, anew)
    anew.close()


def test_a_crash_between_the_entry_and_its_memory_is_no_loss(party: Party, state: State) -> None:
    with AuditLog(path_of(party), party.signing_key(), "alice", state) as log:
        opened = log.head()
        log.append("cancelled", job=JOB, by="alice")
    state.keep_audit_head(opened.seq, opened.digest)
    write(party, state, 1)
    assert len(read(path_of(party)).entries) == 3


def test_a_crash_in_the_very_first_start_is_no_loss(party: Party, state: State) -> None:
    AuditLog(path_of(party), party.signing_key(), "alice").close()
    assert state.audit_head() is None
    write(party, state, 1)


def test_only_the_log_itself_tells_of_a_loss(party: Party) -> None:
    with (
        AuditLog(path_of(party), party.signing_key(), "alice") as log,
        pytest.raises(UsageError, match="only the log itself"),
    ):
        log.append("loss-acknowledged", found="x", reason="y")
