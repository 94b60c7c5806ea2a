"""Requests for correlated randomness as bytes: a closed set of types, bounded, one encoding each.

The messages are `protos/mpcpriv/v1/dealer.proto`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from mpcpriv.engine.correlation.base import Again, Correlation, Words
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.comparison import ThresholdMask
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.correlation.shuffle import Shuffle
from mpcpriv.engine.correlation.truncation import TruncationMask
from mpcpriv.engine.ring import MAP_NAMES, Bilinear
from mpcpriv.errors import UsageError
from mpcpriv.v1 import dealer_pb2 as pb

MOST_ELEMENTS: Final = 1 << 27
"""Elements in one mask or derived value: 1 GiB of int64."""
MOST_DIMS: Final = 32
MOST_DEGREE: Final = 3


def encode(requests: Iterable[Correlation], first: int) -> bytes:
    """A `Deal` message for correlations number `first`, `first` + 1, ...

    Raises:
        UsageError: a request is larger than the dealer deals, or refers to a mask that was not drawn before.
    """
    messages = [_to_message(_earlier(check(request), i)) for i, request in enumerate(requests, first)]
    deal = pb.Deal(first=first, requests=messages)
    return deal.SerializeToString(deterministic=True)


def decode(data: bytes) -> tuple[int, list[Correlation]]:
    """The number of the first correlation asked for, and the requests.

    Raises:
        UsageError: not a `Deal`, or a request is malformed, empty of kind, or too large.
    """
    try:
        deal = pb.Deal.FromString(data)
    except DecodeError:
        raise UsageError("the request to the dealer is not a Deal message") from None
    requests = [_from_message(message) for message in deal.requests]
    if encode(requests, deal.first) != data:
        raise UsageError("the request to the dealer is not in its one encoding")
    return deal.first, requests


def check(request: Correlation) -> Correlation:
    """Refuses what is malformed or larger than `MOST_ELEMENTS` before anything is computed for it."""
    for slots in (request.masks, request.derived):  # in this order: a result is of operands that fit
        for shape in (slot.shape for slot in slots()):
            if len(shape) > MOST_DIMS or math.prod(dim or 1 for dim in shape) > MOST_ELEMENTS:
                raise UsageError(
                    f"{request.kind} of shape {list(shape)} is larger than the {MOST_ELEMENTS} elements that "
                    "are dealt at once; split the operation"
                )
    if isinstance(request, ThresholdMask) and request.degree > MOST_DEGREE:
        raise UsageError(f"a piecewise polynomial of degree {request.degree}: at most {MOST_DEGREE}")
    if isinstance(request, ThresholdMask) and not 0 <= request.shift <= 62:
        raise UsageError(f"a comparison after truncation by {request.shift} bits: 0 to 62 are possible")
    if isinstance(request, TruncationMask) and not 1 <= request.bits <= 62:
        raise UsageError(f"truncation by {request.bits} bits: 1 to 62 are possible")
    return request


def _earlier(request: Correlation, number: int) -> Correlation:
    """Refuses a mask that is not from an earlier correlation, or from the other operand of this one.

    What stands there the dealer does not remember, and need not: all parties ask for the same, so one that
    deviates cannot have a mask used for another value. And what is dealt in answer, fresh shares of a
    product of masks, tells a party nothing, whichever masks they are.
    """
    if isinstance(request, Triple):
        x, y = request.x_mask.source, request.y_mask.source
        same = x is None and math.prod(request.x) == math.prod(request.y)
        allowed = (x is None or _before(x, number)), (y is None or _before(y, number))
        if not allowed[0] or not (allowed[1] or (same and y == Words(number, 0))):
            raise UsageError(f"correlation {number} refers to a mask that was not drawn before")
    return request


def _before(words: Words | Again, number: int) -> bool:
    return isinstance(words, Words) and words.index < number and words.start <= MOST_ELEMENTS


def _shape(shape: tuple[int, ...]) -> pb.Shape:
    return pb.Shape(dims=shape)


def _to_message(request: Correlation) -> pb.Request:
    match request:
        case Triple():
            m = request.map
            bilinear = pb.Bilinear(
                name=m.name.upper(),
                stride=m.stride,
                padding=m.padding,
                output_padding=m.output_padding,
                dilation=m.dilation,
                groups=m.groups,
            )
            return pb.Request(
                triple=pb.Triple(
                    map=bilinear,
                    x=_shape(request.x),
                    y=_shape(request.y),
                    x_mask=_mask_message(request.x_mask),
                    y_mask=_mask_message(request.y_mask),
                )
            )
        case SquarePair():
            return pb.Request(square=pb.SquarePair(shape=_shape(request.shape)))
        case TruncationMask():
            return pb.Request(truncation=pb.TruncationMask(shape=_shape(request.shape), bits=request.bits))
        case ThresholdMask():
            return pb.Request(
                threshold=pb.ThresholdMask(
                    elements=request.elements,
                    thresholds=request.thresholds,
                    degree=request.degree,
                    shift=request.shift,
                )
            )
        case DaBit():
            return pb.Request(dabit=pb.DaBit(shape=_shape(request.shape)))
        case Shuffle():
            return pb.Request(
                shuffle=pb.Shuffle(lines=request.lines, length=request.length, columns=request.columns)
            )
    raise UsageError(f"{type(request).__name__} is not a kind that a dealer deals")


def _from_message(message: pb.Request) -> Correlation:
    match message.WhichOneof("kind"):
        case "triple":
            t = message.triple
            if not 1 <= t.map.name <= len(MAP_NAMES):
                raise UsageError(f"bilinear map number {t.map.name} is not known")
            bilinear = Bilinear(
                MAP_NAMES[t.map.name - 1],
                tuple(t.map.stride),
                tuple(t.map.padding),
                tuple(t.map.output_padding),
                tuple(t.map.dilation),
                t.map.groups,
            )
            return Triple(
                bilinear,
                tuple(t.x.dims),
                tuple(t.y.dims),
                _mask(t.x_mask, len(t.x.dims)),
                _mask(t.y_mask, len(t.y.dims)),
            )
        case "square":
            return SquarePair(tuple(message.square.shape.dims))
        case "truncation":
            return TruncationMask(tuple(message.truncation.shape.dims), message.truncation.bits)
        case "threshold":
            asked = message.threshold
            return ThresholdMask(asked.elements, asked.thresholds, asked.degree, asked.shift)
        case "dabit":
            return DaBit(tuple(message.dabit.shape.dims))
        case "shuffle":
            rows = message.shuffle
            return Shuffle(rows.lines, rows.length, rows.columns)
    raise UsageError("a request to the dealer is of no known kind")


def _mask_message(mask: Mask) -> pb.Mask | None:
    if mask == Mask():
        return None
    words = None
    if isinstance(mask.source, Words):
        words = pb.Words(index=mask.source.index, start=mask.source.start)
    return pb.Mask(order=mask.order, words=words)


def _mask(message: pb.Mask, dims: int) -> Mask:
    order = tuple(message.order)
    if order and (sorted(order) != list(range(dims)) or list(order) == sorted(order)):
        raise UsageError(f"{list(order)} is not another order of {dims} dimensions")
    words = Words(message.words.index, message.words.start) if message.HasField("words") else None
    return Mask(order, words)
