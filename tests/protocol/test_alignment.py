"""Alignments are what Python's sets say, and what a peer should not send is refused under its name."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.alignment import Alignment, KeyColumn, align, identify, store
from mpcpriv.alignment.group import CHUNK, Secret, Workers, in_order
from mpcpriv.errors import FrameRefused, PeerError, PeerRefused, Unsupported, UsageError
from mpcpriv.transport.base import Limits
from tests.contracts.grpc_members import transports
from tests.protocol.aligning import JOB, aligned, attempt
from tests.protocol.parties import NAMES

P = 2**255 - 19


def people(first: int, last: int) -> list[str]:
    return [f"person {i}" for i in range(first, last)]


def check_all(columns: list[list[str]], found: list[Alignment]) -> None:
    common = set(columns[0]).intersection(*columns[1:])
    named = [[column[row] for row in one.rows] for column, one in zip(columns, found, strict=True)]  # type: ignore[union-attr]
    assert set(named[0]) == common
    assert len(named[0]) == len(common)
    assert all(names == named[0] for names in named)
    assert [one.size for one in found] == [len(common)] * len(columns)


KEYS = st.lists(st.text(alphabet="aé\u0301ß漢😀 0", min_size=1, max_size=3), unique=True, max_size=12)


@given(data=st.data(), parties=st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_everybody_finds_the_intersection_of_the_sets(data: st.DataObject, parties: int) -> None:
    columns = [data.draw(KEYS) for _ in range(parties)]
    check_all(columns, aligned(columns))


@given(first=KEYS, second=KEYS)
@settings(max_examples=20, deadline=None)
def test_of_two_parties_both_find_the_size_alone(first: list[str], second: list[str]) -> None:
    expected = Alignment(len(set(first) & set(second)), None)
    assert aligned([first, second], mode="size") == [expected, expected]


@given(data=st.data(), parties=st.integers(2, 3))
@settings(max_examples=20, deadline=None)
def test_the_recipient_alone_finds_the_intersection(data: st.DataObject, parties: int) -> None:
    columns = [data.draw(KEYS) for _ in range(parties)]
    recipient = data.draw(st.integers(0, parties - 1))
    found = aligned(columns, mode="one", recipient=NAMES[recipient])
    rows = found.pop(recipient).rows
    assert rows is not None
    assert {columns[recipient][row] for row in rows} == set(columns[0]).intersection(*columns[1:])
    assert len(set(rows.tolist())) == len(rows)
    assert found == [Alignment(None, None)] * (parties - 1)


CASES = {
    "empty": [[], []],
    "one of them empty": [people(0, 5), [], people(0, 5)],
    "disjoint": [people(0, 20), people(20, 50), people(50, 60)],
    "equal": [people(0, 30), people(0, 30)[::-1], people(0, 30)],
    "pairs only": [people(0, 20), people(10, 30), [*people(0, 10), *people(20, 30)]],
    "a chunk and one more": [people(0, CHUNK + 1), people(1, CHUNK + 2)],
    "chunks of three": [people(0, CHUNK), people(CHUNK - 9, 2 * CHUNK + 5), people(CHUNK - 5, CHUNK + 5)],
}


@pytest.mark.parametrize("case", CASES)
def test_sets_of_every_kind_are_aligned(case: str) -> None:
    check_all(CASES[case], aligned(CASES[case]))


def test_alignment_over_grpc_takes_48_bytes_an_identifier() -> None:
    columns = [people(0, 500), people(400, 900)]
    ends = transports(NAMES[:2], Limits(wait=60))
    found: list[Any] = [None, None]

    def party(rank: int) -> None:
        found[rank] = align(ends[rank], identify(KeyColumn(columns[rank])), job=JOB, threads=2)

    threads = [threading.Thread(target=party, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    check_all(columns, found)
    # 32 bytes for a point of ours and 16 for a tag of theirs, 500 each.
    assert 24_000 <= ends[0].traffic(1).bytes_sent <= 25_000
    closing = [threading.Thread(target=end.close, daemon=True) for end in ends]
    for thread in closing:
        thread.start()
    for thread in closing:
        thread.join(60)


# The parts.


def points(numbers: list[int]) -> np.ndarray:
    return np.frombuffer(b"".join(n.to_bytes(32, "little") for n in numbers), np.uint8).reshape(-1, 32)


def test_two_secrets_commute_and_a_pair_undoes_itself() -> None:
    digests = np.arange(64 * 32, dtype=np.uint32).astype(np.uint8).reshape(64, 32)
    digests = digests ^ np.arange(64, dtype=np.uint8)[:, None]
    a, b = Secret.fresh(), Secret.fresh()
    assert np.array_equal(b.times(a.of(digests, b"x"), "p"), a.times(b.of(digests, b"x"), "p"))
    assert not np.array_equal(a.of(digests, b"x"), a.of(digests, b"y"))
    assert str(a._scalar) not in repr(a)
    for _ in range(20):
        blind, unblind = Secret.pair()
        masked = a.times(blind.of(digests[:2], b"x"), "p")
        assert np.array_equal(unblind.times(masked, "p"), a.of(digests[:2], b"x"))


def test_x25519_of_the_standard() -> None:
    """RFC 7748, section 5.2; the scalar there is clamped when it is used."""
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    u = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    expected = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert Secret(scalar).times(np.frombuffer(u, np.uint8).reshape(1, 32), "p").tobytes().hex() == expected


def test_work_is_done_in_order_and_an_error_ends_it() -> None:
    chunks = [np.full((1, 1), i) for i in range(40)]
    assert [int(c[0, 0]) for c in in_order(lambda c: c + 1, iter(chunks), Workers(3))] == list(range(1, 41))

    def fails(chunk: np.ndarray) -> np.ndarray:
        if chunk[0, 0] == 7:
            raise FrameRefused("bob", "seven")
        return chunk

    with pytest.raises(FrameRefused, match="seven"):
        list(in_order(fails, iter(chunks), Workers(3)))


@pytest.mark.parametrize("count", [0, 1, 2, 3, 10, 100, 1000, 20_000])
def test_a_store_gives_each_key_its_value(count: int) -> None:
    generator = np.random.Generator(np.random.PCG64(count))
    keys = generator.integers(0, 2**64, (count, 4), np.uint64)
    values = generator.integers(0, 2**64, (count, 2), np.uint64)
    table = store.encode(keys, values)
    assert table.shape == (store.height(count), 2)
    assert np.array_equal(store.decode(table, keys), values)
    others = generator.integers(0, 2**64, (count, 4), np.uint64)
    assert not (store.decode(table, others) == values).any()


def test_keys_that_collide_everywhere_are_solved_for() -> None:
    generator = np.random.Generator(np.random.PCG64(1))
    keys = generator.integers(0, 2**64, (60, 4), np.uint64)
    keys[:25, :3] = keys[0, :3]
    keys[25:40, :3] = keys[30, :3]
    values = generator.integers(0, 2**64, (60, 2), np.uint64)
    assert np.array_equal(store.decode(store.encode(keys, values), keys), values)


# What a peer should not send.

Change = Callable[[int, bytes], bytes]


def at(number: int, change: Callable[[bytes], bytes]) -> Change:
    return lambda n, message: change(message) if n == number else message


def announce(**fields: Any) -> Change:
    return at(0, lambda message: json.dumps(json.loads(message) | fields).encode())


def point(value: int) -> Change:
    return at(1, lambda message: value.to_bytes(32, "little") + message[32:])


# Coordinates of points of order 1, 2, 4 and 8, on the curve and its twist (RFC 7748, section 7).
SMALL = (
    0,
    1,
    P - 1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
)
TWO = "two parties"
BAD: dict[str, tuple[Change, str]] = {
    **{f"small order {i}": (point(u), "small order") for i, u in enumerate(SMALL)},
    "not reduced": (point(P + 9), "canonical"),
    "not reduced, as small": (point(P), "canonical"),
    "all ones": (point(2**256 - 1), "canonical"),
    "a high bit": (at(1, lambda m: m[:31] + bytes([m[31] | 128]) + m[32:]), "canonical"),
    "a point twice": (at(1, lambda m: m[:32] + m[:32] + m[64:]), "twice"),
    "a point missing": (at(1, lambda m: m[32:]), "1248 bytes where 40 rows"),
    "a point too many": (at(1, lambda m: m + bytes([9]) * 32), "1312 bytes where 40 rows"),
    "part of a point": (at(1, lambda m: m[:-1]), "1279 bytes"),
    "nothing": (at(1, lambda m: b""), "0 bytes"),
    "one more announced": (announce(count=41), "41 rows"),
    "one less announced": (announce(count=39), "39 rows"),
    "none announced": (announce(count=0), "bytes"),
    "less than none": (announce(count=-1), "not from 0 to"),
    "too many": (announce(count=2**40), "not from 0 to"),
    "a yes": (announce(count=True), "not from 0 to"),
    "a fraction": (announce(count=40.0), "not from 0 to"),
    "more said": (announce(more=1), "no alignment"),
    "a list": (at(0, lambda m: b"[1]"), "no alignment"),
    "nested": (at(0, lambda m: b"[" * 60_000), "no alignment"),
    "long": (at(0, lambda m: b'"' + b"a" * 70_000 + b'"'), "no alignment"),
    "not UTF-8": (at(0, lambda m: b"\xff\xfe\x00"), "no alignment"),
    "not utf-8 either": (at(0, lambda m: b"\x80"), "no alignment"),
}
LATER: dict[str, tuple[Change, str]] = {
    "a tag twice": (at(2, lambda m: m[:16] + m[:16] + m[32:]), "twice"),
    "a tag missing": (at(2, lambda m: m[16:]), "bytes where"),
}


@pytest.mark.parametrize("case", [*BAD, *LATER])
def test_what_no_party_sends_is_refused_under_its_name(case: str) -> None:
    change, said = (BAD | LATER)[case]
    results, failed = attempt([people(0, 50), people(20, 60)], change=change)
    assert failed[0] == 0, results
    assert isinstance(results[0], FrameRefused)
    assert results[0].peer == "bob"
    assert said in str(results[0])
    assert case in LATER or isinstance(results[1], PeerError)


@pytest.mark.parametrize("mode", [{"mode": "size"}, {"mode": "one", "recipient": "alice"}])
@pytest.mark.parametrize("case", ["small order 0", "a point twice", "one more announced", "a tag twice"])
def test_in_every_mode(mode: dict[str, Any], case: str) -> None:
    change, said = (BAD | LATER)[case]
    results, _ = attempt([people(0, 50), people(20, 60)], change=change, **mode)
    assert isinstance(results[0], FrameRefused)
    assert said in str(results[0])


def test_a_point_of_ours_that_comes_back_is_refused() -> None:
    seen: dict[int, bytes] = {}

    def program(rank: int) -> Callable[[Any], Any]:
        def reflecting(transport: Any) -> Any:
            count = {"count": 50}
            announcement = json.loads(bytes(transport.recv(0)))
            transport.send(0, json.dumps(announcement | count).encode())
            seen[0] = bytes(transport.recv(0))
            transport.send(0, seen[0][32:] + seen[0][:32])
            return transport.recv(0)

        def honest(transport: Any) -> Any:
            keys = identify(KeyColumn(people(0, 50)))
            return align(transport, keys, job=JOB, parties=("alice", "bob"), threads=1)

        return reflecting if rank else honest

    from tests.protocol.parties import outcomes

    results, _ = outcomes([program(0), program(1), lambda transport: None])
    assert isinstance(results[0], FrameRefused)
    assert "a point of ours" in str(results[0])


# Three parties: carol, the last one, deviates. She sends her terms twice, then her store and answers.
STAR: dict[str, tuple[Change, str]] = {
    "a store too short": (at(2, lambda m: m[16:]), "bytes where"),
    "an answer of small order": (at(3, lambda m: bytes(32) + m[32:]), "small order"),
    "an answer twice": (at(3, lambda m: m[:32] + m[:32] + m[64:]), "twice"),
    "an answer missing": (at(3, lambda m: m[32:]), "bytes where"),
    "an answer out of range": (at(3, lambda m: b"\xff" * 32 + m[32:]), "canonical"),
}


@pytest.mark.parametrize("case", STAR)
def test_the_first_of_three_refuses_what_no_party_sends(case: str) -> None:
    change, said = STAR[case]
    results, failed = attempt([people(0, 50), people(20, 60), people(30, 45)], change=change)
    assert failed[0] == 0, results
    assert isinstance(results[0], FrameRefused)
    assert results[0].peer == "carol"
    assert said in str(results[0])


# With carol first: her terms twice, her points twice, then what she tells alice.
TOLD: dict[str, tuple[Change, str]] = {
    "points of small order": (at(2, lambda m: bytes(32) + m[32:]), "small order"),
    "a point twice": (at(2, lambda m: m[:32] + m[:32] + m[64:]), "twice"),
    "more than there are": (at(4, lambda m: (10**6).to_bytes(8, "little")), "larger than a set"),
    "no number": (at(4, lambda m: b"1"), "larger than a set"),
    "a stranger": (at(5, lambda m: bytes(16) + m[16:]), "not ours"),
    "somebody twice": (at(5, lambda m: m[:16] + m[:16] + m[32:]), "twice"),
}


@pytest.mark.parametrize("case", TOLD)
def test_the_others_refuse_what_the_first_of_three_should_not_say(case: str) -> None:
    change, said = TOLD[case]
    results, _ = attempt(
        [people(0, 50), people(20, 60), people(30, 45)],
        change=change,
        parties=("carol", "alice", "bob"),
    )
    assert isinstance(results[0], FrameRefused)
    assert results[0].peer == "carol"
    assert said in str(results[0])


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"mode": "size"}, "another mode"),
        ({"job": b"another"}, "another job"),
        ({"parties": ("bob", "alice")}, "another parties"),
    ],
)
def test_other_terms_are_refused_by_name(other: dict[str, Any], said: str) -> None:
    results, _ = attempt([people(0, 5), people(0, 5)], own=[{}, other])
    refused = [result for result in results if isinstance(result, PeerRefused)]
    assert refused
    assert said in str(refused[0])


def test_other_rules_are_refused() -> None:
    results, failed = attempt([people(0, 5), people(0, 5)], change=announce(rules=[["trim"]]))
    assert failed[0] == 0
    assert isinstance(results[0], PeerRefused)
    assert "another rules" in str(results[0])


@pytest.mark.parametrize(
    ("terms", "kind", "said"),
    [
        ({"mode": "pairs"}, UsageError, "one of all, one, size"),
        ({"mode": "one"}, UsageError, "recipient None"),
        ({"recipient": "bob"}, UsageError, "other modes none"),
        ({"mode": "one", "recipient": "dealer"}, UsageError, "'dealer'"),
        ({"mode": "size"}, Unsupported, "two parties only"),
        ({"parties": ("alice",)}, UsageError, "two or more"),
        ({"parties": ("bob", "carol")}, UsageError, "alice among them"),
        ({"parties": ("alice", "bob", "zoe")}, UsageError, "two or more"),
        ({"job": b""}, UsageError, "0 bytes"),
        ({"threads": 0}, UsageError, "threads = 0"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(terms: dict[str, Any], kind: type, said: str) -> None:
    results, failed = attempt([["a"], ["b"], ["c"]], **terms)
    assert 0 in failed
    assert isinstance(results[0], kind)
    assert said in str(results[0])
