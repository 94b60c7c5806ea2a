"""Least squares with a penalty on the size of coefficients."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.inference import INTERCEPT
from mpcpriv.analyses.least_squares import Moments, OfTarget, told_of
from mpcpriv.analyses.shown import Bars, Shown, Table
from mpcpriv.documents import Document
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job


class Penalised(OfTarget):
    """Least squares with a penalty on the size of coefficients; its parameters are `PenaltyParameters`."""

    penalised = True

    @abstractmethod
    def slopes(self, gram: np.ndarray, cross: np.ndarray, rows: int, penalty: float) -> np.ndarray:
        """Coefficients that are best for sums of products beyond the means.

        Args:
            gram, cross: of the features, (d, d), and of them with the target, (d,).
            rows: n.
            penalty: as the job says it.
        """

    @abstractmethod
    def more(self, gram: np.ndarray, slopes: np.ndarray, penalty: float) -> Answer:
        """What else the recipients are told."""

    def model(self, asked: Asked, moments: Moments) -> Answer:
        """See `OfTarget.model`."""
        parameters: PenaltyParameters = asked.parameters
        if asked.noised:
            moments = moments.positive()
        else:
            moments.varying(self.name)
        spread = moments.spread()
        unit = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
        if not parameters.standardise:
            unit = moments.unit[:-1]
        gram = moments.gram * np.outer(unit, unit)
        target = float(moments.unit[-1])
        best = self.slopes(gram, moments.cross * unit * target, moments.rows, parameters.penalty)
        slopes = best * unit / target
        intercept, estimates = moments.of_x(slopes)
        total = float(moments.beyond[-1, -1])
        explained = 1 - moments.residual(slopes) / total if total > 0 else 0.0
        return {
            "rows": moments.rows,
            "target": moments.target,
            "terms": [INTERCEPT, *moments.names],
            "estimate": [intercept, *estimates.tolist()],
            "r_squared": min(max(explained, 0.0), 1.0),
            **self.more(gram, best, parameters.penalty),
        }

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        target = job.parameters.get("target")
        return {
            "rows": "how many rows all data sets have together",
            "target": f"the column that is explained ({target})",
            "terms": f"the intercept and the features, in order ({told_of(job.inputs, target)})",
            "estimate": "a coefficient for each, in the units of the data",
            "r_squared": "the part of the target's variance that is explained",
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        some: dict[str, Any] = dict(answer)
        title = f"{self.name.capitalize()} regression of {some['target']}"
        note = f"R-squared {some['r_squared']:.4f}, of {some['rows']} rows."
        return [
            Table(title, {"": some["terms"], "coef": some["estimate"]}, [note]),
            Bars(title, some["terms"][1:], some["estimate"][1:]),
        ]


class PenaltyParameters(Document):
    """What a job can set.

    Attributes:
        target: the column that is explained: a number, an integer or a boolean.
        penalty: how much; scikit-learn's alpha.
        standardise: whether features are brought to mean 0 and variance 1 before; coefficients are told for
            them as they are.
    """

    target: ColumnName
    penalty: Annotated[float, Field(gt=0, le=1e12)]
    standardise: bool = True
