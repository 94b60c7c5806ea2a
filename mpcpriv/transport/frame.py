"""The wire between two members, without any I/O: bytes in, a verified object out.

Layers, from the bottom: a `Frame` is one packet and has exactly one encoding; a `FrameWriter` cuts
messages into frames and numbers them; a `FrameReader` accepts the next frame of the one stream it
belongs to, and nothing else, and puts messages together again.

A frame names its job, its epoch, its number and its sender. The epoch is a hash of both sides' hellos, each
of which holds fresh randomness, so a frame of another stream, job or direction never fits. Secrecy and
integrity on the network are TLS's part, not this file's. Field layout: protos/mpcpriv/v1/transport.proto.
"""

from __future__ import annotations

import hashlib
import mmap
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from mpcpriv.errors import FrameRefused
from mpcpriv.transport.base import Buffer, Limits

MAX_CHUNK: Final = 4 << 20
"""The longest payload of one frame, in bytes, whatever the limits say."""

MAX_REASON: Final = 1000
"""The longest reason of an abort, in bytes of UTF-8."""

JOB_BYTES: Final = 16
EPOCH_BYTES: Final = 32

_EPOCH_DOMAIN: Final = b"mpcpriv transport epoch v1\x00"
_HEAD: Final = struct.Struct(f"<BBBQBIBB{JOB_BYTES}sBB{EPOCH_BYTES}s")
_FIRST: Final = struct.Struct("<BQ")

# Protobuf tags: field number << 3 | wire type (0 varint, 1 fixed64, 2 length-delimited, 5 fixed32).
_PACKET_FRAME: Final = 0x12
_KIND, _SEQUENCE, _SENDER, _JOB, _EPOCH, _LENGTH = 0x08, 0x11, 0x1D, 0x22, 0x2A, 0x31
_PAYLOAD, _CULPRIT, _REASON = 0x3A, 0x42, 0x4A

_TAGS: Final = (_KIND, _SEQUENCE, _SENDER, _JOB, JOB_BYTES, _EPOCH, EPOCH_BYTES)

MAX_PACKET: Final = MAX_CHUNK + _HEAD.size + _FIRST.size + 16
"""The longest frame, in bytes."""

_HUGE_PAGES_FROM: Final = 4 << 20


class Kind(IntEnum):
    """What a frame is for."""

    DATA = 1
    FINISH = 2
    ABORT = 3


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    Attributes:
        kind: what it is for.
        sequence: its number in its direction, from 1.
        sender: the rank of its sender.
        job: 16 bytes.
        epoch: 32 bytes, see `epoch`.
        length: bytes of the whole message, in the first frame of a message and in no other.
        payload: a piece of a message (DATA only).
        culprit: the name of the member at fault (ABORT only).
        reason: what happened, one line (ABORT only).
    """

    kind: Kind
    sequence: int
    sender: int
    job: bytes
    epoch: bytes
    length: int | None = None
    payload: Buffer = b""
    culprit: str = ""
    reason: str = ""

    def __repr__(self) -> str:  # a payload may be a share
        size = len(self.payload)
        return f"Frame({self.kind.name}, sequence={self.sequence}, sender={self.sender}, {size} bytes)"


class Malformed(ValueError):
    """The bytes are not the encoding of a frame; the text says where they go wrong."""


def epoch(lower_hello: bytes, higher_hello: bytes) -> bytes:
    """The name of one stream: a hash of the hello of its lower-ranked side and of its higher-ranked side."""
    digest = hashlib.sha256(_EPOCH_DOMAIN)
    for hello in (lower_hello, higher_hello):
        digest.update(len(hello).to_bytes(8, "little"))
        digest.update(hello)
    return digest.digest()


def encode(frame: Frame) -> bytes:
    """The one encoding of `frame`: what protobuf would write for the same fields, joined in a single copy."""
    head = _HEAD.pack(
        _KIND, frame.kind, _SEQUENCE, frame.sequence, _SENDER, frame.sender,
        _JOB, JOB_BYTES, frame.job, _EPOCH, EPOCH_BYTES, frame.epoch,
    )  # fmt: skip
    if frame.kind is Kind.DATA:
        first = b"" if frame.length is None else _FIRST.pack(_LENGTH, frame.length)
        tail = (first, bytes((_PAYLOAD,)), _varint(len(frame.payload)), frame.payload)
    elif frame.kind is Kind.ABORT:
        culprit, reason = frame.culprit.encode(), frame.reason.encode()
        tail = (_text(_CULPRIT, culprit), _text(_REASON, reason), b"", b"")
    else:
        tail = (b"", b"", b"", b"")
    size = len(head) + sum(map(len, tail))
    return b"".join((bytes((_PACKET_FRAME,)), _varint(size), head, *tail))


def decode(data: bytes) -> Frame:
    """The frame whose encoding `data` is. The payload is a view of `data`.

    Raises:
        Malformed: `data` is no encoding of a frame, or not the one that `encode` writes.
    """
    if len(data) > MAX_PACKET:
        raise Malformed(f"{len(data)} bytes, more than the {MAX_PACKET} of the longest frame")
    if not data or data[0] != _PACKET_FRAME:
        raise Malformed("not a frame")
    size, at = _read_varint(data, 1)
    if size != len(data) - at:
        raise Malformed(f"cut short or padded: {len(data) - at} bytes where it announces {size}")
    if size < _HEAD.size:
        raise Malformed(f"{size} bytes, too short for its header of {_HEAD.size}")
    head = _HEAD.unpack_from(data, at)
    kind, sequence, sender, job, stream = head[1], head[3], head[5], head[8], head[11]
    if (head[0], head[2], head[4], head[6], head[7], head[9], head[10]) != _TAGS:
        raise Malformed("fields missing or in another order")
    at += _HEAD.size
    if kind == Kind.DATA:
        length = None
        if at < len(data) and data[at] == _LENGTH:
            if len(data) - at < _FIRST.size:
                raise Malformed("cut short in its length")
            _, length = _FIRST.unpack_from(data, at)
            at += _FIRST.size
        payload, at = _field(data, at, _PAYLOAD, "payload", MAX_CHUNK)
        frame = Frame(Kind.DATA, sequence, sender, job, stream, length, payload)
    elif kind == Kind.ABORT:
        culprit, at = _field(data, at, _CULPRIT, "culprit", 63)
        reason, at = _field(data, at, _REASON, "reason", MAX_REASON)
        frame = Frame(
            Kind.ABORT, sequence, sender, job, stream,
            culprit=_decoded(culprit, "culprit"), reason=_decoded(reason, "reason"),
        )  # fmt: skip
    elif kind == Kind.FINISH:
        frame = Frame(Kind.FINISH, sequence, sender, job, stream)
    else:
        raise Malformed(f"of unknown kind {kind}")
    if at != len(data):
        raise Malformed(f"{len(data) - at} bytes too long")
    return frame


def one_line(text: str) -> str:
    """`text` as the reason of an abort may be: printable, on one line, at most `MAX_REASON` bytes."""
    line = " ".join(text.split())
    line = "".join(letter if letter.isprintable() else "?" for letter in line)
    raw = line.encode(errors="replace")
    return raw.decode() if len(raw) <= MAX_REASON else raw[: MAX_REASON - 3].decode(errors="ignore") + "..."


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, in memory that is its receiver's to keep and to write."""

    body: memoryview


@dataclass(frozen=True, slots=True)
class Finish:
    """The peer ended normally."""


@dataclass(frozen=True, slots=True)
class Abort:
    """The peer ended because of a failure.

    Attributes:
        culprit: the name of the member whose fault it is, the peer itself or another.
        reason: one line.
    """

    culprit: str
    reason: str


class FrameWriter:
    """Cuts what one member says to one peer into numbered frames.

    Args:
        sender: the rank of the member.
        job: 16 bytes.
        stream: the epoch, 32 bytes.
        chunk: the longest payload in bytes, 1 to `MAX_CHUNK`.
    """

    def __init__(self, sender: int, job: bytes, stream: bytes, chunk: int) -> None:
        self._sender, self._job, self._stream, self._chunk = sender, job, stream, chunk
        self._sequence = 0

    def _next(self) -> int:
        self._sequence += 1
        return self._sequence

    def message(self, parts: Sequence[memoryview]) -> Iterator[bytes]:
        """The frames of one message, the concatenation of `parts` (flat views of bytes), one at a time."""
        length: int | None = sum(map(len, parts))
        for payload in _chunks(parts, self._chunk):
            yield encode(
                Frame(Kind.DATA, self._next(), self._sender, self._job, self._stream, length, payload)
            )
            length = None

    def finish(self) -> bytes:
        """The last frame of a member that ends normally."""
        return encode(Frame(Kind.FINISH, self._next(), self._sender, self._job, self._stream))

    def abort(self, culprit: str, reason: str) -> bytes:
        """The last frame of a member that ends because of a failure; it may interrupt a message."""
        return encode(
            Frame(
                Kind.ABORT, self._next(), self._sender, self._job, self._stream,
                culprit=culprit, reason=one_line(reason),
            )
        )  # fmt: skip


class FrameReader:
    """Accepts the frames that one peer sends on one stream, in order, each once.

    Args:
        peer: the peer's name, for the errors.
        sender: the peer's rank, derived from its certificate.
        members: the names of all members; an abort blames one of them.
        job: 16 bytes.
        stream: the epoch, 32 bytes.
        limits: `limits.message` bounds what a peer may announce.
    """

    def __init__(
        self, peer: str, sender: int, members: Sequence[str], job: bytes, stream: bytes, limits: Limits
    ) -> None:
        self._peer, self._sender, self._members = peer, sender, frozenset(members)
        self._job, self._stream, self._limits = job, stream, limits
        self._sequence = 0
        self._body: memoryview | None = None
        self._filled = 0
        self._over = False

    def feed(self, data: bytes) -> Message | Finish | Abort | None:
        """Takes the next packet; returns what it completes, or None in the middle of a message.

        Raises:
            FrameRefused: the packet is not the next one of this stream. The reader then takes no more.
        """
        try:
            return self._accept(decode(data))
        except Malformed as error:
            raise self._refused(str(error)) from None

    def _refused(self, what: str) -> FrameRefused:
        self._over = True
        self._body = None
        return FrameRefused(
            self._peer, f"{self._peer} sent a bad frame (after {self._sequence} good ones): {what}"
        )

    def _accept(self, frame: Frame) -> Message | Finish | Abort | None:
        if self._over:
            raise self._refused("it comes after the end")
        if frame.job != self._job:
            raise self._refused(f"of another job, {frame.job.hex()}")
        if frame.epoch != self._stream:
            raise self._refused("of another epoch: it was made for another connection")
        if frame.sender != self._sender:
            raise self._refused(f"sender of rank {frame.sender}, but its certificate's is {self._sender}")
        if frame.sequence != self._sequence + 1:
            how = "replayed" if frame.sequence <= self._sequence else "out of order"
            raise self._refused(f"number {frame.sequence} where {self._sequence + 1} is next: {how}")
        if frame.kind is Kind.ABORT:
            if frame.culprit not in self._members:
                raise self._refused("it blames someone who is no member")
            self._sequence, self._over = frame.sequence, True
            return Abort(frame.culprit, frame.reason)
        if frame.kind is Kind.FINISH:
            if self._body is not None:
                raise self._refused("an end in the middle of a message")
            self._sequence, self._over = frame.sequence, True
            return Finish()
        return self._assemble(frame)

    def _assemble(self, frame: Frame) -> Message | None:
        piece = len(frame.payload)
        if frame.length is not None:
            if self._body is not None:
                raise self._refused("a new message in the middle of another")
            # Before any memory is set aside for it.
            if frame.length > self._limits.message:
                raise self._refused(
                    f"a message of {frame.length} bytes, above the limit of {self._limits.message}"
                )
            if piece > frame.length:
                raise self._refused(f"{piece} bytes of a message of {frame.length}")
            if not piece and frame.length:
                raise self._refused("an empty piece")
            self._body, self._filled = _memory(frame.length), 0
        elif self._body is None:
            raise self._refused("a later piece of a message that has not begun")
        elif not piece:
            raise self._refused("an empty piece")
        elif piece > len(self._body) - self._filled:
            raise self._refused(f"{self._filled + piece} bytes of a message of {len(self._body)}")
        body = self._body
        body[self._filled : self._filled + piece] = frame.payload
        self._filled += piece
        self._sequence = frame.sequence
        if self._filled < len(body):
            return None
        self._body = None
        return Message(body)


def wire_size(length: int, chunk: int) -> int:
    """Bytes of all the frames of a message of `length` bytes cut into chunks of `chunk`."""

    def framed(payload: int, first: bool) -> int:
        inner = _HEAD.size + (_FIRST.size if first else 0) + 1 + len(_varint(payload)) + payload
        return 1 + len(_varint(inner)) + inner

    if length <= chunk:
        return framed(length, first=True)
    full, rest = divmod(length - chunk, chunk)
    tail = framed(rest, first=False) if rest else 0
    return framed(chunk, first=True) + full * framed(chunk, first=False) + tail


def _memory(length: int) -> memoryview:
    # A fresh page costs more than the bytes on it, so long messages live on huge ones (a third more
    # throughput at 64 MB). Pages are backed only once they are written: announcing costs a peer nothing more.
    if length >= _HUGE_PAGES_FROM and hasattr(mmap, "MADV_HUGEPAGE"):
        pages = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        pages.madvise(mmap.MADV_HUGEPAGE)
        return memoryview(pages)
    return memoryview(bytearray(length))


def _chunks(parts: Sequence[memoryview], chunk: int) -> Iterator[Buffer]:
    held: list[memoryview] = []
    room = chunk
    empty = True
    for part in parts:
        at = 0
        while at < len(part):
            piece = part[at : at + room]
            held.append(piece)
            at += len(piece)
            room -= len(piece)
            if not room:
                yield held[0] if len(held) == 1 else b"".join(held)
                held, room, empty = [], chunk, False
    if held or empty:
        yield held[0] if len(held) == 1 else b"".join(held)


def _text(tag: int, raw: bytes) -> bytes:
    return bytes((tag,)) + _varint(len(raw)) + raw


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 35, 7):
        if at >= len(data):
            raise Malformed("cut short in a length")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if not byte and shift:
                raise Malformed("a length with needless bytes")
            return value, at
    raise Malformed("a length without end")


def _field(data: bytes, at: int, tag: int, name: str, most: int) -> tuple[memoryview, int]:
    if at >= len(data) or data[at] != tag:
        raise Malformed(f"without its {name}")
    size, at = _read_varint(data, at + 1)
    if size > most:
        raise Malformed(f"{name} of {size} bytes, more than {most}")
    if size > len(data) - at:
        raise Malformed(f"cut short in its {name}")
    return memoryview(data)[at : at + size], at + size


def _decoded(raw: memoryview, name: str) -> str:
    try:
        text = bytes(raw).decode()
    except UnicodeDecodeError:
        raise Malformed(f"{name} is not UTF-8") from None
    if not text.isprintable():
        raise Malformed(f"{name} holds characters that do not print")
    return text
