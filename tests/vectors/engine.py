"""Writes tests/vectors/v1/engine.json: `python -m tests.vectors.engine`. Tests compare with it byte by byte.

Whoever implements the engine anew can check every piece against these: keystreams, key derivation,
encodings, requests to the dealer, and for each correlation what every party expands from its key and what
the dealer sends. A change of what stands there is a change of the wire, and belongs into a folder `v2`; what
is new may be added.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from mpcpriv.engine import encoding, objects
from mpcpriv.engine.correlation import wire
from mpcpriv.engine.correlation.base import Correlation, Words, correct, expand, owner
from mpcpriv.engine.correlation.bits import DaBit
from mpcpriv.engine.correlation.comparison import ThresholdMask
from mpcpriv.engine.correlation.product import Mask, SquarePair, Triple
from mpcpriv.engine.correlation.source import correction_header
from mpcpriv.engine.correlation.truncation import TruncationMask
from mpcpriv.engine.prg import Prg, derive_key
from mpcpriv.engine.ring import Bilinear
from mpcpriv.v1 import dealer_pb2 as dealer
from mpcpriv.v1 import objects_pb2 as pb

PATH = Path(__file__).parent / "v1" / "engine.json"
PARTIES = 3

REQUESTS: dict[str, Correlation] = {
    "mul": Triple(Bilinear("mul"), (2, 1), (3,)),
    "matmul": Triple(Bilinear("matmul"), (2, 3), (3, 2)),
    "conv1d": Triple(Bilinear("conv1d", (2,), (1,), (), (1,), 1), (1, 2, 5), (2, 2, 3)),
    "conv2d": Triple(Bilinear("conv2d", (1, 2), (1, 0), (), (1, 1), 2), (1, 2, 3, 4), (2, 1, 2, 2)),
    "conv_transpose1d": Triple(Bilinear("conv_transpose1d", (2,), (0,), (1,), (1,), 1), (1, 2, 3), (2, 1, 2)),
    "conv_transpose2d": Triple(
        Bilinear("conv_transpose2d", (1, 1), (0, 0), (0, 0), (1, 2), 1), (1, 1, 2, 2), (1, 1, 2, 2)
    ),
    "square": SquarePair((2, 2)),
    "truncation by 1": TruncationMask((2,), 1),
    "truncation by 16": TruncationMask((2,), 16),
    "truncation by 31": TruncationMask((2,), 31),
    "truncation by 62": TruncationMask((), 62),
    "threshold": ThresholdMask(2, 3),
    "dabit": DaBit((5,)),
    # Under the numbers 18 to 22; those above are 5 to 17.
    "matmul by the transpose of a mask": Triple(
        Bilinear("matmul"), (2, 3), (3, 2), Mask((1, 0), Words(6, 6)), Mask((1, 0))
    ),
    "matmul of two masks": Triple(
        Bilinear("matmul"), (2, 1), (1, 3), Mask((), Words(5, 0)), Mask((), Words(5, 2))
    ),
    "mul of a mask by itself": Triple(Bilinear("mul"), (2, 2), (2, 2), Mask(), Mask((1, 0), Words(20, 0))),
    "mul by a mask turned around": Triple(
        Bilinear("mul"), (2, 2, 2), (2, 2, 2), Mask((1, 2, 0)), Mask((2, 0, 1), Words(6, 0))
    ),
    "conv1d by a mask": Triple(
        Bilinear("conv1d", (1,), (0,), (), (1,), 1), (1, 2, 5), (2, 2, 3), y_mask=Mask((), Words(7, 10))
    ),
    "threshold with powers": ThresholdMask(2, 3, degree=2),
    "threshold of a truncated value": ThresholdMask(2, 1, degree=2, shift=16),
}

VALUES = [
    *[0.0, -0.0, 1.0, -1.0, 0.1, -0.1, 2.0**-16, 2.0**-17, 3 * 2.0**-17, -(2.0**-17), math.pi, -math.e],
    *[2.0**45, -(2.0**46) + 1, 70368744177663, -12345],
]

OBJECTS: dict[str, Any] = {
    "nothing": None,
    "true": True,
    "a negative integer": -(2**63),
    "a real": -0.5,
    "text": "Grüße",
    "bytes": b"\x00\xff",
    "a list": [1, [True, None]],
    "a tuple": (1, "a"),
    "a mapping": {"a": 1, 2: b"b"},
    "a size": torch.Size([2, 3]),
    "a tensor": torch.tensor([[1.5, -2.0]]),
    "an array": torch.tensor([1, 2], dtype=torch.int16).numpy(),
    "a tensor without dimensions": torch.tensor(7),
}


def deal(*requests: dealer.Request) -> str:
    return dealer.Deal(requests=requests).SerializeToString(deterministic=True).hex()


def truncation(bits: int) -> dealer.Request:
    return dealer.Request(truncation=dealer.TruncationMask(shape=dealer.Shape(dims=[1]), bits=bits))


def masked(index: int | None = None, start: int = 0, order: tuple[int, ...] = ()) -> dealer.Request:
    """A product of two vectors of two, the second with this mask."""
    words = None if index is None else dealer.Words(index=index, start=start)
    shape = dealer.Shape(dims=[2])
    return dealer.Request(
        triple=dealer.Triple(
            map=dealer.Bilinear(name=dealer.Bilinear.MUL, groups=1),
            x=shape,
            y=shape,
            y_mask=dealer.Mask(order=order, words=words),
        )
    )


def square(*dims: int) -> dealer.Request:
    return dealer.Request(square=dealer.SquarePair(shape=dealer.Shape(dims=dims)))


def message(**kind: Any) -> str:
    return pb.Object(**kind).SerializeToString(deterministic=True).hex()


BAD_REQUESTS = {
    "no message": "ffff",
    "no kind": deal(dealer.Request()),
    "unknown field": deal(square(1)) + "f80701",
    "a first number of zero, written out": "0800" + deal(square(1)),
    "a huge shape": deal(square(1 << 63)),
    "a product of dims over 2^27": deal(square(1 << 14, 1 << 14)),
    "a product of dims that wraps": deal(square(1 << 32, 1 << 32)),
    "huge dims without elements": deal(square(0, 1 << 63)),
    "33 dims": deal(square(*[1] * 33)),
    "truncation by 0 bits": deal(truncation(0)),
    "truncation by 63 bits": deal(truncation(63)),
    "a mask of a later correlation": deal(masked(index=1)),
    "a mask of its own, but of other words": deal(masked(index=0, start=1)),
    "a mask from beyond all masks": deal(square(1), masked(index=0, start=(1 << 27) + 1)),
    "an empty mask, written out": deal(masked()),
    "a mask in an order that is none": deal(masked(order=(1,))),
    "a mask in the order of its dimensions, written out": deal(masked(order=(0,))),
    "a bilinear map of no name": deal(dealer.Request(triple=dealer.Triple(map=dealer.Bilinear(groups=1)))),
}
BAD_OBJECTS = {
    "empty": "",
    "no message": "ff",
    "a pickle": "80049503000000000000004b012e",
    "an array of no type": message(tensor=pb.Array(dims=[1], data=b"1")),
    "an array of too few bytes": message(tensor=pb.Array(type=pb.Array.INT64, dims=[1], data=b"1")),
    "an array of bytes without dims": message(tensor=pb.Array(type=pb.Array.UINT8, dims=[0], data=b"1")),
    "a mapping of unequal halves": message(mapping=pb.Mapping(keys=[pb.Object(integer=1)])),
    "a mapping with a list as key": message(
        mapping=pb.Mapping(keys=[pb.Object(list=pb.Sequence())], values=[pb.Object(integer=1)])
    ),
    "a size of text": message(size=pb.Sequence(items=[pb.Object(text="x")])),
}


def key(rank: int) -> bytes:
    """The fixed key between the dealer and a party."""
    return bytes(range(16 * rank, 16 * rank + 16))


def plain(tensors: tuple[torch.Tensor, ...]) -> list[str]:
    """Each tensor's memory."""
    return [t.contiguous().numpy().tobytes().hex() for t in tensors]


def correlation(index: int, request: Correlation) -> dict[str, Any]:
    """What the parties expand and the dealer sends, for one request under one number."""
    streams = [Prg(key(rank)).stream(index) for rank in range(PARTIES)]
    masks = [plain(expand(stream, request.masks())) for stream in streams]
    own = owner(index, PARTIES)
    derived = [
        None if rank == own else plain(expand(stream, request.derived()))
        for rank, stream in enumerate(streams)
    ]
    correction = correct(request, index, [Prg(key(rank)) for rank in range(PARTIES)])
    return {
        "index": index,
        "owner": own,
        "request": wire.encode([request], index).hex(),
        "header": correction_header(request, index).decode(),
        "masks": masks,
        "derived": derived,
        "correction": plain(correction),
    }


def vectors() -> dict[str, Any]:
    """All of them, as they stand in the file."""
    streams = [
        {
            "key": key(rank).hex(),
            "index": index,
            "bytes": Prg(key(rank)).stream(index).tensor((5,)).numpy().tobytes().hex(),
        }
        for rank in range(2)
        for index in (0, 1, 2**32, 2**64 - 1)
    ]
    derivations = [
        {
            "secret": secret.hex(),
            "salt": salt,
            "purpose": purpose,
            "key": derive_key(secret, salt=salt.encode(), purpose=purpose).hex(),
        }
        for secret in (bytes(64), bytes(range(64)))
        for salt, purpose in (
            ("alice|bob|dealer", "mpcpriv/v1/zero-share"),
            ("alice|bob|dealer", "mpcpriv/v1/dealer"),
            ("alice|bob|carol|dealer", "mpcpriv/v1/dealer"),
        )
    ]
    return {
        "streams": streams,
        "derivations": derivations,
        "encodings": [
            {
                "value": v,
                "units": int(encoding.encode(v)),
                "decoded": float(encoding.decode(encoding.encode(v))),
            }
            for v in VALUES
        ],
        "correlations": {
            name: correlation(index, request) for index, (name, request) in enumerate(REQUESTS.items(), 5)
        },
        "deal": wire.encode(REQUESTS.values(), 2**40).hex(),
        "objects": {name: objects.encode(value).hex() for name, value in OBJECTS.items()},
        "bad requests": BAD_REQUESTS,
        "bad objects": BAD_OBJECTS,
        "bad values": ["nan", "inf", "-inf", "70368744177664", "-70368744177664", "1e300"],
    }


if __name__ == "__main__":
    PATH.write_text(json.dumps(vectors(), indent=1, ensure_ascii=False) + "\n")
