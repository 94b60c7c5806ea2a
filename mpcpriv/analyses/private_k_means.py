"""Clusters with differential privacy: rows are counted on a public grid, with noise, and the cells clustered.

Owners count their own rows, the counts are added up under masks, and noise comes on top, once. All else is
k-means on the cells' centres, at the recipients: it costs no privacy, whatever the starts and steps.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.described import Cells
from mpcpriv.analyses.inference import quantile
from mpcpriv.analyses.outline import together
from mpcpriv.analyses.public_draws import uniform
from mpcpriv.analyses.query import Grouped, Noised, Query
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.data.scale import Scale
from mpcpriv.documents import Document
from mpcpriv.errors import Unsupported, UsageError
from mpcpriv.job.model import Job

_MOST: Final = 1 << 14
"""Cells in all."""
_GRID: Final = 1 << 14
"""A row counts for so much in its cell: noise is discrete, and finer than a row."""
_STEPS: Final = 300
"""Of Lloyd's iteration, which ends by itself long before."""
_DISTANCES: Final = 1 << 23
"""In one step of all starts: cells by starts by clusters."""


class Parameters(Document):
    """What a job can set; all of it is fixed before the data are seen.

    Attributes:
        clusters: how many.
        cells: into how many a column is cut, between its agreed bounds; an integer with fewer values, or a
            boolean, has one for each. Left out, it follows from the number of rows and epsilon.
        starts: from how many choices of first centres; the best end is told.
        seed: of the public choice of the cells that are the first centres.
    """

    clusters: Annotated[int, Field(ge=2, le=64)]
    cells: Annotated[int, Field(ge=2, le=_MOST)] | None = None
    starts: Annotated[int, Field(ge=1, le=32)] = 8
    seed: Annotated[int, Field(ge=0, le=2**31)] = 0


class PrivateKMeans:
    """Of all rows, where they are split."""

    name: Final = "private-k-means"
    title: Final = "clusters of rows by k-means, with differential privacy: their centres and sizes"
    text: Final = (
        "EUGkM of Su, Cao, Li, Bertino and Jin (CODASPY 2016): the agreed bounds are cut into a grid of "
        "equal cells, public beforehand, 2^14 at most; rows are counted in each, and noise is added to every "
        "count, of empty cells too. One row changes one count by one. Opened are the noised counts; the "
        "recipients cluster the cells' centres (Lloyd's iteration, 1982, from cells drawn by `seed` and "
        "weight). A cell weighs as many rows as were counted, less what makes all that stay above 0 add up "
        "to the number of rows (Norm-Sub of Wang et al., NDSS 2020; not in the paper). `cells` is for each "
        "column; left out, it is the paper's (rows * epsilon / 10)^(2 / (2 + columns)). More make noise of "
        "most counts, fewer blur the centres. So it is for few columns, 1 to 3, and bounds no wider than "
        "need be. Numbers, integers and booleans. Distances are of columns divided by an eighth of the "
        "widths of their agreed bounds (`scale`; of an integer by the next power of two, of a boolean by 1). "
        "Rows split; with columns split no owner knows a row's cell. Without noise it is refused: that is "
        "`k-means`."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "private-k-means"
inputs = [
    { dataset = "north", columns = ["age", "weight"] },
    { dataset = "south", columns = ["age", "weight"] },
]
parameters = { clusters = 3, cells = 12 }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            "columns": "the names of the columns, in order",
            "cells": "into how many cells each column was cut",
            "sizes": "how many rows are in each cluster, with noise, from the largest on; at least 0",
            "margins": "how far each is from the true count of its cells, at most, in 95 % of cases",
            "centres": "of each cluster, the mean of each column, with noise, cluster by cluster",
            "centre_margins": "how far the noise moves each of these in about 95 % of cases, to first order, "
            "had the same cells been in the cluster; where it outweighs the rows that is too little",
            "inertia": "the sum over cells of weights times squared distances of the cell's centre to the "
            "nearest centre, in units of `scale`: not that of the rows",
            "scale": "what each column is divided by, by its agreed bounds, before distances are taken",
            "noise": "of the noise in the count of a cell, its standard deviation",
            "iterations": "how many steps the best start made",
            "converged": "whether (1) or not (0) its last step left every cell where it was",
        }

    def query(self, asked: Asked) -> Query:
        """See `Private.query`: a row is in one cell."""
        whole, split = together(asked.tables)
        if split == "columns split":
            raise Unsupported(
                f"{self.name}: each owner counts its own rows, so all columns must be in one table; where "
                "columns are split, ask for k-means"
            )
        if asked.epsilon is None:
            raise Unsupported(
                f"{self.name}: it is released with noise only; ask for an epsilon, or for k-means"
            )
        grid = Grid.of(whole.columns, whole.rows, asked.epsilon, asked.parameters)

        def contributions(columns: Mapping[str, np.ndarray]) -> Grouped:
            places = grid.places(columns)
            return Grouped(places, np.full((len(places), 1), _GRID, dtype=np.int64))

        def read(noised: Noised) -> Answer:
            counts, deviation = noised.values / _GRID, noised.deviation / _GRID
            found = self._clustered(grid, counts, deviation, whole.rows, asked.parameters)
            return {"rows": whole.rows, "columns": list(whole.columns), **found}

        nothing = np.zeros(grid.size, dtype=np.int64)
        return Query(nothing, nothing + _GRID, contributions, read, groups=grid.size, grid=_GRID)

    def _clustered(
        self, grid: Grid, counts: np.ndarray, deviation: float, rows: int, parameters: Parameters
    ) -> dict[str, Any]:
        weights = nonnegative(counts, rows)
        if np.count_nonzero(weights) < parameters.clusters:
            raise UsageError(
                f"{self.name}: with the noise, fewer than {parameters.clusters} cells have rows; ask for "
                "fewer clusters or a larger epsilon, or for more cells where they are few"
            )
        points = grid.centres() / grid.scale
        ends = [lloyd(points, weights, points[one]) for one in first_cells(weights, parameters)]
        best = min(ends, key=lambda one: one.inertia)
        # Not of weights: of many empty cells, the noise above 0 and below it cancels.
        sizes = np.clip(np.bincount(best.labels, counts, parameters.clusters), 0, None)
        among = np.bincount(best.labels, minlength=parameters.clusters)
        order = np.argsort(-sizes, kind="stable")
        # d centre / d count = (point - centre) / weight of the cluster.
        apart = np.square(points - best.centres[best.labels]).T
        spread = np.sqrt([np.bincount(best.labels, one, parameters.clusters) for one in apart]).T
        weight = np.bincount(best.labels, weights, parameters.clusters)[:, None]
        moved = quantile() * deviation * spread / np.where(weight > 0, weight, 1) * grid.scale
        return {
            "cells": [one.bins for one in grid.cells],
            "sizes": np.rint(sizes[order]).astype(int).tolist(),
            "margins": (quantile() * deviation * np.sqrt(among[order])).tolist(),
            "centres": (best.centres[order] * grid.scale).flatten().tolist(),
            "centre_margins": moved[order].flatten().tolist(),
            "inertia": best.inertia,
            "scale": grid.scale.tolist(),
            "noise": deviation,
            "iterations": best.steps,
            "converged": int(best.converged),
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        centres = np.reshape(some["centres"], (-1, len(some["columns"])))
        names = [f"{place + 1}" for place in range(len(centres))]
        columns: dict[str, Any] = {"cluster": names, "rows": some["sizes"], "±": some["margins"]}
        margins = np.reshape(some["centre_margins"], centres.shape)
        for place, name in enumerate(some["columns"]):
            columns |= {name: centres[:, place].tolist(), f"± {name}": margins[:, place].tolist()}
        cells = " x ".join(map(str, some["cells"]))
        notes = [
            f"on a grid of {cells} cells; noise in each count: standard deviation {some['noise']:.3g}",
            f"inertia of the noised cells {some['inertia']:.6g}",
        ]
        notes += [] if some["converged"] else [f"not converged in {_STEPS} steps"]
        bars = Bars("Sizes of clusters", names, some["sizes"], some["margins"])
        return [Table("Clusters", columns, notes), bars]


@dataclass(frozen=True)
class Grid:
    """Cells of several columns; the last one's vary fastest.

    Attributes:
        columns: their names.
        cells: of each, its cells: the bins of a histogram.
        scale: (d,), what distances along each are divided by.
    """

    columns: tuple[str, ...]
    cells: tuple[Cells, ...]
    scale: np.ndarray

    @classmethod
    def of(
        cls, columns: Mapping[str, ColumnTerms], rows: int, epsilon: float, parameters: Parameters
    ) -> Grid:
        """From what is public.

        Raises:
            UsageError: a column is a category, or has no bounds; or there are too many cells, or fewer than
                clusters, or too many for so many starts.
        """
        name = PrivateKMeans.name
        for column in columns.values():
            if column.type == "category":
                raise UsageError(f"{name}: column {column.name!r} is a category; give a boolean for each")
        each = parameters.cells or usual(rows, epsilon, len(columns))
        cells = tuple(Cells.of(column, each) for column in columns.values())
        found = cls(tuple(columns), cells, np.array([Scale.of(one).unit for one in columns.values()]))
        if found.size > _MOST:
            raise UsageError(
                f"{name}: {each} cells for each of {len(columns)} columns are {found.size} in all, more than "
                f"{_MOST}; ask for fewer" + ("" if each > 2 else " columns")
            )
        if found.size < parameters.clusters:
            raise UsageError(
                f"{name}: {parameters.clusters} clusters of {found.size} cells; ask for more cells"
            )
        if found.size * parameters.starts * parameters.clusters > _DISTANCES:
            raise UsageError(
                f"{name}: {found.size} cells times {parameters.starts} starts times {parameters.clusters} "
                f"clusters are more than {_DISTANCES}; ask for fewer starts"
            )
        return found

    @property
    def shape(self) -> tuple[int, ...]:
        """How many cells each column has."""
        return tuple(one.bins for one in self.cells)

    @property
    def size(self) -> int:
        """How many cells there are."""
        return math.prod(self.shape)

    def places(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Of each row its cell, int64 (rows,)."""
        bins = [
            one.bin_of[one.place(columns[name])] for name, one in zip(self.columns, self.cells, strict=True)
        ]
        found: np.ndarray = np.ravel_multi_index(bins, self.shape).astype(np.int64)
        return found

    def centres(self) -> np.ndarray:
        """(size, d), in the units of the data: of whole numbers, the mean of those in a cell."""
        middles = [
            np.bincount(one.bin_of, one.value(np.arange(one.size))) / np.bincount(one.bin_of)
            for one in self.cells
        ]
        found: np.ndarray = np.stack([one.ravel() for one in np.meshgrid(*middles, indexing="ij")], axis=1)
        return found


def usual(rows: int, epsilon: float, columns: int) -> int:
    """Cells for each column, by the rule of Su et al.: in all, (rows * epsilon / 10)^(2d / (2 + d))."""
    most = int(_MOST ** (1 / columns) + 1e-9)
    return int(max(2, min(most, round((rows * epsilon / 10) ** (2 / (2 + columns))))))


def nonnegative(counts: np.ndarray, rows: int) -> np.ndarray:
    """The nearest numbers to the counts, (n,), of which none is below 0 and that add up to `rows`.

    Norm-Sub: Wang, Lopuhaä-Zwakenberg, Li, Skoric, Li, "Locally Differentially Private Frequency Estimation
    with Consistency", NDSS 2020. Were only what is below 0 cut off, empty cells would add up to many rows and
    draw all centres to the middle of the bounds.
    """
    falling = -np.sort(-counts)
    less = (np.cumsum(falling) - rows) / np.arange(1, len(counts) + 1)
    stay = max(int(np.count_nonzero(falling > less)), 1)
    found: np.ndarray = np.clip(counts - less[stay - 1], 0, None)
    return found


def first_cells(weights: np.ndarray, parameters: Parameters) -> np.ndarray:
    """Which cells are the first centres, (starts, clusters): heavy ones are likelier.

    A draw without replacement by weight (Efraimidis and Spirakis, "Weighted random sampling with a
    reservoir", Information Processing Letters 97, 2006), from public numbers: the weights are known already.
    """
    draws = uniform(f"first cells {parameters.seed}", (parameters.starts, len(weights)))
    with np.errstate(divide="ignore"):
        arrival = -np.log(draws) / weights  # never, without weight
    found: np.ndarray = arrival.argsort(axis=1, kind="stable")[:, : parameters.clusters]
    return found


@dataclass(frozen=True)
class End:
    """Where Lloyd's iteration ended.

    Attributes:
        centres: (clusters, d).
        labels: (n,), of each point its cluster.
        inertia: the sum of weighted squared distances.
        steps: how many there were.
        converged: whether the last one left each point where it was.
    """

    centres: np.ndarray
    labels: np.ndarray
    inertia: float
    steps: int
    converged: bool


def lloyd(points: np.ndarray, weights: np.ndarray, centres: np.ndarray) -> End:
    """Lloyd's iteration on weighted points; a cluster that loses all weight stays where it was.

    Args:
        points: (n, d).
        weights: (n,), none below 0.
        centres: (clusters, d), the first.
    """
    labels, apart = _nearest(points, centres)
    step, moved = 0, True
    while moved and step < _STEPS:
        total = np.bincount(labels, weights, len(centres))
        sums = np.stack([np.bincount(labels, weights * one, len(centres)) for one in points.T], axis=1)
        there = total > 0
        centres = np.where(there[:, None], sums / np.where(there, total, 1)[:, None], centres)
        before = labels
        labels, apart = _nearest(points, centres)
        step, moved = step + 1, not np.array_equal(labels, before)
    # Rounded once, whatever the order, or recipients could take different starts for the best.
    return End(centres, labels, math.fsum(weights * apart), step, not moved)


def _nearest(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each point the nearest centre, of equally near ones the first; and the squared distance to it."""
    apart = np.zeros((len(points), len(centres)))
    for of_points, of_centres in zip(points.T, centres.T, strict=True):
        apart += np.square(of_points[:, None] - of_centres)
    return apart.argmin(axis=1), apart.min(axis=1)


ANALYSIS: Final = PrivateKMeans()
