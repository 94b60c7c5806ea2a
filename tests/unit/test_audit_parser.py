"""The parser of a log takes bytes from outside: what it accepts it writes identically, or it refuses."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.audit.entry import parse
from mpcpriv.audit.events import EVENTS
from mpcpriv.audit.verify import read, verify
from mpcpriv.documents import sign
from mpcpriv.errors import UsageError
from tests.unit.audit_logs import KEYS, PUBLIC, job, path_of, three_logs

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**54), 2**54) | st.floats() | st.text(max_size=70),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("parser")
    with three_logs(folder) as logs:
        job(logs, 1)
        logs["alice"].append(
            "decided", job="2" * 64, by="bob", decision="refuse", reasons=["é, ü and \U0001f600"]
        )
        logs["alice"].append(
            "outcome", job="2" * 64, by="bob", outcome="failure", reason="the worker was killed"
        )
    return path_of(folder, "alice").read_bytes().splitlines()


def accepted(line: bytes) -> bool:
    """Holds the parser to its promise."""
    try:
        entry = parse(line)
    except UsageError:
        return False
    assert entry.line() == line + b"\n"
    return True


def believed(line: bytes) -> bool:
    """A line whose signature alone was changed is an entry, which its owner has not signed."""
    return accepted(line) and parse(line).is_signed_by(PUBLIC["alice"])


def sealed(content: dict[str, Any]) -> bytes:
    """The line with a digest and a signature that fit it, whatever it says."""
    body = {name: part for name, part in content.items() if name not in ("digest", "signature")}
    digest = hashlib.sha256(rfc8785.dumps(body)).hexdigest()
    return rfc8785.dumps(
        {**body, "digest": digest, "signature": sign(KEYS["alice"], "audit-entry", digest.encode())}
    )


def test_what_was_written_is_accepted(lines: list[bytes]) -> None:
    assert all(map(accepted, lines))
    assert {json.loads(line)["event"] for line in lines} >= {
        "opened",
        "decided",
        "released",
        "receipt-received",
    }
    assert all(sealed(json.loads(line)) == line for line in lines)


@given(st.binary(max_size=400))
def test_any_bytes(line: bytes) -> None:
    assert not accepted(line)


@given(st.data())
def test_bytes_of_an_entry_that_were_changed(lines: list[bytes], data: st.DataObject) -> None:
    line = bytearray(data.draw(st.sampled_from(lines)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(line)))
        line[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert believed(bytes(line)) == (bytes(line) in lines)


@given(st.data())
@settings(max_examples=300)
def test_other_content_with_a_digest_that_fits(lines: list[bytes], data: st.DataObject) -> None:
    content = json.loads(data.draw(st.sampled_from(lines)))
    part = content["facts"] if data.draw(st.booleans()) else content
    name = data.draw(st.sampled_from(sorted(part)) | st.text(max_size=10))
    if data.draw(st.booleans()):
        part[name] = data.draw(JSON)
    else:
        part.pop(name, None)
    try:
        line = sealed(content)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError):
        return
    accepted(line)


@given(st.data())
def test_another_event_has_other_facts(lines: list[bytes], data: st.DataObject) -> None:
    content = json.loads(data.draw(st.sampled_from(lines)))
    event = content["event"]
    content["event"] = data.draw(st.sampled_from(sorted(EVENTS)))
    alike = {event, content["event"]} <= {"receipt-given", "receipt-received"}
    assert accepted(sealed(content)) == (content["event"] == event or alike)


def test_other_encodings_of_an_entry_are_refused(lines: list[bytes]) -> None:
    for line in lines:
        content = json.loads(line)
        default = json.loads(line)
        default["facts"]["reasons"] = None
        for other in (
            json.dumps(content).encode(),
            b" " + line,
            line + b" ",
            line + b"\r",
            line.replace(b'"seq":', b'"seq":0'),
            rfc8785.dumps(default),
            line[:-1] + b',"z":1}',
        ):
            assert not accepted(other)
    decided = next(json.loads(line) for line in lines if b'"decided"' in line)
    for name in ("approval", "reasons"):
        without = json.loads(json.dumps(decided))
        del without["facts"][name]
        assert not accepted(sealed(without)), "a default that is left out is another encoding"


def test_a_line_without_end_is_refused() -> None:
    with pytest.raises(UsageError, match="1048576 bytes at most"):
        parse(b"[" * (2**20 + 1))
    assert not accepted(b"[" * 2**20)


@given(st.binary(max_size=600), st.booleans())
def test_any_file_is_read_and_reported(
    lines: list[bytes], tmp_path_factory: pytest.TempPathFactory, content: bytes, after: bool
) -> None:
    path: Path = tmp_path_factory.getbasetemp() / "fuzzed.jsonl"
    path.write_bytes((b"\n".join(lines) + b"\n" if after else b"") + content)
    whole = read(path)
    assert whole.length + len(whole.torn) == path.stat().st_size
    problems = verify(path, PUBLIC["alice"], PUBLIC, [path])
    assert problems or (after and not content)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_changed_lines(lines: list[bytes]) -> None:
    chance = random.Random()
    tokens = [
        b'"',
        b"{",
        b"}",
        b"[",
        b"null",
        b"1e3",
        b"\\u0000",
        b"-",
        b"\xff",
        b",",
        b":",
        b"true",
        b"0",
        b"Z",
    ]
    for _ in range(10**6):
        line = bytearray(chance.choice(lines))
        for _ in range(chance.randrange(1, 4)):
            place = chance.randrange(len(line) + 1)
            line[place : place + chance.randrange(5)] = chance.choice(tokens)
        assert believed(bytes(line)) == (bytes(line) in lines)
