"""Principal components, from covariances or correlations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from pydantic import Field

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.cross_products import OfCrossProducts, Sums
from mpcpriv.analyses.feature import Feature, regressors
from mpcpriv.analyses.outline import Outline
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job

_TINY: Final = 1e-11
"""Of a column's sum of squares, what cancels in float64."""
_BEYOND: Final = 0.05
"""How probable it may be that noise moves an eigenvalue further than is said."""


class Parameters(Document):
    """What a job can set.

    Attributes:
        components: how many are told; all where it is left out.
        standardise: whether columns are divided by their standard deviations before: components of the
            correlations, in the place of those of the covariances.
    """

    components: Annotated[int, Field(ge=1)] | None = None
    standardise: bool = False


class PrincipalComponents(OfCrossProducts):
    """Eigenvectors of the covariance matrix."""

    name: Final = "pca"
    title: Final = "principal components: the directions in which rows differ most"
    text: Final = (
        "Eigenvectors and eigenvalues of the covariances of all columns (divided by rows - 1), or with "
        "`standardise` of their correlations, as R's prcomp with scale. = TRUE. Sums over all rows of each "
        "column and of each product of two are opened; everything else is computed from them at the "
        "recipients in float64. The sign of a component is such that its largest weight is positive, which "
        "is scikit-learn's since 1.5. Components whose variances are nearly equal are any in the plane that "
        "they span. A category counts as a yes-or-no for each of its categories but the first. With "
        "differential privacy noise is added to all sums, and the answer says how far that moves a variance "
        "(Weyl) and turns a component (Davis and Kahan; Dwork, Talwar, Thakurta, Zhang, STOC 2014), to "
        "first order in the noise and taking the gaps between variances that are seen for the true ones."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "pca"
inputs = [
    { dataset = "north", columns = ["age", "weight", "pressure"] },
    { dataset = "south", columns = ["age", "weight", "pressure"] },
]
parameters = { components = 2, standardise = true }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            "rows": "how many rows all data sets have together",
            "columns": "the names of the columns, in order",
            "mean": "the mean of each column",
            "scale": "what each column is divided by: its standard deviation, or 1",
            "components": "each component's weights of the columns, one component after the other",
            "explained_variance": "the variance in the direction of each component",
            "explained_variance_ratio": "the same, as a part of the variance of all columns",
        }
        if job.release.epsilon is not None:
            told["noise"] = "how far noise moves an explained variance, at most, in 95 % of cases"
            told["angle"] = (
                "of each component, the sine of the largest angle that noise may have turned it by, in 95 % "
                "of cases; 1 where it may have turned it anywhere"
            )
        return told

    def features(self, table: Outline, parameters: Any) -> Sequence[Feature]:
        """See `Derived.features`."""
        del parameters
        return regressors(table.columns)

    def tell(self, asked: Asked, sums: Sums) -> Answer:
        """See `OfCrossProducts.tell`."""
        size = len(sums.names)
        kept = asked.parameters.components or size
        if sums.rows < 2:
            raise UsageError("pca: it needs two rows")
        if kept > min(size, sums.rows):
            raise UsageError(f"pca: {kept} components of {size} columns and {sums.rows} rows; ask for fewer")
        covariance, scale = sums.covariance(), np.ones(size)
        if asked.parameters.standardise:
            scale = _spread(sums, covariance)
            covariance = covariance / np.outer(scale, scale)
        values, vectors = np.linalg.eigh(covariance)
        values, vectors = np.clip(values[::-1], 0, None), vectors[:, ::-1].T
        largest = vectors[np.arange(size), np.abs(vectors).argmax(axis=1)]
        vectors = vectors * np.where(largest < 0, -1.0, 1.0)[:, None]
        total = float(values.sum())
        if not total:
            raise UsageError("pca: all columns are constant")
        told = {
            "rows": sums.rows,
            "columns": list(sums.names),
            "mean": sums.means().tolist(),
            "scale": scale.tolist(),
            "components": vectors[:kept].flatten().tolist(),
            "explained_variance": values[:kept].tolist(),
            "explained_variance_ratio": (values[:kept] / total).tolist(),
        }
        if asked.noised:
            moved = _moved(sums, scale)
            gaps = np.abs(np.subtract.outer(values[:kept], values))
            gaps[np.arange(kept), np.arange(kept)] = np.inf
            # Davis and Kahan, as Yu, Wang and Samworth have it ("A useful variant of the Davis-Kahan
            # theorem", Biometrika 102, 2015, corollary 1), with the gaps that are seen.
            angle = np.minimum(2 * moved / np.maximum(gaps.min(axis=1), 2 * moved), 1.0)
            told |= {"noise": moved, "angle": angle.tolist()}
        return told

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        ratios, names = some["explained_variance_ratio"], some["columns"]
        components = [f"PC{place + 1}" for place in range(len(ratios))]
        weights = np.array(some["components"]).reshape(len(ratios), len(names))
        noise = {"noise": [some["noise"]] * len(ratios)} if "noise" in some else {}
        return [
            Table(
                "Explained variance",
                {
                    "": components,
                    "variance": some["explained_variance"],
                    "proportion": ratios,
                    "cumulative": np.cumsum(ratios).tolist(),
                    **noise,
                },
            ),
            Table(
                "Components",
                {"": names, **{name: weights[place].tolist() for place, name in enumerate(components)}},
            ),
            Bars("Explained variance, as a part of all", components, ratios),
        ]


def _spread(sums: Sums, covariance: np.ndarray) -> np.ndarray:
    """Standard deviations, none of them 0."""
    variance = np.diag(covariance)
    squares = sums.unit**2 * (np.diag(sums.products)[1:] + 4 * sums.rounding) / (sums.rows - 1)
    least = _TINY * squares + 4 * sums.rounding * sums.unit**2 / (sums.rows - 1)
    flat = variance <= least
    if flat.any() and not sums.deviation:
        name = sums.names[int(np.flatnonzero(flat)[0])]
        raise UsageError(f"pca: column {name!r} is constant; leave it out, or do not standardise")
    # With noise: no less than what it makes of nothing.
    floor = sums.unit**2 * sums.deviation / (sums.rows - 1)
    found: np.ndarray = np.sqrt(np.maximum(variance, floor))
    return found


def _moved(sums: Sums, scale: np.ndarray) -> float:
    """What no eigenvalue is moved further by (Weyl): the norm of noise in products and sums of z.

    Of a symmetric matrix of normal variables, d each way, the norm is above 2 sqrt(d) + t with a probability
    of 2 exp(-t^2 / 4) at most; noise in sums moves the product of two means by twice the mean at most.
    """
    unit = float((sums.unit / scale).max())
    size, tail = len(sums.names), 2 * math.sqrt(math.log(2 / _BEYOND))
    means = float(np.linalg.norm(sums.of_z()[0]))
    products = 2 * math.sqrt(size) + tail
    shifts = 2 * means * (math.sqrt(size) + tail / math.sqrt(2))
    return unit**2 * sums.deviation * (products + shifts) / (sums.rows - 1)


ANALYSIS: Final = PrincipalComponents()
