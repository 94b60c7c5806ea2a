"""Every parser of documents: an input is accepted and encodes again as it was, or it is a UsageError.

`make fuzz` tries a million inputs each.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mpcpriv.agreement.model import Agreement
from mpcpriv.agreement.odrl import decode_odrl, encode_odrl, to_odrl
from mpcpriv.agreement.signed import SignedAgreement
from mpcpriv.agreement.toml import parse_agreement
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.job.signed import SignedJob
from mpcpriv.job.toml import parse_job
from tests.unit import agreements as example
from tests.unit.agreements import NOW

# Fuzzed certificates may break rules that cryptography only warns of.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
INPUTS = int(os.environ.get("FUZZ", "150"))

AGREEMENT = example.agreement()
SIGNED_AGREEMENT = example.sign_all(AGREEMENT)
JOB = example.job()
SIGNED_JOB = example.signed_job()


def canonical(document: type[Any]) -> Callable[[bytes], None]:
    def accepts(data: bytes) -> None:
        assert document.from_canonical(data).canonical() == data

    return accepts


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


# What accepts bytes, and an input that it accepts.
PARSERS: dict[str, tuple[Callable[[bytes], None], bytes]] = {
    "agreement": (canonical(Agreement), AGREEMENT.canonical()),
    "signed agreement": (canonical(SignedAgreement), SIGNED_AGREEMENT.to_bytes()),
    "job": (canonical(Job), JOB.canonical()),
    "signed job": (canonical(SignedJob), SIGNED_JOB.to_bytes()),
    "agreement.toml": (agreement_toml, AGREEMENT.to_toml().encode()),
    "job.toml": (job_toml, JOB.to_toml().encode()),
    "odrl": (odrl, encode_odrl(AGREEMENT)),
}

PIECES = [
    *(
        b"",
        b"{",
        b"}",
        b"[",
        b"]",
        b'"',
        b",",
        b":",
        b"=",
        b"\n",
        b"\r\n",
        b" ",
        b"\\",
        b"\\u0000",
        b"\\ud800",
    ),
    *(b"null", b"true", b"NaN", b"1e999", b"-0", b"-0.0", b"1.0", b"1e20", b"9007199254740993", b"9" * 5000),
    *(b"\x00", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"'''", b'"""', b"0x" + b"f" * 5000, b"inf", b"nan"),
    *(
        b"2027-01-01",
        b"2027-01-01T00:00:00Z",
        b"9999-12-31T23:59:59Z",
        b"07:32:00",
        b"[" * 3000,
        b"a." * 3000,
    ),
]


@st.composite
def edited(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid input, some of it cut, doubled or replaced."""
    data = valid
    for _ in range(draw(st.integers(0, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.sampled_from([0, 0, 1, 1, 2, 9, 100])))
        piece = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=4), st.just(data[start:end] * 2)))
        data = data[:start] + piece + data[end:]
    return data


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["alice", "mean", "age", "2027-03-01T12:00:00Z", "number", "a" * 64]),
)
values = st.recursive(
    plain, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


@st.composite
def restructured(draw: st.DrawFn, valid: bytes) -> bytes:
    """A valid JSON document with other content in one place, in canonical form: it passes for well-formed."""
    content = inside = json.loads(valid)
    while True:
        place = draw(st.sampled_from(sorted(inside) if isinstance(inside, dict) else range(len(inside))))
        if isinstance(inside[place], dict | list) and inside[place] and draw(st.integers(0, 4)):
            inside = inside[place]
            continue
        action = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
        if action == "remove":
            del inside[place]
        elif isinstance(inside, dict):
            name = place if action == "replace" else draw(st.text(max_size=4))
            inside[name] = draw(values)
        elif action == "replace":
            inside[place] = draw(values)
        else:
            inside.insert(place, draw(values | st.sampled_from(inside)))
        try:
            return rfc8785.dumps(content)
        except rfc8785.CanonicalizationError:
            return json.dumps(content).encode()


def inputs(valid: bytes) -> st.SearchStrategy[bytes]:
    kinds = [edited(valid), st.binary(max_size=200)]
    if valid.startswith(b"{"):
        kinds.append(restructured(valid))
    return st.one_of(kinds)


@pytest.mark.parametrize("parser", PARSERS)
def test_an_input_is_accepted_and_encodes_again_or_is_a_usage_error(parser: str) -> None:
    accepts, valid = PARSERS[parser]
    accepts(valid)

    @settings(max_examples=INPUTS, suppress_health_check=list(HealthCheck))
    @given(inputs(valid))
    def tried(data: bytes) -> None:
        with contextlib.suppress(UsageError):
            accepts(data)

    tried()


@pytest.mark.parametrize("parser", PARSERS)
def test_an_input_of_another_kind_is_a_usage_error(parser: str) -> None:
    accepts, valid = PARSERS[parser]
    for _, data in PARSERS.values():
        if data != valid:
            with pytest.raises(UsageError):
                accepts(data)
