"""Frames and hellos: the vectors, agreement with protobuf, and whatever else comes in."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpcpriv.errors import FrameRefused, PeerRefused, UsageError
from mpcpriv.transport.base import Limits
from mpcpriv.transport.frame import (
    MAX_REASON,
    Abort,
    Finish,
    Frame,
    FrameReader,
    FrameWriter,
    Kind,
    Malformed,
    Message,
    decode,
    encode,
    epoch,
    one_line,
    wire_size,
)
from mpcpriv.transport.hello import Hello, compare, decode_hello, encode_hello
from mpcpriv.v1 import transport_pb2

ROOT = Path(__file__).parents[2]
VECTORS: dict[str, Any] = json.loads((ROOT / "tests/vectors/v1/frame.json").read_text())
JOB, STREAM = b"sixteen bytes ok", bytes(range(32))
MEMBERS = ("alice", "bob", "carol")

frames = st.one_of(
    st.builds(
        Frame,
        st.just(Kind.DATA),
        st.integers(0, 2**64 - 1),
        st.integers(0, 2**32 - 1),
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=32, max_size=32),
        st.none() | st.integers(0, 2**64 - 1),
        st.binary(max_size=300),
    ),
    st.builds(
        Frame, st.just(Kind.FINISH), st.integers(0, 2**64 - 1), st.just(1), st.just(JOB), st.just(STREAM)
    ),
    st.builds(
        Frame,
        st.just(Kind.ABORT),
        st.just(7),
        st.just(1),
        st.just(JOB),
        st.just(STREAM),
        culprit=st.just("bob"),
        reason=st.text().map(one_line),
    ),
)


def reader(limit: int = 1000) -> FrameReader:
    return FrameReader("bob", 1, MEMBERS, JOB, STREAM, Limits(message=limit))


def _protobuf(frame: Frame) -> bytes:
    body = transport_pb2.Frame(
        kind=int(frame.kind), sequence=frame.sequence, sender=frame.sender, job=frame.job, epoch=frame.epoch
    )
    if frame.length is not None:
        body.length = frame.length
    if frame.kind is Kind.DATA:
        body.payload = bytes(frame.payload)
    if frame.kind is Kind.ABORT:
        body.culprit, body.reason = frame.culprit, frame.reason
    return transport_pb2.Packet(frame=body).SerializeToString(deterministic=True)


@given(frames)
def test_the_encoding_is_protobufs(frame: Frame) -> None:
    data = encode(frame)
    assert data == _protobuf(frame)
    assert decode(data) == frame


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 70_000, 1 << 20, 4 << 20])
def test_the_encoding_is_protobufs_at_every_size(size: int) -> None:
    frame = Frame(Kind.DATA, 1, 0, JOB, STREAM, size, bytes(size))
    assert encode(frame) == _protobuf(frame)
    assert decode(encode(frame)) == frame


@given(st.binary(max_size=400))
def test_any_bytes_are_a_frame_in_its_one_encoding_or_malformed(data: bytes) -> None:
    _accepted_or_malformed(data)


@given(frames, st.data())
def test_any_damage_to_a_frame_gives_another_frame_or_none(frame: Frame, data: st.DataObject) -> None:
    good = bytearray(encode(frame))
    at = data.draw(st.integers(0, len(good) - 1))
    how = data.draw(st.sampled_from(["flip", "cut", "insert"]))
    if how == "flip":
        good[at] ^= data.draw(st.integers(1, 255))
    elif how == "cut":
        del good[at]
    else:
        good.insert(at, data.draw(st.integers(0, 255)))
    _accepted_or_malformed(bytes(good))


def _accepted_or_malformed(data: bytes) -> None:
    try:
        frame = decode(data)
    except Malformed:
        with pytest.raises(FrameRefused):
            reader().feed(data)
    else:
        assert encode(frame) == data


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(1, 50))
def test_messages_come_out_as_they_went_in(parts: list[bytes], chunk: int) -> None:
    writer, incoming = FrameWriter(1, JOB, STREAM, chunk), reader()
    for _ in range(2):
        packets = list(writer.message([memoryview(part) for part in parts]))
        events = [incoming.feed(packet) for packet in packets]
        assert events[:-1] == [None] * (len(packets) - 1)
        assert isinstance(events[-1], Message)
        assert bytes(events[-1].body) == b"".join(parts)
        assert sum(map(len, packets)) == wire_size(sum(map(len, parts)), chunk)
    assert incoming.feed(writer.finish()) == Finish()


def test_an_abort_may_interrupt_a_message_and_blame_another() -> None:
    writer, incoming = FrameWriter(1, JOB, STREAM, 2), reader()
    pieces = writer.message([memoryview(b"12345")])
    assert incoming.feed(next(pieces)) is None
    assert incoming.feed(writer.abort("carol", "gone\n\x07away")) == Abort("carol", "gone ?away")
    with pytest.raises(FrameRefused, match="after the end"):
        incoming.feed(writer.finish())


def test_ten_thousand_replays_are_all_refused() -> None:
    writer, incoming = FrameWriter(1, JOB, STREAM, 100), reader()
    recorded: list[bytes] = []
    refused = 0
    for _ in range(150):
        (packet,) = writer.message([memoryview(b"x")])
        assert isinstance(incoming.feed(packet), Message)
        recorded.append(packet)
        for earlier in recorded:
            with pytest.raises(FrameRefused, match="replayed"):
                copy.copy(incoming).feed(earlier)
            refused += 1
    assert refused > 10_000


def test_an_announced_length_sets_no_memory_aside() -> None:
    claim = encode(Frame(Kind.DATA, 1, 1, JOB, STREAM, 1 << 31, b"x"))
    tracemalloc.start()
    try:
        with pytest.raises(FrameRefused, match=f"{1 << 31} bytes, above the limit of 1000"):
            reader().feed(claim)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


def test_a_refused_reader_takes_nothing_more() -> None:
    incoming = reader()
    with pytest.raises(FrameRefused):
        incoming.feed(b"")
    with pytest.raises(FrameRefused, match="after the end"):
        incoming.feed(encode(Frame(Kind.FINISH, 1, 1, JOB, STREAM)))


def test_a_frame_does_not_show_its_payload() -> None:
    assert "5ec4e7" not in repr(Frame(Kind.DATA, 1, 1, JOB, STREAM, 6, b"5ec4e7"))


@pytest.mark.parametrize("text", ["x" * 5000, "é" * 2000, "a\nb\tc\x1b[2J", "\ud800", ""])
def test_a_reason_is_one_printable_line(text: str) -> None:
    line = one_line(text)
    assert line.isprintable()
    assert len(line.encode()) <= MAX_REASON


@pytest.mark.parametrize("vector", VECTORS["good"], ids=lambda vector: vector["name"])
def test_good_vectors(vector: dict[str, Any]) -> None:
    fields = dict(vector["frame"])
    for name in ("job", "epoch", "payload"):
        if name in fields:
            fields[name] = bytes.fromhex(fields[name])
    frame = Frame(**{**fields, "kind": Kind[fields["kind"]]})
    assert encode(frame).hex() == vector["bytes"]
    assert decode(bytes.fromhex(vector["bytes"])) == frame


@pytest.mark.parametrize("vector", VECTORS["bad"], ids=lambda vector: vector["name"])
def test_bad_vectors(vector: dict[str, Any]) -> None:
    """Read as the first frame from rank 1, of the good ones' job and epoch, with a limit of 1,000 bytes."""
    with pytest.raises(FrameRefused, match=vector["why"]):
        reader().feed(bytes.fromhex(vector["bytes"]))


def test_epoch_vector() -> None:
    vector = VECTORS["epoch"]
    lower, higher = bytes.fromhex(vector["lower_hello"]), bytes.fromhex(vector["higher_hello"])
    assert epoch(lower, higher).hex() == vector["epoch"]
    assert epoch(higher, lower) != epoch(lower, higher)
    assert encode_hello(decode_hello("bob", lower)) == lower


HELLO = Hello("1.0", JOB, (("members", "alice, bob"), ("program", "12ab")))


def test_a_hello_survives_the_wire() -> None:
    assert decode_hello("bob", encode_hello(HELLO)) == HELLO
    compare("bob", HELLO, Hello("1.0", JOB, HELLO.facts))


@pytest.mark.parametrize(
    ("theirs", "words"),
    [
        (Hello("1.1", JOB, HELLO.facts), r"mpcpriv 1\.1 \(we: 1\.0\)"),
        (Hello("1.0", bytes(16), HELLO.facts), "job 0000"),
        (Hello("1.0", JOB, (HELLO.facts[0], ("program", "\x1b[31m"))), r"program \?\[31m \(we: 12ab\)"),
        (Hello("1.0", JOB, HELLO.facts[:1]), r"program not stated \(we: 12ab\)"),
        (Hello("1.0", JOB, HELLO.facts[::-1]), "another order"),
    ],
)
def test_what_differs_is_named(theirs: Hello, words: str) -> None:
    with pytest.raises(PeerRefused, match=words) as caught:
        compare("bob", HELLO, theirs)
    assert caught.value.peer == "bob"
    assert "\x1b" not in str(caught.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_hello_in_its_one_encoding_or_refused(data: bytes) -> None:
    try:
        hello = decode_hello("bob", data)
    except (FrameRefused, PeerRefused):
        return
    assert encode_hello(hello) == data


@pytest.mark.parametrize("extra", [b"\x1a\x00", b"\x0a\x00"])
def test_a_hello_with_additions_is_refused(extra: bytes) -> None:
    with pytest.raises(FrameRefused):
        decode_hello("bob", encode_hello(HELLO) + extra)


def test_our_own_hello_is_checked() -> None:
    with pytest.raises(UsageError, match="16 bytes"):
        Hello.of("1", b"x", {})
    with pytest.raises(UsageError, match="facts"):
        Hello.of("1", JOB, {"x": "y" * (64 << 10)})


def test_the_generated_code_is_what_the_generator_writes(tmp_path: Path) -> None:
    """Runs where PROTOC_PYTHON names a Python with the generator that protos/generate.sh pins."""
    if "PROTOC_PYTHON" not in os.environ:
        pytest.skip(
            "no generator: set PROTOC_PYTHON to a Python that has the grpcio-tools of protos/generate.sh"
        )
    subprocess.run([ROOT / "protos/generate.sh", tmp_path], check=True, timeout=100)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*_pb2.py*"))
    assert Path("mpcpriv/v1/transport_pb2.py") in written
    for path in written:
        assert (tmp_path / path).read_text() == (ROOT / path).read_text(), f"{path}: run protos/generate.sh"
