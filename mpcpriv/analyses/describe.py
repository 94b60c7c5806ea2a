"""Columns described: counts, moments, quantiles, histograms.

Owners sum powers of their values and count them in many narrow cells. The sums are opened; of the counts only
where quantiles lie, and how many rows are in each of a few wide bins: both are found on shares, at a cost
that does not grow with the rows.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.described import Cells, Moments, noised_quantiles, values_of
from mpcpriv.analyses.feature import span
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.query import Noised, Query
from mpcpriv.analyses.shown import Histogram, Shown, Table
from mpcpriv.analyses.tallies import Tallied
from mpcpriv.analyses.told import Cells as Counted
from mpcpriv.analyses.told import singles
from mpcpriv.documents import Document
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.job.model import Job

if TYPE_CHECKING:
    from mpcpriv.analyses import table
    from mpcpriv.engine.tensor import SharedTensor

_NOISED: Final = 1 << 14
"""A value at the end of its bounds contributes so much to a sum with noise, and a row to a count."""
_FINEST: Final = 30
"""The same without noise, in bits."""
_MOST: Final = 45
"""Bits of a sum without noise: it is whole in fixed point."""
_POWERS: Final = 4
_SURE: Final = 2.0**-8
"""What a rank may be off in fixed point."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        quantiles: between 0 and 1.
        bins: of a histogram; a boolean, or an integer with fewer values, has one for each value.
    """

    quantiles: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1, max_length=100)] = (
        Field([0.25, 0.5, 0.75])
    )
    bins: Annotated[int, Field(ge=1, le=1000)] = 20


class Describe:
    """Each column by itself, wherever it is."""

    name: Final = "describe"
    title: Final = "count, mean, standard deviation, skewness, quantiles and histogram of columns"
    text: Final = (
        "Of numbers, integers and booleans, rows or columns split. Variance, skewness and excess kurtosis "
        "are those of a sample, as pandas has them. Quantiles are as numpy's, linear between neighbours, "
        "and to some 2^-14 of the width of the agreed bounds (integers and booleans with at most so many "
        "values: exact); of a column that may have missing values they are halfway between neighbours. "
        "Quantiles and the smallest and largest value that are told have at least as many rows on either "
        "side, themselves contained, as the agreement's smallest cell: an extreme value is somebody's. "
        "Histograms have equal bins between the agreed bounds; counts below the smallest cell are -1, and "
        "with them the smallest other one. How many values are missing is told exactly; where some "
        "are, but fewer than the smallest cell, the column is refused. Sums of the first "
        "four powers are opened. With differential privacy noise is added to sums and to the bins, smallest "
        "and largest are not told, and quantiles are read off the bins, with intervals that hold the noise "
        "and the width of the bins."
    )
    parameters: Final = Parameters
    by_column: Literal[True] = True
    takes_missing: Literal[True] = True
    example: Final = """\
analysis = "describe"
inputs = [
    { dataset = "north", columns = ["age", "weight"] },
    { dataset = "south", columns = ["age", "weight"] },
]
parameters = { quantiles = [0.1, 0.5, 0.9], bins = 12 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        columns = ", ".join(dict.fromkeys(column for one in job.inputs for column in one.columns))
        told = {
            "rows": "how many rows all data sets have together",
            "columns": f"the names of the columns ({columns}), in order",
            "count": "how many values of each column are there",
            "missing": "how many are missing",
            "mean": "of each column",
            "variance": "of each column, that of a sample",
            "standard_deviation": "its root",
            "skewness": "of each column; 0 where it is constant, or all but constant between its bounds",
            "kurtosis": "of each column, 0 for a normal distribution and where it is constant",
            "levels": "of the quantiles",
            "quantiles": "of each column, all levels, one column after the other",
            "bins": "how many each column's histogram has",
            "edges": "of the bins, one more than there are of each column, one column after the other",
            "histogram": "how many values are in each bin; -1 where that is suppressed",
        }
        if job.release.epsilon is None:
            return {
                **told,
                "smallest": "of each column, the smallest value that has enough others before it to be told",
                "largest": "the same, the largest",
            }
        return {
            **told,
            "histogram": "how many values are in each bin, with noise",
            "quantiles_low": "of each quantile, the lower end of a 95 % interval",
            "quantiles_high": "its upper end",
            "mean_low": "of each mean, the lower end of a 95 % confidence interval",
            "mean_high": "its upper end",
            "margin": "how far a count is from the true one, at most, in 95 % of cases",
            "noise": "of the noise in all means, all standard deviations, all skewnesses and all kurtoses, "
            "its standard deviation",
        }

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[Counted]:
        """See `TellsCells.cells`; how many values are missing is seen to in `finish`."""
        del parameters
        return singles(columns.values(), _POWERS + 1)

    def query(self, asked: Asked) -> Query:
        """See `Private.query`: of each column sums of four powers and the missing; then its cells."""
        whole = _checked(asked)
        columns = list(whole.columns.values())
        cells = self._cells(asked, whole)
        spans = [span(column, asked.noised) for column in columns]
        weight = _NOISED if asked.noised else 1
        grid = _NOISED if asked.noised else _finest(whole.rows)

        def contributions(given: Mapping[str, np.ndarray]) -> np.ndarray:
            rows = len(next(iter(given.values())))
            found = np.zeros((rows, (_POWERS + 1) * len(columns)), dtype=np.int64)
            for place, (column, (middle, half)) in enumerate(zip(columns, spans, strict=True)):
                if column.name in given:
                    values, there = values_of(column, given[column.name])
                    t = np.where(there, (values - middle) / half, 0.0)
                    for power in range(_POWERS):
                        found[:, (_POWERS + 1) * place + power] = np.rint(grid * t ** (power + 1))
                    found[:, (_POWERS + 1) * place + _POWERS] = weight * ~there
            return found

        def places(given: Mapping[str, np.ndarray]) -> np.ndarray:
            rows = len(next(iter(given.values())))
            found = np.full((rows, len(columns)), -1, dtype=np.int64)
            for place, (column, one) in enumerate(zip(columns, cells, strict=True)):
                if column.name in given:
                    values, there = values_of(column, given[column.name])
                    found[:, place] = np.where(there, one.place(np.where(there, values, one.low)), -1)
            return found

        def read(noised: Noised) -> Answer:
            return self._noised(asked, whole, noised, cells)

        low = np.tile([-grid] * _POWERS + [0], len(columns)).astype(np.int64)
        high = np.tile([grid] * _POWERS + [weight], len(columns)).astype(np.int64)
        sums = Query(low, high, contributions, read)
        return Tallied(
            sums=sums,
            tables=[one.bins if asked.noised else one.size for one in cells],
            places=places if not asked.noised else lambda given: _binned(cells, places(given)),
            weight=weight,
            read=read,
        )

    def finish(self, ctx: Context, sums: SharedTensor, asked: Asked) -> Mapping[str, SharedTensor]:
        """See `Finished.finish`."""
        import torch

        from mpcpriv.analyses.cells import suppress

        whole = _checked(asked)
        cells = self._cells(asked, whole)
        least, width = ctx.smallest_cell, _POWERS + 1
        if whole.rows < 2 * least - 1:
            raise UsageError(
                f"describe: {whole.rows} rows; {least} are needed on either side of each value that is told"
            )
        ranks = np.unique(np.clip(np.array(asked.parameters.quantiles) * (whole.rows - 1), least - 1, None))
        if least > 1 and (np.diff(ranks) < least - 1).any():
            raise UsageError(
                f"describe: two quantiles of {whole.rows} rows have fewer than {least} between them, the "
                "agreement's smallest cell; ask for fewer quantiles"
            )
        told: list[Any] = []
        ends: list[Any] = []
        histograms: list[Any] = []
        shown: list[Any] = []
        start = width * len(cells)
        given: Any = sums
        for place, (column, one) in enumerate(zip(whole.columns.values(), cells, strict=True)):
            powers = given[width * place : width * place + _POWERS]
            missing = given[width * place + _POWERS : width * (place + 1)]
            counts = given[start : start + one.size]
            start += one.size
            upto: Any = counts.cumsum(0).unsqueeze(1)
            bins = one.in_bins(counts)
            bins = suppress(bins, least) if least > 1 else bins
            if column.missing:
                valid: Any = whole.rows - missing
                # Also that a few are missing is a small count; that none are is not about anybody.
                over: Any = torch.cat([valid - (2 * least - 1.5), missing - (least - 0.5), missing - 0.5])
                reached: Any = over.ge(0) * 1
                enough: Any = reached[:1] * (1 + reached[1:2] - reached[2:])
                powers, missing, bins = powers * enough, missing * enough, bins * enough
                ends.append(self._secret(upto, valid, asked, least) * enough)
                shown.append(enough)
            else:
                ends.append(self._public(upto, whole.rows, asked, least))
            told += [powers, missing]
            histograms.append(bins)
        opened = {"sums": told, "quantiles": ends, "histogram": histograms, "shown": shown}
        found: dict[str, Any] = {name: torch.cat(parts) for name, parts in opened.items() if parts}
        return found

    def _public(self, upto: Any, rows: int, asked: Asked, least: int) -> Any:
        """In which cells the quantiles, the smallest and the largest value are; ranks are public."""
        import torch

        levels = torch.tensor([*asked.parameters.quantiles, 0.0, 1.0], dtype=torch.float64)
        ranks = (levels * (rows - 1)).clamp(least - 1, rows - least)
        # A cell is before the value of this rank, counted from 0, if no more values are up to its end.
        lower = upto.lt(ranks.floor().unsqueeze(0) + 0.5).sum(0)
        upper = upto.lt(ranks.ceil().unsqueeze(0) + 0.5).sum(0)
        return lower + (upper - lower) * (ranks - ranks.floor())

    def _secret(self, upto: Any, valid: Any, asked: Asked, least: int) -> Any:
        """The same where ranks are not public; halfway between neighbours."""
        import torch

        levels = torch.tensor([*asked.parameters.quantiles, 0.0, 1.0], dtype=torch.float64)
        ranks: Any = (valid - 1) * levels
        low, high = least - 1.0, valid - least
        ranks = ranks + ranks.lt(low) * (low - ranks)
        ranks = (ranks + ranks.gt(high) * (high - ranks)).unsqueeze(0)
        # Counts are whole, ranks are not quite.
        lower, upper = upto.lt(ranks + _SURE).sum(0), upto.lt(ranks + (1 - _SURE)).sum(0)
        return (lower + upper) * 0.5

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        whole = _checked(asked)
        cells = self._cells(asked, whole)
        sums = opened["sums"].reshape(len(cells), _POWERS + 1)
        missing = np.rint(sums[:, _POWERS]).astype(int)
        may = [name for name, column in whole.columns.items() if column.missing]
        for name, shown in zip(may, opened.get("shown", ()), strict=True):
            if not round(float(shown)):
                raise UsageError(
                    f"describe: column {name!r} has too few values, or a few that are missing, for the "
                    "agreement's smallest cell; leave it out"
                )
        grid = _finest(whole.rows)
        moments = self._moments(whole, sums[:, :_POWERS] / grid, missing, 1 / grid)
        ends = opened["quantiles"].reshape(len(cells), -1)
        values = [one.value(some) for one, some in zip(cells, ends, strict=True)]
        return {
            **self._told(asked, whole, cells, missing.tolist(), moments),
            "quantiles": [float(value) for some in values for value in some[:-2]],
            "smallest": [float(some[-2]) for some in values],
            "largest": [float(some[-1]) for some in values],
            "histogram": np.rint(opened["histogram"]).astype(int).tolist(),
        }

    def _moments(
        self, whole: Outline, sums: np.ndarray, missing: np.ndarray, rounding: float
    ) -> list[Moments]:
        found = []
        for place, column in enumerate(whole.columns.values()):
            count = whole.rows - float(missing[place])
            if count < _POWERS:
                raise UsageError(
                    f"describe: column {column.name!r} has {max(count, 0):g} values; {_POWERS} are needed"
                )
            middle, half = span(column, not rounding)
            found.append(Moments(count, middle, half, sums[place], rounding))
        return found

    def _told(
        self, asked: Asked, whole: Outline, cells: Sequence[Cells], missing: list[Any], moments: list[Moments]
    ) -> dict[str, Any]:
        told = np.array([one.told() for one in moments])
        return {
            "rows": whole.rows,
            "columns": list(whole.columns),
            "count": [whole.rows - one for one in missing],
            "missing": missing,
            "mean": told[:, 0].tolist(),
            "variance": (told[:, 1] ** 2).tolist(),
            "standard_deviation": told[:, 1].tolist(),
            "skewness": told[:, 2].tolist(),
            "kurtosis": told[:, 3].tolist(),
            "levels": list(asked.parameters.quantiles),
            "bins": [one.bins for one in cells],
            "edges": [float(edge) for one in cells for edge in one.edges],
        }

    def _noised(self, asked: Asked, whole: Outline, noised: Noised, cells: Sequence[Cells]) -> Answer:
        size = (_POWERS + 1) * len(cells)
        values = noised.values / _NOISED
        deviation = noised.deviation / _NOISED
        sums = values[:size].reshape(len(cells), _POWERS + 1)
        may = np.array([bool(column.missing) for column in whole.columns.values()])
        missing = np.where(may, np.clip(np.rint(sums[:, _POWERS]), 0, whole.rows - _POWERS), 0)
        moments = self._moments(whole, sums[:, :_POWERS], missing, 0.0)
        noise = np.array([one.noise(deviation) for one in moments])
        told = self._told(asked, whole, cells, [int(one) for one in missing], moments)
        sampled = np.array(told["variance"]) / np.array(told["count"])
        margin = quantile() * np.sqrt(sampled + noise[:, 0] ** 2)
        ends, start = [], size
        for place, one in enumerate(cells):
            counts = values[start : start + one.bins]
            start += one.bins
            count, levels = moments[place].count, asked.parameters.quantiles
            ends.append(noised_quantiles(one.edges, counts, count, deviation, levels))
        best, low, high = np.stack(ends, axis=1).reshape(3, -1)
        return {
            **told,
            "quantiles": best.tolist(),
            "quantiles_low": low.tolist(),
            "quantiles_high": high.tolist(),
            "histogram": np.rint(values[size:]).astype(int).tolist(),
            "mean_low": (np.array(told["mean"]) - margin).tolist(),
            "mean_high": (np.array(told["mean"]) + margin).tolist(),
            "margin": quantile() * deviation,
            "noise": noise.T.flatten().tolist(),
        }

    def _cells(self, asked: Asked, whole: Outline) -> list[Cells]:
        return [Cells.of(column, asked.parameters.bins) for column in whole.columns.values()]

    def run(
        self, ctx: Context, inputs: Mapping[str, table.Table], parameters: Any
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`; no job comes here, for each sum is about one column.

        Raises:
            Unsupported: always.
        """
        del ctx, inputs, parameters
        raise Unsupported("describe: it is computed from sums")

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        names, levels = some["columns"], some["levels"]
        quantiles = np.array(some["quantiles"]).reshape(len(names), len(levels))
        columns: dict[str, Any] = {"": names, "count": some["count"], "missing": some["missing"]}
        columns |= {"mean": some["mean"], "std": some["standard_deviation"]}
        if "smallest" in some:
            columns["smallest"] = some["smallest"]
        columns |= {f"{100 * level:g}%": quantiles[:, place].tolist() for place, level in enumerate(levels)}
        if "largest" in some:
            columns["largest"] = some["largest"]
        columns |= {"skewness": some["skewness"], "kurtosis": some["kurtosis"]}
        shown: list[Shown] = [Table("Columns", columns)]
        edge = bar = 0
        for name, bins in zip(names, some["bins"], strict=True):
            heights = [max(height, 0) for height in some["histogram"][bar : bar + bins]]
            shown.append(Histogram(name, name, some["edges"][edge : edge + bins + 1], heights))
            edge, bar = edge + bins + 1, bar + bins
        return shown


def _binned(cells: Sequence[Cells], places: np.ndarray) -> np.ndarray:
    """The bins of these cells; -1 stays."""
    columns = [
        np.where(places[:, i] >= 0, one.bin_of[places[:, i]], -1).astype(np.int64)
        for i, one in enumerate(cells)
    ]
    return np.stack(columns, axis=1)


def _finest(rows: int) -> int:
    """What a value at the end of its bounds contributes to a sum over so many rows, without noise."""
    return 1 << min(_FINEST, _MOST - math.ceil(math.log2(rows)))


def _checked(asked: Asked) -> Outline:
    whole, _ = together(asked.tables)
    for name, column in whole.columns.items():
        if column.type == "category":
            raise UsageError(f"describe: column {name!r} is a category; count-by-category counts those")
    if whole.rows < _POWERS:
        raise UsageError(f"describe: it needs {_POWERS} rows")
    return whole


ANALYSIS: Final = Describe()
