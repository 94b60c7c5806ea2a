"""The joined table on shares is what a join in the clear says, and nobody sees whose rows are in it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from scipy.special import gammaln

import mpcpriv.engine
from mpcpriv.alignment import Half, KeyColumn, costs, halve, identify, secret, store
from mpcpriv.alignment.group import POINT
from mpcpriv.alignment.wire import Terms
from mpcpriv.errors import FrameRefused, PeerRefused, Unsupported, UsageError
from mpcpriv.transport.base import Transport
from tests.protocol.aligning import JOB, Altering
from tests.protocol.parties import NAMES, Sight, outcomes, run
from tests.protocol.uniformity import LEAST, p_same, p_uniform

WIDTHS = (2, 3)


def people(first: int, last: int) -> list[str]:
    return [f"person {i}" for i in range(first, last)]


def tables(sizes: tuple[int, int], common: int, seed: int = 0) -> list[list[str]]:
    """Two tables of so many people in any order, of whom so many are in both."""
    generator = np.random.default_rng(seed)
    first, second = people(0, sizes[0]), people(sizes[0] - common, sizes[0] - common + sizes[1])
    return [[one[i] for i in generator.permutation(len(one))] for one in (first, second)]


def numbers(columns: Sequence[Sequence[str]], widths: Sequence[int] = WIDTHS) -> list[np.ndarray]:
    """Any ring elements: of what is multiplied by 0 or 1 nothing is rounded."""
    generator = np.random.default_rng(1)
    return [
        generator.integers(-(2**63), 2**63, (len(one), width), dtype=np.int64)
        for one, width in zip(columns, widths, strict=True)
    ]


def attempt(
    columns: Sequence[Sequence[str]],
    change: Callable[[int, bytes], bytes] | None = None,
    changes: Sequence[dict[str, Any]] = ({}, {}),
    **options: Any,
) -> tuple[list[Any], list[int]]:
    """Both halves, or what was raised; and who failed. `change` is of the last party's messages."""
    values = numbers(columns)

    def member(rank: int) -> Callable[[Transport], Half]:
        def program(transport: Transport) -> Half:
            if change is not None and rank == len(columns) - 1:
                transport = Altering(transport, change)
            given: dict[str, Any] = {"job": JOB, "widths": WIDTHS, "parties": NAMES[:2], "threads": 1}
            keys = identify(KeyColumn(list(columns[rank])))
            return halve(transport, keys, values[rank], **(given | changes[rank]))

        return program

    results, failed = outcomes([member(0), member(1), lambda transport: None], **options)
    return results[:2], failed


def halves(columns: Sequence[Sequence[str]], **options: Any) -> list[Half]:
    results, failed = attempt(columns, **options)
    if failed:
        raise results[failed[0]]
    return results


def check(columns: Sequence[Sequence[str]], found: Sequence[Half]) -> None:
    """Both halves add up to the rows in common, each once, and their tags to zero there and nowhere else."""
    tags = found[0].tags + found[1].tags
    assert (abs(tags) < 2**62).all()
    assert len(tags) == secret.bins(min(map(len, columns)))
    rows = (found[0].columns + found[1].columns)[tags == 0].tolist()
    values = [
        dict(zip(*pair, strict=True))
        for pair in zip(columns, map(np.ndarray.tolist, numbers(columns)), strict=True)
    ]
    common = set(columns[0]) & set(columns[1])
    assert sorted(rows) == sorted(values[0][one] + values[1][one] for one in common)


CASES = [
    ((0, 0), 0),
    ((0, 7), 0),
    ((7, 0), 0),
    ((1, 1), 0),
    ((1, 1), 1),
    ((3, 2000), 3),
    ((2000, 3), 2),
    ((60, 90), 20),
    ((500, 500), 0),
    ((500, 500), 500),
    ((1500, 2000), 700),
]


@pytest.mark.parametrize(("sizes", "common"), CASES)
def test_halves_add_up_to_the_rows_in_common(sizes: tuple[int, int], common: int) -> None:
    columns = tables(sizes, common)
    check(columns, halves(columns))


@pytest.mark.parametrize("parties", [2, 3])
@pytest.mark.parametrize("owners", [(0, 1), (1, 0)])
def test_the_joined_table_on_shares_is_the_join(parties: int, owners: tuple[int, int]) -> None:
    columns = tables((300, 400), 120, seed=parties)
    generator = np.random.default_rng(2)
    values = [generator.uniform(-4, 4, (len(one), width)) for one, width in zip(columns, WIDTHS, strict=True)]

    def program(session: Any) -> Any:
        from mpcpriv.engine.joining import join_secretly

        given: list[Any] = [None, None]
        if session.rank in owners:
            place = owners.index(session.rank)
            given = [identify(KeyColumn(columns[place])), torch.from_numpy(values[place])]
        before = session.cost.rounds
        found = join_secretly(*given, job=JOB, owners=owners, threads=1)
        rounds = session.cost.rounds - before
        return found.present.get_plain_text(), found.columns.get_plain_text(), rounds, session.transcript

    results = run(parties, program)
    assert len({transcript for *_, transcript in results}) == 1
    for present, joined, rounds, _ in results:
        assert rounds == 9
        assert len(present) == secret.bins(300)
        assert set(present.tolist()) == {0.0, 1.0}
        assert (joined[present == 0] == 0).all()
        rows = joined[present == 1].numpy()
        places = [{name: row for row, name in enumerate(one)} for one in columns]
        expected = np.array(
            [
                [*values[0][places[0][one]], *values[1][places[1][one]]]
                for one in set(columns[0]) & set(columns[1])
            ]
        )
        for found, wanted in ((rows, expected), (expected, rows)):
            near = np.abs(found[:, None] - wanted[None]).max(2).min(1)
            assert len(found) == 120
            assert near.max() <= 2**-16


def test_a_table_without_columns_says_who_is_there_and_a_plan_costs_what_a_run_does() -> None:
    columns = tables((50, 40), 30)

    def program(session: Any) -> Any:
        from mpcpriv.engine.joining import join_secretly

        mine = columns[session.rank]
        found = join_secretly(identify(KeyColumn(mine)), torch.zeros(len(mine), 0), job=JOB, threads=1)
        sent = dict(session.cost.sent_to)
        return found.present.sum().get_plain_text().item(), sent

    (size, sent), (_, other) = run(2, program)
    assert size == 30

    def planned() -> None:
        from mpcpriv.engine.session import current

        costs_of.append((current().rank, program(current())[1]))

    costs_of: list[Any] = []
    mpcpriv.engine.plan(planned, 2)
    assert dict(costs_of) == {0: sent, 1: other}


# Placing.


def test_identifiers_find_places_for_all_but_a_negligible_chance() -> None:
    """Hall's theorem: they do not, where some k bins are the only candidates of k + 1 identifiers. Of the
    smallest such bins each is a candidate of two of these or more. Sets of a, b and c bins of the thirds are
    summed over; identifiers fall onto a bins, two on each, in at most q! (e^x - 1 - x)^a / x^q ways, any x.
    """
    x = np.geomspace(1e-6, 60, 2000)
    least = np.where(x < 1e-2, 2 * np.log(x) - math.log(2) + x / 3, np.log(np.expm1(x) - x))

    def choose(n: int, k: int) -> float:
        return float(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1))

    def onto(identifiers: int, a: int) -> float:
        if identifiers < 2 * a:
            return -math.inf
        ways = float((a * least - identifiers * np.log(x)).min() + gammaln(identifiers + 1))
        return ways if a > 1 else 0.0

    def chance(n: int) -> float:
        third, total = secret.bins(n) // 3, 0.0
        sets = [
            (a, b, k - a - b) for k in range(3, min(n, 20)) for a in range(1, k - 1) for b in range(1, k - a)
        ]
        weights = [1.0] * len(sets)
        for k in sorted({int(one) for one in np.geomspace(20, n - 1, 30)}) if n > 21 else []:
            sets.append((k // 3, (k - k // 3) // 2, k - k // 3 - (k - k // 3) // 2))
            weights.append(k**2 * max(k / 5, 1))  # as many sets as there may be around it
        for (a, b, c), weight in zip(sets, weights, strict=True):
            q = a + b + c + 1
            if max(a, b, c) <= third:
                ways = sum(choose(third, one) + onto(q, one) for one in (a, b, c)) + choose(n, q)
                total += weight * math.exp(min(ways - 3 * q * math.log(third), 700))
        return total

    for n in (4, 10, 60, 100, 200, 400, 1000, 10_000, 1_000_000):
        assert chance(n) < 2**-41, n
    with mock.patch.object(secret, "_third", lambda count: -(-count * 9 // 20) + 60):
        assert chance(150) > 2**-41


def test_a_seed_under_which_somebody_has_no_place_is_drawn_anew() -> None:
    columns = tables((40, 50), 30)
    genuine, bad = secret._candidates, set()
    lock = threading.Lock()

    def candidates(digests: np.ndarray, seed: bytes, third: int) -> np.ndarray:
        with lock:
            if len(bad) < 2 and len(digests) == 40:
                bad.add(seed)
        found = genuine(digests, seed, third)
        return found % 3 + third * np.arange(3) if seed in bad else found

    with mock.patch.object(secret, "_candidates", candidates):
        check(columns, halves(columns))
    assert len(bad) == 2


# What travels.

ALIKE = [tables((600, 800), 0, seed=3), tables((600, 800), 600, seed=4)]


def counts(data: bytes, width: int) -> np.ndarray:
    rows = np.frombuffer(data, np.uint8).reshape(-1, width)
    return np.stack([np.bincount(column, minlength=256) for column in rows.T])


def check_alike() -> None:
    """Between no row in common and all, what each receives is as much, and looks the same."""
    sights = [Sight(), Sight()]
    for number, (columns, sight) in enumerate(zip(ALIKE, sights, strict=True)):
        halves(columns, sight=sight, seed=200 + number)
    word = store.WORD * (1 + WIDTHS[1])
    found = []
    for receiver, sender in ((0, 1), (1, 0)):
        one, other = (sight.received[receiver, sender] for sight in sights)
        assert [len(message) for message in one] == [len(message) for message in other]
        assert one[0] == other[0]
        tables_of = [
            b"".join(m for m in some[1:] if len(m) % word == 0 and len(m) > 600 * POINT)
            for some in (one, other)
        ]
        points = [b"".join(m for m in some[1:] if len(m) == 600 * POINT) for some in (one, other)]
        found.append(p_same(*(counts(some, POINT) for some in points)))
        if receiver == 0:
            found += [p_uniform(counts(some, word)) for some in tables_of]
    assert len(found) == 4
    assert min(found) > LEAST


def test_what_travels_is_the_same_whoever_is_in_common() -> None:
    check_alike()


def check_read() -> None:
    """What the receiver reads in its bins is uniform where the sender has the identifier, and where not."""
    columns = tables((1500, 1500), 750, seed=5)
    ours, theirs = halves(columns, seed=205)
    common = ours.tags + theirs.tags == 0
    assert common.sum() == 750
    for chosen in (common, ~common):
        tags = np.ascontiguousarray(ours.tags[chosen] << 2).view(np.uint8).reshape(-1, 8)[:, 1:]
        found = np.bincount(tags.ravel(), minlength=256)
        assert p_uniform(found[None]) > LEAST
        assert len(np.unique(ours.tags[chosen])) == chosen.sum()
    read = np.ascontiguousarray(ours.columns[common][:, WIDTHS[0] :]).view(np.uint8).reshape(-1, 24)
    assert p_uniform(counts(read.tobytes(), 24)) > LEAST


def test_what_the_receiver_reads_is_uniform() -> None:
    check_read()


def test_a_sender_without_masks_shows_who_is_in_common() -> None:
    with (
        mock.patch.object(secret, "_random", lambda rows, words: np.zeros((rows, words), np.uint64)),
        pytest.raises(AssertionError),
    ):
        check_read()


def bins_read_twice(seen: list[Any]) -> int:
    """In how many bins the receiver finds one tag by two of its identifiers, from all that it has seen."""
    pairs, points, table, domain = seen
    digests, words = pairs[:, :32], table.shape[1]
    found = 0
    values: dict[int, set[bytes]] = {}
    seeds = secret_seed[0]
    for place, row in zip(
        secret._candidates(digests, seeds, secret.bins(len(digests)) // 3), range(len(digests)), strict=True
    ):
        for one in place:
            asked = secret._pairs(digests[row : row + 1], np.array([one]))
            keys, masks = secret._outputs(asked, points[row : row + 1], domain, words)
            value = (store.decode(table, keys) ^ masks)[0, 0].tobytes()
            found += value in values.setdefault(int(one), set())
            values[int(one)].add(value)
    return found


secret_seed: list[bytes] = [b""]


def check_one_bin_each() -> None:
    seen: list[Any] = []
    outputs, decode, placed = secret._outputs, store.decode, secret._placed
    latest: list[Any] = []

    def spied_outputs(pairs: np.ndarray, points: np.ndarray, domain: bytes, words: int) -> Any:
        if len(pairs) == 300:
            latest[:] = [pairs, points, domain]
        return outputs(pairs, points, domain, words)

    def spied_decode(table: np.ndarray, keys: np.ndarray) -> np.ndarray:
        seen[:] = [latest[0], latest[1], table, latest[2]]
        return decode(table, keys)

    def spied_placed(digests: np.ndarray) -> Any:
        found = placed(digests)
        secret_seed[0] = found[0]
        return found

    with (
        mock.patch.object(secret, "_outputs", spied_outputs),
        mock.patch.object(store, "decode", spied_decode),
        mock.patch.object(secret, "_placed", spied_placed),
    ):
        halves(tables((300, 400), 250, seed=6), seed=206)
    assert bins_read_twice(seen) == 0


def test_no_bin_can_be_read_by_two_identifiers() -> None:
    check_one_bin_each()


def test_it_can_where_the_function_is_of_identifiers_alone() -> None:
    genuine, outputs = secret._pairs, secret._outputs

    # The point is of the identifier; the bin comes in only after it, where everybody can put any.
    where: dict[int, np.ndarray] = {}

    def pairs(digests: np.ndarray, place: np.ndarray) -> np.ndarray:
        found = genuine(digests, np.zeros_like(place))
        where[found.ctypes.data] = place
        kept.append(found)
        return found

    def later(asked: np.ndarray, points: np.ndarray, domain: bytes, words: int) -> Any:
        return outputs(genuine(asked[:, :32], where[asked.ctypes.data]), points, domain, words)

    kept: list[np.ndarray] = []
    with (
        mock.patch.object(secret, "_pairs", pairs),
        mock.patch.object(secret, "_outputs", later),
        pytest.raises(AssertionError, match="== 0"),
    ):
        check_one_bin_each()


# Costs, and what is refused.


@pytest.mark.parametrize("sizes", [(30, 70), (70, 30), (5000, 20), (20, 5000)])
def test_what_is_sent_is_what_was_planned(sizes: tuple[int, int]) -> None:
    sight = Sight()
    columns = tables(sizes, 10)
    halves(columns, sight=sight)
    terms = Terms("secret", None, NAMES[:2], JOB.hex(), ((),), WIDTHS)
    for sender, receiver in ((0, 1), (1, 0)):
        planned = costs.sent(terms, dict(zip(NAMES, sizes, strict=False)), 0, NAMES[sender])
        assert planned == {NAMES[receiver]: sum(map(len, sight.sent[sender, receiver]))}


CHANGED: dict[str, tuple[tuple[int, int], Callable[[int, bytes], bytes], str]] = {
    "a short seed": ((60, 50), lambda n, m: m[:-1] if n == 1 else m, "15 bytes where a seed of 16"),
    "a short store": ((50, 60), lambda n, m: m[:-1] if n == 1 else m, "rows of 32 bytes of the announced"),
    "points of small order": ((50, 60), lambda n, m: bytes(len(m)) if n == 2 else m, "of small order"),
    "a point twice": ((60, 50), lambda n, m: m[:32] * 50 if n == 2 else m, "sent a value twice"),
    "an answer twice": ((50, 60), lambda n, m: m[:32] * 50 if n == 2 else m, "sent a value twice"),
    "no announcement": ((50, 60), lambda n, m: b"{}" if n == 0 else m, "announced no alignment"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_what_no_party_sends_is_refused_under_its_name(what: str) -> None:
    sizes, change, said = CHANGED[what]
    results, _ = attempt(tables(sizes, 10), change)
    assert isinstance(results[0], FrameRefused), results
    assert said in str(results[0])
    assert results[0].peer == "bob"


def test_other_widths_and_modes_are_noticed() -> None:
    for changes, said in (({"job": b"another"}, "another job"), ({"widths": (2, 4)}, "another columns")):
        results, failed = attempt(tables((5, 5), 1), changes=(changes, {}))
        assert set(failed) >= {0, 1}
        assert isinstance(results[failed[0]], PeerRefused)
        assert said in str(results[failed[0]])
    results, _ = attempt(tables((5, 5), 1), changes=({"widths": (1, 3)}, {}))
    assert isinstance(results[0], UsageError)
    results, _ = attempt(
        tables((5, 5), 1), changes=({"parties": (*NAMES[:2], "dealer"), "widths": (2, 3, 1)}, {})
    )
    assert isinstance(results[0], Unsupported)


def test_owners_who_tell_all_parties_another_number_than_each_other_are_noticed() -> None:
    columns = tables((50, 60), 30)

    def program(session: Any) -> Any:
        from mpcpriv.engine.joining import joined

        mine = session.rank
        keys = identify(KeyColumn(columns[mine]))
        half = halve(
            session.transport,
            keys,
            np.zeros((len(keys), WIDTHS[mine]), np.int64),
            job=JOB,
            widths=WIDTHS,
            parties=session.parties,
            threads=1,
        )
        return joined(session, (0, 1), half, 40, sum(WIDTHS))

    with pytest.raises(UsageError, match="other rows than it aligned"):
        run(2, program)
