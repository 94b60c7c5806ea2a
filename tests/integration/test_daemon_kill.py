"""SIGKILL of any daemon or worker at any moment of a job: all agree on its fate, and nothing is stuck."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from mpcpriv.party import wire
from mpcpriv.v1 import control_pb2 as pb
from tests.integration.daemons import MEMBERS, NUMBERS, PATIENCE, SETTLED, Site, Sites, daemons

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    with daemons(tmp_path_factory.mktemp("sites"), "quick", QUICK_SECONDS="1.5") as running:
        running.agree()
        yield running


def strike(choice: random.Random, sites: Sites) -> tuple[str, str]:
    """Kills a daemon, which is started anew a little later, or a worker where there is one; says which."""
    workers = [(site.name, worker) for site in sites.values() for worker in site.workers()]
    if workers and choice.random() < 0.5:
        name, worker = choice.choice(workers)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
            return "worker", name
    site = sites[choice.choice(MEMBERS)]
    site.kill()
    time.sleep(choice.uniform(0, 1))
    site.restart()
    return "daemon", site.name


def fates(sites: Sites, job: str) -> dict[str, int]:
    """What each member says of the job, once all say the same, or at the last."""
    deadline = time.monotonic() + PATIENCE
    found: dict[str, int] = {}
    for site in sites.values():
        found[site.name] = site.settled(job).state
    while len(set(found.values())) > 1 and time.monotonic() < deadline:
        time.sleep(0.2)
        found = {site.name: site.show(job).state for site in sites.values()}
    return found


def finish(sites: Sites, submitter: str) -> float:
    """Has a job done that nobody disturbs; returns how long it took."""
    began = time.monotonic()
    job = sites.submit(submitter)
    sites[submitter].settled(job)
    seconds = time.monotonic() - began
    assert set(fates(sites, job).values()) == {pb.FINISHED}
    result = sites[submitter].client(wire.FETCH, pb.JobName(job=job)).result
    assert result == b'{"total":%d}' % sum(NUMBERS.values())
    return seconds


def kill_at_random_moments(sites: Sites, seed: int, times: int) -> None:
    """So many kills, each at some moment of a job of its own; one after the job's end is not counted."""
    choice = random.Random(seed)
    seconds = finish(sites, "alice")
    seen: Counter[str] = Counter()
    while seen["kills"] < times:
        submitter = choice.choice(("alice", "bob", "carol"))
        began = time.monotonic()
        job = sites.submit(submitter)
        moment = choice.uniform(0, seconds)
        time.sleep(max(0.0, began + moment - time.monotonic()))
        over = sites[submitter].show(job).state in SETTLED
        kind, victim = strike(choice, sites)
        found = fates(sites, job)
        said = f"seed {seed}, kill {seen['kills']}: the {kind} of {victim} after {moment:.2f} s"
        assert len(set(found.values())) == 1, (said, found)
        (fate,) = set(found.values())
        assert fate in (pb.FINISHED, pb.FAILED), (said, found)
        seen["kills"] += not over
        seen[kind if not over else "too late"] += 1
        seen["finished" if fate == pb.FINISHED else "failed"] += 1
        assert seen["too late"] < times, "jobs end too early to be killed"
    finish(sites, "bob")  # no place is taken by a job that has ended
    stopped: list[Site] = list(sites.values())
    for site in stopped:
        assert site.stop() == 0
    sites.audits_verify()
    print(f"seed {seed}, jobs of {seconds:.1f} s:", *(f"{what} {count}," for what, count in seen.items()))


def test_all_agree_after_any_kill(sites: Sites) -> None:
    kill_at_random_moments(sites, seed=1, times=3)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(10, 15))
def test_all_agree_after_any_kill_every_time(sites: Sites, seed: int) -> None:
    kill_at_random_moments(sites, seed, times=20)


def test_a_running_job_fails_everywhere_when_a_daemon_stops_in_order(sites: Sites) -> None:
    job = sites.submit("alice")
    deadline = time.monotonic() + PATIENCE
    view: Any = sites["bob"].show(job) if _known(sites["bob"], job) else None
    while time.monotonic() < deadline and not all(one.ready for one in view.members if one.member != "x"):
        time.sleep(0.05)
        view = sites["bob"].show(job)
    assert sites["bob"].stop() == 0
    others = [site for site in sites.values() if site.name != "bob"]
    for site in others:
        view = site.settled(job)
        assert view.state == pb.FAILED
        assert any("the daemon was stopped" in one.failure for one in view.members)
    sites["bob"].restart()
    assert sites["bob"].settled(job).state == pb.FAILED
    finish(sites, "bob")


def _known(site: Site, job: str) -> bool:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if job in [one.job for one in site.client(wire.LIST, pb.JobFilter()).jobs]:
            return True
        time.sleep(0.05)
    return False


def test_a_job_outlives_a_member_that_is_away_when_it_is_proposed(sites: Sites) -> None:
    sites["carol"].kill()
    job = sites.submit("alice")
    time.sleep(1)
    assert sites["alice"].show(job).state == pb.PROPOSED
    sites["carol"].restart()
    assert set(fates(sites, job).values()) == {pb.FINISHED}


@pytest.mark.slow
def test_many_jobs_at_once_all_end_and_two_run_together(tmp_path_factory: pytest.TempPathFactory) -> None:
    many(tmp_path_factory, 8)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_twenty_jobs_at_once_all_end_and_two_run_together(tmp_path_factory: pytest.TempPathFactory) -> None:
    many(tmp_path_factory, 20)


def many(tmp_path_factory: pytest.TempPathFactory, count: int) -> None:
    folder = tmp_path_factory.mktemp("many")
    with daemons(folder, "quick", settings="concurrent_jobs = 2", QUICK_SECONDS="0.5") as sites:
        sites.agree()
        # Every fourth is outside the agreement.
        changes: list[dict[str, Any]] = [{"purpose": "curiosity"} if n % 4 == 3 else {} for n in range(count)]
        jobs = [sites.submit(("alice", "bob", "carol")[n % 3], **change) for n, change in enumerate(changes)]
        together = 0
        deadline = time.monotonic() + 20 * count
        open_jobs = set(jobs)
        while open_jobs and time.monotonic() < deadline:
            for site in sites.values():
                views = {view.job: view for view in site.client(wire.LIST, pb.JobFilter(limit=count)).jobs}
                together = max(together, sum(view.started for view in views.values()))
                if site.name == "dealer":
                    open_jobs -= {job for job, view in views.items() if view.state in SETTLED}
            time.sleep(0.1)
        assert together == 2
        for job, change in zip(jobs, changes, strict=True):
            expected = pb.REFUSED if change else pb.FINISHED
            assert set(fates(sites, job).values()) == {expected}
