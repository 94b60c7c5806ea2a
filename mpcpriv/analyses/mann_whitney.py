"""Mann and Whitney's U test, which is Wilcoxon's rank-sum test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.inference import two_sided
from mpcpriv.analyses.ranks import Line, OfTwoGroups, TwoGroups
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job


class Parameters(TwoGroups):
    """What a job can set.

    Attributes:
        continuity: whether 1/2 is taken off for continuity.
    """

    continuity: bool = True


class MannWhitney(OfTwoGroups):
    """As scipy's `mannwhitneyu(..., method="asymptotic")`."""

    name: Final = "mann-whitney"
    title: Final = "whether values tend to be larger in one group than in another: Mann and Whitney's U"
    text: Final = (
        "Two-sided, by the normal approximation with the correction for ties and for continuity, as scipy "
        "has it (method asymptotic). All values are sorted on shares; opened are how many rows each group "
        "has, the rank sum of the first (U follows from it), and the sum of t^3 - t over runs of t equal "
        "values. Values are rounded to 2^-19 of the bounds' width (whole numbers not at all, if the "
        "bounds are less than 2^19 apart), and what is then the same counts as equal. Where a group has "
        "fewer rows than the agreement allows to be shown, the test is refused. Up to some 10,000 rows. "
        "With differential privacy it is private-mann-whitney."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "mann-whitney"
inputs = [
    { dataset = "north", columns = ["days", "treated"] },
    { dataset = "south", columns = ["days", "treated"] },
]
parameters = { value = "days", group = "treated" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            "groups": "the names of the two groups",
            "counts": "how many rows each has",
            "statistic": "U of the first group: in how many pairs its value is the larger one, ties by half",
            "ties": "the sum of t^3 - t over all runs of t equal values",
            "z": "U, standardised",
            "p_value": "two-sided",
            "larger": "U, divided by the number of pairs: how likely a value of the first group is larger",
            "rank_biserial": "the same, from -1 to 1",
        }

    def of_line(self, line: Line) -> Sequence[Any]:
        """See `OfTwoGroups.of_line`."""
        return line.rank_sums()

    def tell(self, asked: Asked, groups: Sequence[str], counts: Sequence[int], opened: np.ndarray) -> Answer:
        """See `OfTwoGroups.tell`."""
        first, second = counts
        rows, pairs, ties = first + second, first * second, float(opened[1])
        statistic = float(opened[0]) / 2 - first * (first + 1) / 2
        spread = math.sqrt(max(pairs / 12 * (rows + 1 - ties / (rows * (rows - 1))), 0.0))
        if not spread > 0:
            raise UsageError(f"{self.name}: all values are the same; there is no order")
        apart = abs(statistic - pairs / 2)
        # What is taken off for continuity makes p larger than 1 where U is in the middle.
        z = (apart - 0.5 * asked.parameters.continuity) / spread
        return {
            "rows": rows,
            "groups": list(groups),
            "counts": list(counts),
            "statistic": statistic,
            "ties": ties,
            "z": math.copysign(z, statistic - pairs / 2) if z > 0 else 0.0,
            "p_value": float(two_sided(max(z, 0.0))),
            "larger": statistic / pairs,
            "rank_biserial": 2 * statistic / pairs - 1,
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        heads = {"U": "statistic", "z": "z", "p": "p_value", "P(first larger)": "larger"}
        heads |= {"rank-biserial r": "rank_biserial"}
        return [
            Table("Groups", {"": told["groups"], "n": told["counts"]}),
            Table("Mann-Whitney U test", {head: [told[name]] for head, name in heads.items()}),
        ]


ANALYSIS: Final = MannWhitney()
