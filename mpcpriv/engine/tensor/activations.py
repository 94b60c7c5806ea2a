"""Activations that grow as max(x, 0): five rounds each, off by less than 1e-4 wherever x can be encoded."""

from __future__ import annotations

from typing import Any, Self

from mpcpriv.engine import session
from mpcpriv.engine.protocol import rectifiers
from mpcpriv.engine.protocol.rectifiers import Rectifier
from mpcpriv.engine.tensor.comparison import Comparison
from mpcpriv.errors import Unsupported, UsageError


class Activations(Comparison):
    """Each is exact but for a bounded rest."""

    def gelu(self, approximate: str = "none") -> Self:
        """As `torch.nn.functional.gelu`, with approximate='tanh' too."""
        return self._rectified(gelu_form(approximate))

    def silu(self) -> Self:
        """x / (1 + e^-x)."""
        return self._rectified(rectifiers.SILU)

    def mish(self) -> Self:
        """x tanh(softplus(x))."""
        return self._rectified(rectifiers.MISH)

    def softplus(self, beta: float = 1.0, threshold: float = 20.0) -> Any:
        """ln(1 + e^(beta x)) / beta; with another beta than 1 two rounds more.

        From `threshold` on torch takes beta x as it is, which shows only where that is below 11.

        Raises:
            Unsupported: such a threshold.
        """
        check_softplus(beta, threshold)
        if beta != 1:
            return self.mul(beta).softplus().div(beta)
        return self._rectified(rectifiers.SOFTPLUS)

    def logsigmoid(self) -> Any:
        """ln(1 / (1 + e^-x))."""
        return self.neg().softplus().neg()

    log_sigmoid = logsigmoid

    def elu(self, alpha: float = 1.0) -> Any:
        """x above zero, alpha (e^x - 1) below; with another alpha than 1 five rounds more."""
        if alpha != 1:
            positive = self.relu()
            return positive + (self.elu() - positive).mul(alpha)
        return self._rectified(rectifiers.ELU)

    def rectified_with_slope(self, function: Rectifier) -> tuple[Self, Self]:
        """The function and its derivative, in five rounds together."""
        found = rectifiers.rectify_with_slope(session.current(), function, *self.argument)
        return self.of(found[0]), self.of(found[1])

    def _rectified(self, function: Rectifier) -> Self:
        return self.of(rectifiers.rectify(session.current(), function, *self.argument))


def gelu_form(approximate: str) -> Rectifier:
    """The function of that name in torch."""
    if approximate not in ("none", "tanh"):
        raise UsageError(f"gelu with approximate={approximate!r}: 'none' or 'tanh'")
    return rectifiers.GELU if approximate == "none" else rectifiers.GELU_TANH


def check_softplus(beta: float, threshold: float) -> None:
    if not beta > 0:
        raise UsageError(f"softplus with beta={beta}: a positive number is needed")
    if threshold < 11:
        raise Unsupported(f"softplus with threshold={threshold}: it must be at least 11")
