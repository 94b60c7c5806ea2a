"""What the gradients share: a function by its method's name, and the way back from broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from crypten.gradients import AutogradFunction


def unbroadcast(gradient: Any, shape: Sequence[int]) -> Any:
    """Sums over what broadcasting has repeated, back to `shape`."""
    if tuple(gradient.shape) == tuple(shape):
        return gradient
    lead = gradient.dim() - len(shape)
    over = [*range(lead), *(lead + i for i, n in enumerate(shape) if n == 1 != gradient.size(lead + i))]
    return (gradient.sum(over) if over else gradient).reshape(tuple(shape))


class Function(AutogradFunction):  # type: ignore[misc]
    """An operation by the name of the method that computes it.

    `backward` gives one gradient per encrypted operand. `by_one` is what it gives for a gradient of ones,
    without computing: values, and one public factor for all of them.
    """

    operation: ClassVar[str] = ""
