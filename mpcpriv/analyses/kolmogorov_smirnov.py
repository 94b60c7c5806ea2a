"""Kolmogorov and Smirnov's test of two samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from mpcpriv.analyses.analysis import Answer, Asked
from mpcpriv.analyses.ranks import Line, OfTwoGroups, TwoGroups
from mpcpriv.analyses.shown import Shown, Table
from mpcpriv.job.model import Job


class Parameters(TwoGroups):
    """The same."""


class KolmogorovSmirnov(OfTwoGroups):
    """As scipy's `ks_2samp`."""

    name: Final = "kolmogorov-smirnov"
    title: Final = "whether a value is distributed alike in two groups: Kolmogorov and Smirnov's test"
    text: Final = (
        "D is the largest distance between the two empirical distribution functions; p is two-sided, "
        "exact for groups of up to 10,000 rows and asymptotic beyond, as scipy has it. All values are "
        "sorted on shares; opened are how many rows each group has, and D, but not where it is. Values "
        "are rounded to 2^-19 of the bounds' width (whole numbers not at all, if the bounds are less than "
        "2^19 apart), and what is then the same counts as equal. Where a group has fewer rows than the "
        "agreement allows to be shown, the test is refused. Up to some 10,000 rows. There is no variant "
        "with differential privacy here: theory has one for groups of known sizes (Awan and Wang, 2022), "
        "and those here are not public; private-mann-whitney has noise, and histograms with noise can be "
        "compared by chi-squared."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "kolmogorov-smirnov"
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
            "statistic": "D, the largest distance between the two distribution functions",
            "p_value": "two-sided",
        }

    def of_line(self, line: Line) -> Sequence[Any]:
        """See `OfTwoGroups.of_line`: D times the sizes of both groups, a whole number."""
        import torch

        mine: Any = line.rows[:, 0]
        rows = len(mine)
        below: Any = mine.cumsum(0)
        # Of a the first group's and b the other's rows so far, a n2 - b n1 = a n - (a + b) n1: no product.
        apart: Any = below * rows - mine.sum() * torch.arange(1, rows + 1)
        # Between equal values there is no distance.
        shown: Any = apart * line.ends
        most: Any = torch.cat([shown, -shown]).max()
        return [most.reshape(1)]

    def tell(self, asked: Asked, groups: Sequence[str], counts: Sequence[int], opened: np.ndarray) -> Answer:
        """See `OfTwoGroups.tell`."""
        from scipy import stats

        del asked
        most = round(float(opened[0]))
        first, second = (np.repeat([0, 2], split) for split in _samples((counts[0], counts[1]), most))
        return {
            "rows": sum(counts),
            "groups": list(groups),
            "counts": list(counts),
            "statistic": most / (counts[0] * counts[1]),
            "p_value": float(stats.ks_2samp(first, second).pvalue),
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        return [
            Table("Groups", {"": told["groups"], "n": told["counts"]}),
            Table("Kolmogorov-Smirnov test", {"D": [told["statistic"]], "p": [told["p_value"]]}),
        ]


def _samples(sizes: tuple[int, int], most: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Of two samples of these sizes that are so far apart, how many values are low and how many high.

    p follows from sizes and distance alone, and scipy asks for samples. There are such: those that were
    compared had, at some value, so many below it (or, mirrored, above).
    """
    first, second = sizes
    low = np.arange(first + 1) * second - most
    place = int(np.flatnonzero((low >= 0) & (low % first == 0))[0])
    other = int(low[place]) // first
    return (place, first - place), (other, second - other)


ANALYSIS: Final = KolmogorovSmirnov()
