"""Numbers of a budget in few digits, rounded so that nobody takes them for better than they are."""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from typing import Final

_DIGITS: Final = 4
_NOISE: Final = Decimal("1e-9")
"""Of a value: what arithmetic in doubles may have added to it, and nobody is to read."""


def up(value: float) -> str:
    """What is spent or asked: no less than it is, to within 1e-9 of it; `inf` as such."""
    return _rounded(value, ROUND_CEILING, 1 - _NOISE)


def down(value: float) -> str:
    """What is left: no more than it is, to within 1e-9 of it."""
    return _rounded(value, ROUND_FLOOR, 1 + _NOISE)


def plainly(value: float) -> str:
    """A number that a person wrote, as it was written."""
    return f"{value:.12g}"


def _rounded(value: float, direction: str, forgiven: Decimal) -> str:
    if not math.isfinite(value):
        return str(value)
    rounded = Context(prec=_DIGITS, rounding=direction).create_decimal(Decimal(value) * forgiven)
    return f"{float(rounded):g}"
