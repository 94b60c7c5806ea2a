"""Every parser that takes bytes from outside: what it promises, and inputs near to those that it accepts.

Left out are libraries below us (TLS, HTTP/2, ONNX, DuckDB's CSV and Parquet), the pipe between a daemon and
the processes that it started itself, and messages of shares, of which header and length are known before.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.odrl import decode_odrl, encode_odrl, to_odrl
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.agreement.toml import parse_agreement
from mpcpriv.audit.entry import parse as parse_entry
from mpcpriv.audit.receipt import Receipt
from mpcpriv.documents import verify
from mpcpriv.engine import objects
from mpcpriv.engine.correlation import wire as dealing
from mpcpriv.errors import FrameRefused, MpcprivError, PeerRefused, UsageError
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.job.toml import parse_job
from mpcpriv.party import cluster, config
from mpcpriv.party.records import Record
from mpcpriv.transport import frame, hello
from mpcpriv.transport.base import Limits
from mpcpriv.transport.grpc import _checked_address
from mpcpriv.transport.tls import parse_certificate
from mpcpriv.v1 import dealer_pb2, objects_pb2, transport_pb2
from tests.fuzz import examples
from tests.fuzz.door import Door
from tests.fuzz.mutate import Maker, Message, choice, texts
from tests.fuzz.shares import SHARES, headed, shares
from tests.unit.agreements import NOW


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        accept: takes an input, and asserts that it encodes again as it was.
        refusals: the errors that are documented for all other inputs.
        make: makes an input.
        valid: inputs that are accepted.
    """

    accept: Callable[[bytes], None]
    make: Maker
    valid: tuple[bytes, ...]
    refusals: tuple[type[MpcprivError | ValueError], ...] = (UsageError,)

    def accepts(self, data: bytes) -> bool:
        """Whether it is accepted; raises where a promise is broken."""
        try:
            self.accept(data)
        except self.refusals as error:
            if type(error) in self.refusals or isinstance(error, UsageError):
                return False
            raise
        return True


def canonical(document: type[Any], data: bytes) -> None:
    assert document.from_canonical(data).canonical() == data


def agreement_toml(data: bytes) -> None:
    agreement = parse_agreement(data)
    again = parse_agreement(agreement.to_toml().encode())
    assert again.canonical() == agreement.canonical()


def job_toml(data: bytes) -> None:
    job = parse_job(data, submitter="alice", now=NOW + timedelta(microseconds=7))
    again = parse_job(job.to_toml().encode(), submitter="bob", now=NOW + timedelta(days=9))
    assert again.canonical() == job.canonical()


def odrl(data: bytes) -> None:
    agreement = decode_odrl(data)
    assert to_odrl(agreement) == json.loads(data)
    assert decode_odrl(encode_odrl(agreement)).canonical() == agreement.canonical()


def entry(data: bytes) -> None:
    assert parse_entry(data).line() == data + b"\n"


def party_toml(data: bytes) -> None:
    content, name = config._parse(data, "it")
    where = config._daemon(Path("/"), content.daemon) if content.daemon else None
    assert content.name == name
    assert config._control(content) is not None or where is None


def cluster_toml(data: bytes) -> None:
    assert len(cluster._parse(data, "it").party) > 1


def certificate(data: bytes) -> None:
    read = parse_certificate(data, source="it")
    assert parse_certificate(read.pem, source="it", party=read.party) == read


def signature(data: bytes) -> None:
    """A signature is a text of the sender's, of any form."""
    content = examples.RECORDS[0]
    mark = data.decode(errors="replace")
    good = verify(examples.PUBLIC, "record", content, mark)
    assert good == (mark == examples.SIGNATURE)
    if not good:
        raise UsageError("not the signature")


def a_frame(data: bytes) -> None:
    assert frame.encode(frame.decode(data)) == data


def next_frame(data: bytes) -> None:
    """As the second frame of a stream, in the middle of a message."""
    reader = frame.FrameReader(
        "bob", 1, examples.MEMBERS, examples.JOB, examples.STREAM, Limits(message=1000)
    )
    assert reader.feed(examples.FRAMES[0]) is None
    event = reader.feed(data)
    assert event is None or isinstance(event, frame.Message | frame.Finish | frame.Abort)


def a_hello(data: bytes) -> None:
    assert hello.encode_hello(hello.decode_hello("bob", data)) == data


def deal(data: bytes) -> None:
    first, requests = dealing.decode(data)
    assert dealing.encode(requests, first) == data


def an_object(data: bytes) -> None:
    once = objects.encode(objects.decode(data))
    assert objects.encode(objects.decode(once)) == once


def address(data: bytes) -> None:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError("protobuf and JSON let it not through") from None
    _checked_address(text)
    assert text.isprintable()
    assert text.rpartition(":")[2].isdigit()


def sealed(chance: Random) -> bytes:
    """A line of a log with other content and, mostly, a digest and signature that fit it."""
    line = LINES(chance)
    if chance.random() < 0.6:
        try:
            return examples.seal(json.loads(line))
        except (ValueError, TypeError, AttributeError, RecursionError, UnicodeError):
            return line
    return line


LINES = texts(examples.LINES, structured=True)
DOOR = Door()


def json_target(accept: Callable[[bytes], None], *valid: bytes) -> Target:
    return Target(accept, texts(valid, structured=True), valid)


def text_target(accept: Callable[[bytes], None], *valid: bytes) -> Target:
    return Target(accept, texts(valid), valid)


def message_target(
    accept: Callable[[bytes], None], kind: Any, valid: tuple[bytes, ...], *refusals: Any
) -> Target:
    make = Message(tuple(kind.FromString(one) for one in valid))
    return Target(accept, make, valid, refusals or (UsageError,))


TARGETS: dict[str, Target] = {
    "job": json_target(partial(canonical, Job), examples.A_JOB.canonical()),
    "signed job": json_target(partial(canonical, SignedJob), examples.SIGNED_JOB.to_bytes()),
    "record": json_target(partial(canonical, Record), *examples.RECORDS),
    "receipt": json_target(partial(canonical, Receipt), examples.RECEIPT.canonical()),
    "audit entry": Target(entry, sealed, examples.LINES),
    "frame": message_target(a_frame, transport_pb2.Packet, examples.FRAMES, frame.Malformed),
    "next frame": message_target(next_frame, transport_pb2.Packet, examples.FRAMES[1:4], FrameRefused),
    "hello": message_target(a_hello, transport_pb2.Packet, (examples.HELLO,), FrameRefused, PeerRefused),
    "request to the dealer": message_target(deal, dealer_pb2.Deal, examples.DEALS),
    "public object": message_target(an_object, objects_pb2.Object, examples.OBJECTS),
    "file of shares": Target(shares, choice(headed, texts([SHARES])), (SHARES,)),
    "address": text_target(address, b"alice.example:9300", b"[::1]:80", b"127.0.0.1:65535"),
    "signature": text_target(signature, examples.SIGNATURE.encode()),
    "certificate": text_target(certificate, examples.CERTIFICATE),
    "job.toml": text_target(job_toml, examples.A_JOB.to_toml().encode()),
    "party.toml": text_target(party_toml, examples.PARTY_TOML),
    "cluster.toml": text_target(cluster_toml, examples.CLUSTER_TOML),
    "agreement": json_target(partial(canonical, Agreement), examples.AGREEMENT.canonical()),
    "signed agreement": json_target(
        partial(canonical, SignedAgreement), examples.SIGNED_AGREEMENT.to_bytes()
    ),
    "agreement.toml": text_target(agreement_toml, examples.AGREEMENT.to_toml().encode()),
    "odrl": json_target(odrl, json.dumps(to_odrl(examples.AGREEMENT), separators=(",", ":")).encode()),
    "control port": Target(DOOR.accept, DOOR.make, DOOR.valid, (DOOR.refusal,)),
}
