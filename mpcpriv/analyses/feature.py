"""What an owner makes of its own columns, in the clear, before anything is shared.

A square, a logarithm or a yes-or-no for each category costs nothing there, and comparisons and products on
shares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.data.scale import SPAN, Scale
from mpcpriv.errors import UsageError

Values = Callable[[Mapping[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Feature:
    """A number for each row.

    Attributes:
        terms: what is public of it, as of a column: its name, its type and bounds, which follow from the
            agreed ones.
        values: of the table's columns (by name, (rows,) each) the feature's values, (rows,). Row i of them
            follows from row i alone.
    """

    terms: ColumnTerms
    values: Values


def plain(column: ColumnTerms) -> Feature:
    """The column itself.

    Raises:
        UsageError: it is a category.
    """
    if column.type == "category":
        raise UsageError(f"column {column.name!r} is a category; a number is needed here")
    return Feature(column, lambda columns: columns[column.name])


def dummies(column: ColumnTerms, every: bool = False) -> list[Feature]:
    """A yes-or-no for each category but the first, or for each; called `column[category]`.

    Args:
        column: a category, or a boolean, which is itself the only one (with `every`, two).
        every: also for the first, with which the others are compared.

    Raises:
        UsageError: it is a number.
    """
    levels = categories(column)
    if column.type == "boolean" and not every:
        return [plain(column)]
    return [
        Feature(_indicator(f"{column.name}[{level}]"), _equals(column.name, code))
        for code, level in enumerate(levels)
        if every or code
    ]


def categories(column: ColumnTerms) -> list[str]:
    """In the order of their codes; "missing" behind them, where values may be.

    Raises:
        UsageError: it has none.
    """
    more = ["missing"] if column.missing else []
    if column.type == "boolean":
        return ["0", "1", *more]
    if column.type == "category":
        return [*(column.categories or []), *more]
    raise UsageError(f"column {column.name!r} is a {column.type}; a category or a boolean is needed here")


def regressors(columns: Mapping[str, ColumnTerms]) -> list[Feature]:
    """Numbers as they are, and a yes-or-no for each category but the first."""
    found: list[Feature] = []
    for column in columns.values():
        found += dummies(column) if column.type == "category" else [plain(column)]
    return found


def span(terms: ColumnTerms, noised: bool) -> tuple[float, float]:
    """The middle of the values, and how far from it -1 and 1 are when values are summed on that scale.

    Args:
        terms: of a number, an integer or a boolean.
        noised: then the ends are the agreed bounds, and noise is no wider than it must be; else whole numbers
            are multiples of a power of two there, so that their sums are exact.

    Raises:
        UsageError: there are no agreed bounds, and what one row can change is not known.
    """
    scale = Scale.of(terms)
    if not noised:
        return scale.centre, scale.unit * SPAN / 2
    half = scale.unit * (scale.high - scale.low) / 2
    return scale.centre + scale.unit * (scale.high + scale.low) / 2, half or 1.0


def _indicator(name: str) -> ColumnTerms:
    return ColumnTerms(name=name, type="boolean")


def _equals(name: str, code: int) -> Values:
    return lambda columns: (columns[name] == code).astype(np.float64)
