"""How the numbers of a column lie in the ring, from its agreed bounds alone.

Sixteen fractional bits are much for a number of about one and little for a hundredth, and squares of
thousands would not fit: so a column is shared as (x - centre) / unit, within about ±4. Bounds are public, so
nothing of the data is in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.errors import UsageError

SPAN: Final = 8.0
"""Of the scaled bounds, at most."""


@dataclass(frozen=True)
class Scale:
    """x is shared as (x - centre) / unit.

    Attributes:
        centre, unit: public. Of whole numbers both are whole and the unit a power of two, so that they are
            held exactly as long as the bounds are less than 2^19 apart.
        low, high: bounds of what is shared.
    """

    centre: float
    unit: float
    low: float
    high: float

    @classmethod
    def of(cls, column: ColumnTerms) -> Scale:
        """The scale of a column; booleans and codes of categories stay as they are.

        Raises:
            UsageError: it is an identifier, or the agreement states no bounds of a number.
        """
        if column.type == "identifier":
            raise UsageError(f"column {column.name!r}: an identifier stays at its owner and is never shared")
        if column.type == "boolean":
            return cls(0.0, 1.0, 0.0, 1.0)
        if column.type == "category":
            return cls(0.0, 1.0, 0.0, float(max(len(column.categories or []) - 1, 0)))
        if column.low is None or column.high is None:
            raise UsageError(
                f"column {column.name!r}: numbers need agreed bounds, within which they fit the ring; state "
                "low and high in the agreement"
            )
        width = column.high - column.low
        centre = column.low + width / 2
        if column.type == "integer":
            centre = float(math.floor(centre))
            unit = 2.0 ** max(math.ceil(math.log2(width / SPAN)), 0) if width else 1.0
        else:
            unit = width / SPAN if width else 1.0
        return cls(centre, unit, (column.low - centre) / unit, (column.high - centre) / unit)

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """What is shared of these values, float64; within the bounds, to which rounding is cut."""
        result: np.ndarray = np.clip((values - self.centre) / self.unit, self.low, self.high)
        return result
