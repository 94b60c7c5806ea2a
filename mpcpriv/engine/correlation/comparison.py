"""Masks for comparing with public thresholds: a one-hot mask, and the products that fold its digits.

`protocol.compare` opens c = x + r once. The low 63 bits of r are cut into 16 digits of 4 bits
(the highest has 3), each dealt one-hot and XOR-shared, so that every party looks up its shares of
"digit j of c equals that of r" and "is less than that of r" by itself: c is public. The 16 pairs
are folded four at a time, twice, by products of up to four bits whose operands are opened masked
(Ohata, Nuida, "Communication-Efficient (Client-Aided) Secure Two-Party Protocols and Its
Application", FC 2020, section 3: multi-fan-in AND; there for two parties).

A *fold* takes four pairs (eq_3, lt_3) .. (eq_0, lt_0), the most significant first, to

    eq = eq_3 eq_2 eq_1 eq_0        lt = lt_3 + eq_3 lt_2 + eq_3 eq_2 lt_1 + eq_3 eq_2 eq_1 lt_0  (mod 2)

Seven of the eight bits are factors; they are masked by seven random bits (a *fold mask*), and all
products of mask bits that can occur stand in one 32-bit word (a *fold word*).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import torch
from numba import njit

from mpcpriv.engine.correlation.base import Correlation, Slot
from mpcpriv.engine.correlation.truncation import LOW_63

FOLDS: Final = 5
"""Four of the first layer, one of the second."""
FOLD_BITS: Final = 7
"""Bits 0..3: eq_0..eq_3; bits 4..6: lt_0..lt_2. Bit 7 g + i of the mask word is bit i of fold g."""
DABIT_BIT: Final = FOLDS * FOLD_BITS
"""The mask bit that turns the result from XOR to sum."""
TOP_BIT: Final = 30
"""The most significant bit of r stands in this bit of the last fold word."""

_EQ_PRODUCTS: Final = 0  # 16 bits: the product of eq_i over i in T, at bit T; T = 0 is the constant 1
_LT0_PRODUCTS: Final = 16  # 8 bits: lt_0 times a product over T within {eq_1, eq_2, eq_3}
_LT1_PRODUCTS: Final = 24  # 4 bits: lt_1 times a product over T within {eq_2, eq_3}
_LT2_PRODUCTS: Final = 28  # 2 bits: lt_2 times 1 or eq_3


@dataclass(frozen=True)
class ThresholdMask(Correlation):
    """For `elements` values, each compared with `thresholds` public numbers.

    Masks: [r], and per threshold a word of mask bits. Derived: the digits of r one-hot (32 bytes), and
    per threshold the fold words (20 bytes) and the bit d that lands the result (8 bytes).

    With `degree` D > 0 the bits come times powers of the value, for `protocol.piecewise`: derived are
    r^2 .. r^D, too, and per threshold d r, .. d r^D (8 bytes each).

    With `shift` k > 0 those are powers of what the value, truncated by k bits, is masked with. That depends
    on the top bit of c (`protocol.compare`), so there are two such *bases*: ((r mod 2^63) >> k) less, and
    plus, msb(r) 2^(63 - k). Derived are the first D powers of each, and both times d.
    """

    kind: ClassVar[str] = "threshold"
    elements: int
    thresholds: int
    degree: int = 0
    shift: int = 0

    def masks(self) -> tuple[Slot, ...]:
        return Slot((self.elements,)), Slot((self.elements, self.thresholds), torch.int64, "xor")

    def derived(self) -> tuple[Slot, ...]:
        return (
            Slot((self.elements, 4), torch.int64, "xor"),
            Slot((self.elements, 2, self.degree) if self.shift else (self.elements, max(self.degree - 1, 0))),
            Slot((self.elements, self.thresholds, 1 + self.degree * (2 if self.shift else 1))),
            Slot((self.elements, self.thresholds, FOLDS), torch.int32, "xor"),
        )

    def derive(self, *masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        r, bits = masks
        bases = r.unsqueeze(1)
        if self.shift:
            top = (r < 0).to(torch.int64) << (63 - self.shift)
            high = (r & LOW_63) >> self.shift
            bases = torch.stack([high - top, high + top], 1)
        hot, powers, landing, words = (torch.empty(s.shape, dtype=s.dtype) for s in self.derived())
        _derive(
            r.numpy().view(np.uint64),
            bases.numpy().view(np.uint64),
            bits.numpy().view(np.uint64),
            hot.numpy().view(np.uint64),
            powers.numpy().view(np.uint64).reshape(self.elements, bases.shape[1], powers.shape[-1]),
            landing.numpy().view(np.uint64),
            words.numpy().view(np.uint32),
            FOLD_WORD,
        )
        return hot, powers, landing, words


def _products(mask: int) -> int:
    """The fold word of a fold mask: every product of its bits that a fold can need."""
    eq, lt = mask & 15, mask >> 4
    word = 0
    for subset in range(16):
        held = int(subset & eq == subset)
        word |= held << (_EQ_PRODUCTS + subset)
        if subset % 2 == 0:
            word |= (held & lt & 1) << (_LT0_PRODUCTS + (subset >> 1))
        if subset % 4 == 0:
            word |= (held & lt >> 1 & 1) << (_LT1_PRODUCTS + (subset >> 2))
        if subset % 8 == 0:
            word |= (held & lt >> 2 & 1) << (_LT2_PRODUCTS + (subset >> 3))
    return word


def _select_eq(opened: int) -> int:
    """Which products sum to eq_3 eq_2 eq_1 eq_0, the masked bits being open."""
    return _within(15, opened & 15, _EQ_PRODUCTS, 0)


def _select_lt(opened: int) -> int:
    """Which products sum to lt + lt_3, the masked bits being open: prod (d_i + a_i) over all subsets."""
    eq, lt = opened & 15, opened >> 4
    word = 0
    for place, (factors, products, shift) in enumerate(
        ((14, _LT0_PRODUCTS, 1), (12, _LT1_PRODUCTS, 2), (8, _LT2_PRODUCTS, 3))
    ):
        word ^= _within(factors, eq, products, shift)
        if lt >> place & 1:
            word ^= _within(factors, eq, _EQ_PRODUCTS, 0)
    return word


def _within(factors: int, opened: int, products: int, shift: int) -> int:
    """The subsets T of `factors` whose complement is open as all ones, as bits of a fold word."""
    return sum(
        1 << (products + (subset >> shift))
        for subset in range(16)
        if subset & ~factors == 0 and factors & ~subset & ~opened == 0
    )


FOLD_WORD: Final = np.array([_products(m) for m in range(1 << FOLD_BITS)], dtype=np.uint32)
SELECT_EQ: Final = np.array([_select_eq(d) for d in range(1 << FOLD_BITS)], dtype=np.uint32)
SELECT_LT: Final = np.array([_select_lt(d) for d in range(1 << FOLD_BITS)], dtype=np.uint32)


@njit(cache=True, nogil=True)
def _derive(r, bases, bits, hot, powers, landing, words, fold_word):  # type: ignore[no-untyped-def]
    degree = (landing.shape[2] - 1) // bases.shape[1]
    for i in range(r.shape[0]):
        for w in range(4):
            lanes = np.uint64(0)
            for j in range(4):
                digit = (r[i] >> np.uint64(16 * w + 4 * j)) & np.uint64(15)
                if w == 3 and j == 3:
                    digit &= np.uint64(7)
                lanes |= np.uint64(1) << (digit + np.uint64(16 * j))
            hot[i, w] = lanes
        for k in range(bits.shape[1]):
            for g in range(5):
                words[i, k, g] = fold_word[(bits[i, k] >> np.uint64(7 * g)) & np.uint64(127)]
            words[i, k, 4] |= np.uint32(r[i] >> np.uint64(63)) << np.uint32(30)
            landing[i, k, 0] = (bits[i, k] >> np.uint64(35)) & np.uint64(1)
            for b in range(bases.shape[1]):
                product = landing[i, k, 0]
                for power in range(degree):
                    product *= bases[i, b]
                    landing[i, k, 1 + b * degree + power] = product
        for b in range(bases.shape[1]):
            # Of a mask itself everybody holds a share already; of what it is shifted to, nobody.
            product = np.uint64(1) if powers.shape[1] > 1 else r[i]
            for power in range(powers.shape[2]):
                product *= bases[i, b]
                powers[i, b, power] = product
