"""Analyses of events by time: of how many rows had the event, and how many were censored, at each time.

Times lie on a public grid. Kaplan-Meier curves and log-rank tests are functions of these counts alone, and a
count is a sum over rows: where rows are split each owner counts its own, and where the groups are in another
owner's table the counts are one product of shared yes-or-no matrices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context
from mpcpriv.analyses.feature import Feature, categories, dummies
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.query import Noised, Query
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

MOST_TIMES: Final = 4096
_MOST_CELLS: Final = 1 << 17
_MOST_SHARED: Final = 1 << 25
"""Yes-or-nos that an owner shares where columns are split."""
GRID: Final = 16
"""Beneath noise a row counts for so much, so that little noise is still many grid units wide."""


class Survival(Document):
    """What a job on events by time can set.

    Attributes:
        time: the column that says how long a row was followed, from 0: an integer, or a number.
        event: the column that says whether the event ended that (1) or something else did (0): a boolean.
        group: of these rows each is looked at by itself: a category or a boolean; one group where left out.
        intervals: times are rounded up to the ends of so many intervals of equal length between the agreed
            bounds; left out, whole numbers are taken as they are.
    """

    time: ColumnName
    event: ColumnName
    group: ColumnName | None = None
    intervals: Annotated[int, Field(ge=1, le=MOST_TIMES)] | None = None


@dataclass(frozen=True)
class Times:
    """The public grid.

    Attributes:
        low: the lowest agreed time.
        step: from one time of the grid to the next.
        ends: the times of the grid, (T,).
    """

    low: float
    step: float
    ends: np.ndarray

    @classmethod
    def of(cls, column: ColumnTerms, intervals: int | None, analysis: str) -> Times:
        """The grid of a column.

        Raises:
            UsageError: the column is no time, or has too many times, or no agreed bounds.
        """
        if column.type not in ("integer", "number"):
            raise UsageError(
                f"{analysis}: time {column.name!r} is a {column.type}; it is an integer or a number"
            )
        if column.low is None or column.high is None or column.low < 0:
            raise UsageError(f"{analysis}: time {column.name!r} needs agreed bounds, the lower one 0 or more")
        if intervals is not None:
            step = (column.high - column.low) / intervals
            return cls(column.low, step, column.low + step * np.arange(1, intervals + 1))
        if column.type == "number":
            raise UsageError(
                f"{analysis}: time {column.name!r} is no whole number; set the parameter intervals"
            )
        ends = np.arange(np.ceil(column.low), np.floor(column.high) + 1)
        if len(ends) > MOST_TIMES:
            raise UsageError(
                f"{analysis}: time {column.name!r} has {len(ends)} values, and at most {MOST_TIMES} are "
                "looked at; set the parameter intervals, or agree on narrower bounds"
            )
        return cls(float(ends[0]) - 1, 1.0, ends)

    def places(self, times: np.ndarray) -> np.ndarray:
        """Where on the grid each time is, from 0."""
        # A time at the end of an interval belongs to it, whatever its last digit.
        behind = np.ceil((times - self.low) / (self.step or 1.0) - 1e-9).astype(np.int64) - 1
        return np.clip(behind, 0, len(self.ends) - 1)


@dataclass(frozen=True)
class Plan:
    """What is public of a job on events by time.

    Attributes:
        rows: of all tables.
        times: the grid.
        groups: what they are called.
    """

    rows: int
    times: Times
    groups: tuple[str, ...]

    @classmethod
    def of(cls, asked: Asked, analysis: str) -> Plan:
        """Of a job.

        Raises:
            UsageError: its columns are not such as are needed.
        """
        whole, _ = together(asked.tables)
        parameters: Survival = asked.parameters
        checked(whole.columns, parameters, analysis)
        times = Times.of(whole.columns[parameters.time], parameters.intervals, analysis)
        groups: tuple[str, ...] = ("all",)
        if parameters.group is not None:
            column = whole.columns[parameters.group]
            groups = tuple(f"{column.name} {level}" for level in categories(column))
        if 2 * len(groups) * len(times.ends) > _MOST_CELLS:
            raise UsageError(f"{analysis}: {len(groups)} groups by {len(times.ends)} times are too many")
        return cls(whole.rows, times, groups)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the counts: groups, (censored, had the event), times."""
        return len(self.groups), 2, len(self.times.ends)


def checked(columns: Mapping[str, ColumnTerms], parameters: Survival, analysis: str) -> None:
    """Whether the columns are those that the parameters name, and such.

    Raises:
        UsageError: they are not.
    """
    named = [one for one in (parameters.time, parameters.event, parameters.group) if one is not None]
    for name in named:
        if name not in columns:
            raise UsageError(f"{analysis}: {name!r} is none of the columns {', '.join(columns)}")
    if columns[parameters.event].type != "boolean":
        raise UsageError(f"{analysis}: event {parameters.event!r} must be a boolean")
    if len(set(named)) < len(named) or len(columns) > len(named):
        raise UsageError(f"{analysis}: give one column each for time, event and group, and no other")


class OfLifeTable(ABC):
    """An analysis that is a function of these counts; it is `Derived` and `Finished`."""

    name: str

    @abstractmethod
    def settle(self, ctx: Context, counts: SharedTensor, rows: int) -> Mapping[str, SharedTensor]:
        """What of the counts is opened, without noise.

        Args:
            ctx: who computes.
            counts: (groups, 2, times); see `Plan.shape`.
            rows: what they add up to.
        """

    @abstractmethod
    def of_noised(self, plan: Plan, counts: np.ndarray, deviation: float, asked: Asked) -> Answer:
        """What the recipients are told where the counts were released with noise.

        Args:
            plan: what is public.
            counts: (groups, 2, times).
            deviation: the standard deviation of the noise in each.
            asked: what is public.
        """

    def features(self, table: Outline, parameters: Survival) -> Sequence[Feature]:
        """See `Derived.features`: a yes-or-no for each time, and one for each group."""
        found: list[Feature] = []
        if (parameters.time in table.columns) != (parameters.event in table.columns):
            raise UsageError(
                f"{self.name}: {parameters.time!r} and {parameters.event!r} are in the tables of two owners; "
                "whose the time is must know of the event"
            )
        if parameters.time in table.columns:
            times = Times.of(table.columns[parameters.time], parameters.intervals, self.name)
            if 2 * table.rows * len(times.ends) > _MOST_SHARED:
                raise UsageError(
                    f"{self.name}: {table.rows} rows by {len(times.ends)} times are too many where columns "
                    "are split; set the parameter intervals"
                )
            found += [
                _at(times, parameters, event, place) for event in (0, 1) for place in range(len(times.ends))
            ]
        if parameters.group is not None and parameters.group in table.columns:
            found += dummies(table.columns[parameters.group], every=True)
        return found

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: Survival
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses.table import together as put_together

        whole = put_together(inputs)[0]
        columns = whole.columns
        by_time: list[Any] = [column.shared for name, column in columns.items() if _is_time(name)]
        by_group: list[Any] = [column.shared for name, column in columns.items() if not _is_time(name)]
        if not by_time or bool(by_group) != (parameters.group is not None):
            raise UsageError(f"{self.name}: the columns that its parameters name are not all there")
        times: Any = torch.stack(by_time, dim=1)
        if not by_group:
            return self.settle(ctx, times.sum(0).reshape(1, 2, -1), whole.rows)
        counts: Any = torch.stack(by_group, dim=1).t().matmul(times)
        return self.settle(ctx, counts.reshape(len(by_group), 2, -1), whole.rows)

    def finish(self, ctx: Context, sums: SharedTensor, asked: Asked) -> Mapping[str, SharedTensor]:
        """See `Finished.finish`."""
        plan = Plan.of(asked, self.name)
        return self.settle(ctx, sums.reshape(*plan.shape), plan.rows)

    def query(self, asked: Asked) -> Query:
        """See `Private.query`: a row is in one cell."""
        plan, parameters = Plan.of(asked, self.name), asked.parameters
        if together(asked.tables)[1] == "columns split":
            raise UsageError(
                f"{self.name}: with differential privacy each owner counts its own rows, so all columns must "
                "be in one table; leave epsilon out"
            )
        one = GRID if asked.noised else 1
        size = int(np.prod(plan.shape))

        def contributions(columns: Mapping[str, np.ndarray]) -> np.ndarray:
            event = columns[parameters.event].astype(np.int64)
            group = np.zeros_like(event)
            if parameters.group is not None:
                group = columns[parameters.group].astype(np.int64)
            places = np.ravel_multi_index(
                (group, event, plan.times.places(columns[parameters.time])), plan.shape
            )
            found = np.zeros((len(places), size), dtype=np.int64)
            found[np.arange(len(places)), places] = one
            return found

        def read(noised: Noised) -> Answer:
            counts = noised.values.reshape(plan.shape) / one
            return self.of_noised(plan, counts, noised.deviation / one, asked)

        low, high = np.zeros(size, dtype=np.int64), np.full(size, one, dtype=np.int64)
        return Query(low, high, contributions, read, l1=one)


def _is_time(name: str) -> bool:
    return not name.endswith("]")  # as the names of groups do


def _at(times: Times, parameters: Survival, event: int, place: int) -> Feature:
    def values(columns: Mapping[str, np.ndarray]) -> np.ndarray:
        there = times.places(columns[parameters.time]) == place
        found: np.ndarray = (there & (columns[parameters.event] == event)).astype(np.float64)
        return found

    return Feature(ColumnTerms(name=f"at {place}: {event}", type="boolean"), values)


def at_risk(counts: np.ndarray) -> np.ndarray:
    """How many are followed still as each time comes, (groups, times), of counts (groups, 2, times)."""
    both: np.ndarray = counts.sum(1)
    remaining: np.ndarray = np.cumsum(both[:, ::-1], axis=1)[:, ::-1]
    return remaining
