"""Members in different processes: gRPC over mutual TLS 1.3, one stream per pair. There is no other mode.

Each member binds a port (`GrpcServerPort.bind`), learns the others' addresses and connects
(`GrpcServerPort.connect`): it dials the members of lower rank and is dialled by those of higher rank. A
peer's rank follows from its certificate alone. The trust anchors are the members' own certificates
(BoringSSL takes a pinned leaf as an anchor), and the acceptor compares the presented one byte by byte.

Messages are bytes already (`mpcpriv.transport.frame`), so gRPC's own serialisation is the identity.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from queue import Empty, SimpleQueue
from types import MappingProxyType
from typing import Any, Final

from mpcpriv.errors import FrameRefused, PeerAbsent, PeerError, PeerGone, PeerRefused, UsageError
from mpcpriv.transport.base import Limits
from mpcpriv.transport.daemon import DaemonExecutor
from mpcpriv.transport.frame import MAX_PACKET, FrameReader, FrameWriter, epoch
from mpcpriv.transport.heap import keep_pages
from mpcpriv.transport.hello import Hello, compare, decode_hello, encode_hello
from mpcpriv.transport.mesh import FAREWELL, Link, Mesh
from mpcpriv.transport.tls import Certificate, Identity, dns_name

_SETTINGS: Final = {
    # The only TLS 1.2 suite left needs an RSA key, and members have ECDSA keys: TLS 1.3 remains, whose
    # suites this setting does not touch.
    "GRPC_SSL_CIPHER_SUITES": "ECDHE-RSA-AES256-GCM-SHA384",
    # gRPC writes to stderr when a peer dies; whoever wants that sets the variable.
    "GRPC_VERBOSITY": os.environ.get("GRPC_VERBOSITY", "NONE"),
}
# gRPC reads its settings from the environment, once, when it is first imported. They are put back at once.
_before = {name: os.environ.get(name) for name in _SETTINGS}
os.environ.update(_SETTINGS)
try:
    import grpc as grpc  # noqa: PLC0414 -- from here only, so that the settings hold
finally:
    for _name, _value in _before.items():
        if _value is None:
            del os.environ[_name]
        else:
            os.environ[_name] = _value

METHOD: Final = "/mpcpriv.v1.Transport/Exchange"

HELLO: Final = 10.0
"""Seconds that a connected peer has to say hello."""

_ADDRESS: Final = re.compile(r"(?P<host>\[[0-9a-fA-F:.%]+\]|[A-Za-z0-9._-]+):(?P<port>[0-9]{1,5})")
_REDIAL: Final = 0.1
_GRACE: Final = 0.5
_DOUBTFUL: Final = 2.0  # seconds until "you are connected already" is believed to be about another process
_NO_FACTS: Final[Mapping[str, str]] = MappingProxyType({})


def software() -> str:
    """The installed release of mpcpriv, which must be the same at all members."""
    try:
        return importlib.metadata.version("mpcpriv")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def caller(context: grpc.ServicerContext, members: Sequence[Certificate]) -> int | None:
    """The rank of whoever makes this call, by its certificate; None for a stranger or below TLS 1.3."""
    proof = context.auth_context()
    if proof.get("ssl_tls_version") != [b"TLSv1.3"]:
        return None
    shown = proof.get("x509_pem_cert", [])
    if len(shown) != 1:
        return None
    for rank, member in enumerate(members):
        if member.pem.strip() == shown[0].strip():
            return rank
    return None


class GrpcTransport(Mesh):
    """One member's streams to all the others; made by `GrpcServerPort.connect`."""

    def __init__(
        self,
        port: GrpcServerPort,
        addresses: Sequence[str],
        limits: Limits,
        job: bytes,
        facts: Mapping[str, str],
    ) -> None:
        super().__init__([member.party for member in port.members], port.rank, limits)
        self._port = port
        self._addresses = tuple(addresses)
        self._job = job
        self._facts = {"members": ", ".join(self.members), **facts}
        self._software = software()
        self._claimed: set[int] = set()
        self._calls: dict[int, Any] = {}
        self._trouble: dict[int, str] = {}
        self._channels = {
            rank: port.channel(rank, self._addresses[rank], limits) for rank in range(self.rank)
        }
        self._hello()  # refuses a bad job or bad facts here, on the caller's thread

    def connect(self) -> None:
        """Dials and accepts until every peer is there.

        Raises:
            PeerAbsent: some peers did not come within `limits.connect` seconds; all are named.
            PeerError: a peer is not who or what it should be, or failed meanwhile.
        """
        deadline = time.monotonic() + self.limits.connect
        for rank in self._channels:
            link = self.link(rank)
            threading.Thread(
                target=self._dial, args=(link,), name=f"mpcpriv {link.peer}", daemon=True
            ).start()
        with self._lock:
            links = self._links.values()
            self._changed.wait_for(
                lambda: self._failure is not None or self._over or all(link.opened for link in links),
                deadline - time.monotonic(),
            )
            missing = [link for link in links if not link.opened]
        if missing:
            names = ", ".join(
                f"{link.peer} ({self._addresses[link.rank]}{self._why(link)})" for link in missing
            )
            self.fail(PeerAbsent(missing[0].peer, f"not connected within {self.limits.connect:g} s: {names}"))
        with self._lock:
            failure = self._failure
        if failure is not None:
            self.abort(str(failure))
            raise failure

    def accept(self, packets: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        """Serves one stream that a peer opened, on gRPC's thread, from hello to end."""
        rank = caller(context, self._port.members)
        if rank is None or rank <= self.rank:
            context.set_code(grpc.StatusCode.PERMISSION_DENIED)
            context.set_details("the certificate is not that of a member that dials here")
            return
        link = self.link(rank)
        with self._lock:
            taken = rank in self._claimed
            self._claimed.add(rank)
        if taken:
            context.set_code(grpc.StatusCode.ALREADY_EXISTS)
            context.set_details(f"{link.peer} is connected already")
            return
        try:
            yield from self._serve(link, packets, context)
        finally:
            if not link.opened:
                with self._lock:
                    self._claimed.discard(rank)

    def _serve(self, link: Link, packets: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        incoming = _translated(link.peer, packets)
        first: SimpleQueue[bytes | None] = SimpleQueue()
        agreed: SimpleQueue[bool] = SimpleQueue()

        def read() -> None:
            try:
                first.put(next(incoming, None))
            except PeerGone:
                first.put(None)
            if agreed.get():
                self.pump(link, incoming)

        threading.Thread(target=read, name=f"mpcpriv {link.peer}", daemon=True).start()
        opened = False
        try:
            theirs = first.get(timeout=HELLO)
            if theirs is None:
                return
            ours = self._hello()
            # Ours goes out whatever theirs says, so that both sides can name what differs; and only after
            # we have looked at theirs, for a peer that refuses ours hangs up, which ends this generator.
            opened = self._agree(link, ours, theirs)
            yield encode_hello(ours)
        except Empty:
            context.set_code(grpc.StatusCode.DEADLINE_EXCEEDED)
            context.set_details(f"no hello within {HELLO:g} s")
            return
        finally:
            agreed.put(opened)
        if not opened:
            context.set_code(grpc.StatusCode.FAILED_PRECONDITION)
            context.set_details("the hellos differ, or this member has stopped")
            return
        if not context.add_callback(lambda: self.broke(link)):
            self.broke(link)
        yield from self.packets(link)
        # To return is to end the stream in both directions: only when the peer has no more to say.
        link.over.wait()

    def _dial(self, link: Link) -> None:
        """Calls a peer until it answers; then reads what it sends, to the end."""
        start = self._channels[link.rank].stream_stream(METHOD)
        began = time.monotonic()
        while not self._stopped():
            ours = self._hello()
            agreed: SimpleQueue[bool] = SimpleQueue()
            opened = False
            call = start(self._outgoing(link, ours, agreed))
            self._calls[link.rank] = call
            try:
                theirs = next(call, None)
                if theirs is not None:
                    opened = self._agree(link, ours, theirs)
            except grpc.RpcError as error:
                refusal = self._refusal(link, error, time.monotonic() - began)
                if refusal is not None:
                    self.fail(refusal)
                    return
            finally:
                agreed.put(opened)
            if opened:
                if not call.add_callback(lambda: self.broke(link)):
                    self.broke(link)
                self.pump(link, _translated(link.peer, call))
                return
            call.cancel()
            time.sleep(_REDIAL)

    def _outgoing(self, link: Link, ours: Hello, agreed: SimpleQueue[bool]) -> Iterator[bytes]:
        yield encode_hello(ours)
        if agreed.get():
            yield from self.packets(link)

    def _hello(self) -> Hello:
        return Hello.of(self._software, self._job, self._facts)

    def _agree(self, link: Link, ours: Hello, theirs: bytes) -> bool:
        try:
            their_hello = decode_hello(link.peer, theirs)
            compare(link.peer, ours, their_hello)
        except (PeerRefused, FrameRefused) as error:
            self.fail(error)
            return False
        our_bytes = encode_hello(ours)
        stream = epoch(our_bytes, theirs) if self.rank < link.rank else epoch(theirs, our_bytes)
        return self.open_link(
            link,
            FrameWriter(self.rank, self._job, stream, self.limits.chunk),
            FrameReader(link.peer, link.rank, self.members, self._job, stream, self.limits),
        )

    def _refusal(self, link: Link, error: grpc.RpcError, elapsed: float) -> PeerError | None:
        """What a failed attempt means: None to try again."""
        code, details = error.code(), error.details() or ""
        address = self._addresses[link.rank]
        where = f"{link.peer} at {address}"
        if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
            return PeerRefused(
                link.peer,
                f"whoever answers for {where} does not show {link.peer}'s certificate as we know it (SHA-256 "
                f"{self._port.members[link.rank].fingerprint}), or it is not valid now",
            )
        if "WRONG_VERSION_NUMBER" in details:
            return PeerRefused(link.peer, f"whoever answers for {where} does not speak TLS")
        if code == grpc.StatusCode.PERMISSION_DENIED:
            return PeerRefused(
                link.peer,
                f"{where} does not take our certificate for that of a member that dials it: do both sides "
                "list the same members in the same order?",
            )
        if code == grpc.StatusCode.UNIMPLEMENTED:
            return PeerRefused(link.peer, f"{where} is no mpcpriv member: it does not know our protocol")
        if code == grpc.StatusCode.ALREADY_EXISTS and elapsed > _DOUBTFUL:
            return PeerRefused(
                link.peer,
                f"{where} is connected to {self.name} already: does another process run as {self.name}?",
            )
        self._trouble[link.rank] = "refused" if "refused" in details.lower() else "no answer"
        return None

    def _why(self, link: Link) -> str:
        trouble = self._trouble.get(link.rank)
        return f": {trouble}" if trouble else ""

    def _stopped(self) -> bool:
        return self._over or self._failure is not None

    def _hang_up(self) -> None:
        for call in list(self._calls.values()):
            call.cancel()
        for channel in self._channels.values():
            channel.close()
        self._port.close()


class GrpcServerPort:
    """A bound port, not yet in use: first bind, then tell the others where, then connect.

    Attributes:
        identity: our own certificate and key.
        members: every member's certificate, by rank.
        rank: our rank.
        port: the number of the port.
    """

    def __init__(
        self, identity: Identity, members: Sequence[Certificate], address: str, limits: Limits
    ) -> None:
        self.identity = identity
        self.members = tuple(members)
        self.limits = limits
        if identity.certificate not in self.members:
            raise UsageError(f"{identity.party}'s certificate is not among the members'")
        if len({member.party for member in self.members}) != len(self.members):
            raise UsageError("two members have one name")
        self.rank = self.members.index(identity.certificate)
        _checked_address(address)
        self._transport: GrpcTransport | None = None
        anchors = b"".join(member.pem for member in self.members if member != identity.certificate)
        credentials = grpc.ssl_server_credentials(
            [(identity.key, identity.certificate.pem)], root_certificates=anchors, require_client_auth=True
        )
        # One thread per stream; more streams than there are peers (and a few to be told so) wait for nothing.
        self._server = grpc.server(
            DaemonExecutor("mpcpriv serve"),
            options=[*_options(limits), *_SERVER],
            maximum_concurrent_rpcs=2 * len(self.members) + 8,
        )
        self._server.add_generic_rpc_handlers((_Door(self),))
        try:
            self.port = int(self._server.add_secure_port(address, credentials))
        except RuntimeError:
            raise UsageError(
                f"cannot listen on {address}: in use, or not an address of this machine"
            ) from None

    @classmethod
    def bind(
        cls, identity: Identity, members: Sequence[Certificate], address: str, *, limits: Limits | None = None
    ) -> GrpcServerPort:
        """Takes a port. Peers that dial it meanwhile wait until `connect`.

        Args:
            identity: our own certificate and key.
            members: every member's certificate in the order of rank, ours among them.
            address: `host:port` to listen on; port 0 takes a free one.
            limits: bounds on the peers.

        Raises:
            UsageError: our certificate is not among the members', or the address cannot be had.
        """
        return cls(identity, members, address, limits or Limits())

    def connect(
        self,
        addresses: Sequence[str],
        *,
        job: bytes,
        facts: Mapping[str, str] = _NO_FACTS,
        limits: Limits | None = None,
    ) -> GrpcTransport:
        """Connects to every other member; may be called once.

        Args:
            addresses: `host:port` of each member, by rank; our own is not used.
            job: the job's digest, 16 bytes, the same at all members.
            facts: what else must be the same at all members, by name.
            limits: bounds on the peers, if not those of `bind`.

        Raises:
            UsageError: an argument is wrong, or it is the second call.
            PeerAbsent: some members did not come in time; the message names them all.
            PeerRefused: a member is not who it should be or runs something else.
            PeerError: a member failed meanwhile.
        """
        if self._transport is not None:
            raise UsageError("a port connects once: bind another")
        if len(addresses) != len(self.members):
            raise UsageError(f"{len(addresses)} addresses for {len(self.members)} members")
        for rank, address in enumerate(addresses):
            if rank != self.rank:
                _checked_address(address)
        transport = self._transport = GrpcTransport(self, addresses, limits or self.limits, job, facts)
        keep_pages()
        self._server.start()
        transport.connect()
        return transport

    @property
    def transport(self) -> GrpcTransport | None:
        """What `connect` made."""
        return self._transport

    def close(self) -> None:
        """Gives the port back and cuts what is connected to it. A transport closes its own port."""
        # The grace lets a peer whose hello we refused still get ours, and so learn what differs.
        self._server.stop(_GRACE).wait(FAREWELL)

    def channel(self, rank: int, address: str, limits: Limits) -> grpc.Channel:
        """A connection to be made to the member of that rank, and to nobody else."""
        member = self.members[rank]
        credentials = grpc.ssl_channel_credentials(
            root_certificates=member.pem,
            private_key=self.identity.key,
            certificate_chain=self.identity.certificate.pem,
        )
        return grpc.secure_channel(
            f"dns:///{address}",
            credentials,
            options=[*_options(limits), *_CLIENT, ("grpc.ssl_target_name_override", dns_name(member.party))],
        )


class _Door(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    """What a port answers to: one method."""

    def __init__(self, port: GrpcServerPort) -> None:
        self._port = port

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        transport = self._port.transport
        if details.method != METHOD or transport is None:
            return None
        return grpc.stream_stream_rpc_method_handler(transport.accept)


def _options(limits: Limits) -> list[tuple[str, int]]:
    probe = max(1000, round(limits.keepalive * 1000))
    return [
        ("grpc.max_receive_message_length", MAX_PACKET),
        ("grpc.max_send_message_length", MAX_PACKET),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: nothing that could blow up on arrival
        ("grpc.max_metadata_size", 4096),
        ("grpc.absolute_max_metadata_size", 8192),
        ("grpc.keepalive_time_ms", probe),
        ("grpc.keepalive_timeout_ms", probe),
        # This one governs in the end, for every ping; left alone, a stopped peer goes unnoticed for a minute.
        ("grpc.http2.ping_timeout_ms", probe),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 500),
    ]


_SERVER: Final = (
    ("grpc.so_reuseport", 0),  # a second process on the port is an error, not a rival
    ("grpc.max_concurrent_streams", 4),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_allowed_incoming_connections", 1024),
)

_CLIENT: Final = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 5000),
    ("grpc.max_reconnect_backoff_ms", 1000),
)


def _translated(peer: str, packets: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from packets
    except grpc.RpcError:
        raise PeerGone(
            peer, f"{peer} is gone: the connection broke (it crashed, was stopped or lost its network)"
        ) from None


def _checked_address(address: str) -> None:
    match = _ADDRESS.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise UsageError(f"address {address!r}: use HOST:PORT, an IPv6 host in brackets")
