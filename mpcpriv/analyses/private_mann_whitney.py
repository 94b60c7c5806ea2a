"""Mann and Whitney's test with differential privacy: noise on a rank sum that one row can move by few.

**What is released.** Of n rows, of which n1 are in the first group and n2 in the other, the count n1 and

    A = sum over pairs of a row of each group of sign(value of the first - value of the other),

which is 2 U - n1 n2, ties by half, and twice the rank sum of the first group less n1 (n + 1). The term that
corrects for ties is not released and not needed, see below.

**What one row can change.** Neighbours are tables in which a row is there or is not; n is public and the
same in both (`docs/release.md`). A row of the first group stands in n2 pairs and a row of the other in n1,
and each pair counts -1, 0 or 1. So without it A is another by at most n2 or n1, which is at most n - 1, with
ties or without, and n1 is another by at most 1. Both are reached: of a row that is above all others, which
are all in the other group. (S. Couch, Z. Kazan, K. Shi, A. Bray and A. Groce, "Differentially Private
Nonparametric Hypothesis Testing", CCS 2019, bound U by the size of the larger group, of which they buy an
estimate first; that halves the noise at most, where groups are of one size.) Released is the vector

    5 w n1,  floor(12 w / (n - 1)) A       for w = 2^26:

one row changes it by no more than (5 w, 12 w), so by 13 w in Euclidean norm: whole numbers all. A has 13/12
of the noise that it would have alone, n1 13/5.

**What the test is.** Where values are exchangeable, A has mean 0 and, without ties, variance
n1 n2 (n + 1) / 3; with ties it has less. The noise is normal and its size public, so A with noise is compared
with the normal distribution of both variances together. n1 is known up to noise only: taken is, of all sizes
that n1 may have with a confidence of 1 - 10^-4, that with the largest variance, and 10^-4 is added to p
(R. L. Berger and D. D. Boos, "P Values Maximized over a Confidence Set for the Nuisance Parameter", JASA
1994). So, as far as ranks are normal, p is no smaller than it should be, whatever n1 and the ties. Nothing
has to be simulated: the sum of normal ranks and normal noise is normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.inference import quantile, two_sided
from mpcpriv.analyses.outline import together
from mpcpriv.analyses.ranks import OverTwoGroups, TwoGroups
from mpcpriv.analyses.shown import Shown
from mpcpriv.analyses.shown import Table as ShownTable
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.privacy.training import Composition

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

_COUNT: Final = 5 << 26
"""What one row counts for."""
_PAIRS: Final = 12 << 26
"""What all pairs of one row count for together, at most."""
_NORM: Final = 13 << 26
_UNSURE: Final = 1e-4
"""The chance that n1 is outside what it is taken to be."""


class Parameters(TwoGroups):
    """The same."""


class PrivateMannWhitney(OverTwoGroups):
    """It is `Perturbed`, in one step."""

    name: Final = "private-mann-whitney"
    title: Final = "whether values tend to be larger in one group than in another, with differential privacy"
    text: Final = (
        "Mann and Whitney's test, two-sided, with noise (after Couch and others, CCS 2019). All values are "
        "sorted on shares; in how many pairs of a row of each group the first is larger, less those in "
        "which it is smaller (2 U - n1 n2), and how many rows the first group has, get noise of every "
        "party, and are opened with it; nothing else is, no tie term either. One row changes the former "
        "by at most all rows less 1. z is by the variance of ranks without ties and that of the noise, "
        "with the group sizes, within their noise, that make it largest, and 0.0001 is added to p: the "
        "test rejects no more often than it says, and with many ties less. Values are rounded to 2^-19 of "
        "the bounds' width (whole numbers not at all, if the bounds are less than 2^19 apart), and what is "
        "then the same counts as equal. From some hundred rows on it finds what is large; up to some "
        "10,000 rows."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "private-mann-whitney"
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
            "counts": "how many rows each has, with noise",
            "counts_margin": "how far a true count is from the one that is told, at most, in 95 % of cases",
            "excess": "in how many pairs the value of the first group is the larger one, less those in "
            "which it is the smaller one, with noise",
            "excess_margin": "how far the true one is from it, at most, in 95 % of cases",
            "z": "the excess, standardised by ranks and noise together",
            "p_value": "two-sided; at least 0.0001",
            "rank_biserial": "the excess, divided by the number of pairs: from -1 to 1, with noise",
        }

    def composition(self, parameters: Parameters) -> Composition:
        """See `Perturbed.composition`."""
        del parameters
        return Composition(1.0, 1, _NORM)

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        import torch

        from mpcpriv.engine.perturb import Ahead

        if ctx.noise is None:
            raise UsageError(f"{self.name}: nothing is released without noise; ask for epsilon and delta")
        rows = together({name: one.outline for name, one in inputs.items()})[0].rows
        weight = _weight(rows)
        noise = Ahead(ctx.noise, 2, 1)
        count, line = self.sorted(inputs, parameters)
        twice, _ = line.rank_sums()
        found: Any = torch.cat([count * _COUNT, (twice - count * (rows + 1)) * weight])
        return {"noised": noise.perturb(found)}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        assert asked.noise is not None
        rows, deviation = together(asked.tables)[0].rows, math.sqrt(asked.noise.variance)
        first, excess = float(opened["noised"][0]) / _COUNT, float(opened["noised"][1]) / _weight(rows)
        # The noise of the two in their own units.
        of_count, of_excess = deviation / _COUNT, deviation / _weight(rows)
        uneven = max(abs(first - rows / 2) - quantile(level=1 - _UNSURE) * of_count, 0.0)
        most_pairs = max((rows / 2) ** 2 - uneven**2, 0.0)
        z = excess / math.sqrt(most_pairs * (rows + 1) / 3 + of_excess**2)
        within = min(max(first, 1.0), rows - 1.0)
        return {
            "rows": rows,
            "groups": self.groups(asked),
            "counts": [round(first), rows - round(first)],
            "counts_margin": quantile() * of_count,
            "excess": excess,
            "excess_margin": quantile() * of_excess,
            "z": z,
            "p_value": min(float(two_sided(z)) + _UNSURE, 1.0),
            "rank_biserial": min(max(excess / (within * (rows - within)), -1.0), 1.0),
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        heads = {"pairs larger less smaller": "excess", "z": "z", "p": "p_value"}
        heads |= {"rank-biserial r": "rank_biserial"}
        note = f"within {told['counts_margin']:.1f}, in 95 % of cases"
        other = f"pairs within {told['excess_margin']:.0f}, in 95 % of cases"
        columns = {head: [told[name]] for head, name in heads.items()}
        return [
            ShownTable("Groups", {"": told["groups"], "n": told["counts"]}, [note]),
            ShownTable("Mann-Whitney U test, with noise", columns, [other]),
        ]


def _weight(rows: int) -> int:
    """What a pair counts for.

    Raises:
        UsageError: there is none.
    """
    if rows < 2:
        raise UsageError(f"private-mann-whitney: {rows} rows; there is no pair to compare")
    return _PAIRS // (rows - 1)


ANALYSIS: Final = PrivateMannWhitney()
