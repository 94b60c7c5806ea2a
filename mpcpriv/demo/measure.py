"""The opened model beside scikit-learn's, on patients whom neither has seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

TOLERANCE: Final = 0.01
"""How far the held-out accuracy may be from scikit-learn's."""


@dataclass(frozen=True)
class Comparison:
    """Two models on the public held-out patients.

    Attributes:
        shared, pooled: accuracy of the model trained on shares, and of scikit-learn's on pooled rows.
        agreeing: patients that both classify alike.
        held_out: patients.
    """

    shared: float
    pooled: float
    agreeing: int
    held_out: int

    @property
    def difference(self) -> float:
        """Of the two accuracies, without sign."""
        return abs(self.shared - self.pooled)

    @property
    def close(self) -> bool:
        """Whether the two accuracies differ by no more than the tolerance."""
        return self.difference <= TOLERANCE


def compare(
    model: Mapping[str, Any],
    features: np.ndarray,
    labels: np.ndarray,
    pooled: np.ndarray,
    held_out: np.ndarray,
) -> Comparison:
    """Measures the opened model beside scikit-learn's, which is trained on the rows of all hospitals.

    That is possible here because this table is public; hospitals could not do it.

    Args:
        model: as released: `coefficients` and `intercept`, in the units of the table.
        features, labels: the whole table.
        pooled: rows of all hospitals.
        held_out: public rows, on which both models are measured.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    reference: Any = make_pipeline(StandardScaler(), LogisticRegression())
    reference.fit(features[pooled], labels[pooled])
    theirs = reference.predict(features[held_out])
    ours = (features[held_out] @ np.array(model["coefficients"]) + model["intercept"] > 0).astype(int)
    truth = labels[held_out]
    return Comparison(
        shared=float((ours == truth).mean()),
        pooled=float((theirs == truth).mean()),
        agreeing=int((ours == theirs).sum()),
        held_out=len(held_out),
    )
