"""Numbers as statisticians print them: of one column as many decimals, p-values by themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from mpcpriv.analyses.shown import Cell

_DIGITS: Final = 4
"""Significant digits that the smallest number of a column has."""
_MOST_DIGITS: Final = 8
"""Those that the largest may get for it."""
_DECIMALS: Final = 6
_FEWEST: Final = 3
"""With fewer significant digits a number is written with an exponent."""
_LARGE: Final = 1e9
_SURE: Final = 2.2e-16
"""R's limit: below it a probability says no more than that it is small."""
_PROBABILITY: Final = re.compile(r"^p$|^pr?\s*[>(<]|\bp[ _-]?values?\b", re.IGNORECASE)


def column(heading: str, cells: Sequence[Cell]) -> list[str]:
    """The cells of a column as text; all numbers with the same decimals, unless an exponent is needed.

    Args:
        heading: what the column is called; `P>|t|`, `p-value` and the like are probabilities.
        cells: a whole float may have become an integer on its way through JSON: a column is of integers if
            all of it is.
    """
    numbers = [cell for cell in cells if isinstance(cell, int | float) and math.isfinite(cell)]
    if all(isinstance(number, int) for number in numbers) and not _PROBABILITY.search(heading):
        return [_word(cell) for cell in cells]
    if _PROBABILITY.search(heading) and all(0 <= number <= 1 for number in numbers):
        return [probability(cell) if isinstance(cell, int | float) else _word(cell) for cell in cells]
    decimals = _decimals([abs(number) for number in numbers if number])
    return [_fixed(cell, decimals) if isinstance(cell, int | float) else _word(cell) for cell in cells]


def single(cell: Cell) -> str:
    """A number that stands alone."""
    if isinstance(cell, float):
        return _fixed(cell, _decimals([abs(cell)] if cell and math.isfinite(cell) else []))
    return _word(cell)


def probability(p: float) -> str:
    """Three decimals as statsmodels has them; where these would be 0, two digits and an exponent as R has."""
    if not math.isfinite(p):
        return _word(p)
    if p < _SURE:
        return "<2e-16"
    return f"{p:.3f}" if p >= 0.0005 else f"{p:.1e}"


def _decimals(magnitudes: Sequence[float]) -> int:
    if not magnitudes:
        return 1
    largest = math.floor(math.log10(max(magnitudes)))
    smallest = math.floor(math.log10(min(magnitudes)))
    return max(0, min(_DIGITS - 1 - smallest, _MOST_DIGITS - 1 - largest, _DECIMALS))


def _fixed(number: float, decimals: int) -> str:
    if not math.isfinite(number):
        return _word(number)
    size = abs(number)
    few = size and math.floor(math.log10(size)) + 1 + decimals < _FEWEST
    if size >= _LARGE or (few and number != round(number, decimals)):
        return f"{number:.{_DIGITS - 1}e}"
    return f"{number:.{decimals}f}"


def _word(cell: Cell) -> str:
    if isinstance(cell, float) and not math.isfinite(cell):
        return "undefined" if math.isnan(cell) else "infinite" if cell > 0 else "-infinite"
    return "" if cell is None else str(cell)
