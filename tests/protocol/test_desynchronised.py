"""Parties that run different programs are told so at the next frame, by name; nothing is computed wrongly."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, PeerError, PeerFinished
from tests.protocol.parties import NAMES, failures

ONES = torch.ones(3)


def common(session: Session) -> tuple[Any, Any]:
    import crypten

    crypten.init()
    x, y = crypten.cryptensor(ONES, src=0), crypten.cryptensor(ONES, src=1)
    (x * y).get_plain_text()
    return x, y


def multiplies(session: Session) -> None:
    x, y = common(session)
    (x * y).get_plain_text()


def compares(session: Session) -> None:
    x, y = common(session)
    (x < y).get_plain_text()


def opens(session: Session) -> None:
    x, _ = common(session)
    x.get_plain_text()


def multiplies_less(session: Session) -> None:
    x, y = common(session)
    (x[:2] * y[:2]).get_plain_text()


def multiplies_twice(session: Session) -> None:
    x, y = common(session)
    ((x * y) * y).get_plain_text()


def truncates_otherwise(session: Session) -> None:
    x, _ = common(session)
    (x * 0.1).get_plain_text()


def truncates(session: Session) -> None:
    x, _ = common(session)
    (x * 0.75).get_plain_text()


def shares_once_more(session: Session) -> None:
    import crypten

    x, y = common(session)
    crypten.cryptensor(ONES, src=0)
    (x * y).get_plain_text()


def shares_another_s(session: Session) -> None:
    import crypten

    x, _ = common(session)
    (x + crypten.cryptensor(ONES, src=1)).get_plain_text()


def shares_its_own(session: Session) -> None:
    import crypten

    x, _ = common(session)
    (x + crypten.cryptensor(ONES, src=0)).get_plain_text()


def multiplies_then_squares(session: Session) -> None:
    x, y = common(session)
    (x * y + x.square()).get_plain_text()


def squares_then_multiplies(session: Session) -> None:
    x, y = common(session)
    (x.square() + x * y).get_plain_text()


def opens_to_bob(session: Session) -> None:
    x, _ = common(session)
    x.get_plain_text(dst=1)


CASES: dict[str, tuple[Callable[[Session], None], Callable[[Session], None], str]] = {
    "another operation": (multiplies, compares, "mul|compare"),
    "another shape": (multiplies, multiplies_less, "mul"),
    "one more product": (multiplies, multiplies_twice, "mul|truncate|open"),
    "one product less": (multiplies, opens, "mul|open"),
    "another truncation": (truncates, truncates_otherwise, "truncate"),
    "one more input": (multiplies, shares_once_more, "mul"),
    "an input of another party": (shares_its_own, shares_another_s, "open"),
    "another order": (multiplies_then_squares, squares_then_multiplies, "mul|square"),
}


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_another_program_at_one_party_is_named(n: int, swapped: bool, case: str) -> None:
    ours, theirs, operation = CASES[case]
    programs = [theirs, *[ours] * (n - 1)] if swapped else [*[ours] * (n - 1), theirs]
    errors = [error for error in failures(programs) if isinstance(error, Desynchronised)]
    assert errors
    for error in errors:
        assert error.peer in NAMES[:n]
        assert error.peer in str(error)
        asks_the_dealer = "asks the dealer for something else" in str(error)
        assert asks_the_dealer or any(name in str(error) for name in operation.split("|")), error


def test_a_difference_in_what_was_shared_is_said_to_be_in_the_past() -> None:
    errors = failures([multiplies, shares_once_more])
    said = [str(error) for error in errors if isinstance(error, Desynchronised)]
    assert said
    assert all("after a different history" in text for text in said)


def test_the_same_bytes_in_another_shape_are_not_the_same_operation() -> None:
    def opens_shape(*shape: int) -> Callable[[Session], None]:
        def program(session: Session) -> None:
            session.open("x", [torch.zeros(shape).long()])
            session.open("x", [torch.zeros(shape).long()])

        return program

    said = [str(e) for e in failures([opens_shape(2, 3), opens_shape(3, 2)]) if isinstance(e, Desynchronised)]
    assert said
    assert all("x int64[2, 3]" in text and "x int64[3, 2]" in text for text in said)


@pytest.mark.parametrize("n", [2, 3])
def test_other_recipients_at_one_party_are_noticed_by_all_who_still_expect_something(n: int) -> None:
    found = failures([opens_to_bob, *[opens] * (n - 1)])
    assert all(isinstance(error, PeerError) for error in found[1:n])
    assert any(isinstance(e, Desynchronised | PeerFinished) and e.peer == "alice" for e in found[1:n])


def test_it_is_noticed_at_the_next_frame() -> None:
    """The frame behind a difference is the last one that anybody reads."""
    read: list[list[str]] = [[], []]

    def observe(rank: int, program: Callable[[Session], None]) -> Callable[[Session], None]:
        def observed(session: Session) -> None:
            genuine = session.exchange

            def exchange(operation: str, *args: Any, **kwargs: Any) -> Any:
                result = genuine(operation, *args, **kwargs)
                read[rank].append(operation)
                return result

            session.exchange = exchange  # type: ignore[method-assign]
            program(session)

        return observed

    failures([observe(0, multiplies), observe(1, shares_once_more)])
    assert read[0] == read[1] == ["mul: x - a, y - b", "truncate", "open to all"]


def test_a_product_that_opens_nothing_does_not_hide_where_a_party_is() -> None:
    def waits(session: Session) -> None:
        x, y = common(session)
        for _ in range(3):  # each party owns one of two corrections
            x * y

    def leaves(session: Session) -> None:
        x, y = common(session)
        x * y
        x.get_plain_text()

    found = [error for error in failures([waits, leaves]) if isinstance(error, Desynchronised)]
    assert found
    assert "mul: nothing to open" in str(found[0])


def test_a_party_that_computes_on_after_the_others_ended_is_told() -> None:
    def opens_again(session: Session) -> None:
        x, y = common(session)
        (x * y).get_plain_text()
        x.get_plain_text()

    found = failures([multiplies, opens_again])
    assert isinstance(found[1], PeerFinished)
    assert found[1].peer == "alice"
