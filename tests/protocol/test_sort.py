"""Sorting against torch, with ties, in short and long lines; what it opens is uniformly random."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mpcpriv.engine.prg import Prg
from mpcpriv.engine.protocol.shuffle import placed, shuffle
from mpcpriv.engine.protocol.sort import SHORT, order, order_with
from mpcpriv.engine.session import Session
from tests.protocol.parties import Sight, run
from tests.protocol.uniformity import LEAST, byte_counts, p_uniform


def opened(session: Session, share: torch.Tensor) -> torch.Tensor:
    value = session.open_to("open", share, list(range(session.size)))
    assert value is not None
    return value


def shared(session: Session, value: torch.Tensor) -> torch.Tensor:
    return session.share_input(0, tuple(value.shape), value if session.rank == 0 else None)


def in_order(
    session: Session, x: torch.Tensor, ranks: list[int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    values, places = order(session, shared(session, x), ranks)
    return opened(session, values), opened(session, places)


@given(
    st.sampled_from([2, 3, 4]),
    st.sampled_from([1, 2, 3, 9, SHORT, SHORT + 1, 130]),
    st.integers(1, 3),
    st.sampled_from([1, 3, 100, 1 << 40]),
    st.integers(0, 1 << 30),
)
@settings(max_examples=15, deadline=None)
def test_order_is_torch_s_stable_one(n: int, length: int, lines: int, values: int, seed: int) -> None:
    x = Prg(bytes(16)).stream(seed).tensor((lines, length)) % values - values // 2
    found, places = run(n, in_order, x)[0]
    expected, where = x.sort(dim=-1, stable=True)
    assert torch.equal(found, expected)
    assert torch.equal(places, where)


@pytest.mark.parametrize("length", [SHORT, 1000])
def test_the_ends_of_the_range(length: int) -> None:
    bits = (length - 1).bit_length() if length > SHORT else 0
    most = 1 << (61 - bits)
    x = torch.arange(length).reshape(1, -1) % 5 - 2
    x[0, :4] = torch.tensor([most - 1, 1 - most, most - 2, 2 - most])
    found, places = run(2, in_order, x)[0]
    assert torch.equal(found, x.sort(dim=-1).values)
    assert torch.equal(places, x.sort(dim=-1, stable=True).indices)


def test_beyond_the_range_of_long_lines_values_count_as_equal_and_stay_themselves() -> None:
    x = torch.arange(300).reshape(1, -1)
    x[0, :4] = torch.tensor([(1 << 61) - 1, 1 << 60, -(1 << 61), -(1 << 60)])
    found, places = run(2, in_order, x)[0]
    assert places[0].tolist() == [2, 3, *range(4, 300), 0, 1]
    assert torch.equal(found[0], x[0, places[0]])


@pytest.mark.parametrize("ranks", [[0], [0, 1, 2], [499, 500], [999]])
def test_wanted_ranks_of_a_long_line(ranks: list[int]) -> None:
    x = Prg(bytes(16)).stream(3).tensor((2, 1000)) >> 20
    found, places = run(2, in_order, x, ranks)[0]
    assert torch.equal(found[:, ranks], x.sort(dim=-1).values[:, ranks])
    # What is not wanted is there all the same, somewhere.
    assert torch.equal(x.gather(1, places), found)
    assert torch.equal(places.sort(dim=-1).values, torch.arange(1000).expand(2, -1))


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("length", [1, SHORT, 200])
def test_rows_go_with_their_values(n: int, length: int) -> None:
    x = Prg(bytes(16)).stream(5).tensor((2, length)) % 9
    rows = Prg(bytes(16)).stream(6).tensor((2, length, 3))

    def program(session: Session) -> list[torch.Tensor]:
        found = order_with(session, shared(session, x), shared(session, rows))
        return [opened(session, one) for one in found]

    values, beside = run(n, program)[0]
    expected, where = x.sort(dim=-1, stable=True)
    assert torch.equal(values, expected)
    assert torch.equal(beside, rows.gather(1, where.unsqueeze(-1).expand(-1, -1, 3)))


def test_ten_thousand_values() -> None:
    x = Prg(bytes(16)).stream(4).tensor((1, 10_000)) >> 17
    found, places = run(3, in_order, x)[0]
    expected, where = x.sort(dim=-1, stable=True)
    assert torch.equal(found, expected)
    assert torch.equal(places, where)


# Shuffling.


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_shuffle_permutes_rows_and_placing_undoes_it(n: int) -> None:
    x = torch.stack([torch.arange(50), torch.arange(50) * 1000], -1).expand(3, 50, 2).contiguous()

    def program(session: Session) -> list[torch.Tensor]:
        mixed = shuffle(session, shared(session, x))
        back = placed(session, mixed[..., 0], mixed)
        return [opened(session, mixed), opened(session, back)]

    mixed, back = run(n, program)[0]
    assert torch.equal(mixed[..., 0] * 1000, mixed[..., 1])
    assert torch.equal(mixed[..., 0].sort(dim=-1).values, x[..., 0])
    assert len({tuple(line) for line in mixed[..., 0].tolist()}) == 3
    assert torch.equal(back, x)


def p_orders(orders: list[tuple[int, ...]], kinds: int) -> float:
    counts = torch.tensor([orders.count(one) for one in set(orders)] + [0] * (kinds - len(set(orders))))
    return float(stats.chisquare(counts.numpy()).pvalue)


def test_every_permutation_is_as_likely() -> None:
    x = torch.arange(4).reshape(1, 4, 1).expand(5000, 4, 1).contiguous()

    def program(session: Session) -> torch.Tensor:
        return opened(session, shuffle(session, shared(session, x)))[..., 0]

    orders = [tuple(line) for line in run(2, program, seed=1)[0].tolist()]
    assert p_orders(orders, 24) > LEAST


@pytest.mark.parametrize("x", [[0, 0, 0], [3, 1, 2], [1, 2, 3]], ids=str)
def test_the_ranks_that_a_short_line_opens_are_uniform_whatever_its_values(x: list[int]) -> None:
    seen = opened_orders(torch.tensor([x] * 3000), "shuffled places")
    assert p_orders([tuple(line) for line in seen[0].tolist()], 6) > LEAST


@pytest.mark.parametrize("value", [0, 1], ids=["all equal", "all different"])
def test_the_comparisons_that_a_long_line_opens_are_uniform_whatever_its_values(value: int) -> None:
    """The first pivot is above or below each other value with even chances, over many lines."""
    x = (torch.arange(SHORT + 1) * value).expand(400, -1).contiguous()
    first = opened_orders(x, "order of shuffled keys")[0].reshape(400, -1)
    # The number of values below the first pivot is uniform on 0 .. SHORT.
    below = SHORT - first[:, :SHORT].sum(1)
    counts = torch.bincount(below // 13, minlength=5).numpy()
    assert float(stats.chisquare(counts).pvalue) > LEAST


def test_how_many_comparisons_follow_says_nothing_to_the_dealer_who_knows_the_shuffle() -> None:
    """With a shuffle that is known (here: none), lines in order are compared as uniformly as any others."""
    x = torch.arange(SHORT + 1).expand(400, -1).contiguous()
    with mock.patch("mpcpriv.engine.protocol.sort.shuffle", lambda _, rows: rows):
        first = opened_orders(x, "order of shuffled keys")[0].reshape(400, -1)
    below = SHORT - first[:, :SHORT].sum(1)
    counts = torch.bincount(below // 13, minlength=5).numpy()
    assert float(stats.chisquare(counts).pvalue) > LEAST


def opened_orders(x: torch.Tensor, operation: str) -> list[torch.Tensor]:
    """What two parties open under that name while they sort these lines."""
    seen: list[torch.Tensor] = []

    def program(session: Session) -> None:
        genuine = session.open_to

        def open_to(name: str, share: torch.Tensor, recipients: list[int]) -> torch.Tensor | None:
            value = genuine(name, share, recipients)
            if name == operation and session.rank == 0 and value is not None:
                seen.append(value.clone())
            return value

        session.open_to = open_to  # type: ignore[method-assign,assignment]
        order(session, shared(session, x))

    run(2, program, seed=2)
    return seen


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("value", [0, 1 << 40])
def test_what_a_shuffle_sends_is_uniform(n: int, value: int) -> None:
    """Each frame goes to the one party that permutes, and alone it says nothing."""
    sight = Sight()

    def program(session: Session) -> None:
        shuffle(session, shared(session, torch.full((1, 20_000, 1), value)))

    run(n, program, sight=sight, seed=3)
    names = ["alice", "bob", "carol"][:n]
    for receiver, name in enumerate(names):
        for sender in range(n):
            if sender == receiver:
                continue
            frames = [f for f in sight.frames(receiver, sender) if f.operation.startswith("shuffle by")]
            assert [frame.operation for frame in frames] == [f"shuffle by {name}"]
            for column in range(2):  # the permutation's share, and the rows'
                piece = frames[0].tensors[0][..., column].contiguous()
                assert p_uniform(byte_counts(piece)) > LEAST
