"""A model's architecture as a list of steps: public, comparable, and free of every parameter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from mpcpriv.engine import objects
from mpcpriv.engine.models.kinds import MASKED, encrypted
from mpcpriv.engine.models.operators import NUMBERS, OPERATORS, PUBLIC
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError


@dataclass(frozen=True)
class Ref:
    """The value of a step, an input or a parameter, by name."""

    name: str


def without_overload(operator: str) -> str:
    """`aten.add` for `aten.add.Tensor`."""
    return ".".join(operator.split(".")[:2])


@dataclass(frozen=True)
class Step:
    """One operator applied to earlier values and to public arguments.

    Attributes:
        name: what others refer to.
        operator: torch's name, such as `aten.conv2d.default`, or `operator.mul` for sizes.
        args, kwargs: with a `Ref` for each earlier value.
        public: no input and no parameter is involved.
    """

    name: str
    operator: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any] = field(default_factory=dict)
    public: bool = False

    def function(self) -> Callable[..., Any]:
        """What computes it.

        Raises:
            Unsupported: nothing here does.
        """
        name = without_overload(self.operator)
        if self.operator in NUMBERS:
            return NUMBERS[self.operator]  # type: ignore[no-any-return]
        if name == "aten.sym_size":
            return lambda x, dim: x.size(dim)
        if self.public and name in PUBLIC:
            _, packet, overload = self.operator.split(".")
            return getattr(getattr(torch.ops.aten, packet), overload)  # type: ignore[no-any-return]
        if name not in OPERATORS:
            raise Unsupported(f"{self.operator} is not offered for encrypted tensors")
        return OPERATORS[name]


def replaced(value: Any, by: Callable[[Ref], Any]) -> Any:
    """The arguments with `by(ref)` in the place of every reference."""
    if isinstance(value, Ref):
        return by(value)
    if isinstance(value, (list, tuple)):
        return type(value)(replaced(v, by) for v in value)
    if isinstance(value, dict):
        return {key: replaced(v, by) for key, v in value.items()}
    return value


def references(value: Any) -> list[str]:
    """The names that the arguments refer to."""
    found: list[str] = []
    replaced(value, lambda ref: found.append(ref.name))
    return found


@dataclass(frozen=True)
class Input:
    """An argument of the model.

    Attributes:
        name: what the steps refer to.
        shape: the lengths that the steps were made for, None where any will do.
        indices: it takes integers, which are one-hot, with one dimension more, when they are encrypted.
    """

    name: str
    shape: tuple[int | None, ...]
    indices: bool = False

    def check(self, x: Any) -> None:
        """Refuses a value of another shape: lengths stand in the steps as numbers.

        Raises:
            UsageError: it has another shape.
        """
        size = tuple(x.size())
        if self.indices and encrypted(x) and len(size) == len(self.shape) + 1:
            size = size[:-1]
        fits = len(size) == len(self.shape)
        if not fits or any(m not in (None, n) for m, n in zip(self.shape, size, strict=True)):
            wanted = ", ".join("any" if n is None else str(n) for n in self.shape)
            raise UsageError(
                f"{self.name} has shape {list(x.size())}; the model was converted for [{wanted}]: convert it "
                "with an input of this shape"
            )


@dataclass(frozen=True)
class Program:
    """Steps in order, the inputs, and what is returned.

    Attributes:
        inputs: the arguments of the model, in order.
        steps: in order.
        output: a `Ref`, or a tuple or list with such.
    """

    inputs: tuple[Input, ...]
    steps: tuple[Step, ...]
    output: Any

    def run(
        self,
        inputs: Sequence[Any],
        values: Mapping[str, Any],
        secret: bool,
        adjust: Callable[[Step], dict[str, Any]] | None = None,
    ) -> Any:
        """Computes the output.

        Args:
            inputs: plain or encrypted tensors.
            values: parameters and buffers by name.
            secret: they are encrypted, so public numbers beside them become constants.
            adjust: further keyword arguments for a step.

        Raises:
            UsageError: another number of inputs, or of another shape.
        """
        if len(inputs) != len(self.inputs):
            raise UsageError(f"the model takes {len(self.inputs)} inputs, not {len(inputs)}")
        held: dict[str, Any] = {}
        for declared, value in zip(self.inputs, inputs, strict=True):
            declared.check(value)
            held[declared.name] = value
        last: dict[str, int] = {}
        for place, step in enumerate(self.steps):
            last.update(dict.fromkeys(references((step.args, step.kwargs)), place))
        last.update(dict.fromkeys(references(self.output), len(self.steps)))

        def value_of(ref: Ref) -> Any:
            return held[ref.name] if ref.name in held else values[ref.name]

        for place, step in enumerate(self.steps):
            args, kwargs = replaced(step.args, value_of), replaced(step.kwargs, value_of)
            if adjust is not None:
                kwargs = {**kwargs, **adjust(step)}
            if secret and not step.public:
                args = _lifted(args)
            held[step.name] = step.function()(*args, **kwargs)
            for name in references((step.args, step.kwargs)):
                if last[name] == place:
                    held.pop(name, None)
        return replaced(self.output, value_of)

    def to_object(self) -> dict[str, Any]:
        """The program in types that travel between parties (`engine.objects`)."""
        steps = [
            [s.name, s.operator, _to_object(list(s.args)), _to_object(dict(s.kwargs)), s.public]
            for s in self.steps
        ]
        inputs = [[i.name, list(i.shape), i.indices] for i in self.inputs]
        return {"inputs": inputs, "steps": steps, "output": _to_object(self.output)}

    @classmethod
    def from_object(cls, value: Any) -> Program:
        """The program of such an object, refused where it names an operator that is not in the tables.

        Raises:
            UsageError: not such an object.
            Unsupported: an unknown operator.
        """
        try:
            steps = tuple(
                Step(str(name), str(operator), tuple(_from_object(args)), _from_object(kwargs), bool(public))
                for name, operator, args, kwargs, public in value["steps"]
            )
            inputs = tuple(
                Input(str(name), tuple(None if n is None else int(n) for n in shape), bool(indices))
                for name, shape, indices in value["inputs"]
            )
            program = cls(inputs, steps, _from_object(value["output"]))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise UsageError("not a model's architecture") from None
        for step in program.steps:
            step.function()
        return program

    def digest(self) -> str:
        """The same at every party that has the same architecture."""
        return hashlib.sha256(objects.encode(self.to_object())).hexdigest()[:32]


def _lifted(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """A public first operand as a constant: the operators here are methods of the first one."""
    if not args or not isinstance(args[0], torch.Tensor) or not args[0].is_floating_point():
        return args
    if not any(map(encrypted, args[1:])):
        return args
    return (SharedTensor.constant(args[0].clamp(min=MASKED)), *args[1:])


def _to_object(value: Any) -> Any:
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, dict):
        return {"mapping": [[key, _to_object(v)] for key, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_to_object(v) for v in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise Unsupported(f"a {type(value).__name__} among the arguments of an operator")


def _from_object(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, held),) = value.items()
    match kind:
        case "ref":
            return Ref(str(held))
        case "dtype":
            dtype = getattr(torch, str(held), None)
            if not isinstance(dtype, torch.dtype):
                raise UsageError(f"no dtype {held!r}")
            return dtype
        case "mapping":
            return {str(key): _from_object(v) for key, v in held}
        case "tuple":
            return tuple(_from_object(v) for v in held)
        case "list":
            return [_from_object(v) for v in held]
    raise UsageError(f"no kind {kind!r}")
