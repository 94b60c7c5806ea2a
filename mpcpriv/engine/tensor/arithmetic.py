"""Sums, products and convolutions of shared tensors, with public and with shared operands."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, Final, Self

import torch

from mpcpriv.engine import session
from mpcpriv.engine.encoding import FRACTIONAL_BITS, as_tensor, encode
from mpcpriv.engine.protocol.elementary import divide
from mpcpriv.engine.protocol.multiply import product, square
from mpcpriv.engine.protocol.truncate import truncate
from mpcpriv.engine.ring import Bilinear, MapName
from mpcpriv.engine.tensor.base import Shares
from mpcpriv.engine.tensor.deferred import PRODUCT_BITS
from mpcpriv.errors import RangeError, Unsupported, UsageError

Factor = tuple[torch.Tensor, int]
"""A public ring tensor t and a number of bits k; it stands for t / 2^k."""

NUMBER_BITS: Final = 24
"""Significant bits of a public number that is a factor; it comes in two halves."""


class Arithmetic(Shares):
    """Ring arithmetic that keeps 16 fractional bits: each product is truncated exactly, once.

    A product must stay below 2^30 in magnitude, and so must the sum that a matrix product or a
    convolution makes. Times a public fraction, x must stay below 2^34.
    """

    def add(self, other: Any) -> Self:
        """Element-wise sum, broadcasting; local."""
        if session.current().deferring and (self.deferred or (isinstance(other, Shares) and other.deferred)):
            lifted = self.lift(other)
            return self.of_product(self.at(PRODUCT_BITS) + lifted.at(PRODUCT_BITS))
        if isinstance(other, Shares):
            bits = max(self.bits, other.bits)
            return self.of(self.at(bits) + other.at(bits), bits)
        value = as_tensor(other)
        bits = self.bits if not value.is_floating_point() else max(self.bits, FRACTIONAL_BITS)
        encoded = encode(value, bits)
        share = self.at(bits)
        if session.current().rank == 0:
            return self.of(share + encoded, bits)
        return self.of(share + torch.zeros_like(encoded), bits)

    def sub(self, other: Any) -> Self:
        """Element-wise difference, broadcasting; local."""
        if isinstance(other, Shares):
            bits = max(self.bits, other.bits)
            return self.of(self.at(bits) - other.at(bits), bits)
        value = as_tensor(other)
        return self.add(-(value if value.is_floating_point() else value.long()))

    def __rsub__(self, other: Any) -> Self:
        return self.neg().add(other)

    def neg(self) -> Self:
        """The negative; local."""
        return self.of(-self._tensor, self.bits)

    def mul(self, other: Any) -> Self:
        """Element-wise product, broadcasting.

        Two rounds for two shared operands, one when either is a tensor of integers (such as the
        result of a comparison) or public and fractional, none for public integers.
        """
        return self._bilinear(Bilinear("mul"), other)

    def matmul(self, other: Any) -> Self:
        """Matrix product, as `torch.matmul`; rounds as `mul`."""
        return self._bilinear(Bilinear("matmul"), other)

    def square(self) -> Self:
        """x * x, for half the bytes of a product."""
        s = session.current()
        return self._rescale(square(s, self._tensor), 2 * self.bits)

    def div(self, other: Any) -> Self:
        """Element-wise quotient; a public divisor costs one round, a shared one seventeen.

        By a shared divisor of magnitude in [2^-16, 2^29), to a relative 1e-4 or 2^-15 absolute; 0 for 0.

        Raises:
            UsageError: a public divisor is zero.
        """
        if isinstance(other, Shares):
            return self.of(divide(session.current(), self.at(FRACTIONAL_BITS), other.at(FRACTIONAL_BITS)))
        divisor = other if isinstance(other, (int, float)) else as_tensor(other).to(torch.float64)
        if bool(torch.as_tensor(divisor == 0).any()):
            raise UsageError("division by a public zero")
        return self.mul(1 / divisor)

    def mean(self, dim: Any = None, keepdim: bool = False) -> Self:
        """The mean over some or all dimensions, as torch; two rounds, whatever the size of the sum."""
        total: Self = self.sum() if dim is None else self.sum(dim, keepdim=keepdim)
        count = self.nelement() // max(total.nelement(), 1)
        bits = (count - 1).bit_length() if count > 1 else 0
        # Divided by a power of two first, the sum leaves room for a factor in [1, 2).
        (share,) = truncate(session.current(), [(total.at(FRACTIONAL_BITS), bits)])
        return self.of(share).mul((1 << bits) / count if count else math.nan)

    def var(
        self,
        dim: Any = None,
        unbiased: bool = True,
        keepdim: bool = False,
        *,
        correction: float | None = None,
    ) -> Self:
        """The variance over some or all dimensions, as torch: by n less the correction, 1 if `unbiased`."""
        less = float(unbiased) if correction is None else float(correction)
        centred = self - (self.mean() if dim is None else self.mean(dim, keepdim=True))
        spread: Self = centred.square().mean() if dim is None else centred.square().mean(dim, keepdim=keepdim)
        count = self.nelement() // max(spread.nelement(), 1)
        return spread.mul(count / (count - less) if count > less else math.nan) if less else spread

    def conv1d(self, kernel: Any, *args: Any, **kwargs: Any) -> Self:
        """As `torch.nn.functional.conv1d` (stride, padding, dilation, groups; no bias)."""
        return self._convolve("conv1d", 1, kernel, *args, **kwargs)

    def conv2d(self, kernel: Any, *args: Any, **kwargs: Any) -> Self:
        """As `torch.nn.functional.conv2d` (stride, padding, dilation, groups; no bias)."""
        return self._convolve("conv2d", 2, kernel, *args, **kwargs)

    def conv_transpose1d(self, kernel: Any, bias: None = None, **kwargs: Any) -> Self:
        """As `torch.nn.functional.conv_transpose1d`, without bias."""
        _no_bias(bias)
        return self._convolve("conv_transpose1d", 1, kernel, **kwargs)

    def conv_transpose2d(self, kernel: Any, bias: None = None, **kwargs: Any) -> Self:
        """As `torch.nn.functional.conv_transpose2d`, without bias."""
        _no_bias(bias)
        return self._convolve("conv_transpose2d", 2, kernel, **kwargs)

    def _convolve(
        self,
        name: MapName,
        dims: int,
        kernel: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        output_padding: Any = 0,
    ) -> Self:
        outputs = _geometry(output_padding, dims) if "transpose" in name else ()
        return self._bilinear(
            Bilinear(
                name,
                _geometry(stride, dims),
                _geometry(padding, dims),
                outputs,
                _geometry(dilation, dims),
                groups,
            ),
            kernel,
        )

    def _bilinear(self, bilinear: Bilinear, other: Any) -> Self:
        s = session.current()
        if isinstance(other, Shares):
            return self._rescale(product(s, bilinear, self.operand, other.operand), self.bits + other.bits)
        if isinstance(other, float) and not other.is_integer():
            factors = _number(_finite(other))
        else:
            value = as_tensor(int(_finite(other)) if isinstance(other, (int, float)) else other)
            if not value.is_floating_point():
                return self.of(bilinear(self._tensor, value.to(torch.int64)), self.bits)
            factors = _halves(value)
        first, *rest = truncate(s, [(bilinear(share, t), k) for share, t, k in self._factors(factors)])
        return self.of(first + rest[0] if rest else first)

    def _factors(self, factors: list[Factor]) -> list[tuple[torch.Tensor, torch.Tensor, int]]:
        """For each factor: the share, what it is multiplied by, and by how much the product is truncated."""
        bits = max(self.bits, FRACTIONAL_BITS)
        return [(self.at(bits), t, k + bits - FRACTIONAL_BITS) for t, k in factors]

    def _rescale(self, share: torch.Tensor, bits: int) -> Self:
        if bits == PRODUCT_BITS and session.current().deferring:
            return self.of_product(share)
        if bits > FRACTIONAL_BITS:
            (share,) = truncate(session.current(), [(share, bits - FRACTIONAL_BITS)])
            bits = FRACTIONAL_BITS
        return self.of(share, bits)


def scaled(x: Arithmetic, number: float) -> list[tuple[torch.Tensor, int]]:
    """x times a public number, as shares and the bits to truncate them by: the sum has 16 bits.

    Raises:
        RangeError: the number is not finite, or 2^46 or more.
    """
    factors = [(torch.tensor(int(number)), 0)] if float(_finite(number)).is_integer() else _number(number)
    return [(share * t, k) for share, t, k in x._factors(factors)]


def combine(*rows: Sequence[tuple[Any, float]]) -> list[Any]:
    """Linear combinations of encrypted tensors with public numbers; one round for all of them.

    Args:
        rows: for each result the terms (tensor, number) that it sums, of one shape.

    Raises:
        RangeError: as `scaled`.
    """
    terms = [[term for x, number in row for term in scaled(x, number)] for row in rows]
    truncated = iter(truncate(session.current(), [term for row in terms for term in row]))
    return [
        row[0][0].of(functools.reduce(torch.add, itertools.islice(truncated, len(found))))
        for row, found in zip(rows, terms, strict=True)
    ]


def _finite(number: float) -> float:
    if not abs(number) < 2**46:
        raise RangeError(f"public factor {number!r}: it must be finite and below 2^46")
    return number


def _number(value: float) -> list[Factor]:
    """A Python number as one or two ring numbers over powers of two, 24 significant bits in all.

    Its size decides how far products are truncated, which the dealer sees: a number is part of the
    program, as its text is. Two halves of 12 bits leave room for x up to 2^34.
    """
    mantissa, exponent = math.frexp(value)
    scaled, bits = round(math.ldexp(mantissa, NUMBER_BITS)), NUMBER_BITS - exponent
    if bits > 62:  # below 2^-46: less than any product can show
        return [(torch.tensor(0), 0)]
    half = NUMBER_BITS // 2
    high = (scaled + (1 << (half - 1))) >> half
    low = scaled - (high << half)
    return [_reduced(part, k) for part, k in ((high, bits - half), (low, bits)) if part]


def _reduced(part: int, bits: int) -> Factor:
    """part / 2^bits in lowest terms."""
    while bits > 0 and part % 2 == 0:
        part, bits = part // 2, bits - 1
    return torch.tensor(part << max(-bits, 0)), max(bits, 0)


def _halves(value: torch.Tensor) -> list[Factor]:
    """A public float tensor with 32 fractional bits, in two halves whatever its elements are.

    The truncations are dealt: fitting them to the elements would tell the dealer about them.
    """
    wide = value.to(torch.float64)
    high = encode(wide, FRACTIONAL_BITS)
    rest = wide * float(1 << FRACTIONAL_BITS) - high.to(torch.float64)
    return [(high, FRACTIONAL_BITS), (encode(rest, FRACTIONAL_BITS), 2 * FRACTIONAL_BITS)]


def _geometry(value: Any, dims: int) -> tuple[int, ...]:
    """One non-negative integer per dimension."""
    values = (value,) * dims if isinstance(value, int) else value
    if not isinstance(values, (tuple, list)) or not all(isinstance(v, int) and v >= 0 for v in values):
        raise UsageError(f"{value!r}: an integer, or {dims} of them, of at least 0 is needed")
    return tuple(values) if len(values) == dims else tuple(values) * dims


def _no_bias(bias: Any) -> None:
    if bias is not None:
        raise Unsupported("a transposed convolution takes no bias here; add it afterwards")
