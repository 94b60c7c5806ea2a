"""Requests for correlated randomness as bytes: a closed set of types, bounded, one encoding each.

The messages are `protos/mpcpriv/v1/dealer.proto`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

from google.protobuf.message import DecodeError

from mpcpriv.engine.correlation.base import Correlation
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.comparison import ThresholdMask
from mpcpriv.engine.correlation.product import SquarePair, Triple
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
        UsageError: a request is larger than the dealer deals.
    """
    deal = pb.Deal(first=first, requests=[_to_message(check(request)) for request in requests])
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
    requests = [check(_from_message(message)) for message in deal.requests]
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
    if isinstance(request, TruncationMask) and not 1 <= request.bits <= 62:
        raise UsageError(f"truncation by {request.bits} bits: 1 to 62 are possible")
    return request


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
            return pb.Request(triple=pb.Triple(map=bilinear, x=_shape(request.x), y=_shape(request.y)))
        case SquarePair():
            return pb.Request(square=pb.SquarePair(shape=_shape(request.shape)))
        case TruncationMask():
            return pb.Request(truncation=pb.TruncationMask(shape=_shape(request.shape), bits=request.bits))
        case ThresholdMask():
            return pb.Request(
                threshold=pb.ThresholdMask(
                    elements=request.elements, thresholds=request.thresholds, degree=request.degree
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
            return Triple(bilinear, tuple(t.x.dims), tuple(t.y.dims))
        case "square":
            return SquarePair(tuple(message.square.shape.dims))
        case "truncation":
            return TruncationMask(tuple(message.truncation.shape.dims), message.truncation.bits)
        case "threshold":
            asked = message.threshold
            return ThresholdMask(asked.elements, asked.thresholds, asked.degree)
        case "dabit":
            return DaBit(tuple(message.dabit.shape.dims))
        case "shuffle":
            rows = message.shuffle
            return Shuffle(rows.lines, rows.length, rows.columns)
    raise UsageError("a request to the dealer is of no known kind")
