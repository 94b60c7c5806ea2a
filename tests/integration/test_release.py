"""Release between daemons: budgets that hold, results that arrive once, whatever is killed when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from mpcpriv.client.connection import connect
from mpcpriv.party import wire
from mpcpriv.party.records import Commitment, Share
from mpcpriv.party.state import State
from mpcpriv.privacy.loss import Loss
from mpcpriv.v1 import control_pb2 as pb
from tests.integration import warm
from tests.integration.daemons import MEMBERS, NUMBERS, OWNERS, SETTLED, Site, Sites, daemons

pytestmark = pytest.mark.timeout(300)

BUDGET = {"epsilon": 2.0, "delta": 1e-6, "period_days": 30}
PRIVACY = {"mechanism": "discrete-gaussian"}
ASKED = {"epsilon": 0.5, "delta": 1e-6}


def agree(sites: Sites, name: str = "study", epsilon: float = 2.0, **changes: Any) -> None:
    """An agreement under which nothing leaves without noise."""
    datasets = [
        {**one, "budget": {**BUDGET, "epsilon": epsilon}} for one in sites.content(MEMBERS, name)["datasets"]
    ]
    sites.agree(name=name, datasets=datasets, privacy=PRIVACY, **changes)


def submit(sites: Sites, submitter: str = "alice", **changes: Any) -> str:
    release = {"recipients": [submitter], **ASKED, **changes.pop("release", {})}
    return sites.submit(submitter, release=release, **changes)


def state(site: Site) -> State:
    return State(f"sqlite:///{site.folder / 'state.sqlite'}")


def spent(site: Site, agreement: str = "study") -> dict[str, float]:
    """By data set, the epsilon that this member's ledger has as debited."""
    opened = state(site)
    found = {
        f"{owner}-patients": opened.ledger.spent(agreement, f"{owner}-patients", 0, reserved=False)
        for owner in OWNERS
    }
    opened.close()
    return {name: loss.epsilon(1e-6) for name, loss in found.items()}


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with daemons(tmp_path_factory.mktemp("release"), "quick", "warm") as running:
        yield running


def test_a_private_mean_between_daemons(tmp_path: Path) -> None:
    with daemons(tmp_path, "warm", **{warm.ADDRESS: warm.server("engine")}) as sites:
        for owner in OWNERS:
            rows = "\n".join(str(30 + n % 40) for n in range(400))
            (sites[owner].folder / f"{owner}.csv").write_text(f"age\n{rows}\n")
        agree(sites)
        job = submit(sites, "bob")
        for site in sites.values():
            assert site.settled(job, 120).state == pb.FINISHED, site.log()
        document = json.loads(sites["bob"].client(wire.FETCH, pb.JobName(job=job)).result)
        truth = sum(30 + n % 40 for n in range(400)) / 400
        answer = document["result"]
        assert answer["rows"] == 1200
        assert abs(answer["mean"][0] - truth) < 8 * answer["noise"][0]
        assert 0 < answer["noise"][0] < 2
        assert document["statement"]["privacy"]["epsilon"] == 0.5
        with connect(sites["bob"].config) as daemon:
            budgets = daemon.job(job).document()["budgets"]
        assert [one["dataset"] for one in budgets] == [f"{owner}-patients" for owner in OWNERS]
        assert all(one["epsilon"] == 2.0 and 1.4 < one["left"] <= 1.51 for one in budgets)
        for owner in OWNERS:
            assert all(0.49 < epsilon <= 0.5 for epsilon in spent(sites[owner]).values())
        # Only the recipient ever had the others' shares.
        for name in ("alice", "carol", "dealer"):
            opened = state(sites[name])
            shares = [r.record for r in opened.records(job) if isinstance(r.record.body, Share)]
            assert {record.member for record in shares} <= {name}
            opened.close()
        for site in sites.values():
            assert site.stop() == 0
        sites.audits_verify()


def test_a_budget_is_spent_and_then_refused_at_every_owner(sites: Sites) -> None:
    agree(sites, "small", epsilon=1.0)
    first = [submit(sites, agreement="small") for _ in range(2)]
    for job in first:
        assert sites["alice"].settled(job).state in (pb.FINISHED, pb.REFUSED)
    third = submit(sites, agreement="small", release={"epsilon": 0.9})
    for owner in OWNERS:
        view = sites[owner].settled(third)
        assert view.state == pb.REFUSED
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        view = sites["alice"].show(third)
        said = {one.member: list(one.reasons) for one in view.members}
        if all(said[owner] for owner in OWNERS):
            break
        time.sleep(0.1)
    for owner in OWNERS:
        assert len(said[owner]) == 3
        assert any("budget: data set alice-patients has epsilon" in reason for reason in said[owner])
    finished = sum(sites["alice"].show(job).state == pb.FINISHED for job in first)
    for owner in OWNERS:
        assert all(epsilon <= 1.0 for epsilon in spent(sites[owner], "small").values())
    assert finished >= 1


def test_a_recipient_need_not_compute(tmp_path: Path) -> None:
    members = (*MEMBERS, "reader")
    with daemons(tmp_path, "quick", "warm", members=members) as sites:
        content = sites.content(members, "study")
        datasets = [{**one, "budget": BUDGET} for one in content["datasets"]]
        sites.agree(members, datasets=datasets, privacy=PRIVACY)
        job = submit(sites, release={"recipients": ["reader"]})
        for site in sites.values():
            assert site.settled(job).state == pb.FINISHED, site.log()
        result = sites["reader"].client(wire.FETCH, pb.JobName(job=job)).result
        assert result == b'{"total":%d}' % sum(NUMBERS.values())
        for name in MEMBERS:
            with pytest.raises(grpc.RpcError):
                sites[name].client(wire.FETCH, pb.JobName(job=job))
        assert spent(sites["reader"]) == dict.fromkeys(spent(sites["alice"]), 0.0)
        for site in sites.values():
            assert site.stop() == 0
        sites.audits_verify()


def test_many_submitters_at_once_cannot_overspend(sites: Sites) -> None:
    agree(sites, "race", epsilon=0.5)
    jobs = [submit(sites, OWNERS[n % 3], agreement="race") for n in range(9)]
    states = []
    for job, submitter in zip(jobs, OWNERS * 3, strict=True):
        states.append(sites[submitter].settled(job).state)
    assert states.count(pb.FINISHED) <= 1
    assert set(states) <= {pb.FINISHED, pb.REFUSED, pb.FAILED}
    for owner in OWNERS:
        assert all(epsilon <= 0.5 for epsilon in spent(sites[owner], "race").values())


def test_a_job_that_fails_before_its_release_costs_nothing(sites: Sites) -> None:
    agree(sites, "failing", approval="steward")
    job = submit(sites, agreement="failing")
    deadline = time.monotonic() + 30
    while not sites["alice"].show(job).pending and time.monotonic() < deadline:
        time.sleep(0.05)
    sites["alice"].client(wire.DECIDE, pb.Verdict(job=job, approve=True))
    opened = state(sites["alice"])
    assert opened.ledger.spent("failing", "alice-patients", 0) != Loss.none()
    sites["alice"].client(wire.CANCEL, pb.Cancellation(job=job, why="too early"))
    deadline = time.monotonic() + 30
    while opened.ledger.spent("failing", "alice-patients", 0) != Loss.none():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    opened.close()


# -- killed at a durable write


def agreed_state(sites: Sites, job: str) -> int:
    deadline = time.monotonic() + 30
    while True:
        found = {site.settled(job, 30).state for site in sites.values()}
        if len(found) == 1:
            return int(found.pop())
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def one_release(sites: Sites, job: str, fate: int) -> None:
    """At each member: a share only with its debit and a debit only with its share, one of each at most."""
    for owner in OWNERS:
        opened = state(sites[owner])
        records = [signed.record for signed in opened.records(job)]
        (entry, *more) = [one for one in opened.ledger.entries() if one.job == job][:1] or [None]
        assert not more
        mine = [r.body for r in records if r.member == owner and isinstance(r.body, Commitment | Share)]
        assert len(mine) in (0, 2)
        assert (entry is not None and entry.state == "debited") == bool(mine)
        shares = {r.member for r in records if isinstance(r.body, Share)}
        if owner != "alice":
            assert shares <= {owner}
        if fate == pb.FINISHED:
            assert mine
            assert owner != "alice" or shares == set(OWNERS)
        opened.close()


def serving(site: Site) -> None:
    """Waits until it answers: the first call may still find the connection to the daemon before."""
    deadline = time.monotonic() + 60
    while True:
        try:
            site.client(wire.LIST_AGREEMENTS)
        except grpc.RpcError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def killed(sites: Sites, victim: str, when: str, count: int, agreement: str = "study") -> bool:
    """Whether the victim died at its count-th durable write; a job survives that, or fails for everybody."""
    site = sites[victim]
    site.kill()
    site.start("quick", "warm", f"dies-{when}-{count}")
    serving(site)
    armed = site.folder / "armed"
    armed.touch()
    assert site.process is not None
    try:
        job = submit(sites, agreement=agreement)
    except grpc.RpcError:  # the submitter's own daemon died with the call
        job = ""
    deadline = time.monotonic() + 60
    while site.process.poll() is None and time.monotonic() < deadline and not _settled(sites, job):
        time.sleep(0.05)
    died = site.process.poll() is not None
    armed.unlink()
    site.kill()
    site.start("quick", "warm")
    serving(site)
    if not job:
        jobs = site.client(wire.LIST, pb.JobFilter(limit=1)).jobs
        job = jobs[0].job if jobs else submit(sites, agreement=agreement)
    fate = agreed_state(sites, job)
    assert fate in (pb.FINISHED, pb.FAILED)
    one_release(sites, job, fate)
    if fate == pb.FINISHED:
        result = sites["alice"].client(wire.FETCH, pb.JobName(job=job)).result
        assert result == b'{"total":%d}' % sum(NUMBERS.values())
    return died


def _settled(sites: Sites, job: str) -> bool:
    try:
        views = [site.client(wire.SHOW, pb.JobName(job=job), 2.0) for site in sites.values()]
    except grpc.RpcError:  # not known there yet, or nobody is there any more
        return False
    return all(view.state in SETTLED for view in views)


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("victim", ["alice", "bob", "dealer"])
def test_killed_at_every_durable_write_nothing_is_released_twice(
    tmp_path: Path, victim: str, when: str
) -> None:
    with daemons(tmp_path, "quick", "warm") as sites:
        agree(sites, epsilon=900.0)
        count = 1
        while killed(sites, victim, when, count):
            count += 1
        print(f"{victim} killed {when} each of {count - 1} durable writes")
        assert count > 10
        for site in sites.values():
            assert site.stop() == 0
        sites.audits_verify()


@pytest.mark.parametrize("count", [11, pytest.param(12, marks=pytest.mark.slow)])
def test_killed_around_the_debit(sites: Sites, count: int) -> None:
    agree(sites, f"debit{count}", epsilon=900.0)
    killed(sites, "bob", "after", count, f"debit{count}")
