"""`mpcpriv.connect` and `mpcpriv job` against four daemons as processes; their jobs compute a sum."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import mpcpriv
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.client.connection import Connection
from mpcpriv.errors import DaemonError, JobFailed, JobRefused, JobUnfinished, UsageError
from mpcpriv.job.toml import write_job
from tests.integration.daemons import MEMBERS, NUMBERS, OWNERS, Sites, daemons, free_port
from tests.integration.warm import command

pytestmark = pytest.mark.timeout(300)

PATIENCE = 60.0


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with daemons(tmp_path_factory.mktemp("sites"), "quick", "warm") as running:
        running.agree()
        running.agree(name="approved", approval="steward")
        yield running


@pytest.fixture
def alice(sites: Sites) -> Iterator[Connection]:
    with mpcpriv.connect(sites["alice"].config) as connection:
        yield connection


@pytest.fixture
def bob(sites: Sites) -> Iterator[Connection]:
    with mpcpriv.connect(sites["bob"].config) as connection:
        yield connection


def asked(agreement: str = "study", **changes: Any) -> dict[str, Any]:
    inputs = {f"{owner}-patients": ["age"] for owner in OWNERS}
    return {
        "agreement": agreement,
        "analysis": "count-and-mean",
        "purpose": "research",
        "inputs": inputs,
        "recipients": ["alice"],
        **changes,
    }


def pending(connection: Connection, job: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while job not in [view.id for view in connection.jobs(pending=True)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_job_from_python(alice: Connection, bob: Connection) -> None:
    job = alice.new_job(**asked())
    assert (job.submitter, job.version, job.expires - job.created) == ("alice", 1, timedelta(days=1))
    handle = alice.submit(job)
    assert handle.id == job.digest()
    assert alice.submit(job).id == handle.id, "the same job twice is one job"
    views = list(handle.watch(PATIENCE))
    assert views[-1].state == "finished"
    assert [view.state for view in views] == sorted(
        (view.state for view in views), key=["proposed", "running", "finished"].index
    )
    assert {part.member: part.word for part in views[-1].parts} == dict.fromkeys(MEMBERS, "done")
    assert handle.document() == {"total": sum(NUMBERS.values())}
    assert alice.job(handle.id[:8]).status() == views[-1]
    assert handle.id in [view.id for view in alice.jobs(state="finished", agreement="study")]
    assert handle.id not in [view.id for view in alice.jobs(state=["refused", "failed"])]
    assert handle.id not in [view.id for view in alice.jobs(agreement="approved")]
    assert len(alice.jobs(limit=1)) == 1
    with pytest.raises(UsageError, match=r"went to alice; this party is no recipient"):
        bob.job(handle.id).result(PATIENCE)


def test_a_job_outside_the_agreement_is_refused_with_all_reasons_by_member(alice: Connection) -> None:
    handle = alice.submit(alice.new_job(**asked(recipients=["alice", "dealer"], purpose="profit")))
    with pytest.raises(JobRefused) as found:
        handle.result(PATIENCE)
    # Whoever saw a refusal before deciding for itself may be missing; whoever is there has all reasons.
    assert found.value.job == handle.id
    assert "alice" in found.value.reasons
    for reasons in found.value.reasons.values():
        assert any(reason.startswith("purpose: profit") for reason in reasons)
        assert any(reason.startswith("recipients: dealer") for reason in reasons)
    assert "purpose: profit" in str(found.value)
    assert "recipients: dealer" in str(found.value)


def test_the_stewards_decide(alice: Connection, bob: Connection, sites: Sites) -> None:
    handle = alice.submit(alice.new_job(**asked("approved")))
    pending(bob, handle.id)
    with pytest.raises(JobUnfinished, match=r"is proposed after 0\.5 s"):
        handle.result(0.5)
    with mpcpriv.connect(sites["carol"].config) as carol:
        for connection in (alice, bob, carol):
            pending(connection, handle.id)
            assert connection.approve(handle.id[:8]).pending is False
    assert handle.wait(PATIENCE).state == "finished"
    with pytest.raises(UsageError, match="no approval is due"):
        bob.approve(handle.id)


def test_a_steward_rejects_and_all_are_told_why(alice: Connection, bob: Connection) -> None:
    handle = alice.submit(alice.new_job(**asked("approved")))
    pending(bob, handle.id)
    with pytest.raises(UsageError, match="why: say it in a sentence"):
        bob.reject(handle.id, " ")
    bob.reject(handle.id, "the board meets on Monday")
    with pytest.raises(JobRefused, match=r"bob: .*the board meets on Monday") as found:
        handle.result(PATIENCE)
    assert list(found.value.reasons) == ["bob"]


def test_a_cancelled_job_has_failed_and_says_why(alice: Connection, bob: Connection) -> None:
    handle = alice.submit(alice.new_job(**asked("approved")))
    pending(alice, handle.id)
    alice.approve(handle.id)
    alice.cancel(handle.id, "wrong column")
    with pytest.raises(JobFailed, match="wrong column") as found:
        handle.result(PATIENCE)
    assert "cancelled: wrong column" in found.value.reasons["alice"]
    with pytest.raises(UsageError, match="has ended"):
        alice.cancel(handle.id, "again")


def test_what_cannot_be_asked(alice: Connection, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match="agreement 'other' is not held by alice's daemon; held: approved, study"
    ):
        alice.new_job(**asked("other"))
    with pytest.raises(UsageError, match=r"job: release\.recipients"):
        alice.new_job(**asked(recipients=[]))
    job = alice.new_job(**asked())
    with pytest.raises(UsageError, match="the job names bob, and this is alice's daemon"):
        alice.submit(job.model_copy(update={"submitter": "bob"}))
    with pytest.raises(UsageError, match="version 9"):
        alice.submit(job.model_copy(update={"version": 9}))
    with pytest.raises(UsageError, match="there is no such file"):
        alice.submit(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="state 'done': there are proposed"):
        alice.jobs(state="done")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"0{64}"):
        alice.job("0" * 64)


def test_agreements_are_handed_to_the_daemon(alice: Connection, sites: Sites, tmp_path: Path) -> None:
    first, second = sorted(alice.agreements(), key=lambda held: held.id)
    assert (first.id, second.id, second.version, second.newest) == ("approved", "study", 1, True)
    assert second.members == MEMBERS
    signed = sites.agree(name="added")
    path = tmp_path / "added.agreement.json"
    path.write_bytes(signed.to_bytes())
    assert alice.add_agreement(path).id == "added", "what is held already is held once"
    path.write_bytes(SignedAgreement.unsigned(signed.agreement).to_bytes())
    with pytest.raises(UsageError, match=r"signature of alice is missing"):
        alice.add_agreement(path)


def test_no_daemon_no_bare_grpc_error(sites: Sites, tmp_path: Path) -> None:
    config = sites["alice"].config
    text = config.read_text()
    elsewhere = config.with_name("elsewhere.toml")
    elsewhere.write_text(f'{text}\n[control]\nsocket = "127.0.0.1:{free_port()}"\n')
    with mpcpriv.connect(elsewhere) as nobody, pytest.raises(DaemonError) as found:
        nobody.agreements()
    assert "alice's daemon at 127.0.0.1:" in str(found.value)
    assert f"is `mpcpriv party serve --config {elsewhere}` running?" in str(found.value)
    elsewhere.write_text(f'{text}\n[control]\nsocket = "127.0.0.1:{sites["bob"].port}"\n')
    with mpcpriv.connect(elsewhere) as another, pytest.raises(DaemonError, match="not with the certificate"):
        another.agreements()
    elsewhere.write_text("\n".join(line for line in text.splitlines()[:4]))
    with pytest.raises(UsageError, match=r"it configures no daemon; write \[daemon\]"):
        mpcpriv.connect(elsewhere)


def test_a_daemon_that_stops_while_it_is_watched(tmp_path: Path) -> None:
    with daemons(tmp_path, "quick") as sites:
        sites.agree(approval="steward")
        with mpcpriv.connect(sites["alice"].config) as alice:
            handle = alice.submit(alice.new_job(**asked()))
            views = handle.watch()
            assert next(views).state == "proposed"
            sites["alice"].stop()
            with pytest.raises(DaemonError, match="alice's daemon at"):
                for _ in views:
                    pass
            sites["alice"].restart()
            deadline = time.monotonic() + PATIENCE
            while True:
                try:
                    assert handle.status().state == "proposed"
                    break
                except DaemonError:
                    assert time.monotonic() < deadline
                    time.sleep(0.1)


def test_the_commands(alice: Connection, sites: Sites, tmp_path: Path) -> None:
    config = ("--config", sites["alice"].config)
    path = tmp_path / "job.toml"
    write_job(alice.new_job(**asked("approved")), path)
    status, out, _ = command("job", "submit", path, *config)
    job = out.strip()
    assert (status, len(job)) == (0, 64)
    pending(alice, job)
    status, out, _ = command("job", "list", "--pending", *config)
    assert status == 0
    assert f"{job[:8]}  " in out
    assert "waits for your approval" in out
    status, out, _ = command("job", "status", job[:8], *config)
    assert "input       bob-patients: age" in out
    assert f"mpcpriv job approve {job[:8]}" in out
    for owner in OWNERS:
        with mpcpriv.connect(sites[owner].config) as connection:
            pending(connection, job)
        status, out, err = command("job", "approve", job[:8], "--config", sites[owner].config)
        assert status == 0, err
    status, _, err = command("job", "watch", job, *config)
    assert status == 0
    assert f"{job[:8]} count-and-mean: finished" in err
    status, _, err = command("job", "result", job, "--output", tmp_path / "result.json", *config)
    assert status == 0, err
    assert json.loads((tmp_path / "result.json").read_text()) == {"total": sum(NUMBERS.values())}
    _one_line(["job", "result", job, "--output", tmp_path / "result.json", *config], "is there already")
    _one_line(["job", "result", job, "--config", sites["bob"].config], "this party is no recipient")
    _one_line(["job", "approve", job, *config], "no approval is due")
    _one_line(["job", "show-me"], "No such command", lines=None)
    status, out, _ = command("agreement", "list", *config)
    assert "study version 1 (alice, bob, carol, dealer)" in out


def test_a_refused_job_fails_the_command_that_watches_it(
    alice: Connection, sites: Sites, tmp_path: Path
) -> None:
    path = tmp_path / "job.toml"
    write_job(alice.new_job(**asked(recipients=["dealer"])), path)
    status, out, err = command("job", "submit", "--watch", path, "--config", sites["alice"].config)
    assert status == 1
    assert "refused" in err
    assert "recipients: dealer may not get results" in err
    status, _, err = command("job", "result", out.strip(), "--config", sites["alice"].config)
    assert status == 1
    assert "was refused" in err


def _one_line(arguments: Sequence[str | Path], message: str, lines: int | None = 1) -> None:
    status, _, err = command(*arguments)
    assert status == 2
    assert message in err
    assert lines is None or err.count("\n") == lines
    assert "Traceback" not in err
