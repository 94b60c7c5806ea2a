"""The first packet on a stream: who runs what, so that a mismatch is named before anything is shared."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from google.protobuf.message import DecodeError

from mpcpriv.errors import FrameRefused, PeerRefused, UsageError
from mpcpriv.transport.frame import JOB_BYTES
from mpcpriv.v1 import transport_pb2

WIRE: Final = 1
"""The version of the wire specification that this package speaks."""

MAX_HELLO: Final = 64 << 10
"""The longest hello, in bytes."""

MAX_FACTS: Final = 64
NONCE_BYTES: Final = 32


@dataclass(frozen=True)
class Hello:
    """What a member says first.

    Attributes:
        software: the release of mpcpriv.
        job: the job's digest, 16 bytes.
        facts: named values, in order, that must be the same on both sides; at most 64.
        nonce: 32 fresh random bytes.
        wire: the version of the wire specification.
    """

    software: str
    job: bytes
    facts: tuple[tuple[str, str], ...] = ()
    nonce: bytes = field(default_factory=lambda: secrets.token_bytes(NONCE_BYTES))
    wire: int = WIRE

    @classmethod
    def of(cls, software: str, job: bytes, facts: Mapping[str, str]) -> Hello:
        """A hello of our own.

        Raises:
            UsageError: the job is not 16 bytes, or the facts are too many or too long.
        """
        if len(job) != JOB_BYTES:
            raise UsageError(f"a job's digest has {JOB_BYTES} bytes; this one has {len(job)}")
        hello = cls(software, bytes(job), tuple(facts.items()))
        size = len(encode_hello(hello))
        if len(facts) > MAX_FACTS or size > MAX_HELLO:
            raise UsageError(
                f"{len(facts)} facts in {size} bytes: at most {MAX_FACTS} facts and {MAX_HELLO} bytes"
            )
        return hello


def encode_hello(hello: Hello) -> bytes:
    """The packet that carries `hello`."""
    facts = [transport_pb2.Fact(name=name, value=value) for name, value in hello.facts]
    body = transport_pb2.Hello(
        wire=hello.wire, software=hello.software, job=hello.job, nonce=hello.nonce, facts=facts
    )
    return transport_pb2.Packet(hello=body).SerializeToString(deterministic=True)


def decode_hello(peer: str, data: bytes) -> Hello:
    """The hello that `peer` sent.

    Raises:
        FrameRefused: `data` is no hello, or not in its one encoding.
        PeerRefused: it is of another version of the wire specification.
    """
    if len(data) > MAX_HELLO:
        raise FrameRefused(peer, f"{peer} sent a hello of {len(data)} bytes; the limit is {MAX_HELLO}")
    try:
        packet = transport_pb2.Packet.FromString(data)
    except DecodeError:
        raise FrameRefused(peer, f"{peer} sent bytes that are no packet where a hello was due") from None
    if packet.WhichOneof("body") != "hello":
        raise FrameRefused(peer, f"{peer} sent something else where a hello was due")
    body = packet.hello
    # Before the rest is judged: another version may well hold other fields.
    if body.wire != WIRE:
        raise PeerRefused(
            peer,
            f"{peer} speaks version {body.wire} of the wire, we speak {WIRE}: install the same mpcpriv",
        )
    facts = tuple((fact.name, fact.value) for fact in body.facts)
    hello = Hello(body.software, body.job, facts, body.nonce)
    if len(hello.job) != JOB_BYTES or len(hello.nonce) != NONCE_BYTES:
        raise FrameRefused(peer, f"{peer} sent a hello whose job or nonce has the wrong length")
    if len(facts) > MAX_FACTS or len({name for name, _ in facts}) != len(facts):
        raise FrameRefused(peer, f"{peer} sent a hello with too many facts or one fact twice")
    if encode_hello(hello) != data:
        raise FrameRefused(peer, f"{peer} sent a hello in another encoding than the specified one")
    return hello


def compare(peer: str, ours: Hello, theirs: Hello) -> None:
    """Checks that both run the same thing.

    Raises:
        PeerRefused: they do not; the message names everything that differs.
    """
    wrong = []
    if theirs.software != ours.software:
        wrong.append(f"mpcpriv {_shown(theirs.software)} (we: {_shown(ours.software)})")
    if theirs.job != ours.job:
        wrong.append(f"job {theirs.job.hex()} (we: {ours.job.hex()})")
    mine, its = dict(ours.facts), dict(theirs.facts)
    wrong.extend(
        f"{_shown(name)} {_shown(its.get(name))} (we: {_shown(mine.get(name))})"
        for name in mine | its
        if mine.get(name) != its.get(name)
    )
    if not wrong and ours.facts != theirs.facts:
        wrong.append("its facts in another order")
    if wrong:
        raise PeerRefused(peer, f"{peer} runs something else than we do: {'; '.join(wrong)}")


def _shown(text: str | None) -> str:
    if text is None:
        return "not stated"
    # The peer chose it: no control characters to the terminal, and no flood.
    safe = "".join(letter if letter.isprintable() else "?" for letter in text)
    return safe if len(safe) <= 120 else safe[:117] + "..."
