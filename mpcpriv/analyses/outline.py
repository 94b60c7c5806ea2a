"""What is public of a table, and how the tables of several owners go together. No torch here.

Two ways only, and the columns' names say which:

- **rows split**: all tables have the same columns; one table's rows stand below the other's.
- **columns split**: no two tables share a column's name, and all have as many rows: row i of each is about
  the same person. An alignment has put them in that order (`mpcpriv.party.aligning`), or their owners have;
  nothing here can check it.

Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.errors import UsageError

Split = Literal["one table", "rows split", "columns split"]


@dataclass(frozen=True)
class Outline:
    """What is public of a table.

    Attributes:
        rows: how many.
        unit: whom a row is about.
        columns: by name, in the order of the job, their terms.
    """

    rows: int
    unit: str
    columns: Mapping[str, ColumnTerms]

    @classmethod
    def of(cls, dataset: Dataset, columns: Sequence[str], rows: int) -> Outline:
        """Of some columns of a data set."""
        known = {column.name: column for column in dataset.columns}
        return cls(rows, dataset.privacy_unit, {name: known[name] for name in columns})


def split_of(columns: Sequence[Sequence[str]]) -> Split | None:
    """How tables go together, from the names of their columns; None if they go together in neither way.

    Args:
        columns: of each table.
    """
    if len(columns) == 1:
        return "one table"
    names = [set(table) for table in columns]
    if all(one == names[0] for one in names):
        return "rows split"
    return "columns split" if len(set().union(*names)) == sum(map(len, names)) else None


def together(tables: Mapping[str, Outline]) -> tuple[Outline, Split]:
    """All tables as one.

    Raises:
        UsageError: the tables go together in neither way.
    """
    outlines = list(tables.values())
    first = outlines[0]
    split = split_of([list(table.columns) for table in outlines])
    if split == "one table":
        return first, split
    if len({table.unit for table in outlines}) > 1:
        raise UsageError(
            f"data sets {', '.join(tables)}: their rows are about different things "
            f"({', '.join(table.unit for table in outlines)}) and cannot be put together"
        )
    if split == "rows split":
        for name in first.columns:
            _alike(name, [table.columns[name] for table in outlines])
        return Outline(sum(table.rows for table in outlines), first.unit, first.columns), split
    if split is None:
        raise UsageError(
            f"data sets {', '.join(tables)}: some of their columns have the same names and some have not; "
            "name the same columns of each (rows split), or different ones (columns split)"
        )
    if len({table.rows for table in outlines}) > 1:
        counts = ", ".join(f"{name} {table.rows}" for name, table in tables.items())
        raise UsageError(
            f"data sets with different columns have different numbers of rows ({counts}); row i of each "
            "must be about the same person"
        )
    columns = {name: column for table in outlines for name, column in table.columns.items()}
    return Outline(first.rows, first.unit, columns), split


def roles(columns: Mapping[str, ColumnTerms], name: str, analysis: str) -> dict[str, ColumnTerms]:
    """By what a column is to be predicted, which is a yes or no.

    Args:
        columns: all of them.
        name: of the target; all others are features.
        analysis: that asks, for its errors.

    Returns:
        the features.

    Raises:
        UsageError: the target is no boolean and no category of two, or a feature is a category.
    """
    if name not in columns:
        raise UsageError(f"{analysis}: target {name!r} is none of the columns {', '.join(columns)}")
    target = columns[name]
    two = target.type == "category" and len(target.categories or []) == 2
    if target.type != "boolean" and not two:
        raise UsageError(f"{analysis}: target {name!r} must be a boolean, or a category of two")
    features = {other: column for other, column in columns.items() if other != name}
    for feature, column in features.items():
        if column.type == "category":
            raise UsageError(f"{analysis}: column {feature!r} is a category; give a boolean for each")
    if not features:
        raise UsageError(f"{analysis}: there is no column but the target; name features, too")
    return features


def _alike(name: str, columns: Sequence[ColumnTerms]) -> None:
    terms = columns[0]
    for other in columns[1:]:
        if (other.type, other.categories) != (terms.type, terms.categories):
            raise UsageError(
                f"column {name!r}: the data sets have it with different types or categories; what it means "
                "must be the same in all"
            )
        if other.missing != terms.missing:
            raise UsageError(
                f"column {name!r}: of one data set its values may be missing, of another not; agree on the "
                "same for all"
            )
        if (other.low, other.high) != (terms.low, terms.high):
            raise UsageError(
                f"column {name!r}: the data sets have different bounds for it; agree on the same for all"
            )
