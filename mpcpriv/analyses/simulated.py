"""Sums by group as they are where a hypothesis holds, noise and all: a parametric bootstrap at the recipient.

The noise of a release is of a public size, so that it can be drawn again as often as one likes: rows are
drawn as the hypothesis has them, noise is added to their sums, and a statistic is computed of these as of
those that were released (C. Ferrando, S. Wang and D. Sheldon, "Parametric Bootstrap for Differentially
Private Confidence Intervals", AISTATS 2022; for tables M. Gaboardi, H. Lim, R. Rogers and S. Vadhan,
"Differentially Private Chi-Squared Hypothesis Testing", ICML 2016, section 4). Noise is drawn as
normal with the variance of that of the release; that of discrete Laplace has somewhat longer tails. The draws
are public (`public_draws.py`): all recipients read the same answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np

from mpcpriv.analyses.groups import Groups
from mpcpriv.analyses.public_draws import normal, uniform
from mpcpriv.errors import UsageError

TIMES: Final = 9_999
_LEAST: Final = 5.0
"""Standard deviations of the noise that the noised count of a group is above 0 where it is tested."""


def testable(groups: Groups, analysis: str) -> Groups:
    """The same, where each group has rows enough for a test.

    Raises:
        UsageError: one has fewer than two, or with noise, may have.
    """
    least = max(2.0, _LEAST * groups.deviation)
    small = [name for name, count in zip(groups.names, groups.counts, strict=True) if count < least]
    if small:
        why = "may have, beneath the noise, too few rows" if groups.deviation else "have fewer than two rows"
        raise UsageError(
            f"{analysis}: groups {', '.join(small)} {why} for a test; use more data, or other groups"
        )
    return groups


def normal_draws(groups: Groups, means: Any, variances: Any) -> Groups:
    """Sums of normally distributed values with noise, (TIMES, g) counts, (TIMES, g, v) sums and squares.

    Args:
        groups: as they were released; counts are taken for the true ones.
        means, variances: of z, (g, v).
    """
    from scipy import special

    counts = np.maximum(np.rint(groups.counts), 2)[:, None]
    shape = (TIMES, *groups.sums.shape)
    mean = means + np.sqrt(variances / counts) * normal("means", shape)
    # Of chi-squared with counts - 1 degrees of freedom.
    spread = variances * 2 * special.gammaincinv((counts - 1) / 2, uniform("spreads", shape))
    noise = groups.fresh_noise(TIMES)
    return replace(
        groups,
        counts=counts[:, 0] + noise[0],
        sums=counts * mean + noise[1],
        squares=spread + counts * mean**2 + noise[2],
    )


def table_draws(groups: Groups, probabilities: np.ndarray) -> np.ndarray:
    """Counts with noise, (TIMES, g), of rows that fall into the groups with these probabilities, (g,)."""
    from scipy import stats

    left, rest = np.full(TIMES, groups.rows), 1.0
    counts = np.zeros((TIMES, len(probabilities)))
    for place, probability in enumerate(probabilities[:-1]):
        chance = min(probability / rest, 1.0) if rest > 0 else 0.0
        counts[:, place] = stats.binom.ppf(uniform(f"cell {place}", (TIMES,)), left, chance)
        left, rest = left - counts[:, place].astype(np.int64), rest - probability
    counts[:, -1] = left
    found: np.ndarray = counts + groups.deviation * normal("noise", counts.shape)
    return found


def beyond(drawn: np.ndarray, statistic: float) -> float:
    """The probability of a statistic as large, or larger; at least 1 / (TIMES + 1)."""
    return float((1 + np.count_nonzero(drawn >= statistic)) / (1 + len(drawn)))
