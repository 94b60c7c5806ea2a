"""Four daemons as processes: jobs admitted, refused, approved, cancelled, and kept apart."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.party import wire
from mpcpriv.party.state import State
from mpcpriv.transport.tls import self_signed
from mpcpriv.v1 import control_pb2 as pb
from tests.integration.daemons import MEMBERS, NUMBERS, OWNERS, Site, Sites, daemons, now

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Daemons whose jobs compute nothing, and two agreements: `study`, and `steward` with approval."""
    with daemons(tmp_path_factory.mktemp("sites"), "quick", "warm") as running:
        running.agree()
        running.agree(name="steward", approval="steward")
        yield running


def view_of(view: Any, member: str) -> Any:
    return next(one for one in view.members if one.member == member)


def code_of(site: Site, method: wire.Method, request: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.RpcError) as found:
        site.client(method, request)
    code: grpc.StatusCode = found.value.code()
    return code


def pending(site: Site, job: str) -> None:
    """Waits until the steward of `site` is asked."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if job in [one.job for one in site.client(wire.LIST, pb.JobFilter(pending=True)).jobs]:
            return
        time.sleep(0.05)
    raise AssertionError(site.log()[-2000:])


def approve(site: Site, job: str) -> None:
    """Approves once the steward is asked."""
    pending(site, job)
    site.client(wire.DECIDE, pb.Verdict(job=job, approve=True))


def test_a_job_is_computed_and_only_its_recipient_has_the_result(tmp_path: Path) -> None:
    with daemons(tmp_path) as sites:
        ages = {"alice": range(30, 50), "bob": range(20, 60), "carol": range(70, 80)}
        for owner in OWNERS:
            rows = "\n".join(map(str, ages[owner]))
            (sites[owner].folder / f"{owner}.csv").write_text(f"age\n{rows}\n")
        sites.agree()
        job = sites.submit("bob")
        for site in sites.values():
            view = site.settled(job, 120)
            assert view.state == pb.FINISHED, site.log()
        result = json.loads(sites["bob"].client(wire.FETCH, pb.JobName(job=job)).result)
        pooled = [age for owner in OWNERS for age in ages[owner]]
        assert result["result"]["rows"] == len(pooled)
        assert abs(result["result"]["mean"][0] - sum(pooled) / len(pooled)) < 1e-3
        for other in ("alice", "carol", "dealer"):
            assert code_of(sites[other], wire.FETCH, pb.JobName(job=job)) == grpc.StatusCode.NOT_FOUND
            stored = State(f"sqlite:///{sites[other].folder / 'state.sqlite'}")
            assert stored.result(job) is None
            stored.close()
        for site in sites.values():
            assert site.stop() == 0
        sites.audits_verify()
        # A finished job can be fetched after a restart.
        sites["bob"].restart()
        assert json.loads(sites["bob"].client(wire.FETCH, pb.JobName(job=job)).result) == result


def test_a_watcher_sees_every_state_and_the_end(sites: Sites) -> None:
    job = sites.submit("alice")
    views = list(sites["alice"].client(wire.WATCH, pb.JobName(job=job), timeout=60))
    states = [view.state for view in views]
    assert states == sorted(states)
    assert states[-1] == pb.FINISHED
    assert views[-1].result
    fetched = sites["alice"].client(wire.FETCH, pb.JobName(job=job))
    assert json.loads(fetched.result) == {"total": sum(NUMBERS.values())}


def test_the_same_job_twice_is_one_job(sites: Sites) -> None:
    document = sites.job("alice").to_bytes()
    names = {sites["alice"].client(wire.SUBMIT, pb.JobDocument(document=document)).job for _ in range(3)}
    assert len(names) == 1


def test_a_job_outside_the_agreement_is_refused_with_all_reasons_at_each_member(sites: Sites) -> None:
    job = sites.submit("bob", purpose="curiosity", parameters={"depth": 3})
    sites["bob"].settled(job)
    deadline = time.monotonic() + 30
    for site in sites.values():
        view = site.settled(job)
        while any(not one.decision for one in view.members) and time.monotonic() < deadline:
            time.sleep(0.1)
            view = site.show(job)
        assert view.state == pb.REFUSED
        for member in MEMBERS:
            one = view_of(view, member)
            assert one.decision == "refuse"
            assert any("purpose" in reason for reason in one.reasons)
            assert any("depth" in reason for reason in one.reasons)


def test_the_others_refuse_what_a_modified_submitter_admits(tmp_path: Path) -> None:
    with daemons(tmp_path, "quick", modified="alice") as sites:
        sites.agree()
        job = sites.submit("alice", purpose="curiosity")
        deadline = time.monotonic() + 30
        for site in sites.values():
            view = site.settled(job)
            while any(not one.decision for one in view.members) and time.monotonic() < deadline:
                time.sleep(0.1)
                view = site.show(job)
            assert view.state == pb.REFUSED
            said = {one.member: one.decision for one in view.members}
            assert said == {"alice": "accept", "bob": "refuse", "carol": "refuse", "dealer": "refuse"}
            assert not view.started


def test_stewards_approve_and_reject(sites: Sites) -> None:
    job = sites.submit("alice", agreement="steward")
    for owner in OWNERS:
        pending(sites[owner], job)
    assert sites["alice"].show(job).state == pb.PROPOSED
    assert sites["dealer"].show(job).pending is False
    for owner in OWNERS:
        sites[owner].client(wire.DECIDE, pb.Verdict(job=job, approve=True))
    for site in sites.values():
        assert site.settled(job).state == pb.FINISHED
    again = pb.Verdict(job=job, approve=False, why="too late")
    assert code_of(sites["bob"], wire.DECIDE, again) == grpc.StatusCode.FAILED_PRECONDITION

    job = sites.submit("alice", agreement="steward")
    pending(sites["bob"], job)
    nothing = pb.Verdict(job=job, approve=False)
    assert code_of(sites["bob"], wire.DECIDE, nothing) == grpc.StatusCode.INVALID_ARGUMENT
    sites["bob"].client(wire.DECIDE, pb.Verdict(job=job, approve=False, why="not this quarter"))
    for site in sites.values():
        view = site.settled(job)
        assert view.state == pb.REFUSED
        assert "not this quarter" in view_of(view, "bob").reasons[0]
        assert not view.pending or site.name != "bob"


def test_a_pending_job_is_still_pending_after_a_restart(sites: Sites) -> None:
    job = sites.submit("carol", agreement="steward")
    for owner in OWNERS:
        pending(sites[owner], job)
    sites["bob"].kill()
    sites["bob"].restart()
    pending(sites["bob"], job)
    for owner in OWNERS:
        sites[owner].client(wire.DECIDE, pb.Verdict(job=job, approve=True))
    for site in sites.values():
        assert site.settled(job).state == pb.FINISHED


def test_a_cancelled_job_has_failed_everywhere(sites: Sites) -> None:
    job = sites.submit("alice", agreement="steward")
    pending(sites["bob"], job)
    pending(sites["alice"], job)
    sites["alice"].client(wire.DECIDE, pb.Verdict(job=job, approve=True))
    sites["alice"].client(wire.CANCEL, pb.Cancellation(job=job, why="wrong column"))
    for site in sites.values():
        # Another member's word that it has failed may be here before alice's own.
        deadline = time.monotonic() + 30
        view = site.settled(job)
        while not view_of(view, "alice").failure and time.monotonic() < deadline:
            time.sleep(0.05)
            view = site.show(job)
        assert view.state == pb.FAILED
        assert view_of(view, "alice").failure == "cancelled: wrong column"
    twice = pb.Cancellation(job=job)
    assert code_of(sites["alice"], wire.CANCEL, twice) == grpc.StatusCode.FAILED_PRECONDITION


def test_a_job_that_nobody_decides_expires_everywhere(sites: Sites) -> None:
    job = sites.submit("alice", agreement="steward", expires=now() + timedelta(seconds=3))
    for site in sites.values():
        assert site.settled(job).state == pb.FAILED
    assert any("expired" in one.failure for one in sites["dealer"].show(job).members)


def test_two_agreements_do_not_see_each_others_jobs(sites: Sites) -> None:
    sites.agree(members=("alice", "bob", "dealer"), name="pair")
    job = sites.submit("alice", agreement="pair", owners=("alice", "bob"))
    for member in ("alice", "bob", "dealer"):
        assert sites[member].settled(job).state == pb.FINISHED
    assert code_of(sites["carol"], wire.SHOW, pb.JobName(job=job)) == grpc.StatusCode.NOT_FOUND
    assert "pair" not in sites["carol"].log()
    held = sites["carol"].client(wire.LIST_AGREEMENTS).agreements
    assert {one.id for one in held} == {"study", "steward"}


def test_who_may_call_what(sites: Sites) -> None:
    alice, bob = sites["alice"], sites["bob"]
    # Another member is no client of this daemon ...
    as_bob = wire.channel(bob.party.identity, alice.party.identity.certificate, f"127.0.0.1:{alice.port}")
    with pytest.raises(grpc.RpcError) as found:
        wire.stub(as_bob, wire.LIST)(pb.JobFilter(), timeout=10)
    assert found.value.code() == grpc.StatusCode.PERMISSION_DENIED
    # ... writes nothing in another's name ...
    stored = State(f"sqlite:///{alice.folder / 'state.sqlite'}")
    signed = stored.records(stored.jobs()[0].digest)
    stored.close()
    of_others = next(one for one in signed if one.record.member != "bob")
    letter = pb.SignedRecord(record=of_others.record.canonical(), signature=of_others.signature)
    with pytest.raises(grpc.RpcError) as found:
        wire.stub(as_bob, wire.DELIVER)(letter, timeout=10)
    assert found.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    as_bob.close()
    # ... and a stranger with a certificate in a member's name does not even come in.
    stranger = wire.channel(self_signed("bob"), alice.party.identity.certificate, f"127.0.0.1:{alice.port}")
    with pytest.raises(grpc.RpcError) as found:
        wire.stub(stranger, wire.LIST)(pb.JobFilter(), timeout=10)
    assert found.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)
    stranger.close()


def test_an_agreement_that_is_not_signed_by_all_is_not_held(sites: Sites) -> None:
    signed = sites.agree(name="another")
    document = pb.AgreementDocument(document=signed.to_bytes())
    assert sites["alice"].client(wire.ADD_AGREEMENT, document).newest  # twice is once
    missing = {name: mark for name, mark in signed.signatures.items() if name != "carol"}
    short = SignedAgreement(agreement=signed.agreement, signatures=missing)
    wrong = pb.AgreementDocument(document=short.to_bytes())
    with pytest.raises(grpc.RpcError) as found:
        sites["alice"].client(wire.ADD_AGREEMENT, wrong)
    assert found.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "carol is missing" in (found.value.details() or "")


def test_the_health_service_answers_members(sites: Sites) -> None:
    stub = health_pb2_grpc.HealthStub(sites["alice"].client.channel)
    answer = stub.Check(health_pb2.HealthCheckRequest(service=wire.DAEMON), timeout=10)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_requests_over_the_limit_are_refused(sites: Sites) -> None:
    big = pb.JobDocument(document=bytes(wire.MAX_REQUEST + 1))
    assert code_of(sites["alice"], wire.SUBMIT, big) == grpc.StatusCode.RESOURCE_EXHAUSTED


def test_every_members_log_has_the_receipts_of_all_others(sites: Sites) -> None:
    job = sites.submit("alice")
    for site in sites.values():
        site.settled(job)
    deadline = time.monotonic() + 30
    for site in sites.values():
        lines: list[Any] = []
        while time.monotonic() < deadline:
            lines = [json.loads(line) for line in (site.folder / "audit.jsonl").read_text().splitlines()]
            mine = [
                one["seq"]
                for one in lines
                if one["event"] == "outcome"
                and one["facts"]["job"] == job
                and one["facts"]["by"] == site.name
            ]
            given = {
                one["facts"]["receipt"]["by"]
                for one in lines
                if one["event"] == "receipt-received" and one["facts"]["receipt"]["seq"] in mine
            }
            if given == set(MEMBERS) - {site.name}:
                break
            time.sleep(0.1)
        else:
            raise AssertionError(f"{site.name} has no receipts of all others: {lines[-10:]}")
    sites.audits_verify()
