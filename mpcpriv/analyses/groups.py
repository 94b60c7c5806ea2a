"""Analyses that are functions of sums by group: of rows, of some values, and of their squares.

A group is a combination of public categories. Frequency tables, means by category, t-tests, the analysis of
variance and tests of independence are functions of these sums. The sums are opened, to the recipients only,
those of small groups suppressed, and everything else is computed from them in float64. Where rows are split
each owner sums its own, in whole numbers and exactly; where columns are split, what says who belongs to a
group is multiplied with the values on shares.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import Feature, categories, span
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.public_draws import normal
from mpcpriv.analyses.query import Grouped, Noised, Query
from mpcpriv.analyses.told import Cells, levels
from mpcpriv.data.scale import Scale
from mpcpriv.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

MOST_GROUPS: Final = 10_000
_FINEST: Final = 40
"""Bits after the point of a value between -1 and 1."""
_NOISED: Final = 14
"""The same beneath noise, which is many times as wide as what is lost."""
_MOST: Final = 61
"""Bits of a sum."""


@dataclass(frozen=True)
class Value:
    """A number of each row that is summed: a column, or a sum of columns with public weights.

    Attributes:
        name: what it is called.
        weights: by column; those of a difference are 1 and -1.
    """

    name: str
    weights: Mapping[str, float]

    def terms(self, columns: Mapping[str, ColumnTerms]) -> ColumnTerms:
        """What is public of it: its bounds follow from those of the columns.

        Raises:
            UsageError: a column is not there, is a category, or has no agreed bounds.
        """
        low = high = 0.0
        for name, weight in self.weights.items():
            if name not in columns:
                raise UsageError(
                    f"{name!r} is none of the columns of numbers, {', '.join(columns) or 'none'}"
                )
            if columns[name].type == "category":
                raise UsageError(f"column {name!r} is a category; a number is needed here")
            scale = Scale.of(columns[name])
            ends = sorted(weight * (scale.centre + scale.unit * end) for end in (scale.low, scale.high))
            low, high = low + ends[0], high + ends[1]
        whole = all(columns[name].type != "number" for name in self.weights)
        whole = whole and all(float(weight).is_integer() for weight in self.weights.values())
        return ColumnTerms(name=self.name, type="integer" if whole else "number", low=low, high=high)

    def of(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Its values, (rows,)."""
        parts = [weight * columns[name] for name, weight in self.weights.items()]
        total: np.ndarray = np.sum(parts, axis=0)
        return total


def plain(name: str) -> Value:
    """A column as it is."""
    return Value(name, {name: 1.0})


@dataclass(frozen=True)
class Groups:
    """Sums over the rows of each group, of values z of about 1; centre + unit * z is in the data's units.

    Attributes:
        rows: of all groups together.
        names: of the g groups.
        sizes: how many categories each column has that groups are made of; g is their product.
        values: the names of the v values.
        centre, unit: (v,).
        counts: (g,), how many rows; -1 where the group is suppressed, and then its sums are 0.
        sums, squares: (g, v), of z and of z^2.
        deviation: of the noise in each of `counts`, `sums`, and 2 * `squares` - `counts`, its standard
            deviation; 0 without noise. The noise of each is independent of the others'.
        threshold: the least noised count that is shown; None where all are.
    """

    rows: int
    names: tuple[str, ...]
    sizes: tuple[int, ...]
    values: tuple[str, ...]
    centre: np.ndarray
    unit: np.ndarray
    counts: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    deviation: float = 0.0
    threshold: float | None = None

    def of_z(self) -> tuple[np.ndarray, np.ndarray]:
        """Means of z and sums of squares of what it is beyond them, (g, v); of groups that have rows."""
        counts = self.counts[:, None]
        means = self.sums / counts
        return means, np.clip(self.squares - counts * means**2, 0, None)

    def suppressed(self) -> list[str]:
        """The names of the groups that are suppressed."""
        return [name for name, count in zip(self.names, self.counts, strict=True) if count < 0]

    def whole(self, analysis: str) -> Groups:
        """The same, where no group is suppressed.

        Raises:
            UsageError: one is: what would be computed without it is of other rows than were asked for.
        """
        if not self.deviation and self.suppressed():
            raise UsageError(
                f"{analysis}: groups {', '.join(self.suppressed())} are suppressed, for one has fewer rows "
                "than the agreement lets be shown; put categories together, or agree on another smallest cell"
            )
        return self

    def fresh_noise(self, times: int) -> tuple[np.ndarray, ...]:
        """Noise like that in `counts`, `sums` and `squares`, (times, g) and (times, g, v) twice.

        Of a single group the count is public and has none.
        """
        shape = (times, *self.sums.shape)
        counts = self.deviation * bool(self.sizes) * normal("noise in counts", shape[:2])
        second = self.deviation * normal("noise in squares", shape)
        return counts, self.deviation * normal("noise in sums", shape), (second + counts[..., None]) / 2


class OfGroups(ABC):
    """An analysis that is a function of `Groups`.

    It is `Derived`, `Private`, `TellsCells` and `OverSecretRows`.
    """

    name: str
    over_secret_rows: Final = True  # rows of zeros are in no group

    @abstractmethod
    def grouping(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[str]:
        """The names of those columns that groups are made of, in the order of the columns.

        Args:
            columns: of the job; where columns are split, some of them.
            parameters: an instance of `parameters`.
        """

    def values(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[Value]:
        """What is summed: each column that no groups are made of, if nothing else is said.

        Args:
            columns: by name, all of the job's that no groups are made of.
            parameters: an instance of `parameters`.

        Raises:
            UsageError: a column that it needs is not there.
        """
        del parameters
        return [plain(name) for name in columns]

    def check(self, by: Sequence[str], values: Sequence[Value], parameters: Any) -> None:  # noqa: B027
        """Whether these are the groups and the values that it needs; by default any will do.

        Raises:
            UsageError: they are not.
        """

    def spurious(self, parameters: Any) -> float | None:
        """See `Query.spurious`; by default all groups are shown."""
        del parameters
        return None

    @abstractmethod
    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """What the recipients are told.

        Args:
            asked: what is public.
            groups: with noise where `asked.noised`.

        Raises:
            UsageError: nothing can be told from them.
        """

    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """See `Derived.features`: whether a row is in each combination of the categories that this owner
        knows of, which are booleans; and the other columns, as numbers.
        """
        by = list(self.grouping(table.columns, parameters))
        others = [column for name, column in table.columns.items() if name not in by]
        sizes = [len(categories(table.columns[name])) for name in by]
        found = [
            Feature(ColumnTerms(name=f"{', '.join(by)}: {place}", type="boolean"), _member(by, sizes, place))
            for place in range(math.prod(sizes))
            if by
        ]
        return found + [
            Feature(value.terms(table.columns), value.of)
            for value in (plain(column.name) for column in others)
        ]

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[Cells]:
        """See `TellsCells.cells`: of each group, of a value of which sums and squares tell the counts."""
        by = list(self.grouping(columns, parameters))
        others = {name: one for name, one in columns.items() if name not in by}
        found = []
        for value in self.values(others, parameters):
            # A difference of two yes-or-nos is -1, 0 or 1.
            most = 3 if len(value.weights) == 1 else 2
            named = [columns[name] for name in (*by, *value.weights) if name in columns]
            table = tuple(one for one in (levels(column, most) for column in named) if one)
            if len(table) == len(by) + len(value.weights):
                found.append(table)
        return found

    def run(self, ctx: Context, inputs: Mapping[str, Table], parameters: Any) -> Mapping[str, SharedTensor]:
        """See `Computed.run`: by group the count, then of each value the sum and that of its squares."""
        import torch

        from mpcpriv.analyses.table import together as put_together

        whole, split = put_together(inputs)
        tables = list(inputs.values()) if split == "columns split" else [whole]
        members: Any = None
        for table in tables:
            own: list[Any] = [one.shared for one in table.columns.values() if one.terms.type == "boolean"]
            if own:
                belongs: Any = torch.stack(own, dim=1)
                # Exact: products of 0 and 1 lose nothing where they are truncated.
                members = belongs if members is None else _combined(members, belongs)
        shared = {name: one for name, one in whole.columns.items() if one.terms.type != "boolean"}
        numbers = {name: one.terms for name, one in shared.items()}
        summed: list[Any] = []
        for value in self.values(numbers, parameters):
            z = _on_one_scale(value, shared, numbers)
            summed += [z, z.square()]
        if members is None:
            # Rows that are not there are in no group; where there are none, something else has to say so.
            there = [one if ctx.present is None else one * ctx.present for one in summed]
            alone: Any = torch.stack([one.sum() for one in there])
            return {"sums": alone}
        ones: Any = members[:, :1] * 0 + 1
        columns = torch.cat([ones, *(one.unsqueeze(1) for one in summed)], dim=1)
        # A product of vectors is truncated once, after its sum: exact to one unit, for any number of rows.
        sums: Any = members.t().matmul(columns)
        if ctx.smallest_cell > 1:
            from mpcpriv.analyses.cells import suppress_groups

            sums = suppress_groups(sums, ctx.smallest_cell)
        return {"sums": sums.flatten()}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        plan = self._plan(asked)
        scales = [Scale.of(value.terms(plan.columns)) for value in plan.values]
        centre, unit = np.array([[one.centre, one.unit] for one in scales]).reshape(-1, 2).T
        sums = np.asarray(opened["sums"])
        if plan.by:
            sums = sums.reshape(-1, 1 + 2 * len(scales))
            counts, sums = np.rint(sums[:, 0]), sums[:, 1:]
        else:
            counts, sums = np.array([float(plan.rows)]), sums.reshape(1, -1)
        found = Groups(*plan.public(), centre, unit, counts, sums[:, 0::2], sums[:, 1::2])
        return self.tell(asked, found)

    def query(self, asked: Asked) -> Query:
        """See `Private.query`: of a row t and 2t^2 - 1 for each value, t in [-1, 1] across its bounds."""
        if together(asked.tables)[1] == "columns split":
            raise Unsupported(
                f"analysis {self.name}: where columns are split it is computed on shares, and cannot be "
                "released with differential privacy; leave epsilon out"
            )
        plan = self._plan(asked)
        terms = [value.terms(plan.columns) for value in plan.values]
        spans = [span(one, asked.noised) for one in terms]
        centre, unit = np.array(spans).reshape(-1, 2).T
        bits = _NOISED if asked.noised else min(_FINEST, _MOST - math.ceil(math.log2(plan.rows)))
        one, most = 1 << (bits if asked.noised else 0), 1 << bits
        block = np.array([one] * bool(plan.by) + [most] * 2 * len(terms), dtype=np.int64)
        low = np.where(np.arange(len(block)) < bool(plan.by), 0, -block)
        groups = math.prod(plan.sizes)

        def contributions(columns: Mapping[str, np.ndarray]) -> Grouped:
            places = plan.places(columns)
            found = np.empty((len(places), len(block)), dtype=np.int64)
            found[:, : bool(plan.by)] = one
            for number, value in enumerate(plan.values):
                t = (value.of(columns) - centre[number]) / unit[number]
                place = bool(plan.by) + 2 * number
                found[:, place] = np.rint(np.ldexp(t, bits))
                found[:, place + 1] = np.rint(np.ldexp(2 * t**2 - 1, bits))
            return Grouped(places, found)

        def read(noised: Noised) -> Answer:
            found = noised.values.reshape(groups, -1).astype(np.float64)
            # Of a single group the count is public.
            counts = found[:, 0] / one if plan.by else np.array([float(plan.rows)])
            sums = np.ldexp(found[:, bool(plan.by) :], -bits)
            kept = (counts >= 0) | (noised.deviation > 0)
            squares = (sums[:, 1::2] + (counts * kept)[:, None]) / 2
            deviation = math.ldexp(noised.deviation, -bits)
            threshold = None if noised.threshold is None else noised.threshold / one
            parts = centre, unit, counts, sums[:, 0::2], squares
            return self.tell(asked, Groups(*plan.public(), *parts, deviation, threshold))

        ends = np.tile(low, groups), np.tile(block, groups)
        grid, spurious = one if plan.by else None, self.spurious(asked.parameters)
        return Query(*ends, contributions, read, groups=groups, grid=grid, spurious=spurious)

    def _plan(self, asked: Asked) -> _Plan:
        whole, _ = together(asked.tables)
        by = list(self.grouping(whole.columns, asked.parameters))
        others = {name: one for name, one in whole.columns.items() if name not in by}
        values = list(self.values(others, asked.parameters))
        self.check(by, values, asked.parameters)
        idle = set(others) - {name for value in values for name in value.weights}
        if idle:
            raise UsageError(
                f"{self.name}: of columns {', '.join(sorted(idle))} nothing is asked; leave them out"
            )
        if not by and not values:
            raise UsageError(f"{self.name}: there is nothing to count by and nothing to add up")
        levels = [categories(whole.columns[name]) for name in by]
        sizes = tuple(map(len, levels))
        if math.prod(sizes) > MOST_GROUPS:
            raise UsageError(
                f"{self.name}: {math.prod(sizes)} cells; ask for fewer columns, {MOST_GROUPS} cells at most"
            )
        named = [_labels(whole.columns[name], some) for name, some in zip(by, levels, strict=True)]
        names = tuple(" / ".join(one) for one in itertools.product(*named))
        return _Plan(whole.rows, whole.columns, tuple(by), sizes, names, tuple(values))


@dataclass(frozen=True)
class _Plan:
    rows: int
    columns: Mapping[str, ColumnTerms]
    by: tuple[str, ...]
    sizes: tuple[int, ...]
    names: tuple[str, ...]
    values: tuple[Value, ...]

    def public(self) -> tuple[int, tuple[str, ...], tuple[int, ...], tuple[str, ...]]:
        return self.rows, self.names, self.sizes, tuple(value.name for value in self.values)

    def places(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of each row its group."""
        if not self.by:
            return np.zeros(len(next(iter(columns.values()))), dtype=np.int64)
        return _places(self.by, self.sizes, columns)


def _places(by: Sequence[str], sizes: Sequence[int], columns: Mapping[str, np.ndarray]) -> np.ndarray:
    codes = [columns[name].astype(np.int64) for name in by]
    places: np.ndarray = np.ravel_multi_index(codes, tuple(sizes)).astype(np.int64)
    return places


def _member(by: Sequence[str], sizes: Sequence[int], place: int) -> Any:
    return lambda columns: (_places(by, sizes, columns) == place).astype(np.float64)


def _labels(column: ColumnTerms, levels: Sequence[str]) -> list[str]:
    """Of each category, what it is called in a table; words that any column may have come with its name."""
    words = len(column.categories or [])
    return [level if place < words else f"{column.name} {level}" for place, level in enumerate(levels)]


def _combined(first: Any, second: Any) -> Any:
    """Of rows in the groups of one and in those of another, (rows, a) and (rows, b): (rows, a * b)."""
    return (first.unsqueeze(2) * second.unsqueeze(1)).flatten(1)


def _on_one_scale(value: Value, shared: Mapping[str, Any], columns: Mapping[str, ColumnTerms]) -> Any:
    """Its z, from columns that each have a scale of their own."""
    terms = value.terms(columns)
    whole = Scale.of(terms)
    total: Any = 0
    beyond = -whole.centre
    for name, weight in value.weights.items():
        own = Scale.of(columns[name])
        factor = weight * own.unit / whole.unit
        total = total + (shared[name].shared if factor == 1 else shared[name].shared * factor)
        beyond += weight * own.centre
    return total + beyond / whole.unit if beyond else total
