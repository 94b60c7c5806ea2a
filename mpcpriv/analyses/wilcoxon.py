"""Wilcoxon's signed-rank test of pairs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Self

import numpy as np
from pydantic import Field, model_validator

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import Feature
from mpcpriv.analyses.groups import Value, plain
from mpcpriv.analyses.inference import two_sided
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.ranks import Line
from mpcpriv.analyses.shown import Shown
from mpcpriv.analyses.shown import Table as ShownTable
from mpcpriv.analyses.told import Cells, levels
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor


class Pairs(Document):
    """What a job can set.

    Attributes:
        value: a column.
        paired: another; tested are the differences, `value` less it.
        resolution: what all values are multiples of, as 0.1: then differences and ties are those of
            decimals, also between columns of different owners.
    """

    value: ColumnName
    paired: ColumnName
    resolution: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="after")
    def _two(self) -> Self:
        if self.value == self.paired:
            raise ValueError("value and paired are different columns")
        return self


class Parameters(Pairs):
    """What a job can set.

    Attributes:
        continuity: whether 1/2 is taken off for continuity.
    """

    continuity: bool = False


class OfPairs:
    """Differences of pairs, sorted by magnitude; it is `Derived`."""

    name: str

    def features(self, table: Outline, parameters: Pairs) -> Sequence[Feature]:
        """See `Derived.features`: the difference where the owner has both, else the column."""
        both = [parameters.value, parameters.paired]
        idle = [name for name in table.columns if name not in both]
        if idle:
            raise UsageError(f"{self.name}: of columns {', '.join(idle)} nothing is asked; leave them out")
        held = {name: _held(table.columns, name, parameters.resolution) for name in table.columns}
        if len(held) < 2:
            return list(held.values())
        return [_apart(held[parameters.value], held[parameters.paired])]

    def sorted(self, inputs: Mapping[str, Table], parameters: Pairs) -> tuple[Any, Any, Line]:
        """Of each pair whether the first is larger, and whether it is smaller, (n,) each; and the line of
        magnitudes, whose `rows` say (n, 1) where the first is larger. Pairs without a difference come first.

        Raises:
            UsageError: a column is not there, or see `_difference`.
        """
        from mpcpriv.analyses.table import together as put_together

        columns = put_together(inputs)[0].columns
        if len(columns) == 1:
            (one,) = columns.values()
            apart: Any = one.shared
        else:
            missing = [name for name in (parameters.value, parameters.paired) if name not in columns]
            if missing:
                raise UsageError(f"{self.name}: {', '.join(missing)} is none of the columns")
            apart = _difference(columns[parameters.value], columns[parameters.paired])
        above: Any = apart.gt(0) * 1
        under: Any = apart.lt(0) * 1
        return above, under, Line.of(apart * (above - under), above.unsqueeze(1))


class Wilcoxon(OfPairs):
    """As scipy's `wilcoxon(..., zero_method="wilcox", method="asymptotic")`."""

    name: Final = "wilcoxon"
    title: Final = "whether the differences of pairs are about 0: Wilcoxon's signed-rank test"
    text: Final = (
        "Two-sided, by the normal approximation with the correction for ties; pairs without a difference "
        "are left out, as scipy has it (method asymptotic, zero_method wilcox). Where one owner has both "
        "columns it takes the differences; else they are taken on shares, and the two columns need the "
        "same agreed bounds, or are whole numbers. Magnitudes are sorted on shares; opened are how many "
        "pairs differ, the rank sum of those where the first is larger, and the sum of t^3 - t over runs "
        "of t magnitudes that are equal. Values are rounded to 2^-19 of the bounds' width (whole numbers "
        "not at all, if the bounds are less than 2^18 apart); give the `resolution` of decimals, or what "
        "is equal in them may not be equal when it is rounded. Up to some 10,000 rows. With "
        "differential privacy it is private-wilcoxon."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "wilcoxon"
inputs = [
    { dataset = "north", columns = ["before", "after"] },
    { dataset = "south", columns = ["before", "after"] },
]
parameters = { value = "before", paired = "after" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            "pairs": "how many of them differ",
            "positive": "the rank sum of those where the first is larger",
            "negative": "that of the others",
            "statistic": "the smaller of the two",
            "ties": "the sum of t^3 - t over all runs of t equal magnitudes",
            "z": "the rank sum, standardised",
            "p_value": "two-sided",
            "rank_biserial": "the difference of the rank sums, divided by their sum",
        }

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[Cells]:
        """See `TellsCells.cells`: of two yes-or-nos ranks tell how many pairs differ, and which way."""
        named = [columns[name] for name in (parameters.value, parameters.paired) if name in columns]
        table = tuple(one for one in map(levels, named) if one)
        return [table] if len(table) == 2 else []

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        above, under, line = self.sorted(inputs, parameters)
        twice, ties = line.rank_sums()
        pairs: Any = (above + under).sum().reshape(1)
        larger: Any = above.sum().reshape(1)
        # Pairs without a difference come first, and the ranks of all others are by so many too high.
        twice = twice - (len(above) - pairs) * larger * 2
        found: Any = torch.cat([pairs, twice, ties])
        if ctx.smallest_cell > 1:
            # Of pairs that differ, and of those that do not, a few are a small count; none are nobody.
            each: Any = torch.cat([pairs, len(above) - pairs])
            reached: Any = torch.cat([each - 0.5, each - (ctx.smallest_cell - 0.5)]).ge(0) * 1
            fine: Any = 1 - reached[:2] + reached[2:]
            enough: Any = fine[:1] * fine[1:]
            found = torch.cat([found * enough, enough])
        return {"sums": found}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        rows = together(asked.tables)[0].rows
        pairs, twice, ties, *enough = (round(float(one)) for one in np.asarray(opened["sums"]))
        if not all(enough):
            raise UsageError(
                f"{self.name}: fewer pairs differ, or fewer do not, than the agreement lets be shown; use "
                "more data, give a coarser resolution, or agree on another smallest cell"
            )
        same = rows - pairs
        ties -= same**3 - same
        spread = math.sqrt(max((pairs * (pairs + 1) * (2 * pairs + 1) - ties / 2) / 24, 0.0))
        if not spread > 0:
            raise UsageError(f"{self.name}: no pair differs; there is nothing to rank")
        positive, whole = twice / 2, pairs * (pairs + 1) / 2
        z = (positive - whole / 2) / spread
        if asked.parameters.continuity:
            z -= 0.5 * np.sign(z) / spread
        return {
            "rows": rows,
            "pairs": pairs,
            "positive": positive,
            "negative": whole - positive,
            "statistic": min(positive, whole - positive),
            "ties": ties,
            "z": float(z),
            "p_value": float(two_sided(z)),
            "rank_biserial": 2 * positive / whole - 1,
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        heads = {"pairs that differ": "pairs", "W": "statistic", "z": "z", "p": "p_value"}
        heads |= {"rank-biserial r": "rank_biserial"}
        columns = {head: [told[name]] for head, name in heads.items()}
        return [ShownTable("Wilcoxon signed-rank test", columns)]


def _held(columns: Mapping[str, ColumnTerms], name: str, resolution: float | None) -> Feature:
    """A column, in multiples of the resolution if there is one."""
    value = plain(name)
    terms = value.terms(columns)
    if resolution is None:
        return Feature(terms, value.of)
    low, high = math.floor((terms.low or 0.0) / resolution), math.ceil((terms.high or 0.0) / resolution)
    whole = ColumnTerms(name=name, type="integer", low=float(low), high=float(high))
    return Feature(whole, lambda columns: np.rint(columns[name] / resolution))


def _apart(first: Feature, second: Feature) -> Feature:
    """The difference of two columns of one owner, with bounds around 0, which is then held exactly."""
    whole = first.terms.type == second.terms.type == "integer"
    columns = {one.terms.name: one.terms for one in (first, second)}
    difference = Value("difference", {first.terms.name: 1.0, second.terms.name: -1.0})
    terms = difference.terms(columns)
    most = max(abs(terms.low or 0.0), abs(terms.high or 0.0))
    # 0.3 less 0.2 is as much as 0.2 less 0.1, though not in floating point.
    unit = 1.0 if whole else 2.0 ** (math.ceil(math.log2(most or 1.0)) - 40)
    around = ColumnTerms(name="difference", type="integer" if whole else "number", low=-most, high=most)
    return Feature(around, lambda table: np.rint((first.values(table) - second.values(table)) / unit) * unit)


def _difference(first: Any, second: Any) -> Any:
    """On shares, such that equal values differ by exactly 0.

    Raises:
        UsageError: the columns are held on scales that do not go together.
    """
    whole = all(one.terms.type == "integer" for one in (first, second))
    one, other = first.scale, second.scale
    if not whole and one != other:
        raise UsageError(
            f"wilcoxon: columns {first.terms.name!r} and {second.terms.name!r} of different owners have "
            "different bounds; agree on the same for both"
        )
    unit = min(one.unit, other.unit)  # of whole numbers, powers of two
    apart = first.shared * round(one.unit / unit) - second.shared * round(other.unit / unit)
    shift = (one.centre - other.centre) / unit
    return apart + shift if shift else apart


ANALYSIS: Final = Wilcoxon()
