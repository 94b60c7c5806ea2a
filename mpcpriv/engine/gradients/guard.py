"""No operation loses a gradient in silence."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from crypten.cryptensor import CrypTensor
from crypten.gradients import FUNCTION_REGISTRY

from mpcpriv.engine.gradients.graph import no_gradient, tensors_in
from mpcpriv.engine.tensor import SharedTensor

WITHOUT_GRADIENT: Final = frozenset(
    {
        *("lt", "gt", "ge", "le", "eq", "ne", "argmax", "argmin", "argsort", "bernoulli", "weighted_index"),
        *("in_order", "pick_ranks", "rand_like", "randn_like"),
        *("detach", "detach_", "shallow_copy", "data", "share", "lift", "backward"),
        *("get_plain_text", "reveal", "at", "size", "dim", "nelement", "numel", "new"),
    }
)
"""Public methods whose results carry no gradient, in torch either, or that are no operations."""


def guard() -> None:
    """An operation that loses the gradient of its operand is an error: never a silent None (C11).

    A method without a registered gradient may be made of others that have one; then its result carries
    it. If no result does, the method is refused.
    """
    for name in dir(SharedTensor):
        if (
            name.startswith("_")
            or name.endswith("_")
            or name in WITHOUT_GRADIENT
            or name in FUNCTION_REGISTRY
        ):
            continue
        method = next((vars(kind)[name] for kind in SharedTensor.__mro__ if name in vars(kind)), None)
        if isinstance(method, type(guard)):
            setattr(SharedTensor, name, _guarded(name, method))


def _guarded(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        if CrypTensor.AUTOGRAD_ENABLED:
            made = tensors_in(result if isinstance(result, (list, tuple)) else [result])
            operands = [self, *tensors_in(args), *tensors_in(kwargs.values())]
            if made and not any(t.requires_grad for t in made) and any(t.requires_grad for t in operands):
                raise no_gradient(name)
        return result

    return call
