"""Members over gRPC within one process, for tests."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from mpcpriv.errors import MpcprivError
from mpcpriv.transport.base import Limits
from mpcpriv.transport.grpc import GrpcServerPort, GrpcTransport
from mpcpriv.transport.tls import Certificate, Identity, throw_away

JOB = b"sixteen bytes ok"


def bind_all(
    identities: Sequence[Identity],
    *,
    members: Sequence[Certificate] | None = None,
    limits: Limits | None = None,
) -> list[GrpcServerPort]:
    known = members or [identity.certificate for identity in identities]
    return [GrpcServerPort.bind(identity, known, "127.0.0.1:0", limits=limits) for identity in identities]


def connect_all(
    ports: Sequence[GrpcServerPort],
    *,
    addresses: Sequence[str] | None = None,
    jobs: Mapping[int, bytes] | None = None,
    facts: Mapping[int, Mapping[str, str]] | None = None,
    tables: Mapping[int, Sequence[str]] | None = None,
) -> list[GrpcTransport | MpcprivError]:
    """Connects all ports at once; returns each one's transport or error, in their order."""
    table = addresses or [f"127.0.0.1:{port.port}" for port in ports]
    results: dict[int, GrpcTransport | MpcprivError] = {}

    def connect(place: int, port: GrpcServerPort) -> None:
        try:
            job, stated = (jobs or {}).get(place, JOB), (facts or {}).get(place, {})
            own = (tables or {}).get(place, table)
            results[place] = port.connect(own, job=job, facts=stated)
        except MpcprivError as error:
            results[place] = error

    threads = [
        threading.Thread(target=connect, args=(place, port), daemon=True) for place, port in enumerate(ports)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    return [results[place] for place in range(len(ports))]


def transports(names: Sequence[str], limits: Limits) -> list[GrpcTransport]:
    connected = connect_all(bind_all(throw_away(names), limits=limits))
    failed = [result for result in connected if isinstance(result, MpcprivError)]
    if failed:
        raise failed[0]
    return [result for result in connected if isinstance(result, GrpcTransport)]
