"""Tests that look at the order of values only, sorted on shares, ties and all.

Values are sorted together with who they belong to, once. In the sorted line a run of equal values begins
where a value differs from the one before: one comparison each. Where each row's run begins is carried
forward along the line, doubling the distance each time, so that ranks of ties follow from sums. All of it is
in shared whole numbers, and exact.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import Feature, categories
from mpcpriv.analyses.groups import plain
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.told import Cells, levels
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor


@dataclass(frozen=True)
class Line:
    """Rows in ascending order of a value; all tensors of shared whole numbers, or plain ones.

    Attributes:
        begins: (n,), 1 where a value differs from the one before, and for the first.
        rows: (n, c), what goes with the values.
    """

    begins: Any
    rows: Any

    @classmethod
    def of(cls, values: Any, rows: Any) -> Line:
        """Sorts them.

        Args:
            values: (n,).
            rows: (n, c), whole numbers.
        """
        import torch

        if isinstance(values, torch.Tensor):
            order = values.argsort(stable=True)
            values, rows = values[order], rows[order]
        else:
            values, rows = values.sort_with(rows)
        differs: Any = values[1:].ne(values[:-1]) * 1
        return cls(torch.cat([rows[:1, 0] * 0 + 1, differs]), rows)

    @property
    def ends(self) -> Any:
        """(n,), 1 where the next value differs, and for the last."""
        import torch

        return torch.cat([self.begins[1:], self.begins[:1]])

    def at_begin(self, values: Any) -> Any:
        """Of each row what is there (n, k) at the row where its run of equal values begins."""
        import torch

        flags: Any = self.begins.unsqueeze(1)
        found, step = values * flags, 1
        while step < len(values):
            missing = 1 - flags[step:]
            found = torch.cat([found[:step], found[step:] + missing * found[:-step]])
            flags = torch.cat([flags[:step], flags[step:] + missing * flags[:-step]])
            step *= 2
        return found

    def rank_sums(self) -> tuple[Any, Any]:
        """Twice the sum of the ranks of those whose first of `rows` is 1 and not 0, equal values sharing the
        mean of theirs; and the sum of t^3 - t over all runs of t equal values; (1,) each.
        """
        import torch

        mine: Any = self.rows[:, 0]
        number = torch.arange(len(mine))
        before: Any = mine.cumsum(0) - mine
        places: Any = mine * 0 + number
        begin: Any = self.at_begin(torch.stack([places, before], dim=1))
        within: Any = places - begin[:, 0]  # the first of a run is number 0
        # With the mean of its run's ranks a row has its place, and half of how many more follow it in the run
        # than come before it.
        ahead: Any = before - begin[:, 1]
        twice: Any = (mine * (2 * number + 2)).sum() + ahead.sum() - (within * mine).sum()
        # Of t: 0 * 1 + 1 * 2 + ... + (t - 1) * t is (t^3 - t) / 3.
        ties: Any = (within * (within + 1)).sum() * 3
        return twice.reshape(1), ties.reshape(1)


_MOST_ROWS: Final = 1 << 17
"""Whose ranks, and cubes of how many are equal, are whole numbers that add up exactly."""


class TwoGroups(Document):
    """What a job can set.

    Attributes:
        value: the column that is compared.
        group: whose two groups are compared: a boolean, or a category of two.
    """

    value: ColumnName
    group: ColumnName


class OverTwoGroups:
    """Values sorted with which of two groups each is of; it is `Derived`."""

    name: str

    def features(self, table: Outline, parameters: TwoGroups) -> Sequence[Feature]:
        """See `Derived.features`: whether a row is in the first group, and the value."""
        found = []
        for name, column in table.columns.items():
            if name == parameters.group:
                if len(categories(column)) != 2:
                    raise UsageError(f"{self.name}: column {name!r} has not two categories")
                found.append(Feature(ColumnTerms(name=name, type="boolean"), _first(name)))
            elif name == parameters.value:
                found.append(Feature(plain(name).terms(table.columns), plain(name).of))
            else:
                raise UsageError(f"{self.name}: of column {name!r} nothing is asked; leave it out")
        return found

    def sorted(self, inputs: Mapping[str, Table], parameters: TwoGroups) -> tuple[Any, Line]:
        """How many rows are in the first group, (1,), and the line, whose `rows` say (n, 1) which.

        Raises:
            UsageError: a column is not there, or there are too many rows.
        """
        from mpcpriv.analyses.table import together as put_together

        columns = put_together(inputs)[0].columns
        missing = [name for name in (parameters.value, parameters.group) if name not in columns]
        if missing:
            raise UsageError(f"{self.name}: {', '.join(missing)} is none of the columns")
        group: Any = columns[parameters.group].shared
        if len(group) > _MOST_ROWS:
            raise UsageError(f"{self.name}: {len(group)} rows; ranks of {_MOST_ROWS} at most fit the ring")
        first: Any = group.gt(0.5) * 1  # a shared whole number: no product of these is truncated
        line = Line.of(columns[parameters.value].shared, first.unsqueeze(1))
        return first.sum().reshape(1), line

    def groups(self, asked: Asked) -> list[str]:
        """What they are called."""
        column = together(asked.tables)[0].columns[asked.parameters.group]
        prefix = f"{column.name} " if column.type == "boolean" else ""
        return [f"{prefix}{level}" for level in categories(column)]


class OfTwoGroups(OverTwoGroups, ABC):
    """A test that compares the order of a value in two groups; it is `Derived` and `TellsCells`."""

    @abstractmethod
    def of_line(self, line: Line) -> Sequence[Any]:
        """What is opened, (1,) each; `line.rows` say (n, 1) who is in the first group."""

    @abstractmethod
    def tell(self, asked: Asked, groups: Sequence[str], counts: Sequence[int], opened: np.ndarray) -> Answer:
        """What the recipients are told.

        Args:
            asked: what is public.
            groups: their names.
            counts: their rows; at least one each.
            opened: what `of_line` returned.
        """

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: TwoGroups) -> Sequence[Cells]:
        """See `TellsCells.cells`: ranks of a yes-or-no tell how many said yes."""
        named = [columns[name] for name in (parameters.group, parameters.value) if name in columns]
        table = tuple(one for one in map(levels, named) if one)
        return [table] if len(table) == 2 else []

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: TwoGroups
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        count, line = self.sorted(inputs, parameters)
        figures = list(self.of_line(line))
        table: Any = torch.stack([torch.cat([one, *figures]) for one in (count, len(line.rows) - count)])
        if ctx.smallest_cell > 1:
            from mpcpriv.analyses.cells import suppress_groups

            table = suppress_groups(table, ctx.smallest_cell)
        return {"groups": table.flatten()}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        table = np.asarray(opened["groups"]).reshape(2, -1)
        counts = [round(one) for one in table[:, 0]]
        if min(counts) < 0:
            raise UsageError(
                f"{self.name}: a group has fewer rows than the agreement lets be shown; use more data, or "
                "agree on another smallest cell"
            )
        if min(counts) < 1:
            raise UsageError(f"{self.name}: a group has no rows; there is nothing to compare")
        return self.tell(asked, self.groups(asked), counts, table[0, 1:])


def _first(name: str) -> Any:
    return lambda columns: (columns[name] == 0).astype(np.float64)
