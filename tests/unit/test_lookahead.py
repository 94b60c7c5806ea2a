"""Asking the dealer ahead: every correlation has one number, and no prediction can go wrong for long."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.engine.correlation.base import Again, Correlation, Words
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.lookahead import CONTEXT, MOST_AHEAD, MOST_BYTES, Lookahead
from mpcpriv.engine.correlation.placement import REACH, Placement
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.correlation.truncation import TruncationMask
from mpcpriv.engine.ring import Bilinear


class Books:
    """Keeps account of what a `Lookahead` asks for, as the dealer and the party would."""

    def __init__(self) -> None:
        self.lookahead = Lookahead()
        self.dealt: list[Correlation] = []
        self.used: set[int] = set()
        self.foreseen = 0
        self.most_ahead = self.most_bytes = 0

    def take(self, request: Correlation) -> int:
        before = len(self.dealt)
        number, first, asked = self.lookahead.take(request)
        assert first == before, "numbers are given in the order of asking"
        self.dealt += asked
        assert self.dealt[number] == self.lookahead.latest, "what is used is what was dealt under that number"
        assert number not in self.used, "nothing is used twice"
        self.used.add(number)
        self.foreseen += number < before
        waiting = self.dealt[number + 1 :]
        self.most_ahead = max(self.most_ahead, len(waiting))
        self.most_bytes = max(self.most_bytes, sum(r.dealt_bytes for r in waiting))
        return number


STEP = [SquarePair((k,)) for k in range(1, 6)] + [TruncationMask((k,), 16) for k in range(1, 6)]


@given(st.lists(st.integers(0, 5), max_size=200))
@settings(max_examples=200, deadline=None)
def test_numbers_are_consistent_for_any_requests(sequence: list[int]) -> None:
    books = Books()
    numbers = [books.take(STEP[k]) for k in sequence]
    assert numbers == sorted(numbers), "corrections are used in the order in which they come"


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.integers(1, 30),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
)
@settings(max_examples=200, deadline=None)
def test_numbers_are_consistent_when_a_loop_gives_way_to_another(
    first: list[int], times: int, second: list[int]
) -> None:
    books = Books()
    for k in [*(first * times), *(second * times), *first]:
        books.take(STEP[k])
    assert len(books.dealt) <= len(books.used) + 2 * MOST_AHEAD * (1 + len(second)) + MOST_AHEAD


def test_parties_that_see_the_same_requests_ask_for_the_same() -> None:
    one, two = Lookahead(), Lookahead()
    for request in [*STEP * 5, STEP[0], *STEP * 3]:
        assert one.take(request) == two.take(request)


def test_a_repeated_step_is_foreseen() -> None:
    books = Books()
    for request in STEP * 3:
        books.take(request)
    before = books.foreseen
    for request in STEP * 20:
        books.take(request)
    assert books.foreseen - before >= 0.9 * 20 * len(STEP)
    assert books.most_ahead <= MOST_AHEAD


def test_a_loop_is_followed_beyond_its_next_turn_in_few_messages() -> None:
    lookahead = Lookahead()
    for request in STEP * 10:
        lookahead.take(request)
    messages = [asked for request in STEP * 100 if (asked := lookahead.take(request)[2])]
    assert len(messages) <= 100 * len(STEP) / (MOST_AHEAD / 2) + 1


def test_a_program_that_never_repeats_wastes_nothing() -> None:
    books = Books()
    for k in range(1000):
        books.take(DaBit((k,)))
    assert len(books.dealt) == 1000


def test_a_broken_prediction_costs_what_was_ahead_and_no_more() -> None:
    books = Books()
    for request in STEP * 10:
        books.take(request)
    wasted = len(books.dealt) - len(books.used)
    assert wasted <= MOST_AHEAD
    for k in range(100, 150):
        books.take(DaBit((k,)))
    assert len(books.dealt) - len(books.used) == wasted


def test_bytes_asked_for_and_not_used_are_bounded() -> None:
    large = [SquarePair((1 << 20,)), *STEP, SquarePair((3 << 19,))]  # 8 and 12 MiB
    books = Books()
    for request in large * 30:
        books.take(request)
    assert books.foreseen > 0
    assert books.most_bytes <= MOST_BYTES


def test_what_alone_exceeds_the_bound_is_asked_for_when_needed() -> None:
    huge = [SquarePair((MOST_BYTES // 8 + 1,))] * (3 * CONTEXT)
    books = Books()
    for request in huge:
        books.take(request)
    assert books.most_bytes == 0
    assert len(books.dealt) == len(huge)


def test_memory_of_the_past_is_bounded() -> None:
    lookahead = Lookahead()
    for k in range((1 << 16) + 100):
        lookahead.take(STEP[k % 7])
    assert len(lookahead._past) <= 1 << 16


# Masks that are used again.


class Bookkeeper(Books):
    """Asks for products as `protocol.product` does, and knows where the mask of every value stands."""

    def __init__(self) -> None:
        super().__init__()
        self.place = 0
        self.last: dict[str, tuple[int, int]] = {}
        self.stands: dict[str, Words] = {}

    def change(self, name: str) -> None:
        self.last.pop(name, None)
        self.stands.pop(name, None)

    def other(self, request: Correlation) -> None:
        super().take(request)
        self.place += 1

    def product(self, x: str, y: str, size: int = 4) -> None:
        sources = [
            Again(self.place - self.last[n][0], self.last[n][1]) if n in self.last else None for n in (x, y)
        ]
        if x == y and sources[0] is None:
            sources[1] = Again(0, 0)
        request = Triple(Bilinear("mul"), (size,), (size,), *[Mask((), source) for source in sources])
        number = super().take(request)
        drawn = 0
        for name, source in zip((x, y), sources, strict=True):
            if source is None:
                self.stands[name] = Words(number, drawn)
                drawn += size
        placed = self.lookahead.latest
        assert isinstance(placed, Triple)
        for name, mask, source in zip((x, y), (placed.x_mask, placed.y_mask), sources, strict=True):
            assert mask.source == (None if source is None else self.stands[name]), "another value's mask"
        self.last |= {x: (self.place, 0), y: (self.place, 1)}
        self.place += 1


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("abc"), st.sampled_from(["", *"abc"])),
        min_size=1,
        max_size=8,
    ),
    st.integers(1, 40),
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from("abd"), st.sampled_from(["", *"ad"])), max_size=8
    ),
    st.integers(1, 3),
)
@settings(max_examples=100, deadline=None)
def test_a_mask_is_always_that_of_the_value(
    first: list[tuple[str, str, str]], times: int, second: list[tuple[str, str, str]], again: int
) -> None:
    books = Bookkeeper()
    for x, y, changed in (first * times + second) * again + first:
        books.product(x, y)
        books.change(changed)
        if changed == "a":
            books.other(DaBit((3,)))


def test_a_loop_with_operands_that_stay_is_foreseen() -> None:
    """Data that never changes, a weight that does each turn, and what is made and dropped each turn."""
    books = Bookkeeper()
    foreseen = []
    for _ in range(30):
        before = books.foreseen
        books.product("data", "weight")
        books.other(TruncationMask((4,), 16))
        books.product("gradient", "data")
        books.product("gradient", "weight")
        books.other(TruncationMask((4,), 16))
        books.change("weight")
        books.change("gradient")
        foreseen.append(books.foreseen - before)
    assert foreseen[5:] == [5] * 25
    assert len(books.dealt) - len(books.used) <= 2 * MOST_AHEAD


def test_a_mask_that_cannot_be_there_is_not_foreseen() -> None:
    """The context repeats, but what stood before it was something else."""
    books = Bookkeeper()
    rest: list[Correlation] = [SquarePair((k,)) for k in range(1, CONTEXT + 1)]
    books.product("data", "weight")
    for request in rest:
        books.other(request)
    books.product("data", "gradient")
    books.other(DaBit((1,)))
    for request in rest:
        books.other(request)
    asked = len(books.dealt)
    books.product("one", "two")
    assert len(books.dealt) == asked + 1


def test_masks_are_found_as_far_back_as_is_said() -> None:
    books = Bookkeeper()
    books.product("data", "weight")
    for k in range(REACH - 1):
        books.other(DaBit((k,)))
    books.product("data", "gradient")
    assert len(books.lookahead._placement._masks) <= 3


def test_memory_of_masks_is_bounded() -> None:
    placement = Placement()
    triple = Triple(Bilinear("mul"), (2,), (2,))
    for place in range(5 * REACH):
        placement.put(triple, place, place)
        placement.take(place)
    assert len(placement._masks) <= 2 * REACH
    assert not placement._requests
