"""`mpcpriv budget show` on the state of a member that has spent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpcpriv.party.config import create
from mpcpriv.party.records import Proposal, Record, SignedRecord
from mpcpriv.party.state import State
from mpcpriv.privacy.ledger import Charge, period_end, period_of
from mpcpriv.privacy.loss import Allowance, Loss
from tests.integration.warm import ROOT, command
from tests.unit.agreements import OWNERS, agreement, dataset, sign_all, signed_job

WITHOUT_PLOTS = "import sys; sys.modules['matplotlib'] = None; from mpcpriv.cli import app; app()"
START = datetime(2000, 1, 1, tzinfo=UTC)
DAYS = 36_525
"""Of a period: the tests stay in the first one."""
BUDGETS = {"alice": (2.0, 1e-6), "bob": (1.0, 0.0)}


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    return command("budget", "show", *arguments, folder=folder, COLUMNS="150")


def budgeted() -> list[dict[str, Any]]:
    """The data sets of the agreement, two of which have a budget."""
    found = []
    for owner in OWNERS:
        terms = dataset(owner)
        if owner in BUDGETS:
            epsilon, delta = BUDGETS[owner]
            terms["budget"] = {"epsilon": epsilon, "delta": delta, "period_days": DAYS}
        found.append(terms)
    return found


class Member:
    """A party with a state: an agreement, and jobs that spent of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        create(folder, "alice")
        with (folder / "party.toml").open("a") as file:
            file.write('[daemon]\nlisten = "127.0.0.1:9400"\n')
        self.state = State(f"sqlite:///{folder / 'state.sqlite'}")
        self.agreement = agreement(
            datasets=budgeted(),
            privacy={"unnoised": True, "mechanism": "discrete-gaussian", "minimum_cohort": 50},
            valid_from=START,
            valid_until=START + timedelta(days=DAYS),
        )
        document = sign_all(self.agreement).to_bytes()
        self.state.add_agreement(self.agreement.digest(), self.agreement.id, 3, document)

    def job(self, loss: Loss, *, on: tuple[str, ...] = ("alice",), at: datetime, debited: bool = True) -> str:
        signed = signed_job()
        digest = signed.job.digest()
        record = Record(
            agreement=self.agreement.digest(),
            job=digest,
            member="alice",
            body=Proposal(document=signed.to_bytes().decode()),
        )
        proposal = SignedRecord.sign(record, Ed25519PrivateKey.generate())
        self.state.add_job(proposal, signed.to_bytes(), seen=at)
        period = period_of(START, DAYS, at)
        charges = {
            f"{owner}-patients": Charge(
                loss, Allowance(*BUDGETS[owner]), period, period_end(START, DAYS, period)
            )
            for owner in on
        }
        assert self.state.ledger.reserve(digest, self.agreement.id, charges, at) == []
        if debited:
            with self.state._engine.begin() as connection:
                self.state.ledger.debit(connection, digest, "d" * 64, b"released")
        return digest


@pytest.fixture
def member(tmp_path: Path) -> Member:
    return Member(tmp_path / "alice")


@pytest.fixture
def spent(member: Member) -> tuple[Member, list[str]]:
    day = timedelta(days=1)
    now = datetime.now(UTC)
    jobs = [
        member.job(Loss.zcdp(0.005), at=now - 20 * day),
        member.job(Loss.pure_dp(0.25), on=("alice", "bob"), at=now - 10 * day),
        member.job(Loss.pure_dp(0.5), on=("bob",), at=now - 5 * day, debited=False),
    ]
    lapsed = member.job(Loss.pure_dp(0.25), on=("bob",), at=now - day, debited=False)
    member.state.ledger.lapse(lapsed)
    return member, jobs


def test_it_tells_what_was_spent_by_job(spent: tuple[Member, list[str]]) -> None:
    member, jobs = spent
    code, out, err = run(member.folder)  # the state is open all the while, as a daemon has it
    assert (code, err) == (0, "")
    lines = out.splitlines()
    (bob,) = [line.split("│") for line in lines if "breast-cancer" in line and "bob-patients" in line]
    assert [cell.strip() for cell in bob[3:]] == ["1", "0", "0.25", "0.5", "0.25"]
    for digest, epsilon, total in ((jobs[1], "0.25", "0.25"), (jobs[2], "0.5", "0.75")):
        rows = [line.split("│") for line in lines[lines.index(_heading(lines, "bob")) :]]
        (cells,) = [row for row in rows if row[0].startswith(digest[:8])]
        assert [cell.strip() for cell in cells[2:]] == [
            "logistic-regression",
            "debited" if digest == jobs[1] else "reserved",
            epsilon,
            total,
        ]
    assert "carol-patients" not in out
    assert "forecast: no more jobs like the dearest of the last five until 2100-01-01" in out
    assert "more jobs like the dearest of the last five; at this rate it is used up on 2" in out


def _heading(lines: list[str], owner: str) -> str:
    (found,) = [line for line in lines if line.startswith(f"{owner}-patients, until")]
    return found


def test_json_has_the_same_for_programs(spent: tuple[Member, list[str]]) -> None:
    member, jobs = spent
    code, out, _ = run(member.folder, "--json", "--agreement", "breast-cancer")
    assert code == 0
    alice, bob = json.loads(out)
    assert (bob["dataset"], bob["epsilon"], bob["delta"], bob["period"]) == ("bob-patients", 1.0, 0.0, 0)
    assert (bob["spent"], bob["reserved"], bob["left"]) == (0.25, 0.5, 0.25)
    assert [(one["job"], one["state"], one["epsilon"], one["total"]) for one in bob["jobs"]] == [
        (jobs[1], "debited", 0.25, 0.25),
        (jobs[2], "reserved", 0.5, 0.75),
    ]
    assert bob["forecast"]["jobs"] == 0
    exact = (Loss.zcdp(0.005) + Loss.pure_dp(0.25)).epsilon(1e-6)
    assert exact <= alice["spent"] <= exact * 1.001
    assert (2 - exact) * 0.999 <= alice["left"] <= 2 - exact
    assert alice["forecast"]["jobs"] > 0
    assert alice["forecast"]["exhausted"] > f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert alice["since"] == "2000-01-01T00:00:00Z"


def test_only_what_is_asked_for_is_shown(spent: tuple[Member, list[str]]) -> None:
    member, _ = spent
    code, out, _ = run(member.folder, "--dataset", "bob-patients", "--json")
    assert code == 0
    assert [one["dataset"] for one in json.loads(out)] == ["bob-patients"]
    assert run(member.folder, "--agreement", "another")[1] == "no agreement here has such a budget\n"


def test_an_untouched_budget_is_shown_whole(member: Member) -> None:
    code, out, _ = run(member.folder, "--json")
    assert code == 0
    assert [(one["spent"], one["left"], one["jobs"]) for one in json.loads(out)] == [(0, 2, []), (0, 1, [])]


def test_a_plot_holds_what_it_is_about(spent: tuple[Member, list[str]]) -> None:
    member, _ = spent
    code, _, err = run(member.folder, "--plot", "budget.svg")
    assert (code, err) == (0, "")
    root = ElementTree.parse(member.folder / "budget.svg").getroot()
    texts = [
        text for node in root.iter("{http://www.w3.org/2000/svg}text") if (text := "".join(node.itertext()))
    ]
    for label in (
        "epsilon at delta 1e-06",
        "epsilon at delta 0",
        "budget: epsilon 2",
        "budget: epsilon 1",
    ):
        assert label in texts
    assert texts.count("spent and reserved") == 2
    for owner in BUDGETS:
        assert sum(f"{owner}-patients under breast-cancer, period until" in text for text in texts) == 1
    before = (member.folder / "budget.svg").read_bytes()
    code, _, err = run(member.folder, "--plot", "budget.svg")
    assert code == 2
    assert "name a new file" in err
    assert (member.folder / "budget.svg").read_bytes() == before
    assert run(member.folder, "--plot", "budget.png")[0] == 0
    assert (member.folder / "budget.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_plot_lacks_is_said(member: Member) -> None:
    without = subprocess.run(
        [sys.executable, "-c", WITHOUT_PLOTS, "budget", "show", "--plot", "budget.svg"],
        cwd=member.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert without.returncode == 2
    assert "pip install 'mpcpriv[plot]'" in without.stderr
    code, _, err = run(member.folder, "--plot", "budget.pdf")
    assert code == 2
    assert "ends in .svg or .png" in err
    code, _, err = run(member.folder, "--plot", "budget.svg", "--dataset", "no-such")
    assert code == 2
    assert "nothing to draw" in err
    assert not list(member.folder.glob("budget.*"))


def test_a_party_without_a_ledger_is_told(tmp_path: Path) -> None:
    create(tmp_path / "bob", "bob")
    code, _, err = run(tmp_path / "bob")
    assert code == 2
    assert "no [daemon]" in err
    with (tmp_path / "bob" / "party.toml").open("a") as file:
        file.write('[daemon]\nlisten = "127.0.0.1:9400"\n')
    code, _, err = run(tmp_path / "bob")
    assert code == 2
    assert "mpcpriv party serve" in err
    assert not (tmp_path / "bob" / "state.sqlite").exists(), "looking makes nothing"


def test_help_teaches(tmp_path: Path) -> None:
    code, out, _ = run(tmp_path, "--help")
    assert code == 0
    assert "mpcpriv budget show --dataset" in out
    for word in ("spent", "reserved", "left", "forecast"):
        assert word in out
