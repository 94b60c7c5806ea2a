"""Least squares of one column on all others, from sums of products: what linear models have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.analyses.analysis import Answer, Asked, Context
from mpcpriv.analyses.cross_products import OfCrossProducts, Sums
from mpcpriv.analyses.feature import Feature, regressors
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.query import Query
from mpcpriv.errors import UsageError

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

_OWN_PART: Final = 1e-6
"""Of a feature's variance, what the features before it must leave: its variance inflation is below 10^6."""
_RESIDUAL: Final = 1e-9
"""Of the target's variance, what the features must leave."""
_TINY: Final = 1e-11
"""Of a sum of squares, what cancels in float64."""


@dataclass(frozen=True)
class Moments:
    """The features, and behind them the target, about their means.

    x = centre + unit * z are numbers in the units of the data.

    Attributes:
        rows: n.
        names: of the d features.
        target: its name.
        centre, unit, mean: (d + 1,); the means are those of z.
        beyond: (d + 1, d + 1), sums of products of what z is beyond its means.
        deviation: of the noise in each sum of products of z; 0 without noise.
        rounding: the largest error of each.
    """

    rows: int
    names: tuple[str, ...]
    target: str
    centre: np.ndarray
    unit: np.ndarray
    mean: np.ndarray
    beyond: np.ndarray
    deviation: float
    rounding: float

    @classmethod
    def of(cls, sums: Sums, target: str) -> Moments:
        """Of a column on all others."""
        last = sums.names.index(target)
        order = [place for place in range(len(sums.names)) if place != last] + [last]
        mean, beyond = sums.of_z()
        return cls(
            rows=sums.rows,
            names=tuple(sums.names[place] for place in order[:-1]),
            target=target,
            centre=sums.centre[order],
            unit=sums.unit[order],
            mean=mean[order],
            beyond=beyond[np.ix_(order, order)],
            deviation=sums.deviation,
            rounding=sums.rounding,
        )

    @property
    def gram(self) -> np.ndarray:
        """Of the features, (d, d)."""
        found: np.ndarray = self.beyond[:-1, :-1]
        return found

    @property
    def cross(self) -> np.ndarray:
        """Of the features with the target, (d,)."""
        found: np.ndarray = self.beyond[:-1, -1]
        return found

    def spread(self) -> np.ndarray:
        """Of z, standard deviations of the features (divided by n), (d,)."""
        spread: np.ndarray = np.sqrt(np.clip(np.diag(self.gram), 0, None) / self.rows)
        return spread

    def residual(self, slopes: np.ndarray) -> float:
        """The sum of squared residuals of z for these slopes."""
        weights = np.append(-slopes, 1.0)
        return float(weights @ self.beyond @ weights)

    def intercept(self, slopes: np.ndarray) -> float:
        """Of z, with which residuals of these slopes have mean 0."""
        return float(self.mean[-1] - self.mean[:-1] @ slopes)

    def units(self) -> np.ndarray:
        """What takes intercept and slopes of z to those of x, but for the target's centre: (d + 1, d + 1)."""
        change = np.diag(self.unit[-1] / np.append(1.0, self.unit[:-1]))
        change[0, 1:] = -self.unit[-1] * self.centre[:-1] / self.unit[:-1]
        return change

    def of_x(self, slopes: np.ndarray) -> tuple[float, np.ndarray]:
        """Intercept and slopes in the units of the data."""
        found = self.units() @ np.append(self.intercept(slopes), slopes)
        return float(self.centre[-1] + found[0]), found[1:]

    def positive(self) -> Moments:
        """The nearest that a real table could have: without noise's negative eigenvalues."""
        values, vectors = np.linalg.eigh(self.beyond)
        return replace(self, beyond=(vectors * np.clip(values, 0, None)) @ vectors.T)

    def varying(self, analysis: str) -> None:
        """Whether no column is constant.

        Raises:
            UsageError: one is; `analysis` is who asks.
        """
        own = np.diag(self.beyond)
        squares = own + self.rows * self.mean**2
        for name, some, all_ in zip((*self.names, self.target), own, squares, strict=True):
            if some <= _TINY * all_ + 4 * self.rounding:
                raise UsageError(f"{analysis}: column {name!r} is constant; leave it out")

    def determined(self, analysis: str) -> None:
        """Whether each coefficient is determined by the data, and the target is not.

        Raises:
            UsageError: a column is constant, or follows from those before it; `analysis` is who asks.
        """
        self.varying(analysis)
        columns, own = (*self.names, self.target), np.diag(self.beyond)
        spread = np.sqrt(own)
        scaled = self.beyond / np.outer(spread, spread)
        lower = np.zeros_like(scaled)
        for place, name in enumerate(columns):
            row = np.zeros(place)
            for before in range(place):
                row[before] = scaled[place, before] - row[:before] @ lower[before, :before]
                row[before] /= lower[before, before]
            left = scaled[place, place] - row @ row
            least = _OWN_PART if place < len(self.names) else _RESIDUAL
            if left <= least + 4 * (place + 1) * self.rounding / own[place]:
                weights = np.linalg.solve(lower[:place, :place].T, row)
                others = [repr(columns[one]) for one in np.flatnonzero(np.abs(weights) > 1e-3)]
                raise UsageError(
                    f"{analysis}: column {name!r} follows from {', '.join(others)}; leave one of them out"
                )
            lower[place, :place], lower[place, place] = row, np.sqrt(left)


class OfTarget(OfCrossProducts):
    """A linear model of one column, `parameters.target`, on all others; categories count as yes-or-nos.

    Attributes:
        penalised: whether a penalty determines coefficients that too few rows do not.
    """

    penalised: bool = False

    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """See `Derived.features`."""
        target = table.columns.get(parameters.target)
        if target is not None and target.type == "category":
            raise UsageError(
                f"{self.name}: target {target.name!r} is a category; a number or a boolean is needed"
            )
        return regressors(table.columns)

    @abstractmethod
    def model(self, asked: Asked, moments: Moments) -> Answer:
        """See `OfCrossProducts.tell`."""

    def tell(self, asked: Asked, sums: Sums) -> Answer:
        """See `OfCrossProducts.tell`."""
        # Where nobody knew how many rows there are, this is the first to know.
        self._enough(sums.rows, sums.names, asked.parameters.target)
        return self.model(asked, Moments.of(sums, asked.parameters.target))

    def query(self, asked: Asked) -> Query:
        """See `Private.query`."""
        whole, _ = together(asked.tables)
        names = [one.terms.name for one in self._all(asked)]
        self._enough(whole.rows, names, asked.parameters.target)
        return super().query(asked)

    def run(self, ctx: Context, inputs: Mapping[str, Table], parameters: Any) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        whole, _ = together({name: one.outline for name, one in inputs.items()})
        self._enough(whole.rows, list(whole.columns), parameters.target)
        return super().run(ctx, inputs, parameters)

    def _enough(self, rows: int, names: Sequence[str], target: str) -> None:
        if target not in names:
            raise UsageError(f"{self.name}: target {target!r} is none of the columns {', '.join(names)}")
        if len(names) < 2:
            raise UsageError(f"{self.name}: there is no column but the target; name others, too")
        if rows < 2:
            raise UsageError(f"{self.name}: it needs two rows")
        if rows <= len(names) and not self.penalised:
            raise UsageError(
                f"{self.name}: {rows} rows, and {len(names)} coefficients with the intercept; more rows than "
                "that are needed"
            )


def told_of(job_inputs: Sequence[Any], target: Any) -> str:
    """The columns of a job but its target, in words."""
    return ", ".join(dict.fromkeys(one for some in job_inputs for one in some.columns if one != target))
