"""Every parser of bytes from outside: an input is accepted and encodes again as it was, or is refused.

`make fuzz` tries a million inputs each, made in a faster way (`tests/fuzz`).
"""

from __future__ import annotations

import json
import random
import secrets

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import TARGETS

# Fuzzed certificates may break rules that cryptography only warns of.
pytestmark = pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
INPUTS = 100
QUICK_INPUTS = 500
DOCUMENTS = ("agreement", "signed agreement", "job", "signed job", "agreement.toml", "job.toml", "odrl")

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


@pytest.mark.parametrize("parser", TARGETS)
def test_an_input_is_accepted_and_encodes_again_or_is_refused(parser: str) -> None:
    target = TARGETS[parser]
    assert all(map(target.accepts, target.valid))

    @settings(max_examples=INPUTS, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(target.valid).flatmap(inputs))
    def tried(data: bytes) -> None:
        target.accepts(data)

    tried()


@pytest.mark.parametrize("parser", TARGETS)
def test_inputs_as_make_fuzz_makes_them(parser: str) -> None:
    target, seed = TARGETS[parser], secrets.randbits(32)
    chance = random.Random(seed)
    accepted = 0
    for number in range(QUICK_INPUTS):
        data = target.make(chance)
        try:
            accepted += target.accepts(data)
        except Exception as error:
            raise AssertionError(f"seed {seed}, input {number}: {data!r}") from error
    assert 0 < accepted < QUICK_INPUTS, "a fuzzer whose inputs all go one way tries little"


@pytest.mark.parametrize("parser", DOCUMENTS)
def test_a_document_of_another_kind_is_refused(parser: str) -> None:
    for other in DOCUMENTS:
        if other != parser:
            assert not any(map(TARGETS[parser].accepts, TARGETS[other].valid))
