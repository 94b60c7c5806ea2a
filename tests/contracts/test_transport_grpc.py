"""The gRPC transport keeps the contract."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Sequence

import pytest

from mpcpriv.errors import MpcprivError, PeerAborted, PeerAbsent, PeerRefused, UsageError
from mpcpriv.transport.base import Limits, Transport
from mpcpriv.transport.grpc import GrpcServerPort, GrpcTransport
from mpcpriv.transport.tls import throw_away
from tests.contracts.grpc_members import JOB, bind_all, connect_all, transports
from tests.contracts.transport_contract import TransportContract


class TestGrpcTransport(TransportContract):
    def connect(self, names: Sequence[str], limits: Limits) -> Sequence[Transport]:
        return transports(names, limits)


def test_the_absent_are_all_named_with_their_addresses() -> None:
    identities = throw_away(("alice", "bob", "carol", "dave"))
    ports = bind_all(identities, limits=Limits(connect=1.5))
    free = [
        GrpcServerPort.bind(one, [i.certificate for i in identities], "127.0.0.1:0") for one in identities
    ]
    unused = [f"127.0.0.1:{port.port}" for port in free]
    for port in free:
        port.close()
    table = [f"127.0.0.1:{ports[0].port}", unused[1], f"127.0.0.1:{ports[2].port}", unused[3]]
    for port in (ports[1], ports[3]):
        port.close()
    for error in connect_all([ports[0], ports[2]], addresses=table):
        assert isinstance(error, PeerAbsent | PeerAborted), error  # one may hear of it from the other
        assert f"bob ({unused[1]}" in str(error)
        assert f"dave ({unused[3]}" in str(error)
        assert "alice (" not in str(error)
        assert "carol (" not in str(error)
        assert error.peer == "bob"


def test_members_may_come_one_after_the_other() -> None:
    ports = bind_all(throw_away(("alice", "bob")), limits=Limits(connect=20))
    table = [f"127.0.0.1:{port.port}" for port in ports]
    dialled: list[GrpcTransport] = []
    early = threading.Thread(target=lambda: dialled.append(ports[1].connect(table, job=JOB)), daemon=True)
    early.start()
    time.sleep(0.7)
    a = ports[0].connect(table, job=JOB)
    early.join(20)
    a.send(1, b"here now")
    assert bytes(dialled[0].recv(0)) == b"here now"
    a.abort("over")
    dialled[0].abort("over")


@pytest.mark.parametrize(
    ("jobs", "facts", "words"),
    [
        ({1: b"another job 0123"}, {}, b"another job 0123".hex()),
        ({}, {0: {"program": "12ab"}, 1: {"program": "34cd"}}, "program"),
        ({}, {0: {"plan": "x"}}, "plan"),
    ],
)
def test_members_that_run_different_things_are_told_what_differs(
    jobs: dict[int, bytes], facts: dict[int, dict[str, str]], words: str
) -> None:
    began = time.monotonic()
    errors = connect_all(bind_all(throw_away(("alice", "bob"))), jobs=jobs, facts=facts)
    assert time.monotonic() - began < 10
    for error, peer in zip(errors, ("bob", "alice"), strict=True):
        assert isinstance(error, PeerRefused), error
        assert error.peer == peer
        assert words in str(error)


def test_another_order_of_the_members_is_refused() -> None:
    alice, bob, carol = throw_away(("alice", "bob", "carol"))
    mine = [alice.certificate, bob.certificate, carol.certificate]
    its = [alice.certificate, carol.certificate, bob.certificate]
    limits = Limits(connect=3)
    ports = [
        GrpcServerPort.bind(one, known, "127.0.0.1:0", limits=limits)
        for one, known in ((alice, mine), (bob, its), (carol, mine))
    ]
    at = [f"127.0.0.1:{port.port}" for port in ports]
    errors = connect_all(ports, tables={1: [at[0], at[2], at[1]]})
    assert all(isinstance(error, MpcprivError) for error in errors)
    # Bob and carol dial each other, and each dials alice: whichever is looked at first.
    refused = [str(error) for error in errors if isinstance(error, PeerRefused)]
    assert any("same order" in text or "members alice, " in text for text in refused), errors


@pytest.mark.parametrize(
    "address", ["", "alice", "alice:", ":1", "a b:1", "alice:70000", "http://alice:1", "unix:/x", "a\x00:1"]
)
def test_an_address_is_host_and_port(address: str) -> None:
    alice, bob = throw_away(("alice", "bob"))
    members = [alice.certificate, bob.certificate]
    with pytest.raises(UsageError, match="HOST:PORT"):
        GrpcServerPort.bind(alice, members, address)
    port = GrpcServerPort.bind(alice, members, "127.0.0.1:0")
    with pytest.raises(UsageError, match="HOST:PORT"):
        port.connect(["127.0.0.1:1", address], job=JOB)
    port.close()


def test_wrong_uses_are_named() -> None:
    alice, bob, carol = throw_away(("alice", "bob", "carol"))
    members = [alice.certificate, bob.certificate]
    with pytest.raises(UsageError, match="carol's certificate"):
        GrpcServerPort.bind(carol, members, "127.0.0.1:0")
    with pytest.raises(UsageError, match="one name"):
        GrpcServerPort.bind(alice, [*members, throw_away(("bob",))[0].certificate], "127.0.0.1:0")
    port = GrpcServerPort.bind(alice, members, "127.0.0.1:0")
    with pytest.raises(UsageError, match="in use"):
        GrpcServerPort.bind(bob, members, f"127.0.0.1:{port.port}")
    with pytest.raises(UsageError, match="1 addresses for 2"):
        port.connect(["127.0.0.1:1"], job=JOB)
    with pytest.raises(UsageError, match="16 bytes"):
        port.connect(["127.0.0.1:1"] * 2, job=b"short")
    port.close()


def test_an_unfinished_program_exits_and_says_nothing_on_stderr() -> None:
    """Neither gRPC's threads nor ours keep an interpreter alive, and its last words are not gRPC's."""
    program = """
from mpcpriv.transport.base import Limits
from tests.contracts.grpc_members import transports
a, b = transports(("alice", "bob"), Limits())
a.send(1, bytes(1 << 20))
b.recv(0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_importing_leaves_the_environment_as_it_was() -> None:
    program = """
import os
before = dict(os.environ)
import mpcpriv.transport.grpc
assert dict(os.environ) == before
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)
