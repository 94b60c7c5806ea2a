"""What a party receives in an alignment says no more than it may learn; and each test can tell.

Between two runs whose inputs differ in all that a party may not learn, what it receives must come from one
distribution. Each test is run again on a protocol that leaks, where it must fail.
"""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from scipy import stats

from mpcpriv.alignment import KeyColumn, group, identifiers, identify, many, store, two
from mpcpriv.alignment.group import POINT, Secret
from mpcpriv.alignment.identifiers import DIGEST, as_strings
from tests.protocol.aligning import aligned
from tests.protocol.parties import NAMES, Sight
from tests.protocol.uniformity import LEAST, p_same, p_uniform

P = 2**255 - 19
SIZE = 3000
COMMON = 1000


def people(prefix: str, first: int, last: int) -> list[str]:
    return [f"{prefix}{i}" for i in range(first, last)]


def counts(rows: np.ndarray) -> np.ndarray:
    """How often each value stands at each place of the rows, (width, 256)."""
    return np.stack([np.bincount(column, minlength=256) for column in rows.T])


MODES: dict[str, dict[str, Any]] = {
    "all": {},
    "size": {"mode": "size"},
    "one, the first": {"mode": "one", "recipient": "alice"},
    "one, the second": {"mode": "one", "recipient": "bob"},
}

# Equal sizes and intersections; other people, and the common ones at other places of the tables.
INPUTS = (
    [people("a", 0, SIZE), people("a", SIZE - COMMON, 2 * SIZE - COMMON)],
    [
        people("z", 0, COMMON) + people("x", 0, SIZE - COMMON),
        people("y", 0, SIZE - COMMON) + people("z", 0, COMMON),
    ],
)


def differences(mode: dict[str, Any]) -> list[float]:
    """For all that each of two parties receives from the other: the chance that both inputs look alike."""
    sights = [Sight(), Sight()]
    for number, (columns, sight) in enumerate(zip(INPUTS, sights, strict=True)):
        aligned(columns, seed=100 + number, sight=sight, **mode)
    found = []
    for receiver, sender in ((0, 1), (1, 0)):
        one, other = (sight.received[receiver, sender] for sight in sights)
        assert [len(m) for m in one] == [len(m) for m in other]
        assert one[0] == other[0]  # the terms
        for first, second in zip(one[1:], other[1:], strict=True):
            width = POINT if len(first) == SIZE * POINT else two.TAG
            rows = [np.frombuffer(m, np.uint8).reshape(-1, width) for m in (first, second)]
            found.append(p_same(counts(rows[0]), counts(rows[1])))
            if width == two.TAG:
                found.extend(p_uniform(counts(table)) for table in rows if mode.get("mode") != "size")
    return found


@pytest.mark.parametrize("mode", MODES)
def test_inputs_of_equal_sizes_look_alike(mode: str) -> None:
    found = differences(MODES[mode])
    assert len(found) >= 3
    assert min(found) > LEAST


def test_keys_that_travel_as_they_are_do_not_look_alike() -> None:
    def raw(key: bytes, **_: Any) -> Any:
        return SimpleNamespace(digest=lambda: key[8:].ljust(DIGEST, b"\0"))

    def bare(self: Secret, digests: np.ndarray, domain: bytes) -> np.ndarray:
        marked = digests.copy()
        marked[:, -1] = self._scalar[5]  # no party's points are the other's
        return marked

    with (
        mock.patch.object(identifiers, "hashlib", SimpleNamespace(blake2b=raw)),
        mock.patch.object(Secret, "of", bare),
        mock.patch.object(Secret, "times", lambda self, points, peer: points),
        pytest.raises(AssertionError, match="min"),
    ):
        test_inputs_of_equal_sizes_look_alike("size")


# On the curve: no bit of a point depends on its identifier.


def on_curve(points: np.ndarray) -> int:
    """How many coordinates are of points on the curve, v^2 = u^3 + 486662 u^2 + u, and not on its twist."""
    us = [int.from_bytes(row.tobytes(), "little") for row in points]
    return sum(pow(u * (u * u + 486662 * u + 1), (P - 1) // 2, P) == 1 for u in us)


@pytest.mark.parametrize("parties", [2, 3])
def test_no_point_lies_on_the_twist(parties: int) -> None:
    sight = Sight()
    aligned([people("a", 0, 200)] * parties, seed=110, sight=sight)
    messages = sight.received[1, 0]
    points = np.frombuffer(messages[1 if parties == 2 else 2], np.uint8).reshape(-1, POINT)
    assert len(points) == 200
    assert on_curve(points) == 200


def test_hashing_straight_to_a_coordinate_shows_a_bit_of_each() -> None:
    def straight(texts: list[bytes]) -> list[bytes]:
        return [group.hashlib.sha256(text).digest()[:31] + b"\0" for text in texts]

    with mock.patch.object(group, "_to_group", straight), pytest.raises(AssertionError):
        test_no_point_lies_on_the_twist(2)


# The order of a table.


def places(seed: int) -> list[int]:
    """Where, among the points that the second party receives, those stand that it finds in common."""
    sight = Sight()
    aligned([people("a", 0, SIZE), people("a", 0, COMMON)], seed=seed, sight=sight)
    own = sight.sent[1, 0][2]  # the tags with which it answers: of each point that it received, in order
    tags = [own[i : i + two.TAG] for i in range(0, len(own), two.TAG)]
    answer = sight.received[1, 0][2]
    common = {answer[i : i + two.TAG] for i in range(0, len(answer), two.TAG)}
    found = [place for place, tag in enumerate(tags) if tag in common]
    assert len(found) == COMMON
    return found


def test_where_a_common_row_stands_is_not_seen() -> None:
    seen = np.bincount(np.array(places(120)) * 20 // SIZE, minlength=20)
    assert stats.chisquare(seen).pvalue > LEAST


def check_common_order(parties: int) -> None:
    """Each party gets its rows in an order that has nothing to do with that of any table."""
    found = aligned([people("a", 0, 500)] * parties, seed=125 + parties)
    for one in found:
        assert stats.spearmanr(one.rows, np.arange(500)).pvalue > LEAST


@pytest.mark.parametrize("parties", [2, 3])
def test_common_rows_come_in_an_order_that_says_nothing(parties: int) -> None:
    check_common_order(parties)


def test_they_would_not_where_the_first_of_three_does_not_shuffle() -> None:
    with mock.patch.object(many, "secret_order", np.arange), pytest.raises(AssertionError):
        check_common_order(3)


def test_the_order_of_a_table_is_seen_where_nothing_is_shuffled() -> None:
    with mock.patch.object(two, "secret_order", np.arange), pytest.raises(AssertionError):
        test_where_a_common_row_stands_is_not_seen()


def test_the_size_alone_is_not_tied_to_rows() -> None:
    """The answer to one's own points comes in an order that follows from the set of its values."""
    sight = Sight()
    aligned([people("a", 0, 300), people("a", 200, 400)], mode="size", seed=130, sight=sight)
    for receiver, sender in ((0, 1), (1, 0)):
        answer = sight.received[receiver, sender][2]
        tags = [answer[i : i + two.TAG] for i in range(0, len(answer), two.TAG)]
        assert tags == sorted(tags)


def test_the_size_is_tied_to_rows_where_answers_keep_their_order() -> None:
    with (
        mock.patch.object(two.np, "argsort", lambda rows: np.arange(len(rows))),
        pytest.raises(AssertionError),
    ):
        test_the_size_alone_is_not_tied_to_rows()


@pytest.mark.parametrize("recipient", [0, 1])
def test_who_is_not_the_recipient_receives_masked_points_and_nothing_else(recipient: int) -> None:
    sight = Sight()
    aligned([people("a", 0, 30), people("a", 20, 60)], mode="one", recipient=NAMES[recipient], sight=sight)
    giver = 1 - recipient
    assert [len(m) for m in sight.received[giver, recipient][1:]] == [(30, 40)[recipient] * POINT]


# One run and the next.


def repeated(job: bytes, seeds: tuple[int | None, int | None]) -> int:
    """How many rows of 16 bytes travel in a run and again in the next, of the same people."""
    rows = []
    for run, seed in zip((b"job", job), seeds, strict=True):
        sight = Sight()
        aligned([people("a", 0, 200), people("a", 100, 300)], job=run, seed=seed, sight=sight)
        messages = [m for pair in ((0, 1), (1, 0)) for m in sight.received[pair][1:]]
        rows.append({m[i : i + 16] for m in messages for i in range(0, len(m), 16)})
    return len(rows[0] & rows[1])


def test_runs_have_no_value_in_common() -> None:
    assert repeated(b"job", (None, None)) == 0


def test_keys_that_come_again_show_who_does_but_not_in_another_job() -> None:
    assert repeated(b"job", (135, 135)) > 200
    assert repeated(b"next", (135, 135)) == 0


# Three parties: no two parties' intersection.

EVERYBODY = people("e", 0, 500)


def pairwise(shared: bool) -> list[list[str]]:
    """Three tables of 3000 people of whom 500 are in all; if `shared`, all pairs have 1000 more in common."""
    ab, ac, bc = ((people(p, 0, 1000), people(p, 0, 1000)) for p in ("ab", "ac", "bc"))
    if not shared:
        ab, ac, bc = ((people(p, 0, 1000), people(p, 1000, 2000)) for p in ("ab", "ac", "bc"))
    rest = [people(f"only {name}", 0, 500) for name in NAMES[:3]]
    return [
        EVERYBODY + ab[0] + ac[0] + rest[0],
        EVERYBODY + ab[1] + bc[0] + rest[1],
        EVERYBODY + ac[1] + bc[1] + rest[2],
    ]


class Reading:
    """What the first party reads in each store, without the mask and without what it knows of the shares.

    Attributes:
        digests: its identifiers, (n, 32), in the order of its own shuffle.
        values: by the other parties in order, (n, 2).
    """

    def __init__(self, columns: list[list[str]], seed: int) -> None:
        self.values: list[np.ndarray] = []
        latest: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        keys: dict[int, dict[int, bytes]] = {}
        build, read, exchange = many.Outputs.__init__, store.decode, many.exchange_keys

        def outputs(one: many.Outputs, digests: np.ndarray, points: np.ndarray, *names: Any) -> None:
            build(one, digests, points, *names)
            latest[threading.get_ident()] = digests, one.masks

        def decode(table: np.ndarray, places: np.ndarray) -> np.ndarray:
            found = read(table, places)
            self.digests, masks = latest[threading.get_ident()]
            self.values.append(found ^ masks)
            return found

        def exchange_keys(transport: Any, peers: list[int]) -> dict[int, bytes]:
            keys[transport.rank] = exchange(transport, peers)
            return keys[transport.rank]

        with (
            mock.patch.object(many.Outputs, "__init__", outputs),
            mock.patch.object(store, "decode", decode),
            mock.patch.object(many, "exchange_keys", exchange_keys),
        ):
            aligned(columns, seed=seed)
        for peer in (1, 2):
            self.values[peer - 1] ^= many.zero_shares(self.digests, [keys[0][peer]])


def whose(digests: np.ndarray, keys: list[str]) -> np.ndarray:
    return np.isin(as_strings(digests), as_strings(identify(KeyColumn(keys)).digests))


def check_first_sees_no_pair(seed: int) -> None:
    columns = pairwise(shared=True)
    view = Reading(columns, seed)
    b, c = (whose(view.digests, column) for column in columns[1:])
    assert (int(b.sum()), int(c.sum()), int((b & c).sum())) == (1500, 1500, 500)
    equal = (view.values[0] == view.values[1]).all(axis=1)
    assert np.array_equal(equal, b & c)
    for values, has in zip(view.values, (b, c), strict=True):
        for chosen in (has & ~equal, ~has, equal):
            rows = np.ascontiguousarray(values[chosen])
            assert p_uniform(counts(rows.view(np.uint8))) > LEAST
            assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_first_of_three_reads_nothing_of_whom_it_shares_with_one_other() -> None:
    check_first_sees_no_pair(140)


def test_it_would_where_the_others_share_no_zeros() -> None:
    def none(digests: np.ndarray, keys: list[bytes]) -> np.ndarray:
        return np.zeros((len(digests), 2), np.uint64)

    with mock.patch.object(many, "zero_shares", none), pytest.raises(AssertionError):
        check_first_sees_no_pair(141)


def test_three_parties_receive_the_same_whether_pairs_share_people_or_not() -> None:
    sights = [Sight(), Sight()]
    for shared, sight in zip((True, False), sights, strict=True):
        found = aligned(pairwise(shared), seed=150 + shared, sight=sight)
        assert [one.size for one in found] == [500] * 3
    for pair in [(i, j) for i in range(3) for j in range(3) if i != j]:
        one, other = (sight.received[pair] for sight in sights)
        assert [len(m) for m in one] == [len(m) for m in other]
        assert one[0] == other[0]
        for first, second in zip(one[1:], other[1:], strict=True):
            if len(first) >= 500 * two.TAG:
                width = POINT if len(first) == SIZE * POINT else two.TAG
                rows = [np.frombuffer(m, np.uint8).reshape(-1, width) for m in (first, second)]
                assert p_same(counts(rows[0]), counts(rows[1])) > LEAST
                if width == two.TAG:
                    assert p_uniform(counts(rows[0])) > LEAST
            elif len(first) == 8:
                assert first == second == (500).to_bytes(8, "little")


def test_parties_other_than_the_first_exchange_terms_and_a_key_only() -> None:
    sight = Sight()
    aligned(pairwise(shared=True), sight=sight)
    assert [len(m) for m in sight.received[2, 1][1:]] == [32]
    assert len(sight.received[1, 2]) == 1


def test_a_store_hides_which_keys_are_in_it() -> None:
    """With random values all its entries are random, whether positions are anybody's or not."""
    generator = np.random.Generator(np.random.PCG64(9))
    keys = generator.integers(0, 2**64, (5000, 4), np.uint64)
    table = store.encode(keys, generator.integers(0, 2**64, (5000, 2), np.uint64))
    used = np.zeros(len(table), bool)
    used[store._places(keys, len(table) - store.DENSE).ravel()] = True
    used[-store.DENSE :] = True
    for chosen in (used, ~used):
        assert chosen.sum() > 50
        assert p_uniform(counts(np.ascontiguousarray(table[chosen]).view(np.uint8))) > LEAST


def test_a_store_with_empty_entries_shows_where_its_keys_are() -> None:
    with mock.patch.object(store.os, "urandom", bytes), pytest.raises(AssertionError):
        test_a_store_hides_which_keys_are_in_it()
