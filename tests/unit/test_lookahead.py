"""Asking the dealer ahead: every correlation has one number, and no prediction can go wrong for long."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpcpriv.engine.correlation import lookahead
from mpcpriv.engine.correlation.base import Again, Correlation, Words
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.lookahead import CONTEXT, MOST_AHEAD, MOST_BYTES, Lookahead
from mpcpriv.engine.correlation.placement import REACH, Placement
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.correlation.truncation import TruncationMask
from mpcpriv.engine.correlation.turns import Loop
from mpcpriv.engine.ring import Bilinear


class Books:
    """Keeps account of what a `Lookahead` asks for, as the dealer and the party would."""

    def __init__(self) -> None:
        self.lookahead = Lookahead()
        self.dealt: list[Correlation] = []
        self.used: set[int] = set()
        self.foreseen = 0
        self.most_ahead = self.most_bytes = 0

    def steps(self, turns: int) -> Iterator[int]:
        loop = self.lookahead.loop(turns)
        for turn in range(turns):
            self.turn(loop)
            yield turn

    def turn(self, loop: Loop) -> None:
        first, asked = self.lookahead.turn(loop)
        assert first == len(self.dealt), "numbers are given in the order of asking"
        self.dealt += asked

    @property
    def in_vain(self) -> int:
        return len(self.dealt) - len(self.used)

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
    ahead = Lookahead()
    for request in STEP * 10:
        ahead.take(request)
    messages = [asked for request in STEP * 100 if (asked := ahead.take(request)[2])]
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
    ahead = Lookahead()
    for k in range((1 << 16) + 100):
        ahead.take(STEP[k % 7])
    assert len(ahead._past) <= 1 << 16


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


# Loops that say how many turns they have.

TURN = STEP[:4]


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 7, 100])
@pytest.mark.parametrize("length", [1, 2, 5, 6, 10, 63, 64, 65, 200])
def test_a_counted_loop_is_foreseen_from_its_second_turn_on_and_no_further(turns: int, length: int) -> None:
    books = Books()
    turn = [SquarePair((k,)) for k in range(length)]
    for _ in books.steps(turns):
        for request in turn:
            books.take(request)
    assert books.foreseen == max(turns - 1, 0) * length
    assert books.in_vain == 0
    assert books.most_ahead <= MOST_AHEAD


def test_what_follows_a_counted_loop_is_not_taken_for_another_turn() -> None:
    books = Books()
    for _ in books.steps(50):
        for request in STEP:
            books.take(request)
    for k in range(100, 150):
        books.take(DaBit((k,)))
    assert books.in_vain == 0


def test_turns_that_are_under_way_before_the_loop_is_known_are_not_in_vain() -> None:
    books = Books()
    for request in STEP * 9:
        books.take(request)
    for _ in books.steps(30):
        for request in STEP:
            books.take(request)
    assert books.in_vain == 0


def test_each_request_of_a_later_turn_is_under_way_since_the_turn_before() -> None:
    books, ends = Books(), [0]
    for turn in books.steps(20):
        asked_before = ends[-1]
        numbers = [books.take(request) for request in STEP]
        if turn >= 3:  # the second is hoped to be as the first; the third shows that they were alike
            assert max(numbers) < asked_before
        ends.append(len(books.dealt))


def test_a_smaller_last_batch_costs_what_was_ahead() -> None:
    books = Books()
    for turn in books.steps(30):
        for request in TURN if turn < 29 else [SquarePair((77,))]:
            books.take(request)
    assert books.foreseen == 28 * len(TURN)
    assert books.in_vain == len(TURN)


def test_a_first_turn_unlike_the_others_costs_one_turn_of_look_ahead() -> None:
    books = Books()
    for turn in books.steps(30):
        for request in STEP if turn == 0 else TURN:
            books.take(request)
    assert books.foreseen >= 28 * len(TURN)
    assert books.in_vain <= MOST_AHEAD


def test_turns_that_keep_changing_are_not_foreseen_for_ever() -> None:
    books = Books()
    for turn in books.steps(200):
        for k in range(4):
            books.take(DaBit((4 * turn + k,)))
    assert books.in_vain <= 2 * MOST_AHEAD


def test_a_loop_left_early_costs_what_was_ahead() -> None:
    books = Books()
    for turn in books.steps(100):
        for request in TURN:
            books.take(request)
        if turn == 9:
            break
    assert books.in_vain <= MOST_AHEAD
    for k in range(100, 150):
        books.take(DaBit((k,)))
    assert books.in_vain <= MOST_AHEAD


def test_inner_loops_are_foreseen_within_the_outer_ones_turns() -> None:
    books = Books()
    for _ in books.steps(5):
        books.take(DaBit((1,)))
        for batch in books.steps(8):
            for request in TURN if batch < 7 else [SquarePair((77,))]:  # the smaller last batch of an epoch
                books.take(request)
        books.take(DaBit((2,)))
    first_epoch_in_vain = len(TURN)
    assert books.in_vain == first_epoch_in_vain
    assert books.foreseen == 6 * len(TURN) + 4 * (7 * len(TURN) + 3)


def test_an_outer_turn_too_long_to_remember_leaves_the_inner_loops_foreseen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lookahead, "_REMEMBERED", 1000)
    books = Books()
    for _ in books.steps(2):
        for _ in books.steps(180):
            for request in STEP:
                books.take(request)
    assert books.foreseen >= 2 * 178 * len(STEP)
    assert books.in_vain <= 2 * MOST_AHEAD


def test_bytes_ahead_are_bounded_in_a_counted_loop() -> None:
    books = Books()
    turn = [SquarePair((1 << 20,)), *STEP, SquarePair((3 << 19,)), SquarePair((MOST_BYTES // 8 + 1,))]
    for _ in books.steps(20):
        for request in turn:
            books.take(request)
    assert books.most_bytes <= MOST_BYTES
    assert books.in_vain == 0
    assert books.foreseen == 19 * (len(turn) - 1), "all but what is too large to be ahead"


FORMS = st.recursive(
    st.integers(0, 9), lambda inner: st.tuples(st.integers(0, 4), st.lists(inner, max_size=3)), max_leaves=6
)


@given(FORMS)
@settings(max_examples=100, deadline=None)
def test_numbers_are_consistent_in_nested_loops_of_any_form(form: object) -> None:
    books = Books()

    def body(part: object, turn: int) -> None:
        if isinstance(part, int):
            books.take(STEP[part] if part else DaBit((turn,)))  # some requests change from turn to turn
        else:
            turns, parts = part
            for inner_turn in books.steps(turns):
                for inner in parts:
                    body(inner, inner_turn)

    body((3, [form, 1, form]), 0)


def test_memory_of_masks_is_bounded() -> None:
    placement = Placement()
    triple = Triple(Bilinear("mul"), (2,), (2,))
    for place in range(5 * REACH):
        placement.put(triple, place, place)
        placement.take(place)
    assert len(placement._masks) <= 2 * REACH
    assert not placement._requests
