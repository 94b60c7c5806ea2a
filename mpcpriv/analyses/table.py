"""Shared tables: one shared tensor per column, and how those of several owners go together.

Two ways only, and the columns' names say which:

- **rows split**: all tables have the same columns; one table's rows stand below the other's.
- **columns split**: no two tables share a column's name, and all have as many rows: row i of each is about
  the same person. The owners have put them in that order; nothing here can check it.

Anything else is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mpcpriv.agreement.model import ColumnTerms, Dataset
from mpcpriv.data.scale import Scale
from mpcpriv.engine.tensor import SharedTensor
from mpcpriv.errors import UsageError

Split = Literal["one table", "rows split", "columns split"]


@dataclass(frozen=True)
class Column:
    """A shared column.

    Attributes:
        terms: what is public of it.
        scale: how its numbers are shared.
        shared: (rows,), (x - scale.centre) / scale.unit, with its bounds.
    """

    terms: ColumnTerms
    scale: Scale
    shared: SharedTensor


@dataclass(frozen=True)
class Table:
    """The shared columns of a data set, or of several together.

    Attributes:
        rows: how many; public.
        unit: whom a row is about.
        columns: by name, in the order of the job.
    """

    rows: int
    unit: str
    columns: Mapping[str, Column]


def share(
    dataset: Dataset, columns: Sequence[str], rows: int, owner: int, own: Mapping[str, np.ndarray] | None
) -> Table:
    """Shares one owner's columns; nothing is sent.

    Args:
        dataset: its terms.
        columns: which, in which order.
        rows: how many; the same at every party.
        owner: the owner's rank.
        own: by name, (rows,), at the owner; None elsewhere.

    Raises:
        UsageError: a number has no agreed bounds.
        RangeError: a value is outside them.
    """
    known = {column.name: column for column in dataset.columns}
    shared = {}
    for name in columns:
        scale = Scale.of(known[name])
        value = None if own is None else torch.from_numpy(scale.scaled(own[name]))
        # The bounds are stated at every party: an operation that could leave the ring is refused for them.
        tensor = SharedTensor(value, size=(rows,), src=owner, bound=(scale.low, scale.high))
        shared[name] = Column(known[name], scale, tensor)
    return Table(rows, dataset.privacy_unit, shared)


def together(inputs: Mapping[str, Table]) -> tuple[Table, Split]:
    """All tables as one.

    Raises:
        UsageError: the tables go together in neither way.
    """
    tables = list(inputs.values())
    first = tables[0]
    if len(tables) == 1:
        return first, "one table"
    if len({table.unit for table in tables}) > 1:
        raise UsageError(
            f"data sets {', '.join(inputs)}: their rows are about different things "
            f"({', '.join(table.unit for table in tables)}) and cannot be put together"
        )
    names = [set(table.columns) for table in tables]
    if all(one == names[0] for one in names):
        rows = sum(table.rows for table in tables)
        columns = {name: _below(name, [table.columns[name] for table in tables]) for name in first.columns}
        return Table(rows, first.unit, columns), "rows split"
    if len(set().union(*names)) < sum(map(len, names)):
        raise UsageError(
            f"data sets {', '.join(inputs)}: some of their columns have the same names and some have not; "
            "name the same columns of each (rows split), or different ones (columns split)"
        )
    if len({table.rows for table in tables}) > 1:
        counts = ", ".join(f"{name} {table.rows}" for name, table in inputs.items())
        raise UsageError(
            f"data sets with different columns have different numbers of rows ({counts}); row i of each "
            "must be about the same person"
        )
    columns = {name: column for table in tables for name, column in table.columns.items()}
    return Table(first.rows, first.unit, columns), "columns split"


def roles(table: Table, name: str, analysis: str) -> tuple[Column, list[Column]]:
    """What is to be predicted, a yes or no, and by what.

    Args:
        name: of the target; all other columns are features.
        analysis: that asks, for its errors.

    Raises:
        UsageError: the target is no boolean and no category of two, or a feature is a category.
    """
    if name not in table.columns:
        raise UsageError(f"{analysis}: target {name!r} is none of the columns {', '.join(table.columns)}")
    target = table.columns[name]
    two = target.terms.type == "category" and len(target.terms.categories or []) == 2
    if target.terms.type != "boolean" and not two:
        raise UsageError(f"{analysis}: target {name!r} must be a boolean, or a category of two")
    features = [column for other, column in table.columns.items() if other != name]
    for column in features:
        if column.terms.type == "category":
            raise UsageError(
                f"{analysis}: column {column.terms.name!r} is a category; give a boolean for each"
            )
    if not features:
        raise UsageError(f"{analysis}: there is no column but the target; name features, too")
    return target, features


def _below(name: str, columns: Sequence[Column]) -> Column:
    """One column of all."""
    terms = columns[0].terms
    for other in columns[1:]:
        if (other.terms.type, other.terms.categories) != (terms.type, terms.categories):
            raise UsageError(
                f"column {name!r}: the data sets have it with different types or categories; what it means "
                "must be the same in all"
            )
    if any(column.scale != columns[0].scale for column in columns):
        raise UsageError(
            f"column {name!r}: the data sets have different bounds for it; agree on the same for all"
        )
    return Column(terms, columns[0].scale, SharedTensor.cat([column.shared for column in columns]))
