"""One-way analysis of variance: whether the means of several groups differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.agreement.model import ColumnTerms
from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.groups import Groups, Value, plain
from mpcpriv.analyses.means import DESCRIBED, OfMeans, described, shown_groups
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.analyses.simulated import beyond, normal_draws, testable
from mpcpriv.documents import Document
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Column as ColumnName
from mpcpriv.job.model import Job


class Parameters(Document):
    """What a job can set.

    Attributes:
        value: the column whose means are compared.
        group: the category, or boolean, that makes the groups.
    """

    value: ColumnName
    group: ColumnName


class Anova(OfMeans):
    """As scipy's `f_oneway` and R's `aov`."""

    name: Final = "anova"
    title: Final = "whether the means of several groups differ: one-way analysis of variance"
    text: Final = (
        "Fisher's F test that all groups have the same mean, with one variance in all of them; eta "
        "squared is the part of the sum of squares that is between groups. Opened are of each group the "
        "count, the sum and the sum of squares, which counts, means and standard deviations determine; "
        "where a group has fewer rows than the agreement allows to be shown, the test is refused. Values "
        "are rounded to 2^-18 of the bounds' width where columns are split. With differential privacy "
        "(rows split), noise is added to these sums, and the p-value is from what F is under 9,999 draws "
        "of normally distributed rows of one mean with fresh noise: so it is not below 0.0001."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "anova"
inputs = [
    { dataset = "north", columns = ["weight", "region"] },
    { dataset = "south", columns = ["weight", "region"] },
]
parameters = { value = "weight", group = "region" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        told = {
            **DESCRIBED,
            "between": "the sum of squares between groups",
            "within": "that within them",
            "degrees": "of freedom, between and within",
            "statistic": "F",
            "p_value": "of the test that all means are the same",
            "eta_squared": "between, divided by between and within",
        }
        if job.release.epsilon is not None:
            told["noise"] = "of the noise in each mean, the standard deviation"
        return told

    def values(self, columns: Mapping[str, ColumnTerms], parameters: Parameters) -> Sequence[Value]:
        """See `OfGroups.values`."""
        found = plain(parameters.value)
        found.terms(columns)
        return [found]

    def tell(self, asked: Asked, groups: Groups) -> Answer:
        """See `OfGroups.tell`."""
        if len(groups.names) < 2:
            raise UsageError(f"{self.name}: there is one group only; nothing can be compared")
        testable(groups.whole(self.name), self.name)
        means, _ = groups.of_z()
        between, within, degrees = (float(one) for one in _squares(groups))
        if not within > 0 or not degrees > 0:
            raise UsageError(f"{self.name}: there is no variance within the groups; F is not defined")
        first = len(groups.names) - 1
        statistic = between / first / (within / degrees)
        unit = float(groups.unit[0])
        told: dict[str, Any] = {
            **described(groups),
            "between": between * unit**2,
            "within": within * unit**2,
            "degrees": [first, round(degrees)],
            "statistic": statistic,
            "eta_squared": between / (between + within),
        }
        if not asked.noised:
            from scipy import special

            return {**told, "p_value": float(special.fdtrc(first, degrees, statistic))}
        middle = groups.counts @ means / groups.counts.sum()
        drawn = _squares(
            normal_draws(groups, np.broadcast_to(middle, means.shape), np.full_like(means, within / degrees))
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            under = np.nan_to_num(drawn[0] / first / (drawn[1] / drawn[2]), nan=0.0, posinf=np.inf)
        noise = unit * groups.deviation / groups.counts * np.sqrt(1 + means[:, 0] ** 2)
        return {**told, "p_value": beyond(under, statistic), "noise": noise.tolist()}

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        groups, means = shown_groups(answer)
        squares = [told["between"], told["within"]]
        table = {
            "": ["between groups", "within groups"],
            "sum_sq": squares,
            "df": told["degrees"],
            "mean_sq": [one / degrees for one, degrees in zip(squares, told["degrees"], strict=True)],
            "F": [told["statistic"], None],
            "PR(>F)": [told["p_value"], None],
        }
        notes = [f"eta squared {told['eta_squared']:.4f}"]
        return [groups, Table("Analysis of variance", table, notes), means]


def _squares(groups: Groups) -> tuple[Any, Any, Any]:
    """Of z, of counts (..., g): sums of squares between and within groups, and degrees of freedom within."""
    counts, sums = groups.counts, groups.sums[..., 0]
    means = sums / counts
    whole = sums.sum(-1) / counts.sum(-1)
    between = (counts * (means - whole[..., None]) ** 2).sum(-1)
    # Where noise makes all of it less than nothing, nothing is left.
    within = np.clip((groups.squares[..., 0] - counts * means**2).sum(-1), 0, None)
    return between, within, counts.sum(-1) - counts.shape[-1]


ANALYSIS: Final = Anova()
