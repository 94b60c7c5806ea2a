"""Analyses that are functions of sums over rows: of each feature, and of each product of two.

Means, variances, correlations, least squares and principal components are functions of these sums, and most
of their reports determine the sums in turn: so the sums are opened, to the recipients only, and everything
else is computed from them in float64. Where rows are split each owner sums its own, in whole numbers and
exactly; where columns are split the products of one owner's features with another's are one product of shared
matrices.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.feature import Feature, span
from mpcpriv.analyses.outline import Outline, together
from mpcpriv.analyses.query import Noised, Query
from mpcpriv.analyses.told import Cells, pairs
from mpcpriv.data.scale import Scale
from mpcpriv.errors import Unsupported

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

_FINEST: Final = 24
"""Bits after the point of a feature between -1 and 1."""
_NOISED: Final = 14
"""The same beneath noise, which is many times as wide as what is lost."""
_UNIT: Final = 2.0**-16
"""Of fixed point: what a product of shared vectors may be off."""
_MOST: Final = 61
"""Bits of a sum, and of the magnitudes that a row adds."""


@dataclass(frozen=True)
class Sums:
    """Sums over all rows, of features z of about 1: x = centre + unit * z are those in the units of the data.

    Attributes:
        rows: n.
        names: of the d features.
        centre, unit: (d,).
        products: (d + 1, d + 1), symmetric: the sums of z_i * z_j, with z_0 = 1; exact up to rounding of z.
        deviation: of the noise in each of `products`, its standard deviation; 0 without noise.
        rounding: the largest error of each of `products`, given z.
    """

    rows: int
    names: tuple[str, ...]
    centre: np.ndarray
    unit: np.ndarray
    products: np.ndarray
    deviation: float = 0.0
    rounding: float = 0.0

    def of_z(self) -> tuple[np.ndarray, np.ndarray]:
        """Means (d,) of z, and sums (d, d) of products of what z is beyond them."""
        means = self.products[0, 1:] / self.rows
        return means, self.products[1:, 1:] - self.rows * np.outer(means, means)

    def means(self) -> np.ndarray:
        """Of x, (d,)."""
        means: np.ndarray = self.centre + self.unit * self.of_z()[0]
        return means

    def covariance(self) -> np.ndarray:
        """Of x, that of a sample (divided by n - 1), (d, d)."""
        covariance: np.ndarray = np.outer(self.unit, self.unit) * self.of_z()[1] / (self.rows - 1)
        return covariance


class OfCrossProducts(ABC):
    """An analysis that is a function of `Sums`.

    It is `Derived`, `Private`, `OverSecretRows` and `TellsCells`.
    """

    name: str
    over_secret_rows: Final = True  # rows of zeros add nothing to a sum

    @abstractmethod
    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """See `Derived.features`."""

    @abstractmethod
    def tell(self, asked: Asked, sums: Sums) -> Answer:
        """What the recipients are told.

        Args:
            asked: what is public.
            sums: with noise where `asked.noised`.

        Raises:
            UsageError: nothing can be told from them.
        """

    def cells(self, columns: Mapping[str, ColumnTerms], parameters: Any) -> Sequence[Cells]:
        """See `TellsCells.cells`."""
        del parameters
        return pairs(columns.values())

    def run(self, ctx: Context, inputs: Mapping[str, Table], parameters: Any) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.analyses.table import together as put_together

        del ctx, parameters
        whole, _ = put_together(inputs)
        z = torch.stack([column.shared for column in whole.columns.values()], dim=1)
        # A product of vectors is truncated once, after its sum: exact to one unit, for any number of rows.
        products: Any = z.t().matmul(z)
        return {"sums": z.sum(0), "products": products.flatten()}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        features = self._all(asked)
        scales = [Scale.of(one.terms) for one in features]
        centre, unit = np.array([one.centre for one in scales]), np.array([one.unit for one in scales])
        rows, size = together(asked.tables)[0].rows, len(features)
        products = np.empty((size + 1, size + 1))
        products[0, 0] = rows
        products[0, 1:] = products[1:, 0] = opened["sums"]
        products[1:, 1:] = opened["products"].reshape(size, size)
        return self.tell(asked, Sums(rows, _names(features), centre, unit, products, rounding=_UNIT))

    def query(self, asked: Asked) -> Query:
        """See `Private.query`: products of features within [-1, 1]."""
        whole, split = together(asked.tables)
        if split == "columns split":
            raise Unsupported(
                f"analysis {self.name}: where columns are split, products of different owners' columns are "
                "computed on shares, and it cannot be released with differential privacy; leave epsilon out"
            )
        features = self._all(asked)
        centre, unit = np.array([span(one.terms, asked.noised) for one in features]).T
        first, second = np.triu_indices(len(features) + 1)
        bits = min(
            _NOISED if asked.noised else _FINEST,
            (_MOST - math.ceil(math.log2(max(whole.rows, len(first))))) // 2,
        )
        most = np.full(len(first), 1 << 2 * bits, dtype=np.int64)

        def contributions(columns: Mapping[str, np.ndarray]) -> np.ndarray:
            z = np.stack([one.values(columns) for one in features], axis=1)
            grid = np.rint(np.ldexp((z - centre) / unit, bits)).astype(np.int64)
            grid = np.concatenate([np.full((len(grid), 1), 1 << bits), grid], axis=1)
            found: np.ndarray = grid[:, first] * grid[:, second]
            return found

        def read(noised: Noised) -> Answer:
            products = np.empty((len(features) + 1,) * 2)
            products[first, second] = products[second, first] = np.ldexp(noised.values, -2 * bits)
            products[0, 0] = whole.rows  # public, and so better than with noise
            deviation = math.ldexp(noised.deviation, -2 * bits)
            return self.tell(asked, Sums(whole.rows, _names(features), centre, unit, products, deviation))

        return Query(-most, most, contributions, read)

    def _all(self, asked: Asked) -> list[Feature]:
        """Of all tables together, in the order in which they are put together."""
        _, split = together(asked.tables)
        tables = list(asked.tables.values())
        some = tables if split == "columns split" else tables[:1]
        return [one for table in some for one in self.features(table, asked.parameters)]


def _names(features: Sequence[Feature]) -> tuple[str, ...]:
    return tuple(one.terms.name for one in features)
