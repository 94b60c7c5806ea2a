"""Public objects as bytes: a round trip, or one kind of error; nothing is ever executed."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mpcpriv.engine.objects import decode, encode
from mpcpriv.errors import UsageError
from mpcpriv.v1 import objects_pb2 as pb

DTYPES = [np.bool_, np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64]


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()
    if isinstance(a, np.ndarray):
        return bool(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes())
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return same(list(a), list(b)) and same(list(a.values()), list(b.values()))
    return bool(a == b) or (a != a and b != b)


ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=4, max_side=4))
)
KEYS = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary(max_size=9)
LEAVES = KEYS | st.floats() | ARRAYS | ARRAYS.map(lambda array: torch.from_numpy(array.copy()))
OBJECTS = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.lists(st.integers(0, 9), max_size=4).map(torch.Size)
        | st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@given(OBJECTS)
@settings(max_examples=300, deadline=None)
def test_objects_survive(value: Any) -> None:
    assert same(decode(encode(value)), value)


@given(st.binary(max_size=60))
@settings(max_examples=1000, deadline=None)
def test_any_bytes_are_an_object_or_a_usage_error(data: bytes) -> None:
    try:
        value = decode(data)
    except UsageError:
        return
    assert same(decode(encode(value)), value)


@given(OBJECTS, st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=500, deadline=None)
def test_flipped_bytes_are_an_object_or_a_usage_error(value: Any, flips: list[tuple[int, int]]) -> None:
    data = bytearray(encode(value))
    for place, byte in flips:
        if data:
            data[place % len(data)] = byte
    try:
        found = decode(bytes(data))
    except UsageError:
        return
    assert same(decode(encode(found)), found)


def array(**fields: Any) -> bytes:
    return pb.Object(tensor=pb.Array(**fields)).SerializeToString()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        pickle.dumps({"a": 1}),
        array(dims=[1], data=b"x"),
        array(type=pb.Array.INT64, dims=[1], data=b"1234567"),
        array(type=pb.Array.INT64, dims=[2**62], data=b""),
        array(type=pb.Array.UINT8, dims=[2**63, 2], data=b""),
        array(type=pb.Array.UINT8, dims=[2**32, 2**32], data=b""),
        array(type=pb.Array.UINT8, dims=[0, 2**63], data=b""),
        array(type=pb.Array.UINT8, dims=[0, 2**30, 2**30, 2**30], data=b""),
        array(type=pb.Array.UINT8, dims=[1] * 33, data=b"1"),
        array(type=9, dims=[1], data=b"12345678"),
        pb.Object(mapping=pb.Mapping(keys=[pb.Object(integer=1)])).SerializeToString(),
        pb.Object(
            mapping=pb.Mapping(keys=[pb.Object(list=pb.Sequence())], values=[pb.Object(integer=1)])
        ).SerializeToString(),
        pb.Object(size=pb.Sequence(items=[pb.Object(text="x")])).SerializeToString(),
        pb.Object(size=pb.Sequence(items=[pb.Object(real=1.5)])).SerializeToString(),
        pb.Object(list=pb.Sequence(items=[pb.Object()])).SerializeToString(),
    ],
    ids=range(17),
)
def test_malformed_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(UsageError):
        decode(data)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_is_bounded() -> None:
    assert same(decode(encode(nested(15))), nested(15))
    with pytest.raises(UsageError, match="16"):
        encode(nested(16))
    message = pb.Object(integer=1)
    for _ in range(40):
        message = pb.Object(list=pb.Sequence(items=[message]))
    with pytest.raises(UsageError, match="16"):
        decode(message.SerializeToString())


def test_a_deeply_nested_message_is_refused_without_deep_recursion() -> None:
    def tagged(tag: bytes, body: bytes) -> bytes:
        length, size = len(body), b""
        while True:
            size += bytes([length & 127 | (128 if length > 127 else 0)])
            length >>= 7
            if not length:
                return tag + size + body

    data = b""
    for _ in range(2000):
        data = tagged(b"\x3a", tagged(b"\x0a", data))
    with pytest.raises(UsageError):
        decode(data)


@pytest.mark.parametrize(
    "value", [object(), {1, 2}, 1j, lambda: 0, int, 2**63, -(2**63) - 1, np.float16(1), [object()], range(3)]
)
def test_other_types_do_not_travel(value: Any) -> None:
    with pytest.raises(UsageError, match="does not"):
        encode(value)


def test_tensors_that_only_torch_knows_do_not_travel() -> None:
    with pytest.raises(UsageError):
        encode(torch.zeros(2, dtype=torch.bfloat16))
    with pytest.raises(UsageError):
        encode(torch.zeros(2, dtype=torch.complex64))


def test_views_are_sent_as_what_they_show() -> None:
    tensor = torch.arange(12).reshape(3, 4).t()[1:]
    assert torch.equal(decode(encode(tensor)), tensor)
    followed = torch.ones(2, requires_grad=True)
    assert not decode(encode(followed)).requires_grad
    scalar = decode(encode(np.float64(2.5)))
    assert scalar == 2.5


def test_what_arrives_can_be_written_to() -> None:
    decode(encode(torch.zeros(2))).add_(1)
    decode(encode(np.zeros(2)))[0] = 1
