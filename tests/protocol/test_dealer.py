"""The dealer learns shapes only, and obeys nothing but what all parties ask for, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mpcpriv.engine
from mpcpriv.engine.correlation import wire
from mpcpriv.engine.correlation.base import Again, Correlation, Slot, Words
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.comparison import ThresholdMask
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.correlation.shuffle import Shuffle
from mpcpriv.engine.correlation.source import Dealt
from mpcpriv.engine.correlation.truncation import TruncationMask
from mpcpriv.engine.ring import MAP_NAMES, Bilinear
from mpcpriv.engine.session import Session
from mpcpriv.errors import Desynchronised, UsageError
from mpcpriv.transport.base import Transport
from mpcpriv.v1 import dealer_pb2 as pb
from tests.protocol.parties import NAMES, Sight, outcomes, run

EXTREMES = [0.0, 2.0**-16, -(2.0**-16), 1.0, -1.0, 2.0**45, -(2.0**45), 2.0**46 - 1, 1 - 2.0**46, 1e9, -1e-9]


def everything(session: Session, secrets: torch.Tensor, public: torch.Tensor) -> None:
    """A program of every kind of correlation, on two parties' secrets and a public tensor."""
    import crypten

    crypten.init()
    x = crypten.cryptensor(secrets[0], src=0)
    y = crypten.cryptensor(secrets[1], src=1)
    for _ in range(2):  # the second time, it is foreseen
        z = x * y + x.square() + x * public + y * 0.25
        (z > y).sum()
        x.reshape(2, 3).matmul(y.reshape(3, 2)) * public[:2]
        x.reshape(1, 2, 3).conv1d(y.reshape(1, 2, 3), padding=1).sigmoid()
    crypten.rand(3)
    z.get_plain_text(dst=0)


def dealers_view(n: int, secrets: torch.Tensor, public: torch.Tensor) -> dict[int, list[bytes]]:
    """By party, all that the dealer receives but the fresh contribution to the key."""
    sight = Sight()
    run(n, everything, secrets, public, sight=sight)
    assert all(len(sight.received[n, rank][0]) == 32 for rank in range(n))
    return {rank: sight.received[n, rank][1:] for rank in range(n)}


@pytest.mark.parametrize("pairs", [25, pytest.param(100, marks=pytest.mark.slow)])
def test_the_dealers_transcript_is_the_same_for_many_pairs_of_inputs(pairs: int) -> None:
    generator = torch.Generator().manual_seed(5)
    first: dict[int, list[bytes]] = {}
    for trial in range(pairs):
        scale = 10.0 ** float(torch.randint(-5, 12, (1,), generator=generator))
        secrets = torch.randn(2, 6, generator=generator, dtype=torch.float64) * scale
        public = torch.randn(6, generator=generator, dtype=torch.float64) * 10.0 ** (trial % 20 - 10)
        if trial < len(EXTREMES):
            secrets = torch.full((2, 6), EXTREMES[trial], dtype=torch.float64)
            public = torch.full((6,), EXTREMES[-trial], dtype=torch.float64)
        seen = dealers_view(2, secrets, public)
        first = first or seen
        assert seen == first, f"trial {trial}"
    assert first[0] == first[1]
    assert len(first[0]) > 3


@pytest.mark.parametrize("n", [3, 5])
def test_the_dealer_receives_requests_and_nothing_else(n: int) -> None:
    seen = dealers_view(n, torch.ones(2, 6), torch.ones(6))
    for messages in seen.values():
        assert messages == seen[0]
        dealt = 0
        for message in messages:
            first, requests = wire.decode(message)
            assert first == dealt
            dealt += len(requests)
        assert dealt >= 20


# A dealer among parties that do not behave.

A_DEAL = wire.encode([SquarePair((3,))], 0)
Talk = Callable[[Transport], Any]


def saying(*messages: bytes) -> Talk:
    """A party that agrees a key and then sends these to the dealer, whatever comes back."""

    def member(transport: Transport) -> None:
        dealer = len(transport.members) - 1
        transport.send(dealer, bytes(32))
        transport.recv(dealer)
        for message in messages:
            transport.send(dealer, message)
        transport.recv(dealer)

    return member


def dealers_end(*parties: Talk) -> BaseException:
    results, failed = outcomes([*parties, mpcpriv.engine.deal])
    assert failed[0] == len(parties), results
    return results[-1]


BAD = {
    "not a message": b"\xff\xff\xff",
    "a text": b"GET / HTTP/1.1",
    "a truncated message": A_DEAL[:-1],
    "an unknown field": A_DEAL + b"\xf8\x07\x01",
    "a field given twice": b"\x08\x00" + A_DEAL,
    "no kind": pb.Deal(requests=[pb.Request()]).SerializeToString(),
    "an unknown map": pb.Deal(
        requests=[pb.Request(triple=pb.Triple(map=pb.Bilinear(name=7)))]  # type: ignore[arg-type]
    ).SerializeToString(),
    "no map": pb.Deal(requests=[pb.Request(triple=pb.Triple())]).SerializeToString(),
    "a shape that does not fit": pb.Deal(
        requests=[
            pb.Request(
                triple=pb.Triple(
                    map=pb.Bilinear(name=pb.Bilinear.MATMUL, groups=1),
                    x=pb.Shape(dims=[2, 3]),
                    y=pb.Shape(dims=[4, 2]),
                )
            )
        ]
    ).SerializeToString(),
    "a huge shape": pb.Deal(
        requests=[pb.Request(square=pb.SquarePair(shape=pb.Shape(dims=[1 << 63])))]
    ).SerializeToString(),
    "a product of dims over the bound": pb.Deal(
        requests=[pb.Request(dabit=pb.DaBit(shape=pb.Shape(dims=[1 << 14, 1 << 14])))]
    ).SerializeToString(),
    "a product of dims that wraps": pb.Deal(
        requests=[pb.Request(square=pb.SquarePair(shape=pb.Shape(dims=[1 << 32, 1 << 32])))]
    ).SerializeToString(),
    "huge dims without elements": pb.Deal(
        requests=[pb.Request(square=pb.SquarePair(shape=pb.Shape(dims=[0, 1 << 63])))]
    ).SerializeToString(),
    "too many dims": pb.Deal(
        requests=[pb.Request(square=pb.SquarePair(shape=pb.Shape(dims=[1] * 33)))]
    ).SerializeToString(),
    "a huge result of small operands": pb.Deal(
        requests=[
            pb.Request(
                triple=pb.Triple(
                    map=pb.Bilinear(name=pb.Bilinear.MUL, groups=1),
                    x=pb.Shape(dims=[1 << 20, 1]),
                    y=pb.Shape(dims=[1, 1 << 20]),
                )
            )
        ]
    ).SerializeToString(),
    "a convolution padded without bound": pb.Deal(
        requests=[
            pb.Request(
                triple=pb.Triple(
                    map=pb.Bilinear(
                        name=pb.Bilinear.CONV1D, stride=[1], padding=[1 << 31], dilation=[1], groups=1
                    ),
                    x=pb.Shape(dims=[1, 1, 1]),
                    y=pb.Shape(dims=[1, 1, 1]),
                )
            )
        ]
    ).SerializeToString(),
    "many thresholds": pb.Deal(
        requests=[pb.Request(threshold=pb.ThresholdMask(elements=1 << 20, thresholds=1 << 20))]
    ).SerializeToString(),
    "no bits": pb.Deal(
        requests=[pb.Request(truncation=pb.TruncationMask(shape=pb.Shape(dims=[1]), bits=0))]
    ).SerializeToString(),
    "63 bits": pb.Deal(
        requests=[pb.Request(truncation=pb.TruncationMask(shape=pb.Shape(dims=[1]), bits=63))]
    ).SerializeToString(),
    "a later number": wire.encode([SquarePair((3,))], 1),
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
def test_a_bad_request_stops_the_dealer(message: bytes) -> None:
    error = dealers_end(saying(message), saying(message))
    assert isinstance(error, Desynchronised)
    assert error.peer == "alice"
    assert "\n" not in str(error)


def test_the_same_number_twice_stops_the_dealer() -> None:
    error = dealers_end(saying(A_DEAL, A_DEAL), saying(A_DEAL, A_DEAL))
    assert isinstance(error, Desynchronised)
    assert "1 is next" in str(error)


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("deviates", [1, -1])
def test_a_party_that_asks_for_something_else_is_named(n: int, deviates: int) -> None:
    other = wire.encode([SquarePair((4,))], 0)
    talks = [saying(A_DEAL)] * n
    talks[deviates] = saying(other)
    error = dealers_end(*talks)
    assert isinstance(error, Desynchronised)
    assert error.peer == NAMES[deviates % n]
    assert NAMES[deviates % n] in str(error)


def test_a_party_that_finished_while_others_ask_is_named() -> None:
    def leaving(transport: Transport) -> None:
        transport.send(2, bytes(32))
        transport.recv(2)

    error = dealers_end(saying(A_DEAL), leaving)
    assert isinstance(error, Desynchronised)
    assert error.peer == "bob"


def test_a_short_contribution_to_the_key_is_refused() -> None:
    def short(transport: Transport) -> None:
        transport.send(2, bytes(31))
        transport.recv(2)
        transport.recv(2)

    error = dealers_end(short, saying(A_DEAL))
    assert isinstance(error, Desynchronised)
    assert error.peer == "alice"


def test_a_wrong_correction_stops_the_party() -> None:
    def dealer(transport: Transport) -> None:
        for rank in range(2):
            transport.send(rank, bytes(32))
            transport.recv(rank)
        transport.recv(0)
        transport.send(0, b"correlation 0: square [[4]]".ljust(64) + bytes(32))
        transport.recv(1)
        transport.recv(0)

    def program(transport: Transport) -> None:
        session = mpcpriv.engine.join(transport)
        dealt = session.correlations.take(SquarePair((3,)))
        dealt.derived()
        transport.recv(2)

    results, failed = outcomes([program, program, dealer])
    assert failed[0] == 0
    assert isinstance(results[0], Desynchronised)
    assert "square [[3]]" in str(results[0])


# The wire, fuzzed: what is accepted encodes identically; the rest is one kind of error.


def shapes(most: int = 3) -> st.SearchStrategy[tuple[int, ...]]:
    return st.lists(st.integers(0, 6), max_size=most).map(tuple)


def triples() -> st.SearchStrategy[Correlation]:
    mul = shapes().map(lambda s: Triple(Bilinear("mul"), s, s))
    matmul = st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5)).map(
        lambda d: Triple(Bilinear("matmul"), d[:2], d[1:])
    )
    conv = st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(1, 2)).map(
        lambda g: Triple(Bilinear("conv1d", (g[0],), (g[1],), (), (g[2],)), (2, 3, 9), (4, 3, 3))
    )
    words = st.none() | st.just(Words(0, 0)) | st.builds(Words, st.integers(0, 2), st.integers(0, 1 << 27))
    again = st.tuples(st.permutations(range(3)), words, words).map(
        lambda d: Triple(
            Bilinear("mul"),
            (2, 3, 4),
            (2, 3, 4),
            Mask(() if d[0] == [0, 1, 2] else tuple(d[0]), d[1]),
            Mask((), d[2]),
        )
    )
    return mul | matmul | conv | again


REQUESTS = (
    triples()
    | shapes().map(SquarePair)
    | st.builds(TruncationMask, shapes(), st.integers(1, 62))
    | st.builds(ThresholdMask, st.integers(0, 9), st.integers(0, 5))
    | shapes().map(DaBit)
    | st.builds(Shuffle, st.integers(0, 4), st.integers(0, 9), st.integers(0, 3))
)


@given(st.integers(3, 2**64 - 6), st.lists(REQUESTS, max_size=5))
@settings(max_examples=200, deadline=None)
def test_requests_survive_the_wire(first: int, requests: list[Correlation]) -> None:
    assert wire.decode(wire.encode(requests, first)) == (first, requests)


def accepted_or_refused(data: bytes) -> None:
    try:
        first, requests = wire.decode(data)
    except UsageError:
        return
    assert wire.encode(requests, first) == data
    for request in requests:
        assert all(
            torch.Size(s.shape).numel() <= wire.MOST_ELEMENTS for s in (*request.masks(), *request.derived())
        )


@given(st.binary(max_size=80))
@settings(max_examples=500, deadline=None)
def test_any_bytes_are_accepted_or_refused(data: bytes) -> None:
    accepted_or_refused(data)


@given(
    st.lists(REQUESTS, min_size=1, max_size=3),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), min_size=1, max_size=3),
)
@settings(max_examples=500, deadline=None)
def test_flipped_bytes_are_accepted_or_refused(
    requests: list[Correlation], flips: list[tuple[int, int]]
) -> None:
    data = bytearray(wire.encode(requests, 3))
    for place, value in flips:
        if data:
            data[place % len(data)] = value
    accepted_or_refused(bytes(data))


NUMBERS = st.integers(0, 4) | st.sampled_from([1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
DIMS = st.lists(st.integers(0, 5) | st.sampled_from([1 << 31, 1 << 62, 1 << 63, (1 << 64) - 1]), max_size=5)


@given(
    name=st.integers(0, len(MAP_NAMES) + 1),
    geometry=st.lists(st.lists(NUMBERS, max_size=3), min_size=4, max_size=4),
    groups=NUMBERS,
    x=DIMS | st.sampled_from([[1, 2, 5], [1, 2, 5, 5], [2, 4, 9]]),
    y=DIMS | st.sampled_from([[2, 2, 3], [2, 2, 3, 3], [4, 2, 3]]),
)
@settings(max_examples=500, deadline=None)
def test_any_geometry_of_a_bilinear_map_is_accepted_or_refused(
    name: int, geometry: list[list[int]], groups: int, x: list[int], y: list[int]
) -> None:
    stride, padding, output_padding, dilation = geometry
    bilinear = pb.Bilinear(
        name=name,  # type: ignore[arg-type]
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        dilation=dilation,
        groups=groups,
    )
    triple = pb.Triple(map=bilinear, x=pb.Shape(dims=x), y=pb.Shape(dims=y))
    accepted_or_refused(pb.Deal(requests=[pb.Request(triple=triple)]).SerializeToString(deterministic=True))


@pytest.mark.parametrize("words", [Words(3, 0), Words(4, 0), Words(2, (1 << 27) + 1), Again(1, 0)], ids=str)
def test_only_a_mask_that_was_drawn_before_is_asked_for(words: Words | Again) -> None:
    for masks in ((Mask((), words), Mask()), (Mask((), Words(0, 0)), Mask((), words))):
        with pytest.raises(UsageError, match="drawn before"):
            wire.encode([Triple(Bilinear("mul"), (2,), (2,), *masks)], 3)


def test_the_mask_of_the_other_operand_is_of_as_many_elements() -> None:
    own = Mask((), Words(3, 0))
    wire.encode([Triple(Bilinear("mul"), (2, 3), (2, 3), Mask(), own)], 3)
    with pytest.raises(UsageError, match="drawn before"):
        wire.encode([Triple(Bilinear("mul"), (3,), (2, 3), Mask(), own)], 3)


def test_a_kind_the_dealer_does_not_know_is_not_asked_for() -> None:
    class Everything(Correlation):
        kind = "everything"

        def masks(self) -> tuple[Slot, ...]:
            return ()

        def derived(self) -> tuple[Slot, ...]:
            return ()

        def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return ()

    with pytest.raises(UsageError, match="Everything"):
        wire.encode([Everything()], 0)


def test_too_large_an_operation_is_refused_before_anything_is_sent() -> None:
    sight = Sight()

    def program(session: Session) -> Dealt:
        return session.correlations.take(SquarePair((1 << 28,)))

    with pytest.raises(UsageError, match="split the operation"):
        run(2, program, sight=sight)
    assert len(sight.sent[0, 2]) == 1  # the contribution to the key
