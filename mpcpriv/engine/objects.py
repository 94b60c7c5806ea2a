"""Public objects as bytes: a closed set of types, in the place of pickle.

The messages are `protos/mpcpriv/v1/objects.proto`. Decoding executes nothing; what it
allocates is bounded by a small multiple of the message's length.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
import torch
from google.protobuf.message import DecodeError

from mpcpriv.errors import UsageError
from mpcpriv.v1 import objects_pb2 as pb

_DEPTH: Final = 16
_TYPES: Final = {
    np.dtype(np.bool_): pb.Array.BOOL,
    np.dtype(np.uint8): pb.Array.UINT8,
    np.dtype(np.int8): pb.Array.INT8,
    np.dtype(np.int16): pb.Array.INT16,
    np.dtype(np.int32): pb.Array.INT32,
    np.dtype(np.int64): pb.Array.INT64,
    np.dtype(np.float32): pb.Array.FLOAT32,
    np.dtype(np.float64): pb.Array.FLOAT64,
}
_DTYPES: Final = {number: dtype for dtype, number in _TYPES.items()}


def encode(value: Any) -> bytes:
    """The bytes of None, bool, int (64 bits), float, str, bytes, list, tuple, dict, size, tensor or array.

    Raises:
        UsageError: a type that does not travel, or nesting deeper than 16.
    """
    return _to_message(value, _DEPTH).SerializeToString()


def decode(data: bytes) -> Any:
    """The object of these bytes.

    Raises:
        UsageError: malformed bytes.
    """
    try:
        return _from_message(pb.Object.FromString(data), _DEPTH)
    except DecodeError:
        raise UsageError("not an Object message") from None


def _to_message(value: Any, depth: int) -> pb.Object:
    if depth == 0:
        raise UsageError(f"an object nested deeper than {_DEPTH} does not travel between parties")
    match value:
        case None:
            return pb.Object(nothing=pb.Nothing())
        case bool():
            return pb.Object(boolean=value)
        case int():
            if not -(1 << 63) <= value < 1 << 63:
                raise UsageError(f"the integer {value} does not fit 64 bits")
            return pb.Object(integer=value)
        case float():
            return pb.Object(real=value)
        case str():
            return pb.Object(text=value)
        case bytes():
            return pb.Object(raw=value)
        case torch.Size():
            return pb.Object(size=_sequence(value, depth))
        case list():
            return pb.Object(list=_sequence(value, depth))
        case tuple():
            return pb.Object(tuple=_sequence(value, depth))
        case dict():
            keys, values = _sequence(value.keys(), depth), _sequence(value.values(), depth)
            return pb.Object(mapping=pb.Mapping(keys=keys.items, values=values.items))
        case torch.Tensor():
            try:
                array = value.detach().cpu().numpy()
            except TypeError:  # a type that numpy does not have
                raise UsageError(f"a tensor of {value.dtype} does not travel between parties") from None
            return pb.Object(tensor=_array(array))
        case np.ndarray() | np.generic():
            return pb.Object(ndarray=_array(np.asarray(value)))
    raise UsageError(
        f"a {type(value).__name__} does not travel between parties: send numbers, text, bytes, lists, "
        "tuples, dicts, tensors or arrays"
    )


def _sequence(values: Any, depth: int) -> pb.Sequence:
    return pb.Sequence(items=[_to_message(v, depth - 1) for v in values])


def _array(array: np.ndarray) -> pb.Array:
    if array.dtype not in _TYPES:
        raise UsageError(f"an array of {array.dtype} does not travel between parties")
    return pb.Array(type=_TYPES[array.dtype], dims=array.shape, data=np.ascontiguousarray(array).tobytes())


def _from_message(message: pb.Object, depth: int) -> Any:
    if depth == 0:
        raise UsageError(f"an object nested deeper than {_DEPTH}")
    kind = message.WhichOneof("kind")
    match kind:
        case "nothing":
            return None
        case "boolean" | "integer" | "real" | "text" | "raw":
            return getattr(message, kind)
        case "list":
            return _items(message.list.items, depth)
        case "tuple":
            return tuple(_items(message.tuple.items, depth))
        case "size":
            dims = _items(message.size.items, depth)
            if not all(type(dim) is int for dim in dims):
                raise UsageError("malformed size")
            return torch.Size(dims)
        case "mapping":
            keys, values = _items(message.mapping.keys, depth), _items(message.mapping.values, depth)
            try:
                return dict(zip(keys, values, strict=True))
            except (TypeError, ValueError):
                raise UsageError("malformed mapping") from None
        case "tensor":
            return torch.from_numpy(_ndarray(message.tensor))
        case "ndarray":
            return _ndarray(message.ndarray)
    raise UsageError("an object of no known kind")


def _items(messages: Any, depth: int) -> list[Any]:
    return [_from_message(m, depth - 1) for m in messages]


def _ndarray(message: pb.Array) -> np.ndarray:
    dtype = _DTYPES.get(message.type)
    if (
        dtype is None
        or len(message.dims) > 32
        or math.prod(message.dims) * dtype.itemsize != len(message.data)
    ):
        raise UsageError("malformed array")
    try:
        return np.frombuffer(bytearray(message.data), dtype=dtype).reshape(message.dims)
    except ValueError:  # no data, but dims beyond what numpy can index
        raise UsageError("malformed array") from None
