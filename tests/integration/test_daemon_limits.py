"""A worker has so much memory and so much time, and a job of which a member never gets ready ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from mpcpriv.party import wire
from mpcpriv.v1 import control_pb2 as pb
from tests.integration.daemons import daemons
from tests.integration.test_daemon import approve

pytestmark = pytest.mark.timeout(300)


def reasons(folder: Path, settings: str, **environment: str) -> str:
    """What the members say of a job that fails."""
    with daemons(folder, "quick", settings=settings, **environment) as sites:
        sites.agree()
        job = sites.submit("alice")
        for site in sites.values():
            view = site.settled(job)
            assert view.state == pb.FAILED
        assert all(site.stop() == 0 for site in sites.values())
        sites.audits_verify()
        return " ".join(one.failure for one in view.members)


def test_a_worker_that_wants_more_memory_than_it_may_have_fails(tmp_path: Path) -> None:
    assert "MemoryError" in reasons(tmp_path, "memory_gb = 1", QUICK_MEBIBYTES="2000")


@pytest.mark.slow
def test_a_worker_that_runs_too_long_is_stopped(tmp_path: Path) -> None:
    assert "still running after 0.5 minutes" in reasons(tmp_path, "minutes = 0.5", QUICK_SECONDS="300")


@pytest.mark.slow
def test_a_job_does_not_wait_for_ever_for_a_member(tmp_path: Path) -> None:
    with daemons(tmp_path, "quick", settings="minutes = 0.1") as sites:
        sites.agree(approval="steward")
        job = sites.submit("alice")
        # Carol accepts and is gone for good; her decision has been delivered.
        approve(sites["carol"], job)
        while not all(
            any(one.member == "carol" and one.decision for one in site.show(job).members)
            for site in sites.values()
        ):
            pass
        sites["carol"].kill()
        approve(sites["alice"], job)
        approve(sites["bob"], job)
        for member in ("alice", "bob", "dealer"):
            view = sites[member].settled(job)
            assert view.state == pb.FAILED
            assert any("carol, dealer not ready after 0.1 minutes" in one.failure for one in view.members)
        sites["carol"].restart()
        assert sites["carol"].settled(job).state == pb.FAILED


def test_a_watcher_sees_progress(tmp_path: Path) -> None:
    with daemons(tmp_path, "quick", "warm", QUICK_SECONDS="2") as sites:
        sites.agree()
        job = sites.submit("alice")
        views = sites["alice"].client(wire.WATCH, pb.JobName(job=job), timeout=60)
        done = [loop.done for view in views for loop in view.progress if loop.name == "sums"]
        assert len(done) > 2
        assert done == sorted(done)
