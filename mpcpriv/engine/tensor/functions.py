"""The encrypted tensor: functions of its elements, and what is summed, multiplied or normed of them.

What is not defined here or in the classes below (cumsum, polynomial, dot ...) is CrypTen's code running
on our arithmetic.
"""

from __future__ import annotations

import math
from typing import Any, Self

import crypten
import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS
from mpcpriv.engine.protocol import bounded, elementary
from mpcpriv.engine.protocol.multiply import product
from mpcpriv.engine.protocol.tournament import tournament
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear
from mpcpriv.engine.tensor.activations import Activations
from mpcpriv.engine.tensor.chance import Chance
from mpcpriv.engine.tensor.ordering import Ordering
from mpcpriv.engine.tensor.pooling import Pooling
from mpcpriv.errors import Unsupported, UsageError


class SharedTensor(Activations, Chance, Ordering, Pooling):
    """The encrypted tensor: what `crypten.cryptensor` makes once mpcpriv is active."""

    def sigmoid(self) -> Self:
        """1 / (1 + e^-x), off by less than 1e-4 for every x that can be encoded; five rounds."""
        return self.of(bounded.sigmoid(session.current(), *self.argument))

    def fine_sigmoid(self) -> Self:
        """`sigmoid`, off by less than 3e-5, and in the mean by less than 1e-5; five rounds."""
        return self.of(bounded.fine_sigmoid(session.current(), self.at(FRACTIONAL_BITS)))

    def cos(self) -> Self:
        """cos x, off by less than 1e-4 + 2e-5 abs(x)."""
        return self.cossin()[0]

    def sin(self) -> Self:
        """sin x, off by less than 1e-4 + 2e-5 abs(x)."""
        return self.cossin()[1]

    def erf(self) -> Self:
        """The error function, off by less than 2e-4 for every x that can be encoded; five rounds."""
        return self.of(bounded.erf(session.current(), *self.argument))

    def exp(self) -> Self:
        """e^x, to a relative 5e-4 or 2^-15 absolute; 0 below -12, e^30 from 30 on. Eight rounds."""
        return self.of(elementary.exp(session.current(), self.at(FRACTIONAL_BITS)))

    def fine_exp(self) -> Self:
        """e^x for x up to 14, to a relative 3e-5 in [-6, 6) and 2e-4 outside, or 3e-5 absolute; 0 below -12.

        From 14.25 on it is constant. What is left of its error is rounding without a bias, which sums over
        many elements even out. Seven rounds.
        """
        return self.of(elementary.fine_exp(session.current(), self.at(FRACTIONAL_BITS)))

    def log(self, input_in_01: bool = False) -> Self:
        """ln x for x >= 2^-16, off by less than 1e-4; -11.78 for x <= 0, 20.1 from 2^29 on. Ten rounds.

        Args:
            input_in_01: no matter here; CrypTen needs to be told.
        """
        return self.of(elementary.log(session.current(), self.at(FRACTIONAL_BITS)))

    def reciprocal(self, input_in_01: bool = False) -> Self:
        """1/x for abs(x) >= 2^-16, to a relative 1e-4 or 2^-15 absolute; 0 for 0. Twelve rounds.

        Args:
            input_in_01: no matter here; CrypTen needs to be told.
        """
        return self.of(elementary.reciprocal(session.current(), self.at(FRACTIONAL_BITS)))

    def sqrt(self) -> Self:
        """The square root, to a relative 1e-4 or 2^-15; 0 for x < 0, 2^14.5 from 2^29 on. Twelve rounds."""
        return self.of(elementary.sqrt(session.current(), self.at(FRACTIONAL_BITS)))

    def inv_sqrt(self) -> Self:
        """1 / sqrt(x) for x >= 2^-16, to a relative 1e-4 or 2^-15; 0 for x <= 0. Twelve rounds."""
        return self.of(elementary.inv_sqrt(session.current(), self.at(FRACTIONAL_BITS)))

    def softmax(self, dim: int) -> Self:
        """As `torch.softmax`, to 1e-4, over up to a million values; the maximum is subtracted first."""
        _, powers, total = self._exponentials(dim)
        share = product(session.current(), Bilinear("mul"), powers, total.reciprocal().share)
        (share,) = truncate(session.current(), [(share, elementary.FRACTION_BITS)])
        return self.of(share)

    def log_softmax(self, dim: int) -> Self:
        """As `torch.log_softmax`, to 1e-3; the maximum is subtracted first."""
        logits, _, total = self._exponentials(dim)
        result: Self = logits - total.log()
        return result

    def _exponentials(self, dim: int) -> tuple[Self, torch.Tensor, Self]:
        """x less its maximum, e^ that as shares with 30 fractional bits, and the sum of those."""
        line = self.at(FRACTIONAL_BITS).transpose(dim, -1) if self._tensor.dim() else self.at(FRACTIONAL_BITS)
        best, _ = tournament(session.current(), line if self._tensor.dim() else line.reshape(1))
        best = best.unsqueeze(-1).transpose(dim, -1) if self._tensor.dim() else best
        logits = self.at(FRACTIONAL_BITS) - best
        powers = elementary.exp_fraction(session.current(), logits)
        total = powers.sum(dim, keepdim=True)
        (total,) = truncate(session.current(), [(total, elementary.FRACTION_BITS - FRACTIONAL_BITS)])
        return self.of(logits), powers, self.of(total)

    def logsumexp(self, dim: Any, keepdim: bool = False) -> Any:
        """As `torch.logsumexp`, to 1e-3; in rounds as `log_softmax`."""
        dims = _dims(dim, self.dim())
        rest = [i for i in range(self.dim()) if i not in dims]
        line = self.permute([*rest, *dims]).reshape([*(self.size(i) for i in rest), -1])
        result = (line - line.log_softmax(-1)).narrow(-1, 0, 1).squeeze(-1)
        shape = [1 if i in dims else n for i, n in enumerate(self.shape)]
        return result.reshape(shape) if keepdim else result

    def pow(self, p: Any) -> Any:
        """x^p for a public p: by squaring if it is an integer, else for positive x, and 0 for x <= 0.

        A negative p goes through 1/x. Each product of powers must stay below 2^30. Twelve rounds for a
        fraction of p, which is accurate to 1e-4, and as many for a reciprocal; two for each product.

        Raises:
            Unsupported: p is not one public number; `pos_pow` takes an encrypted one, or one per element.
        """
        p = _exponent(p)
        whole, fraction = int(p), p - int(p)
        if fraction:
            root = self.of(elementary.power(session.current(), self.at(FRACTIONAL_BITS), fraction))
            return root if not whole else root.mul(self.pow(whole))
        if whole < 0:
            return self.reciprocal().pow(-whole)
        if whole == 0:
            return self.constant(torch.ones(self.share.shape))
        half = self.pow(whole // 2) if whole > 1 else None
        if half is None:
            return self.clone()
        return half.square() if whole % 2 == 0 else half.square() * self

    def pos_pow(self, p: Any) -> Any:
        """x^p for positive x: as `pow` for one public number, else e^(p ln x), to 1e-3 where p is below 8.

        Args:
            p: a number, or a tensor, public or encrypted, that broadcasts.
        """
        if not isinstance(p, SharedTensor) and (not isinstance(p, torch.Tensor) or p.numel() == 1):
            return self.pow(p)
        return self.log().mul(p).exp()

    def __rpow__(self, base: Any) -> Any:
        """base^x for a public positive base, as e^(x ln base)."""
        if not isinstance(base, (int, float)) or not base > 0:
            raise Unsupported(f"{base!r} to an encrypted power: the base is a positive number")
        return self.mul(math.log(base)).exp()

    def norm(self, p: Any = "fro", dim: Any = None, keepdim: bool = False) -> Any:
        """As `torch.linalg.vector_norm`, over some or all dimensions; the sum of powers stays below 2^30.

        Args:
            p: 'fro', which is 2, or a public number of at least 0, or infinity.
            dim: one or several; all by default.
            keepdim: whether the dimensions stay, as ones.
        """
        order: Any = 2 if p is None or p == "fro" else p
        if isinstance(order, str) or not (order >= 0 or order == -math.inf):
            raise Unsupported(f"norm with p={p!r}: 'fro', a number of at least 0, or an infinity")
        dims = _dims(dim, self.dim())
        if math.isinf(order):
            return self.abs().amax(dims, keepdim) if order > 0 else self.abs().amin(dims, keepdim)
        if order == 0:
            powers: Any = self.ne(0)
        elif order == 1:
            powers = self.abs()
        else:
            powers = self.square() if order == 2 else self.abs().pow(float(order))
        total = powers.sum(dims, keepdim=keepdim) if self.dim() else powers
        if order in (0, 1):
            return total
        return total.sqrt() if order == 2 else total.pow(1 / order)

    def cumprod(self, dim: int) -> Any:
        """As `torch.cumprod`; two rounds for each doubling of the length."""
        if not self.dim():
            return self.clone()
        result, step, length = self, 1, self.size(dim)
        while step < length:
            tail = result.narrow(dim, step, length - step) * result.narrow(dim, 0, length - step)
            result = crypten.cat([result.narrow(dim, 0, step), tail], dim=dim)
            step *= 2
        return result if length > 1 else result.clone()

    def __pow__(self, p: Any) -> Self:
        result: Self = self.pow(p)
        return result

    def __rtruediv__(self, other: Any) -> Self:
        result: Self = self.reciprocal().mul(other)
        return result

    def cossin(self) -> tuple[Self, Self]:
        """cos x and sin x, off by less than 1e-4 + 2e-5 abs(x); seven rounds."""
        cosine, sine = bounded.turn(session.current(), self.mul(1 / (2 * math.pi)).share)
        return self.of(cosine), self.of(sine)

    def tanh(self) -> Self:
        """tanh(x), off by less than 2e-4 for every x that can be encoded; five rounds."""
        return self.of(bounded.tanh(session.current(), *self.argument))


def _exponent(p: Any) -> float:
    """One public number."""
    if isinstance(p, torch.Tensor) and p.numel() == 1:
        p = p.item()
    if not isinstance(p, (int, float)):
        raise Unsupported("pow with a tensor as exponent: pos_pow takes one, for positive x")
    if not math.isfinite(p):
        raise UsageError(f"pow with exponent {p}: a finite number is needed")
    return p


def _dims(dim: Any, count: int) -> list[int]:
    """The dimensions meant, all by default, counted from the front."""
    named = range(count) if dim is None else [dim] if isinstance(dim, int) else dim
    return sorted({d % count if count else 0 for d in named}) if count else []
