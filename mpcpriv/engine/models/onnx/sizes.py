"""Operators on shapes: arithmetic with integers of which some may be symbols, so numpy does it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch

from mpcpriv.engine.models.onnx.call import Call, Translation, product


def lengths(values: Any) -> np.ndarray[Any, Any]:
    """Integers or symbols as a known value."""
    listed = list(values)
    if all(isinstance(v, (int, np.integer)) for v in listed):
        return np.array([int(v) for v in listed], dtype=np.int64)
    return _objects(listed)


def shape(call: Call) -> Any:
    """The lengths of a tensor's dimensions, which are public."""
    value = call.inputs[0]
    return lengths(list(value.shape)[call.attribute("start", 0) : call.attribute("end", None)])


def size(call: Call) -> Any:
    """How many elements a tensor has."""
    return lengths([product(call.inputs[0].shape)]).reshape(())


def _objects(values: list[Any]) -> np.ndarray[Any, Any]:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _gather(call: Call) -> Any:
    data, index = call.inputs
    return _tidy(np.take(data, index.astype(np.int64), axis=call.attribute("axis", 0)))


def _slice(call: Call) -> Any:
    data = call.inputs[0]
    starts, ends = call.option("starts", 1) or [], call.option("ends", 2) or []
    axes = call.option("axes", 3) or range(len(starts))
    steps = call.integers(4) or [1] * len(starts)
    parts = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        parts[axis] = slice(start, end, step)
    return _tidy(data[tuple(parts)])


def _squeeze(call: Call) -> Any:
    axes = call.option("axes", 1)
    return np.squeeze(call.inputs[0], None if axes is None else tuple(axes))


def _divide(call: Call) -> Any:
    one, other = call.inputs
    if "f" in (one.dtype.kind, other.dtype.kind):
        return one / other
    return _tidy(one // other)  # sizes are positive: floor is what ONNX's truncation is


def _cast(call: Call) -> Any:
    if call.attribute("to") not in (6, 7):  # int32, int64
        raise call.refused("the length of a dimension becomes a real number, which is not offered")
    return call.inputs[0]


def _where(call: Call) -> Any:
    condition, one, other = np.broadcast_arrays(*call.inputs)
    chosen = [a if c else b for c, a, b in zip(condition.flat, one.flat, other.flat, strict=True)]
    return lengths(chosen).reshape(condition.shape)


def _compared(call: Call) -> Any:
    one, other = np.broadcast_arrays(*call.inputs)
    found = [bool(a == b) for a, b in zip(one.flat, other.flat, strict=True)]
    return np.array(found, dtype=bool).reshape(one.shape)


def _tidy(value: Any) -> Any:
    """An array of objects as one of integers where no symbol is left."""
    array = np.asarray(value)
    if array.dtype == object and not any(isinstance(v, torch.SymInt) for v in array.flat):
        return array.astype(np.int64)
    return array


SIZES: Final[dict[str, Translation]] = {
    "Gather": _gather,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Unsqueeze": lambda c: np.expand_dims(c.inputs[0], tuple(c.option("axes", 1) or ())),
    "Concat": lambda c: _tidy(np.concatenate(c.inputs, axis=c.attribute("axis"))),
    "Reshape": lambda c: np.reshape(c.inputs[0], c.integers(1)),
    "Identity": lambda c: c.inputs[0],
    "Cast": _cast,
    "Add": lambda c: _tidy(c.inputs[0] + c.inputs[1]),
    "Sub": lambda c: _tidy(c.inputs[0] - c.inputs[1]),
    "Mul": lambda c: _tidy(c.inputs[0] * c.inputs[1]),
    "Div": _divide,
    "Where": _where,
    "Equal": _compared,
    "ReduceProd": lambda c: lengths([product(c.inputs[0].flat)]).reshape(
        (1,) if c.attribute("keepdims", 1) else ()
    ),
}
"""By ONNX's name, the operators that compute with lengths of dimensions while some are symbols."""
