"""Wilcoxon's signed-rank test with differential privacy: noise on the signed rank sum.

**What is released.** Of n pairs with differences d,

    W = sum over i of sign(d_i) r_i,

where r_i is the rank of |d_i| among all n, equal ones sharing the mean of theirs, and pairs without a
difference taking part in the ranking and not in the sum (J. W. Pratt, "Remarks on Zeros and Ties in the
Wilcoxon Signed Rank Procedures", JASA 1959). So how many those are need not be known. Neither that nor the
term that corrects for ties is released.

**What one row can change.** Neighbours are tables in which a pair is there or is not; n is public and the
same in both (`docs/release.md`). Let there be l pairs with a smaller magnitude than that of pair i, t with
the same, itself among them, and g with a larger one, so that l + t + g is at most n. Without it its own term
is gone, of magnitude l + (t + 1) / 2 at most; the ranks of the g fall by 1 and those of the other t - 1 by
1/2. So W is another by at most l + (t + 1) / 2 + g + (t - 1) / 2 = l + t + g, at most n. It is reached where
all differences have one sign. (S. Couch, Z. Kazan, K. Shi, A. Bray and A. Groce, "Differentially Private
Nonparametric Hypothesis Testing", CCS 2019, have 2n, for a pair that is exchanged for another, which is two
of our steps.) Released is the whole number

    floor(w / 2n) 2 W       for w = 2^30,

which one row changes by no more than w.

**What the test is.** Where differences are symmetric about 0, W has mean 0 and, given the magnitudes, the sum
of squared ranks of those that differ as variance: n (n + 1) (2 n + 1) / 6 without ties and zeros, and less
with them. The noise is normal and its size public, so W with noise is compared with the normal distribution
of both variances together. So, as far as ranks are normal, p is no smaller than it should be, whatever ties
and zeros there are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from mpcpriv.analyses.analysis import Answer, Asked, Context, Opened
from mpcpriv.analyses.inference import quantile, two_sided
from mpcpriv.analyses.outline import together
from mpcpriv.analyses.shown import Shown
from mpcpriv.analyses.shown import Table as ShownTable
from mpcpriv.analyses.wilcoxon import OfPairs, Pairs
from mpcpriv.errors import UsageError
from mpcpriv.job.model import Job
from mpcpriv.privacy.training import Composition

if TYPE_CHECKING:
    from mpcpriv.analyses.table import Table
    from mpcpriv.engine.tensor import SharedTensor

_MOST: Final = 1 << 30
"""What one row can change."""


class Parameters(Pairs):
    """The same."""


class PrivateWilcoxon(OfPairs):
    """It is `Perturbed`, in one step."""

    name: Final = "private-wilcoxon"
    title: Final = "whether the differences of pairs are about 0: signed ranks, with differential privacy"
    text: Final = (
        "Wilcoxon's signed-rank test, two-sided, with noise, pairs without a difference ranked but not "
        "summed (Pratt; after Couch and others, CCS 2019). Where one owner has both columns it takes the "
        "differences; else they are taken on shares, and the two columns need the same agreed bounds, or "
        "are whole numbers. Magnitudes are sorted on shares; the rank sum of pairs whose first is larger, "
        "less that of those whose first is smaller, gets noise of every party, and is opened with it; "
        "nothing else is, no tie term and not how many pairs differ. One row changes it by at most the "
        "number of rows. z is by the variance of ranks without ties and zeros and that of the noise: the "
        "test rejects no more often than it says, and with many of these less. Values are rounded to 2^-19 "
        "of the bounds' width (whole numbers not at all, if the bounds are less than 2^18 apart); give the "
        "`resolution` of decimals, or what is equal in them may not be equal when it is rounded. From some "
        "hundred rows on it finds what is large; up to some 10,000 rows."
    )
    parameters: Final = Parameters
    example: Final = """\
analysis = "private-wilcoxon"
inputs = [
    { dataset = "north", columns = ["before", "after"] },
    { dataset = "south", columns = ["before", "after"] },
]
parameters = { value = "before", paired = "after" }
"""

    def outputs(self, job: Job) -> Mapping[str, str]:
        """By name, what the recipients learn."""
        del job
        return {
            "rows": "how many rows all data sets have together",
            "excess": "the rank sum of pairs whose first is larger, less that of those whose first is "
            "smaller, with noise",
            "excess_margin": "how far the true one is from it, at most, in 95 % of cases",
            "z": "the excess, standardised by ranks and noise together",
            "p_value": "two-sided",
            "rank_biserial": "the excess, divided by the sum of all ranks: from -1 to 1, with noise",
        }

    def composition(self, parameters: Parameters) -> Composition:
        """See `Perturbed.composition`."""
        del parameters
        return Composition(1.0, 1, _MOST)

    def run(
        self, ctx: Context, inputs: Mapping[str, Table], parameters: Parameters
    ) -> Mapping[str, SharedTensor]:
        """See `Computed.run`."""
        from mpcpriv.engine.perturb import Ahead

        if ctx.noise is None:
            raise UsageError(f"{self.name}: nothing is released without noise; ask for epsilon and delta")
        rows = together({name: one.outline for name, one in inputs.items()})[0].rows
        weight = _weight(rows)
        noise = Ahead(ctx.noise, 1, 1)
        above, under, line = self.sorted(inputs, parameters)
        twice, _ = line.rank_sums()
        same: Any = (rows - (above + under).sum()).reshape(1)
        # Twice the ranks of all pairs are n (n + 1), and of those without a difference, which come first, so
        # too; what remains of them are the two sums.
        excess: Any = twice * 2 - rows * (rows + 1) + same * (same + 1)
        return {"noised": noise.perturb(excess * weight)}

    def read(self, asked: Asked, opened: Opened) -> Answer:
        """See `Computed.read`."""
        assert asked.noise is not None
        rows = together(asked.tables)[0].rows
        unit = 2 * _weight(rows)
        excess, of_excess = float(opened["noised"][0]) / unit, math.sqrt(asked.noise.variance) / unit
        z = excess / math.sqrt(rows * (rows + 1) * (2 * rows + 1) / 6 + of_excess**2)
        return {
            "rows": rows,
            "excess": excess,
            "excess_margin": quantile() * of_excess,
            "z": z,
            "p_value": float(two_sided(z)),
            "rank_biserial": min(max(2 * excess / (rows * (rows + 1)), -1.0), 1.0),
        }

    def show(self, answer: Answer) -> Sequence[Shown]:
        """See `Showing.show`."""
        told: dict[str, Any] = dict(answer)
        heads = {"rank sums, larger less smaller": "excess", "z": "z", "p": "p_value"}
        heads |= {"rank-biserial r": "rank_biserial"}
        columns = {head: [told[name]] for head, name in heads.items()}
        note = f"rank sums within {told['excess_margin']:.0f}, in 95 % of cases"
        return [ShownTable("Wilcoxon signed-rank test, with noise", columns, [note])]


def _weight(rows: int) -> int:
    """What half a rank counts for.

    Raises:
        UsageError: there are more rows than that many.
    """
    if not 0 < rows <= 1 << 17:
        raise UsageError(f"private-wilcoxon: {rows} rows; from 1 to {1 << 17} can be ranked")
    return _MOST // (2 * rows)


ANALYSIS: Final = PrivateWilcoxon()
