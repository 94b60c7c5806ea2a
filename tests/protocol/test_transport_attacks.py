"""What a stranger, the network or a dishonest member may try on the transport, one test per attempt."""

from __future__ import annotations

import contextlib
import datetime
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from mpcpriv.errors import (
    FrameRefused,
    MpcprivError,
    PeerAborted,
    PeerAbsent,
    PeerError,
    PeerGone,
    PeerRefused,
)
from mpcpriv.transport import grpc as transport_grpc
from mpcpriv.transport.base import Limits
from mpcpriv.transport.frame import Frame, FrameWriter, Kind, encode, epoch
from mpcpriv.transport.grpc import METHOD, GrpcServerPort, GrpcTransport
from mpcpriv.transport.hello import Hello, encode_hello
from mpcpriv.transport.tls import Certificate, Identity, dns_name, save_identity, throw_away
from tests.contracts.grpc_members import JOB, bind_all, connect_all
from tests.protocol.transport_member import NAMES

FACTS = (("members", "alice, bob"),)


class Evil:
    """Bob, who holds his own key but says what he likes: one stream to alice, packet by packet."""

    def __init__(
        self, alice: GrpcServerPort, bob: Identity, *, compression: grpc.Compression | None = None
    ) -> None:
        self._port = GrpcServerPort.bind(bob, alice.members, "127.0.0.1:0")
        self._channel = self._port.channel(0, f"127.0.0.1:{alice.port}", Limits())
        self._packets: SimpleQueue[bytes | None] = SimpleQueue()
        self.call = self._channel.stream_stream(METHOD)(
            iter(self._packets.get, None), compression=compression
        )
        self.stream = bytes(32)

    def say(self, *packets: bytes) -> None:
        for packet in packets:
            self._packets.put(packet)

    def hello(self) -> FrameWriter:
        """Says a proper hello; returns a writer of proper frames."""
        mine = encode_hello(Hello(transport_grpc.software(), JOB, FACTS))
        self.say(mine)
        self.stream = epoch(next(self.call), mine)
        return FrameWriter(1, JOB, self.stream, 1 << 20)

    def ended_with(self) -> grpc.StatusCode:
        with pytest.raises(grpc.RpcError) as caught:
            for _ in self.call:
                pass
        return caught.value.code()

    def leave(self) -> None:
        self._packets.put(None)
        self._channel.close()
        self._port.close()


class Victim:
    """Alice, connecting on a thread of her own, and bob's identity for whoever attacks her."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.identities = throw_away(("alice", "bob"))
        self.port, unused = bind_all(
            self.identities, limits=limits or Limits(message=1 << 20, connect=20, wait=20)
        )
        unused.close()
        self.bob = self.identities[1]
        self._result: SimpleQueue[GrpcTransport | MpcprivError] = SimpleQueue()
        threading.Thread(target=self._connect, daemon=True).start()

    def _connect(self) -> None:
        try:
            self._result.put(self.port.connect(["127.0.0.1:1"] * 2, job=JOB))
        except MpcprivError as error:
            self._result.put(error)

    def outcome(self) -> GrpcTransport | MpcprivError:
        return self._result.get(timeout=30)

    def transport(self) -> GrpcTransport:
        outcome = self.outcome()
        assert isinstance(outcome, GrpcTransport), outcome
        return outcome

    def honest_bob_connects(self) -> None:
        port = GrpcServerPort.bind(self.bob, self.port.members, "127.0.0.1:0", limits=Limits(connect=20))
        bob = port.connect([f"127.0.0.1:{self.port.port}", "127.0.0.1:1"], job=JOB)
        alice = self.transport()
        bob.send(0, b"it is me")
        assert bytes(alice.recv(1)) == b"it is me"
        bob.abort("over")
        alice.abort("over")


@pytest.fixture
def victim() -> Iterator[Victim]:
    victim = Victim()
    yield victim
    if victim.port.transport is not None:
        victim.port.transport.abort("the test is over")


def _dial(victim: Victim, identity: Identity) -> grpc.StatusCode:
    """Calls alice with any identity; returns how the call ended."""
    credentials = grpc.ssl_channel_credentials(
        victim.identities[0].certificate.pem, identity.key, identity.certificate.pem
    )
    target = [("grpc.ssl_target_name_override", dns_name(victim.identities[0].party))]
    with grpc.secure_channel(f"127.0.0.1:{victim.port.port}", credentials, target) as channel:
        hello = encode_hello(Hello(transport_grpc.software(), JOB, FACTS))
        with pytest.raises(grpc.RpcError) as caught:
            next(channel.stream_stream(METHOD)(iter([hello]), timeout=10))
        return caught.value.code()


# Identities.


def test_a_stranger_under_a_members_name_does_not_get_in(victim: Victim) -> None:
    assert _dial(victim, throw_away(("bob",))[0]) == grpc.StatusCode.UNAVAILABLE
    victim.honest_bob_connects()


def test_a_stranger_who_answers_for_a_member_is_refused_at_once() -> None:
    alice, bob = throw_away(("alice", "bob"))
    mallory = throw_away(("alice",))[0]
    trap = GrpcServerPort.bind(mallory, [mallory.certificate, bob.certificate], "127.0.0.1:0")
    threading.Thread(target=_connect_quietly, args=(trap, 2), daemon=True).start()
    port = GrpcServerPort.bind(
        bob, [alice.certificate, bob.certificate], "127.0.0.1:0", limits=Limits(connect=20)
    )
    began = time.monotonic()
    with pytest.raises(
        PeerRefused, match=r"alice at 127.0.0.1:\d+ does not show alice's certificate"
    ) as caught:
        port.connect([f"127.0.0.1:{trap.port}", "127.0.0.1:1"], job=JOB)
    assert time.monotonic() - began < 10
    assert alice.certificate.fingerprint in str(caught.value)
    trap.close()


@pytest.mark.parametrize("names", [("alice", "bob", "carol")])
def test_members_with_swapped_certificates_are_refused(names: tuple[str, ...]) -> None:
    """Bob and carol listen at each other's address: carol finds bob's certificate wrong, and so all stop."""
    identities = throw_away(names)
    ports = bind_all(identities, limits=Limits(connect=5))
    at = [f"127.0.0.1:{port.port}" for port in ports]
    errors = connect_all(ports, addresses=[at[1], at[0], at[2]])
    assert isinstance(errors[2], PeerRefused), errors[2]
    assert all(isinstance(error, PeerError) for error in errors)


def test_an_expired_certificate_does_not_get_in() -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    (alice,), (bob,) = throw_away(("alice",)), throw_away(("bob",), days=2, now=past)
    errors = connect_all(bind_all((alice, bob), limits=Limits(connect=2)))
    assert isinstance(errors[0], PeerAbsent), errors
    assert isinstance(errors[1], PeerError), errors


def test_an_expired_certificate_does_not_answer() -> None:
    past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=30)
    (alice,), (bob,) = throw_away(("alice",), days=2, now=past), throw_away(("bob",))
    errors = connect_all(bind_all((alice, bob), limits=Limits(connect=2)))
    assert isinstance(errors[1], PeerRefused), errors
    assert "not valid now" in str(errors[1])


def test_a_member_cannot_issue_a_certificate_in_anothers_name(victim: Victim) -> None:
    authority = serialization.load_pem_private_key(victim.bob.key, None)
    carol = throw_away(("bob",))[0]
    theirs = x509.load_der_x509_certificate(carol.certificate.der)
    issuer = x509.load_der_x509_certificate(victim.bob.certificate.der)
    builder = x509.CertificateBuilder(
        issuer.subject, theirs.subject, theirs.public_key(), theirs.serial_number,
        theirs.not_valid_before_utc, theirs.not_valid_after_utc, list(theirs.extensions),
    )  # fmt: skip
    forged = builder.sign(authority, hashes.SHA256())  # type: ignore[arg-type]
    der = forged.public_bytes(serialization.Encoding.DER)
    certificate = Certificate(carol.party, der, theirs.not_valid_before_utc, theirs.not_valid_after_utc)
    assert _dial(victim, Identity(certificate, carol.key)) == grpc.StatusCode.UNAVAILABLE
    victim.honest_bob_connects()


def test_a_member_who_should_be_dialled_may_not_dial() -> None:
    identities = throw_away(("alice", "bob"))
    ports = bind_all(identities, limits=Limits(connect=5))
    thread = threading.Thread(target=_connect_quietly, args=(ports[1], 2), daemon=True)
    thread.start()
    credentials = grpc.ssl_channel_credentials(
        identities[1].certificate.pem, identities[0].key, identities[0].certificate.pem
    )
    target = [("grpc.ssl_target_name_override", dns_name(identities[1].party))]
    with grpc.secure_channel(f"127.0.0.1:{ports[1].port}", credentials, target) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            next(channel.stream_stream(METHOD)(iter([b""]), timeout=10))
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
    for port in ports:
        port.close()


def test_a_second_stream_as_the_same_member_is_refused(victim: Victim) -> None:
    first, second = Evil(victim.port, victim.bob), None
    writer = first.hello()
    alice = victim.transport()
    second = Evil(victim.port, victim.bob)
    second.say(encode_hello(Hello(transport_grpc.software(), JOB, FACTS)))
    assert second.ended_with() == grpc.StatusCode.ALREADY_EXISTS
    first.say(*writer.message([memoryview(b"first")]))
    assert bytes(alice.recv(1)) == b"first"
    second.leave()
    first.leave()


# The connection.


def test_a_plaintext_client_gets_no_answer(victim: Victim) -> None:
    with (
        grpc.insecure_channel(f"127.0.0.1:{victim.port.port}") as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        next(channel.stream_stream(METHOD)(iter([b"x"]), timeout=5))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    victim.honest_bob_connects()


def test_below_tls_1_3_there_is_no_handshake(tmp_path: Path) -> None:
    """Against a process of its own: here, gRPC was loaded before mpcpriv could choose its settings."""
    identities = _save(tmp_path)
    with _member(tmp_path, "alice") as child:
        assert child.stdout is not None
        port = int(child.stdout.readline())
        assert child.stdin is not None
        child.stdin.write("127.0.0.1:1 127.0.0.1:1 127.0.0.1:1\n")
        child.stdin.flush()
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(cadata=identities[0].certificate.pem.decode())
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            context.load_cert_chain(tmp_path / "bob.crt", tmp_path / "bob.key")
            context.minimum_version = context.maximum_version = version
            context.set_alpn_protocols(["h2"])
            name = dns_name(identities[0].party)
            with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
                if version == ssl.TLSVersion.TLSv1_3:
                    with context.wrap_socket(plain, server_hostname=name) as secured:
                        assert secured.recv(9)  # HTTP/2 settings
                else:
                    with pytest.raises(OSError, match=r"(?i)ssl|eof|reset"):
                        context.wrap_socket(plain, server_hostname=name)


def test_a_call_below_tls_1_3_is_nobodys() -> None:
    """The second line of defence, should gRPC ever be loaded with other settings."""
    alice = throw_away(("alice",))[0].certificate

    class Context:
        def __init__(self, version: bytes) -> None:
            self.version = version

        def auth_context(self) -> dict[str, list[bytes]]:
            return {"ssl_tls_version": [self.version], "x509_pem_cert": [alice.pem]}

    assert transport_grpc.caller(Context(b"TLSv1.3"), [alice]) == 0
    assert transport_grpc.caller(Context(b"TLSv1.2"), [alice]) is None


def test_a_hundred_connections_that_say_nothing_keep_nobody_out(victim: Victim) -> None:
    idle = [socket.create_connection(("127.0.0.1", victim.port.port), timeout=10) for _ in range(100)]
    victim.honest_bob_connects()
    for connection in idle:
        connection.close()


def test_a_member_that_says_no_hello_is_let_go(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport_grpc, "HELLO", 0.5)
    silent = Evil(victim.port, victim.bob)
    assert silent.ended_with() == grpc.StatusCode.DEADLINE_EXCEEDED
    silent.leave()
    victim.honest_bob_connects()


def test_huge_headers_are_refused(victim: Victim) -> None:
    port = GrpcServerPort.bind(victim.bob, victim.port.members, "127.0.0.1:0")
    with port.channel(0, f"127.0.0.1:{victim.port.port}", Limits()) as channel:
        call = channel.stream_stream(METHOD)(iter([b"x"]), metadata=[("x", "y" * 20_000)], timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            next(call)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    port.close()
    victim.honest_bob_connects()


def test_compressed_messages_are_refused(victim: Victim) -> None:
    evil = Evil(victim.port, victim.bob, compression=grpc.Compression.Gzip)
    evil.say(
        encode_hello(Hello(transport_grpc.software(), JOB, (("members", "alice, bob"), ("x", "y" * 9000))))
    )
    assert evil.ended_with() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL)
    evil.leave()


def test_a_packet_above_the_limit_is_not_taken_in(victim: Victim) -> None:
    evil = Evil(victim.port, victim.bob)
    evil.hello()
    alice = victim.transport()
    evil.say(bytes(5 << 20))
    with pytest.raises((PeerGone, FrameRefused)) as caught:
        alice.recv(1)
    assert caught.value.peer == "bob"
    evil.leave()


# The hello.


@pytest.mark.parametrize(
    "packet",
    [b"", b"\x80\x80", b"\x0a\x02\x08\x01", bytes(70_000), encode(Frame(Kind.FINISH, 1, 1, JOB, bytes(32)))],
)
def test_garbage_for_a_hello_is_refused(victim: Victim, packet: bytes) -> None:
    evil = Evil(victim.port, victim.bob)
    evil.say(packet)
    outcome = victim.outcome()
    assert isinstance(outcome, FrameRefused), outcome
    assert outcome.peer == "bob"
    evil.leave()


def test_another_version_of_the_wire_is_named(victim: Victim) -> None:
    evil = Evil(victim.port, victim.bob)
    evil.say(encode_hello(Hello("9.9", JOB, wire=2)))
    outcome = victim.outcome()
    assert isinstance(outcome, PeerRefused)
    assert "version 2 of the wire" in str(outcome)
    evil.leave()


# Frames. Each gets one good frame through first, then the bad ones.

Attack = Callable[[Evil, FrameWriter, bytes], list[bytes]]


def _abort(evil: Evil, culprit: str, reason: str) -> bytes:
    return encode(Frame(Kind.ABORT, 2, 1, JOB, evil.stream, culprit=culprit, reason=reason))


def _data(evil: Evil, **changes: object) -> bytes:
    proper: dict[str, object] = {
        "kind": Kind.DATA, "sequence": 2, "sender": 1, "job": JOB, "epoch": evil.stream,
        "length": 4, "payload": b"evil",
    }  # fmt: skip
    return encode(Frame(**{**proper, **changes}))  # type: ignore[arg-type]


ATTACKS: dict[str, tuple[Attack, str]] = {
    "replayed": (lambda e, w, g: [g], "replayed"),
    "skipped": (lambda e, w, g: [_data(e, sequence=3)], "out of order"),
    "swapped": (
        lambda e, w, g: [*w.message([memoryview(b"1")]), *w.message([memoryview(b"2")])][::-1],
        "out of order",
    ),
    "another rank": (lambda e, w, g: [_data(e, sender=0)], "rank 0"),
    "another job": (lambda e, w, g: [_data(e, job=bytes(16))], "another job"),
    "another epoch": (lambda e, w, g: [_data(e, epoch=bytes(32))], "another epoch"),
    "length of 2^31": (lambda e, w, g: [_data(e, length=1 << 31)], "above the limit"),
    "length of 2^64-1": (lambda e, w, g: [_data(e, length=(1 << 64) - 1)], "above the limit"),
    "one byte over": (lambda e, w, g: [_data(e, length=(1 << 20) + 1)], "above the limit"),
    "more than announced": (lambda e, w, g: [_data(e, length=3)], "4 bytes of a message of 3"),
    "more than announced, later": (
        lambda e, w, g: [_data(e, length=6), _data(e, sequence=3, length=None)],
        "8 bytes of a message of 6",
    ),
    "no beginning": (lambda e, w, g: [_data(e, length=None)], "has not begun"),
    "two beginnings": (
        lambda e, w, g: [_data(e, length=9), _data(e, sequence=3)],
        "in the middle of another",
    ),
    "empty first piece": (lambda e, w, g: [_data(e, payload=b"")], "empty piece"),
    "empty later piece": (
        lambda e, w, g: [_data(e, length=9), _data(e, sequence=3, length=None, payload=b"")],
        "empty piece",
    ),
    "end in the middle": (
        lambda e, w, g: [_data(e, length=9), encode(Frame(Kind.FINISH, 3, 1, JOB, e.stream))],
        "middle of a message",
    ),
    "truncated": (lambda e, w, g: [_data(e)[:-1]], "cut short"),
    "padded": (lambda e, w, g: [_data(e) + b"\0"], "padded"),
    "empty": (lambda e, w, g: [b""], "not a frame"),
    "garbage": (lambda e, w, g: [b"\x80\x04\x95 pickled"], "not a frame"),
    "unknown kind": (lambda e, w, g: [_data(e)[:3] + b"\x07" + _data(e)[4:]], "unknown kind 7"),
    "second hello": (lambda e, w, g: [encode_hello(Hello("1", JOB))], "not a frame"),
    "blames a stranger": (lambda e, w, g: [_abort(e, "eve", "x")], "no member"),
    "terminal escapes": (
        lambda e, w, g: [_abort(e, "bob", "\x1b[2J")],
        "do not print",
    ),
    "endless reason": (
        lambda e, w, g: [_abort(e, "bob", "x" * 1001)],
        "1001 bytes",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_bad_frame_stops_the_job_and_names_its_sender(victim: Victim, attack: str) -> None:
    make, words = ATTACKS[attack]
    evil = Evil(victim.port, victim.bob)
    writer = evil.hello()
    alice = victim.transport()
    (good,) = writer.message([memoryview(b"good")])
    evil.say(good)
    assert bytes(alice.recv(1)) == b"good"
    evil.say(*make(evil, writer, good))
    with pytest.raises(FrameRefused, match=r"^bob sent a bad frame \(after \d good ones\): ") as caught:
        alice.recv(1)
    assert words in str(caught.value)
    assert caught.value.peer == "bob"
    assert "evil" not in str(caught.value)
    evil.leave()


def test_frames_of_an_earlier_stream_of_the_same_job_are_refused() -> None:
    recorded: list[bytes] = []
    for attempt in range(2):
        victim = Victim()
        evil = Evil(victim.port, victim.bob)
        writer = evil.hello()
        alice = victim.transport()
        recorded = recorded or list(writer.message([memoryview(b"pay 100")]))
        evil.say(*recorded)
        if attempt == 0:
            assert bytes(alice.recv(1)) == b"pay 100"
        else:
            with pytest.raises(FrameRefused, match="another epoch"):
                alice.recv(1)
        evil.leave()
        alice.abort("over")


def test_what_comes_after_the_end_is_refused_or_unread(victim: Victim) -> None:
    evil = Evil(victim.port, victim.bob)
    writer = evil.hello()
    alice = victim.transport()
    evil.say(writer.finish(), *writer.message([memoryview(b"ghost")]))
    with pytest.raises(PeerError, match="bob") as caught:
        alice.recv(1)
    assert caught.value.peer == "bob"
    evil.leave()


# Dead and stopped peers.


@pytest.mark.parametrize(("how", "within"), [(signal.SIGKILL, 5.0), (signal.SIGSTOP, 14.0)])
@pytest.mark.parametrize("name", ["alice", "bob", "carol"])
def test_a_killed_or_stopped_member_is_noticed_and_named(
    tmp_path: Path, how: signal.Signals, within: float, name: str
) -> None:
    identities = _save(tmp_path)
    with _member(tmp_path, name) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        rank = NAMES.index(name)
        certificates = [identity.certificate for identity in identities]
        ports = [
            GrpcServerPort.bind(one, certificates, "127.0.0.1:0", limits=Limits(connect=30))
            for one in identities
            if one.party != name
        ]
        table = [f"127.0.0.1:{port.port}" for port in ports]
        table.insert(rank, f"127.0.0.1:{int(child.stdout.readline())}")
        child.stdin.write(" ".join(table) + "\n")
        child.stdin.flush()
        survivors = [one for one in connect_all(ports, addresses=table) if isinstance(one, GrpcTransport)]
        assert len(survivors) == 2
        for one in survivors:
            assert bytes(one.recv(rank)) == b"up"
        began = time.monotonic()
        child.send_signal(how)
        for one in survivors:
            other = 3 - rank - one.rank
            with pytest.raises((PeerGone, PeerAborted), match=f"{name} is gone") as caught:
                one.recv(other)  # waiting for the other survivor, who says nothing
            assert caught.value.peer == name
        assert time.monotonic() - began < within
        for one in survivors:
            one.abort("over")


def _save(folder: Path) -> tuple[Identity, ...]:
    identities = throw_away(NAMES)
    for identity in identities:
        save_identity(identity, folder / f"{identity.party}.crt", folder / f"{identity.party}.key")
    return identities


@contextlib.contextmanager
def _member(folder: Path, name: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.protocol.transport_member", str(folder), name],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=10)


def _connect_quietly(port: GrpcServerPort, members: int) -> None:
    try:
        port.connect(["127.0.0.1:1"] * members, job=JOB, limits=Limits(connect=8))
    except PeerError:
        return  # what the other side sees is what is tested
