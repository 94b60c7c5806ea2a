"""One node of an ONNX graph with the values of its inputs: what the translation of an operator reads.

A value is a torch tensor, or a numpy array where it is *known*: integers, flags and single numbers that
depend on no input and no parameter, and the lengths of tensors (which may be symbols while torch exports,
in an array of objects).
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import onnx
import torch

from mpcpriv.errors import Unsupported

Value = Any
"""A torch.Tensor, a known numpy array, or None for an optional input that is left out."""


def name_of(node: onnx.NodeProto) -> str:
    """The operator, its domain and the node, for messages."""
    named = node.name or (f"of {node.output[0]}" if node.output else "without a name")
    return f"ONNX operator {node.domain or 'ai.onnx'}.{node.op_type} (node {named})"


def is_symbolic(value: Value) -> bool:
    """Whether a known value holds lengths that are symbols."""
    return isinstance(value, np.ndarray) and value.dtype == object


def product(factors: Any) -> Any:
    """The product of integers or symbols."""
    return reduce(operator.mul, factors, 1)


@dataclass(frozen=True)
class Call:
    """A node about to be computed.

    Attributes:
        node: the node.
        inputs: the value of each input.
        stored: for each input that the file stores as a parameter, its value there; it may be read
            for what an operator needs in the open only (an exponent, a bound).
        opset: the version of ONNX's operators.
        training: whether the model trains.
    """

    node: onnx.NodeProto
    inputs: tuple[Value, ...]
    stored: tuple[np.ndarray[Any, Any] | None, ...]
    opset: int
    training: bool

    def refused(self, reason: str) -> Unsupported:
        """The error that names this node."""
        return Unsupported(f"{name_of(self.node)}: {reason}")

    def attribute(self, name: str, default: Any = None) -> Any:
        """The attribute's value; text as str."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def only(self, name: str, allowed: Any) -> None:
        """Refuses any other value of an attribute.

        Raises:
            Unsupported: it has another value.
        """
        value = self.attribute(name, allowed)
        if value != allowed:
            raise self.refused(f"{name}={value!r} is not offered")

    def single_output(self) -> None:
        """Refuses a node of which more than the first output is used."""
        if any(self.node.output[1:]):
            raise self.refused(f"its further outputs ({', '.join(self.node.output[1:])}) are not offered")

    def has(self, place: int) -> bool:
        """Whether that input is there."""
        return place < len(self.inputs) and self.inputs[place] is not None

    def is_tensor(self, place: int) -> bool:
        """Whether that input is a tensor, not known."""
        return self.has(place) and isinstance(self.inputs[place], torch.Tensor)

    def tensor(self, place: int) -> torch.Tensor:
        """An input as a tensor."""
        value = self.inputs[place]
        if isinstance(value, torch.Tensor):
            return value
        if is_symbolic(value):
            raise self.refused("the length of a dimension becomes a value, which is not offered")
        return torch.tensor(value.tolist(), dtype=_dtype(value))

    def optional(self, place: int) -> torch.Tensor | None:
        """An input as a tensor, None where it is left out."""
        return self.tensor(place) if self.has(place) else None

    def operand(self, place: int, beside: torch.Tensor) -> Any:
        """An input for arithmetic beside a tensor: single known numbers as Python's."""
        value = self.inputs[place]
        if isinstance(value, np.ndarray) and value.size == 1 and value.ndim <= beside.dim():
            return value.reshape(-1)[0] if is_symbolic(value) else value.item()
        return self.tensor(place)

    def known(self, place: int, default: Any = None) -> Any:
        """What an operator needs in the open, as an array; `default` where it is left out.

        Raises:
            Unsupported: it is computed from the model's inputs or from parameters.
        """
        if not self.has(place):
            return default
        value = self.inputs[place]
        if isinstance(value, np.ndarray):
            return value
        stored = self.stored[place]
        if stored is None:
            raise self.refused(f"its input {self.node.input[place]} is not a constant, which it must be here")
        return stored

    def number(self, place: int, default: Any = None) -> Any:
        """A single number that an operator needs in the open."""
        value = self.known(place)
        if value is None:
            return default
        if value.size != 1:
            raise self.refused(f"its input {self.node.input[place]} must be a single number")
        return value.reshape(-1)[0] if is_symbolic(value) else value.item()

    def integers(self, place: int) -> list[Any] | None:
        """A list of integers or symbols, None where it is left out."""
        value = self.known(place)
        if value is None:
            return None
        return list(value.reshape(-1)) if is_symbolic(value) else [int(v) for v in value.reshape(-1)]

    def option(self, name: str, place: int) -> list[Any] | None:
        """Integers that newer versions of an operator take as an input and older ones as an attribute."""
        listed = self.attribute(name)
        return list(listed) if listed is not None else self.integers(place)


Translation = Callable[[Call], Any]
"""What a node returns: one value, or a tuple with one for each output."""


def _dtype(value: np.ndarray[Any, Any]) -> torch.dtype:
    return torch.from_numpy(np.zeros(1, value.dtype)).dtype
