"""gRPC between daemons, and between a daemon and its own client: mutual TLS 1.3, pinned certificates.

What `mpcpriv.transport.grpc` says of certificates holds here too. The members that may come in change with
the agreements that are held, so the trust anchors are asked for at each handshake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from google.protobuf.message import DecodeError, Message

from mpcpriv.errors import MpcprivError, UsageError
from mpcpriv.transport.daemon import DaemonExecutor
from mpcpriv.transport.grpc import caller, grpc
from mpcpriv.transport.tls import Certificate, Identity, dns_name
from mpcpriv.v1 import control_pb2

log = structlog.get_logger()

DAEMON: Final = "mpcpriv.v1.Daemon"
CONTROL: Final = "mpcpriv.v1.Control"

MAX_REQUEST: Final = 8 << 20
"""The longest request, in bytes."""
MAX_RESPONSE: Final = 256 << 20
"""The longest answer, in bytes: a result."""
CALLS: Final = 128
"""How many calls a daemon serves at once."""


@dataclass(frozen=True)
class Method:
    """One call: what goes in and what comes out, as protobuf messages.

    Attributes:
        path: `/service/name`.
        streams: whether answers come one after another.
    """

    path: str
    request: type[Message]
    response: type[Message]
    streams: bool = False


_pb: Any = control_pb2
DELIVER: Final = Method(f"/{DAEMON}/Deliver", _pb.SignedRecord, _pb.Delivered)
ADD_AGREEMENT: Final = Method(f"/{CONTROL}/AddAgreement", _pb.AgreementDocument, _pb.AgreementSummary)
LIST_AGREEMENTS: Final = Method(f"/{CONTROL}/ListAgreements", _pb.Everything, _pb.AgreementList)
SUBMIT: Final = Method(f"/{CONTROL}/Submit", _pb.JobDocument, _pb.JobName)
LIST: Final = Method(f"/{CONTROL}/List", _pb.JobFilter, _pb.JobList)
SHOW: Final = Method(f"/{CONTROL}/Show", _pb.JobName, _pb.JobView)
DECIDE: Final = Method(f"/{CONTROL}/Decide", _pb.Verdict, _pb.JobView)
CANCEL: Final = Method(f"/{CONTROL}/Cancel", _pb.Cancellation, _pb.JobView)
WATCH: Final = Method(f"/{CONTROL}/Watch", _pb.JobName, _pb.JobView, streams=True)
FETCH: Final = Method(f"/{CONTROL}/Fetch", _pb.JobName, _pb.ResultDocument)
AUDIT_HEAD: Final = Method(f"/{CONTROL}/AuditHead", _pb.Everything, _pb.Head)


class Refused(MpcprivError):
    """A call that is answered with an error.

    Attributes:
        code: of gRPC.
    """

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


Handler = Callable[[Any, Certificate], Any]
"""Answers a request of whoever holds this certificate: a message, or an iterator of messages."""


def channel(identity: Identity, peer: Certificate, address: str) -> grpc.Channel:
    """A connection, to be made when it is used, to the daemon of `peer` and to nobody else."""
    credentials = grpc.ssl_channel_credentials(
        root_certificates=peer.pem, private_key=identity.key, certificate_chain=identity.certificate.pem
    )
    options = [
        *_options(MAX_RESPONSE, MAX_REQUEST),
        ("grpc.ssl_target_name_override", dns_name(peer.party)),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.min_reconnect_backoff_ms", 2000),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    return grpc.secure_channel(f"dns:///{address}", credentials, options=options)


def stub(connection: grpc.Channel, method: Method) -> Any:
    """The method as a function of a request."""
    make = connection.unary_stream if method.streams else connection.unary_unary
    return make(
        method.path,
        request_serializer=method.request.SerializeToString,
        response_deserializer=method.response.FromString,
    )


class Server:
    """The control port.

    Args:
        identity: our own.
        members: everyone who may come in, ourselves first; asked at each handshake and each call.
        handlers: what answers.
        health: gRPC's health service, once it is known.
    """

    def __init__(
        self,
        identity: Identity,
        members: Callable[[], Sequence[Certificate]],
        handlers: dict[Method, Handler],
        health: Callable[[Any], None],
    ) -> None:
        pair = [(identity.key, identity.certificate.pem)]

        def configuration() -> Any:
            anchors = b"".join(member.pem for member in members())
            return grpc.ssl_server_certificate_configuration(pair, root_certificates=anchors)

        self._credentials = grpc.dynamic_ssl_server_credentials(
            configuration(), configuration, require_client_authentication=True
        )
        self._server = grpc.server(
            DaemonExecutor("mpcpriv control"),
            options=[
                *_options(MAX_REQUEST, MAX_RESPONSE),
                ("grpc.so_reuseport", 0),
                ("grpc.max_concurrent_streams", 32),
                ("grpc.server_handshake_timeout_ms", 10_000),
                ("grpc.max_allowed_incoming_connections", 1024),
            ],
            maximum_concurrent_rpcs=CALLS,
        )
        self._server.add_generic_rpc_handlers((_Door(members, handlers),))
        health(self._server)

    def start(self, address: str) -> int:
        """Listens; returns the port.

        Raises:
            UsageError: the address cannot be had.
        """
        try:
            port: int = self._server.add_secure_port(address, self._credentials)
        except RuntimeError:
            port = 0
        if not port:
            raise UsageError(f"daemon.listen {address!r}: cannot be listened at; is it another process's?")
        self._server.start()
        return port

    def stop(self, seconds: float) -> None:
        """Takes no more calls, and gives those that run so long."""
        self._server.stop(seconds).wait(seconds + 1)


class _Door(grpc.GenericRpcHandler):  # type: ignore[misc]  # gRPC has no types
    def __init__(self, members: Callable[[], Sequence[Certificate]], handlers: dict[Method, Handler]) -> None:
        self._members = members
        self._methods = {method.path: (method, handler) for method, handler in handlers.items()}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        found = self._methods.get(details.method)
        if found is None:
            return None
        method, handler = found

        def who(context: grpc.ServicerContext) -> Certificate:
            members = self._members()
            place = caller(context, members)
            if place is None:
                raise Refused(grpc.StatusCode.PERMISSION_DENIED, "not the certificate of a member")
            return members[place]

        def answer(data: bytes, context: grpc.ServicerContext) -> bytes:
            with _told(context):
                return bytes(handler(_parsed(method, data), who(context)).SerializeToString())
            raise AssertionError("a refused call has been aborted")

        def answers(data: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            with _told(context):
                for message in handler(_parsed(method, data), who(context)):
                    if not context.is_active():
                        return
                    yield message.SerializeToString()

        if method.streams:
            return grpc.unary_stream_rpc_method_handler(answers)
        return grpc.unary_unary_rpc_method_handler(answer)


def _parsed(method: Method, data: bytes) -> Message:
    try:
        return method.request.FromString(data)
    except DecodeError:
        raise Refused(grpc.StatusCode.INVALID_ARGUMENT, "not the message of this call") from None


class _told:  # noqa: N801 -- used as a function
    """Answers a call with the error that was raised for it."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if isinstance(error, Refused):
            self._context.abort(error.code, str(error))
        if isinstance(error, UsageError):
            self._context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if isinstance(error, Exception):
            # gRPC would send its text to whoever called.
            log.error("a call failed here", exc_info=error)
            self._context.abort(grpc.StatusCode.INTERNAL, "failed; the daemon's log says why")


def _options(receive: int, send: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", receive),
        ("grpc.max_send_message_length", send),
        ("grpc.compression_enabled_algorithms_bitset", 1),  # none: nothing that could blow up on arrival
        ("grpc.max_metadata_size", 4096),
        ("grpc.absolute_max_metadata_size", 8192),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]
