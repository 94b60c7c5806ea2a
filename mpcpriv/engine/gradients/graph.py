"""Recording operations and going back through them, in the place of CrypTen's own (C11).

CrypTen's backward pass frees what it passes, so that a second one through a shared node stops there in
silence; it recurses once per node; it hands out gradients that alias each other; and it computes every
gradient of an operation, also the ones by data that need none.

Gradients on their way are `value * 2^-raised` with a public number `raised` of at most 8. Dividing by the
number of elements of a mean first raises by up to 8 bits, which then are not rounded away; leaves keep them
as fractional bits. So a mean loss of 569 rows keeps 8 bits more of each residual, and a
gradient must stay below 2^22 instead of 2^30. As long as a gradient is one public number everywhere (at a
loss, a mean, a sum), it is a float and costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from crypten.cryptensor import CrypTensor
from crypten.gradients import AutogradContext

from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import Unsupported, UsageError

HEADROOM: Final = 8
"""The most bits that a gradient is raised by on its way."""

Value = Any
"""A gradient by some tensor: shared, or public of its shape, or one public number for every element."""


class Context(AutogradContext):  # type: ignore[misc]
    """What an operation keeps for its backward pass.

    Attributes:
        needs: which of its encrypted operands, in order, require a gradient.
        spare: bits by which a gradient may still be raised.
        raised: bits by which this operation has raised it.
    """

    def __init__(self, needs: list[bool]) -> None:
        super().__init__()
        self.context: list[Any] = []
        self.needs = needs
        self.spare = 0
        self.raised = 0

    def times(self, gradient: Any, factor: float) -> Any:
        """gradient * factor, with as many more fractional bits as the factor takes and as may be held."""
        return gradient.mul(factor * (1 << self.lift_for(factor)))

    def lift_for(self, factor: float) -> int:
        """Raises by as many bits as a factor below one takes; returns how many."""
        if not factor or float(factor).is_integer():
            return 0
        more = max(0, min(self.spare, -math.floor(math.log2(abs(factor)))))
        self.spare -= more
        self.raised += more
        return more

    def let_go_of(self, results: Iterable[Any]) -> None:
        """Saved results are copied: they would hold their own context, and memory until a collection."""
        held = {id(result) for result in results}
        self.context = [one.shallow_copy() if id(one) in held else one for one in self.context]


def recorded(tensor: Any, name: str, function: Any, _in_place: bool) -> Callable[..., Any]:
    """`tensor.name` as a function whose result remembers where it comes from."""

    def call(*args: Any, **kwargs: Any) -> Any:
        is_dummy = getattr(tensor, "__IS_DUMMY__", False)
        operands = [*tensors_in(args), *tensors_in(kwargs.values())]
        children = operands if is_dummy else [tensor, *operands]
        needs = [child.requires_grad for child in children]
        with CrypTensor.no_grad():
            if not any(needs):
                return getattr(tensor, name)(*args, **kwargs)
            context = Context(needs)
            result = function.forward(context, *(args if is_dummy else (tensor, *args)), **kwargs)
        results = result if isinstance(result, tuple) else (result,)
        for child, needed in zip(children, needs, strict=True):
            if needed and not context.is_differentiable(child):
                raise no_gradient(f"{name} by this operand")
        context.let_go_of(results)
        for one in results:
            if context.is_differentiable(one):
                one.requires_grad, one.children, one.grad_fn, one.ctx = True, children, function, context
        return result

    return call


def unrecorded(function: Any) -> Callable[..., Any]:
    """The value of a registered function as a method, when nothing follows it."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function.forward(Context([]), self, *args, **kwargs)

    call.__doc__ = function.forward.__doc__
    return call


def tensors_in(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if isinstance(value, CrypTensor):
            found.append(value)
        elif isinstance(value, (list, tuple)):
            found += tensors_in(value)
    return found


def backward(
    root: Any, grad_input: Any = None, top_node: bool = True, *, retain_graph: bool | None = None
) -> None:
    """Adds to `.grad` of every leaf the gradient of this tensor; as torch's, but the graph stays.

    Args:
        root: the tensor to start from.
        grad_input: the gradient by this tensor, encrypted or public; one without dimensions needs none.
        top_node: always true; CrypTen's recursion used it.
        retain_graph: False frees what the operations saved; a second pass through them is refused then.

    Raises:
        UsageError: the tensor requires no gradient, or has several elements and no gradient is given.
        Unsupported: an operation on the way has no gradient.
    """
    if not root.requires_grad:
        raise UsageError("backward of a tensor that requires no gradient: none of its inputs does")
    if grad_input is None and root.nelement() != 1:
        raise UsageError(f"backward of shape {list(root.shape)} needs the gradient by it as an argument")
    if grad_input is not None and tuple(grad_input.shape) != tuple(root.shape):
        raise UsageError(f"a gradient of shape {list(grad_input.shape)} for shape {list(root.shape)}")
    del top_node
    with CrypTensor.no_grad():
        gradients: dict[int, tuple[Value, int]] = {}
        gradients[id(root)] = (1.0, 0) if grad_input is None else _shared(grad_input)
        leaves = []
        for node in _order(root):
            held = gradients.pop(id(node), None)
            if held is None:
                continue
            if not node.children:
                leaves.append((node, *held))
                continue
            for child, one, raised in _through(node, *held):
                gradients[id(child)] = _sum(gradients.get(id(child)), one, raised)
            if retain_graph is False:
                node.ctx.reset()
                node.ctx.freed = True
        _deposit(leaves)


def _order(root: Any) -> list[Any]:
    """The nodes of the graph, each before all that it was made from."""
    finished: list[Any] = []
    seen: set[int] = {id(root)}
    stack: list[tuple[Any, list[Any]]] = [(root, _parents(root))]
    while stack:
        node, waiting = stack[-1]
        if not waiting:
            finished.append(node)
            stack.pop()
            continue
        child = waiting.pop()
        if id(child) not in seen:
            seen.add(id(child))
            stack.append((child, _parents(child)))
    return finished[::-1]


def _parents(node: Any) -> list[Any]:
    if not node.children:
        return []
    return [child for child, needed in zip(node.children, node.ctx.needs, strict=True) if needed]


def _through(node: Any, value: Value, raised: int) -> list[tuple[Any, Value, int]]:
    """The gradients by what a node was made from: (operand, value, raised)."""
    context, function = node.ctx, node.grad_fn
    if getattr(context, "freed", False):
        raise UsageError(f"backward a second time through {_name(function)}: its graph was freed before")
    context.spare, context.raised = HEADROOM - raised, 0
    if isinstance(value, float):
        of_one = getattr(function, "by_one", None)
        ones = SharedTensor.constant(torch.ones(tuple(node.shape), dtype=torch.int64), bits=0)
        found, factor = of_one(context) if of_one else (function.backward(context, ones), 1.0)
        factor *= value
        found = _listed(found, context)
        more = (
            context.lift_for(factor) if any(not isinstance(one, (float, type(None))) for one in found) else 0
        )
        found = [_scaled(one, factor, more) for one in found]
    else:
        found = _listed(function.backward(context, value), context)
    raised += context.raised
    results = []
    for child, needed, one in zip(node.children, context.needs, found, strict=True):
        if needed and one is None:
            raise no_gradient(f"{_name(function)} by this operand")
        if needed:
            results.append((child, one, raised if not isinstance(one, float) else 0))
    return results


def _listed(found: Any, context: Context) -> list[Any]:
    """One gradient per operand; operands after the last given have none."""
    values = list(found) if isinstance(found, (list, tuple)) else [found]
    return values[: len(context.needs)] + [None] * (len(context.needs) - len(values))


def _scaled(value: Value, factor: float, raised: int) -> Value:
    """value * factor, raised unless it is one number."""
    if value is None or isinstance(value, float):
        return value if value is None else value * factor
    scale = factor * (1 << raised)
    if isinstance(value, torch.Tensor):
        return SharedTensor.constant(value.to(torch.float64) * scale)
    return value if scale == 1 else value.mul(scale)


def _sum(held: tuple[Value, int] | None, value: Value, raised: int) -> tuple[Value, int]:
    """Two gradients as one, raised as the more precise of them."""
    if held is None:
        return value, raised
    one, lifted = held
    if isinstance(one, float) and isinstance(value, float):
        return one + value, 0
    if isinstance(value, float):
        return one.add(value * (1 << lifted)), lifted
    if isinstance(one, float):
        return value.add(one * (1 << raised)), raised
    if lifted < raised:
        one = one.mul(1 << (raised - lifted))
    elif raised < lifted:
        value = value.mul(1 << (lifted - raised))
    return one.add(value), max(raised, lifted)


def _deposit(leaves: list[tuple[Any, Value, int]]) -> None:
    """Adds the gradient of each leaf to its own; bits that it was raised by become fractional ones."""
    for leaf, found, raised in leaves:
        if isinstance(found, float):
            value = SharedTensor.constant(torch.full(tuple(leaf.shape), found, dtype=torch.float64))
        else:
            value = found
        if tuple(value.shape) != tuple(leaf.shape):
            raise UsageError(f"a gradient of shape {list(value.shape)} reached shape {list(leaf.shape)}")
        bits = max(value.bits, FRACTIONAL_BITS)
        # A gradient may be the very share of an operand or of another gradient: leaves own what they hold.
        fresh = SharedTensor.of(value.at(bits).clone(), bits + raised)
        leaf.grad = fresh if leaf.grad is None else leaf.grad.add(fresh)


def _shared(value: Any) -> tuple[Any, int]:
    """A gradient that is given, and by how much it is raised: one of a leaf holds that in its bits."""
    if not isinstance(value, SharedTensor):
        return SharedTensor.constant(value), 0
    raised = max(value.bits - FRACTIONAL_BITS, 0)
    return (SharedTensor.of(value.share, FRACTIONAL_BITS) if raised else value.shallow_copy()), raised


def _name(function: Any) -> str:
    return str(getattr(function, "name", None) or function.__name__)


def no_gradient(what: str) -> Unsupported:
    return Unsupported(f"{what} has no gradient: use detach(), or no_grad() around it")
